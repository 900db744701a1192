//! The code blocks of the documents, as the Markdown parser of the manual finds them.

use std::fmt::{self, Display};
use std::path::Path;
use std::process::Command;

use testing::documents::{CodeBlock, code_blocks};

pub const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

pub struct Block {
    /// From the root of the repository.
    pub document: String,
    pub line: usize,
    pub language: String,
    pub text: String,
}

impl Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.document, self.line)
    }
}

/// All of them, of every Markdown file that is not ignored.
pub fn blocks() -> Vec<Block> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(REPOSITORY)
        .output()
        .expect("git runs");
    let listed = String::from_utf8(listed.stdout).expect("paths");
    let found: Vec<_> = listed.lines().flat_map(of).collect();
    assert!(found.len() > 100, "{} blocks", found.len());
    found
}

fn of(document: &str) -> Vec<Block> {
    let Ok(text) = std::fs::read_to_string(Path::new(REPOSITORY).join(document)) else { return vec![] };
    let blocks = code_blocks(&text).into_iter();
    blocks
        .map(|CodeBlock { line, language, text }| Block {
            document: document.to_owned(),
            line,
            language,
            text,
        })
        .collect()
}
