//! The code blocks of all documents: each is checked as far as that is possible without the programs of others. `make docs`
//! runs this.
//!
//! Commands that are also run as printed, on a real API server: `tests/apiserver/walkthrough.rs` (the start on k3s) and
//! `tests/apiserver/incidents.rs` (the incident playbook).

mod blocks;
mod shell;
mod yaml;

use blocks::{Block, blocks};

/// Languages of blocks that nothing here reads.
const UNREAD: [&str; 2] = ["text", "sql"];

/// The blocks of a language. `problem` is why one is wrong.
fn each(language: &str, least: usize, problem: impl Fn(&Block) -> Result<(), String>) {
    let found: Vec<_> = blocks().into_iter().filter(|block| block.language == language).collect();
    assert!(found.len() >= least, "{} blocks of {language}", found.len());
    let problems: Vec<_> = found
        .iter()
        .filter_map(|block| problem(block).err().map(|problem| format!("{block}: {problem}")))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_block_has_a_language_that_is_checked_or_is_plain_text() {
    let checked = ["sh", "yaml", "json", "hcl"];
    for block in blocks() {
        let known = checked.into_iter().chain(UNREAD).any(|language| language == block.language);
        assert!(known, "{block}: the language is {:?}: use one of {checked:?}, or text", block.language);
    }
}

/// A command in a block of plain text would escape the checks.
#[test]
fn no_block_of_plain_text_has_a_command() {
    const PROGRAMS: [&str; 8] =
        ["aws ", "kubectl ", "helm ", "ecr-pull-secrets ", "make ", "cosign ", "docker ", "cargo "];
    each("text", 10, |block| {
        match block.text.lines().find(|line| PROGRAMS.iter().any(|program| line.starts_with(program))) {
            Some(line) => Err(format!("{line:?} is a command: use a block of sh")),
            None => Ok(()),
        }
    });
}

#[test]
fn every_json_block_parses_and_every_policy_has_known_elements_only() {
    each("json", 10, |block| {
        let value: serde_json::Value =
            serde_json::from_str(&block.text).map_err(|error| error.to_string())?;
        policy(&value)
    });
}

/// The elements of a policy: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html>.
fn policy(value: &serde_json::Value) -> Result<(), String> {
    let statements = match &value["Statement"] {
        serde_json::Value::Array(statements) => statements.clone(),
        _ if value["Effect"].is_string() => vec![value.clone()],
        _ => return Ok(()),
    };
    for statement in statements {
        let statement = statement.as_object().ok_or("a statement is not an object")?;
        for needed in ["Effect", "Action"] {
            statement.get(needed).ok_or(format!("a statement without {needed}"))?;
        }
        let known = ["Effect", "Principal", "Action", "Resource", "Condition", "Sid"];
        if let Some(other) = statement.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("a statement with {other}"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_terraform_block_parses() {
    let python = testing::tools::folder("hcl2").await.join("bin/python");
    let folder = tempfile::tempdir().expect("a temporary folder");
    each("hcl", 1, |block| {
        let file = folder.path().join("main.tf");
        std::fs::write(&file, &block.text).expect("a file");
        let script = "import hcl2, sys; hcl2.load(open(sys.argv[1]))";
        let parsed = std::process::Command::new(&python).args(["-c", script]).arg(&file).output();
        let parsed = parsed.expect("Python starts");
        if parsed.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&parsed.stderr).into_owned())
        }
    });
}
