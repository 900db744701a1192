//! Writes the image, or its CA bundle alone.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{fs, io};

use clap::Parser;
use image::archive::{Contents, file_name, write};
use image::bundle::ca_bundle;
use image::program::architecture;

/// Writes the container image of ecr-pull-secrets, or what it consists of.
#[derive(Parser)]
enum Arguments {
    /// Writes an OCI archive and prints its path.
    Archive {
        /// The static program.
        #[arg(long)]
        program: PathBuf,
        /// Where the archive goes.
        #[arg(long, default_value = "target/image")]
        folder: PathBuf,
        /// What importing tools call the image, without a tag.
        #[arg(long, env = "IMAGE", default_value = "localhost/ecr-pull-secrets", value_parser = name)]
        name: String,
        /// The time of everything in it, in seconds since 1970.
        #[arg(long, env = "SOURCE_DATE_EPOCH", default_value_t = 0)]
        epoch: u32,
    },
    /// Prints the roots that the image trusts, as PEM.
    CaBundle,
}

fn main() -> ExitCode {
    let result = match Arguments::parse() {
        Arguments::Archive { program, folder, name, epoch } => archive(&program, &folder, &name, epoch),
        Arguments::CaBundle => {
            print!("{}", ca_bundle());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("image: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn archive(program: &Path, folder: &Path, name: &str, epoch: u32) -> Result<(), String> {
    let content = fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let architecture = architecture(&content).map_err(|unfit| format!("{} {unfit}", program.display()))?;
    let version = version(program)?;
    eprintln!("program  {version} for {architecture}, {}", mebibytes(content.len()));
    let written = write(Contents { program: &content, architecture, version: &version, name, epoch })
        .map_err(|error| format!("the image cannot be put together: {error}"))?;
    eprintln!("layer    {}, compressed {}", mebibytes(written.unpacked), mebibytes(written.compressed));
    let path = folder.join(file_name(&version, architecture));
    replace(&path, &written.archive).map_err(|error| format!("{}: {error}", path.display()))?;
    eprintln!("image    {name}:{version}");
    eprintln!("digest   {}", written.digest);
    eprintln!("archive  {}", mebibytes(written.archive.len()));
    println!("{}", path.display());
    Ok(())
}

/// As the program says it: nothing else is sure to know, and a program that does not start is noticed here.
fn version(program: &Path) -> Result<String, String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| format!("{} does not start: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["ecr-pull-secrets", version] if output.status.success() => Ok(version.to_owned()),
        _ => Err(format!("{} --version says {text:?}, {}", program.display(), output.status)),
    }
}

/// By a rename, so that nobody reads half an archive.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    })
}

/// A whole name: tools complete a shorter one, each in its own way. No tag, for that is the version.
fn name(text: &str) -> Result<String, String> {
    let path = text.split_once('/').filter(|(host, path)| {
        (host.contains(['.', ':']) || *host == "localhost") && !path.is_empty() && !path.contains([':', '@'])
    });
    if path.is_some() && !text.contains(char::is_whitespace) {
        Ok(text.to_owned())
    } else {
        Err("expected HOST/PATH, such as registry.example.com/ecr-pull-secrets, without tag or digest"
            .to_owned())
    }
}

fn mebibytes(bytes: usize) -> String {
    let tenths = (bytes * 10 + (1 << 19)) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded() {
        assert_eq!(mebibytes(0), "0.0 MiB");
        assert_eq!(mebibytes(1 << 20), "1.0 MiB");
        assert_eq!(mebibytes(11_114_905), "10.6 MiB");
    }

    #[test]
    fn a_name_is_whole_and_has_no_tag() {
        for good in ["localhost/a", "registry.example.com/a/b", "127.0.0.1:5000/a"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["a", "library/a", "docker.io/", "docker.io/a:1", "docker.io/a@sha256:0", "a.b/c d", ""] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
