//! Blocks of commands. bash itself reads them, with placeholders for all programs: each prints nothing and records its
//! arguments. The arguments of this program, of Helm and of make are then checked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::blocks::{Block, REPOSITORY};
use crate::each;

const PROGRAM: &str = "ecr-pull-secrets";
/// The programs of the documents. A command that is not here fails its block.
const PROGRAMS: [&str; 31] = [
    PROGRAM,
    "aws",
    "base64",
    "cargo",
    "cat",
    "command",
    "cosign",
    "cp",
    "ctr",
    "curl",
    "date",
    "diff",
    "docker",
    "gh",
    "grep",
    "head",
    "helm",
    "jq",
    "k3s",
    "kind",
    "kubectl",
    "ln",
    "make",
    "minikube",
    "mkdir",
    "nice",
    "rm",
    "sed",
    "tar",
    "terraform",
    "tofu",
];
/// Writes its arguments to a file of its own: programs of a pipe run at the same time, and bash writes to a common file in
/// several parts, one for each line.
const PLACEHOLDER: &str = "#!/bin/bash\nprintf '%s\\0' \"${0##*/}\" \"$@\" > \"$RECORD/$EPOCHREALTIME-$$\"\n";
/// Blocks with the path of a program that a command before it prints.
const ONLY_PARSED: [(&str, &str); 3] = [
    ("docs/image.md", "ctr --namespace"),
    ("docs/start-eks.md", "make image"),
    ("CONTRIBUTING.md", "make bench N=200"),
];

/// A folder like the repository, in which each script is a placeholder.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        for program in PROGRAMS {
            machine.place(&Path::new("bin").join(program));
        }
        let listed =
            Command::new("git").args(["ls-files", "deploy", "tests/tools"]).current_dir(REPOSITORY).output();
        let listed = String::from_utf8(listed.expect("git runs").stdout).expect("paths");
        for path in listed.lines() {
            let mode = fs::metadata(Path::new(REPOSITORY).join(path)).map(|found| found.permissions().mode());
            if mode.is_ok_and(|mode| mode & 0o100 != 0) {
                machine.place(Path::new(path));
            }
        }
        for built in ["fuzz/target/x/release/hosts", "target/release/ecr-pull-secrets"] {
            machine.place(Path::new(built));
        }
        machine
    }

    fn place(&self, path: &Path) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, PLACEHOLDER).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    /// Each command that bash runs, with its arguments, in no particular order.
    fn run(&self, text: &str) -> Result<Vec<Vec<String>>, String> {
        let record = tempfile::tempdir().expect("a temporary folder");
        let output = Command::new("/bin/bash")
            .args(["--norc", "-c", text])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", self.folder.path().join("bin"))
            .env("HOME", self.folder.path())
            .env("HOST", "123456789012.dkr.ecr.eu-central-1.amazonaws.com")
            .env("RECORD", record.path())
            .output()
            .expect("bash starts");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if !errors.is_empty() {
            return Err(errors);
        }
        let files = fs::read_dir(record.path()).expect("a folder");
        let words = files.map(|file| fs::read_to_string(file.expect("a file").path()).expect("a file"));
        Ok(words.map(|words| words.split_terminator('\0').map(str::to_owned).collect()).collect())
    }
}

/// The commands of a block, or `None` if bash only reads it.
fn commands(machine: &Machine, block: &Block) -> Result<Option<Vec<Vec<String>>>, String> {
    let read = Command::new("bash").args(["-n", "-c", &block.text]).output().expect("bash starts");
    if !read.status.success() {
        return Err(String::from_utf8_lossy(&read.stderr).into_owned());
    }
    let only =
        |(document, start): &(&str, &str)| block.document == *document && block.text.starts_with(start);
    if ONLY_PARSED.iter().any(only) {
        return Ok(None);
    }
    machine.run(&block.text).map(Some)
}

/// Whether the program accepts the flags.
fn accepts(arguments: &[String]) -> Result<(), String> {
    let words = std::iter::once(PROGRAM).chain(arguments.iter().map(String::as_str));
    ecr_pull_secrets::commands::flags().try_get_matches_from(words).map_err(|error| error.to_string())?;
    Ok(())
}

/// The chart with the flags of `helm install` or `helm upgrade`, but from this folder and for no cluster.
fn helm(arguments: &[String]) -> Option<Vec<String>> {
    let release = arguments.iter().skip(1).find(|word| !word.starts_with('-'))?;
    if !["install", "upgrade"].contains(&arguments[0].as_str()) {
        return None;
    }
    let chart = |word: &str| word == "CHART" || word.ends_with("charts/ecr-pull-secrets");
    let mut words = vec!["template".to_owned(), release.clone()];
    let before = arguments.iter().position(|word| word == release)?;
    let rest = arguments[1..before].iter().chain(&arguments[before + 1..]);
    for word in rest {
        words.push(match word.as_str() {
            word if chart(word) => format!("{REPOSITORY}/charts/ecr-pull-secrets"),
            "…" | "--install" | "--wait" | "--reuse-values" => continue,
            word if word.starts_with("examples/") => format!("{REPOSITORY}/{word}"),
            word => word.to_owned(),
        });
    }
    Some(words)
}

fn targets() -> Vec<String> {
    let makefile = fs::read_to_string(PathBuf::from(REPOSITORY).join("Makefile")).expect("the Makefile");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).expect("targets");
    phony.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_command_runs_in_bash_with_known_programs_and_this_program_and_make_accept_their_arguments() {
    let machine = Machine::new();
    let targets = targets();
    each("sh", 60, |block| {
        for command in commands(&machine, block)?.unwrap_or_default() {
            let (program, arguments) = command.split_first().expect("a program");
            let plugin = arguments.first().is_some_and(|word| word == PROGRAM);
            let inside = arguments.iter().position(|word| word == "/ecr-pull-secrets");
            let ours = match program.as_str() {
                PROGRAM => Some(arguments),
                "kubectl" if plugin => Some(&arguments[1..]),
                "kubectl" => inside.map(|start| &arguments[start + 1..]),
                _ => None,
            };
            ours.map_or(Ok(()), accepts)?;
            if program == "make" {
                let target =
                    arguments.iter().find(|word| !word.contains('=')).ok_or("make without a target")?;
                if !targets.contains(target) {
                    return Err(format!("make {target}: no such target"));
                }
            }
        }
        Ok(())
    });
}

#[tokio::test]
async fn every_installation_with_helm_renders() {
    let machine = Machine::new();
    let program = testing::tools::folder("helm").await.join("helm");
    let mut rendered = 0;
    let values = machine.folder.path().join("values.yaml");
    fs::write(&values, "config: {namespaces: {only: [team-a]}, defaults: {registries: [public.ecr.aws]}}")
        .expect("a file");
    for block in crate::blocks::blocks().iter().filter(|block| block.language == "sh") {
        for command in commands(&machine, block).unwrap_or_default().unwrap_or_default() {
            let Some(words) = (command[0] == "helm").then(|| helm(&command[1..])).flatten() else { continue };
            let output = Command::new(&program)
                .args(&words)
                .current_dir(machine.folder.path())
                .env("HOME", machine.folder.path())
                .output()
                .expect("helm starts");
            assert!(output.status.success(), "{block}: {}", String::from_utf8_lossy(&output.stderr));
            rendered += 1;
        }
    }
    assert!(rendered >= 5, "{rendered} commands");
}

#[test]
fn a_wrong_flag_an_unknown_program_and_a_broken_line_are_found() {
    let machine = Machine::new();
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert!(accepts(&words("check --pre")).is_ok());
    assert!(accepts(&words("check --pree")).is_err_and(|error| error.contains("--pree")));
    assert!(machine.run("ecr-pull-secrets check; nosuchprogram").is_err());
    assert!(machine.run("echo 'x").is_err());
    let found = machine.run("X=$(ecr-pull-secrets token --registry $HOST) | jq .x").expect("two commands");
    assert!(found.contains(&words(
        "ecr-pull-secrets token --registry 123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    )));
}
