//! Code blocks of Markdown documents, and their commands as they are printed.

use std::path::Path;
use std::process::Command;

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

use crate::control_plane::ControlPlane;
use crate::tools;

/// A code block, without the indentation of the list that contains it.
pub struct CodeBlock {
    /// Counted from 1.
    pub line: usize,
    pub language: String,
    pub text: String,
}

/// The code blocks of a document, in order.
pub fn code_blocks(document: &str) -> Vec<CodeBlock> {
    let mut found: Vec<CodeBlock> = vec![];
    let mut inside = false;
    for (event, range) in Parser::new(document).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.into_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                let line = document[..range.start].matches('\n').count() + 1;
                found.push(CodeBlock { line, language, text: String::new() });
                inside = true;
            }
            Event::End(TagEnd::CodeBlock) => inside = false,
            Event::Text(part) if inside => found.last_mut().expect("a block began").text.push_str(&part),
            _ => {}
        }
    }
    found
}

/// The texts of the code blocks in this language, in order.
pub fn texts(document: &str, language: &str) -> Vec<String> {
    let of_language = |block: CodeBlock| (block.language == language).then_some(block.text);
    code_blocks(document).into_iter().filter_map(of_language).collect()
}

/// Runs commands with bash in a folder, as an admin, with the tests' Helm and kubectl and a home of their own: their output.
/// Panics if one fails.
pub async fn run(cluster: &ControlPlane, folder: &Path, commands: &str) -> String {
    let [helm, kubectl] = [tools::folder("helm").await, tools::folder("kubectl").await];
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = std::env::var("PATH").expect("a path");
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", commands])
        .current_dir(folder)
        .env_clear()
        .env("PATH", format!("{}:{}:{path}", helm.display(), kubectl.display()))
        .env("HOME", home.path())
        .env("KUBECONFIG", cluster.admin_kubeconfig());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    tools::result(&output.expect("bash starts")).unwrap_or_else(|errors| panic!("{commands}: {errors}"))
}
