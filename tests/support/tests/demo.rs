//! The demo runs to its end, and shows what `docs/demo.md` says that it shows.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testing::process::Process;

const DOCUMENT: &str = include_str!("../../../docs/demo.md");

/// What is the same in every run: no numbers, no folder's name, no width of columns.
fn shape(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let line = line.split_once("KUBECONFIG=").map_or(line, |(before, _)| before);
        let words =
            line.split(|c: char| c.is_whitespace() || c.is_ascii_digit()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).filter(|line| !line.is_empty()).collect()
}

#[tokio::test]
async fn it_shows_what_its_document_says() {
    if !testing::real_cluster() {
        return;
    }
    let demo = Path::new(env!("CARGO_BIN_EXE_demo"));
    let controller = demo.with_file_name("ecr-pull-secrets");
    assert!(controller.exists(), "{} is missing: run `cargo build` first", controller.display());
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let mut command = Command::new(demo);
    // The demo looks for the project's own tools.
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--controller").arg(controller);
    if let Some(cache) = std::env::var_os("XDG_CACHE_HOME") {
        command.env("XDG_CACHE_HOME", cache);
    } else if let Some(home) = std::env::var_os("HOME") {
        command.env("XDG_CACHE_HOME", Path::new(&home).join(".cache"));
    }
    if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") {
        command.env("KUBEBUILDER_ASSETS", assets);
    }
    let mut demo = Process::spawn("demo", &command, folder.path());
    let code = demo.wait(Duration::from_mins(4)).await;
    assert_eq!(code, Some(0), "{}", demo.log_tail());
    let block = DOCUMENT.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(shape(&demo.log()), shape(block.expect("the document shows the demo")));
}
