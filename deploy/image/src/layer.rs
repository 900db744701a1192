//! A tar archive that depends on its files alone.

use std::collections::BTreeSet;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// A file, at an absolute place without the first slash.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Such as `etc/hostname`.
    pub path: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// What is in it.
    pub content: &'a [u8],
}

/// The files, sorted, after the folders that hold them. Everything belongs to root and has the time `mtime`.
pub fn tar(files: &[File<'_>], mtime: u64) -> io::Result<Vec<u8>> {
    let mut files = files.to_vec();
    files.sort_by_key(|file| file.path);
    let folders: BTreeSet<&str> =
        files.iter().flat_map(|file| file.path.match_indices('/').map(|(at, _)| &file.path[..=at])).collect();
    let mut builder = Builder::new(Vec::new());
    for folder in folders {
        append(&mut builder, EntryType::Directory, File { path: folder, mode: 0o755, content: b"" }, mtime)?;
    }
    for file in files {
        append(&mut builder, EntryType::Regular, file, mtime)?;
    }
    builder.into_inner()
}

fn append<W: Write>(
    builder: &mut Builder<W>,
    entry: EntryType,
    file: File<'_>,
    mtime: u64,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_path(file.path)?;
    header.set_entry_type(entry);
    header.set_mode(file.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime);
    header.set_size(u64::try_from(file.content.len()).expect("a length has 64 bits"));
    header.set_cksum();
    builder.append(&header, file.content)
}

/// Compressed without the name, time and system that gzip has room for.
pub fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    const FILES: [File<'static>; 2] = [
        File { path: "program", mode: 0o755, content: b"run" },
        File { path: "etc/ssl/roots", mode: 0o644, content: b"trust" },
    ];

    #[test]
    fn folders_come_first_and_all_is_sorted() {
        let tar = tar(&FILES, 7).expect("a tar");
        let mut archive = tar::Archive::new(tar.as_slice());
        let entries: Vec<_> = archive
            .entries()
            .expect("entries")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let header = entry.header();
                assert_eq!(
                    (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
                    (0, 0, 7)
                );
                (entry.path().expect("a path").display().to_string(), header.mode().expect("a mode"))
            })
            .collect();
        let expected = [("etc/", 0o755), ("etc/ssl/", 0o755), ("etc/ssl/roots", 0o644), ("program", 0o755)];
        assert_eq!(entries, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn the_order_of_the_files_does_not_matter() {
        let [first, second] = FILES;
        assert_eq!(tar(&[first, second], 0).expect("a tar"), tar(&[second, first], 0).expect("a tar"));
    }

    #[test]
    fn gzip_says_nothing_of_where_and_when() {
        let packed = gzip(b"content").expect("gzip");
        // RFC 1952: magic, deflate, no flags, no time; at 9 the system, where 255 is unknown.
        assert_eq!(packed[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        assert_eq!(packed[9], 255);
        let mut content = String::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut content).expect("gzip");
        assert_eq!(content, "content");
    }
}
