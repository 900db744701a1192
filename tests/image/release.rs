//! The scripts of `deploy/release`, against a registry on loopback.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use super::*;

/// A registry in memory. It ends with this value.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start() -> Self {
        let mut process = Command::new(crane())
            .args(["registry", "serve", "--address", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("crane starts");
        let mut log = BufReader::new(process.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let port = log.find_map(|line| Some(line.split_once("serving on port ")?.1.trim().to_owned()));
        // The registry ends when its pipe is closed.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, address: format!("127.0.0.1:{}", port.expect("the port of the registry")) }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tool(name: &str) -> PathBuf {
    let output = Command::new("tests/tools/build").arg(name).current_dir(SOURCES).output();
    let output = output.expect("the script starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join(name)
}

fn crane() -> PathBuf {
    tool("crane")
}

/// Runs a script of `deploy/release`: its only line, or its errors.
fn release(sources: &Path, script: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(format!("deploy/release/{script}"));
    let home = tempfile::tempdir().expect("a temporary folder");
    command.args(arguments).current_dir(sources).env("HELM_FLAGS", "--plain-http");
    command.env("XDG_CONFIG_HOME", home.path()).env("XDG_CACHE_HOME", cache());
    let output = command.output().expect("the script starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The folder of the tools, which Helm would otherwise share with that of its user.
fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from)
}

#[test]
fn an_image_and_a_chart_are_pushed_and_the_chart_installs_the_image_by_its_digest() {
    let registry = Registry::start();
    let programs: Vec<_> = PLATFORMS.iter().map(|(_, machine)| elf(*machine, 1)).collect();
    let archive = run(Path::new(SOURCES), "release", &programs, &VARIABLES);
    let digest = String::from_utf8_lossy(&archive.stderr)
        .lines()
        .find_map(|line| Some(line.strip_prefix("digest")?.trim().to_owned()));
    let archive = written(&archive).display().to_string();
    let sources = Path::new(SOURCES);

    let name = format!("{}/team/ecr-pull-secrets", registry.address);
    let image = release(sources, "push-image", &[&archive, &format!("{name}:9.9.9")]).expect("it is pushed");
    assert_eq!(Some(image.as_str()), digest.map(|digest| format!("{name}@{digest}")).as_deref());
    let index = Command::new(crane()).args(["manifest", &image]).output().expect("crane starts");
    let index: Value = serde_json::from_slice(&index.stdout).expect("an index");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(PLATFORMS.len()));

    let charts = format!("{}/charts", registry.address);
    let chart = release(sources, "push-chart", &["9.9.9", &charts, &image]).expect("it is pushed");
    assert!(chart.starts_with(&format!("{charts}/ecr-pull-secrets@sha256:")), "{chart}");
    let rendered = Command::new(tool("helm"))
        .args([
            "template",
            "a",
            &format!("oci://{charts}/ecr-pull-secrets"),
            "--version",
            "9.9.9",
            "--plain-http",
        ])
        .output()
        .expect("Helm starts");
    let rendered = String::from_utf8_lossy(&rendered.stdout);
    assert!(
        rendered.contains(&format!("image: {image:?}")) || rendered.contains(&format!("image: {image}")),
        "{image}"
    );

    let again = release(sources, "push-chart", &["9.9.9", &charts, &image]).expect_err("it exists");
    assert!(again.contains("a release is never replaced"), "{again}");
}

#[test]
fn a_tag_that_is_not_the_version_of_the_sources_is_refused_with_each_difference() {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let files = [
        "Cargo.toml",
        "CHANGELOG.md",
        "charts/ecr-pull-secrets/Chart.yaml",
        "deploy/release/check",
        "deploy/release/addresses",
    ];
    for file in files {
        let to = copy.path().join(file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(Path::new(SOURCES).join(file), to).expect("a file");
    }
    let refused = release(copy.path(), "check", &["v9.9.9"]).expect_err("nothing fits");
    for difference in
        ["version in Cargo.toml", "appVersion in charts/", "CHANGELOG.md has no section", "placeholder OWNER"]
    {
        assert!(refused.contains(difference), "{difference}: {refused}");
    }
    assert!(release(copy.path(), "check", &["9.9.9"]).expect_err("no tag").contains("usage"));

    let change = |file: &str, edit: &dyn Fn(String) -> String| {
        let path = copy.path().join(file);
        let text = fs::read_to_string(&path).expect("a file");
        fs::write(&path, edit(text)).expect("a file");
    };
    change("CHANGELOG.md", &|text| text.replace("## [Unreleased]", "## [0.1.0] - 2026-12-01"));
    change("deploy/release/addresses", &|text| text.replace("OWNER", "example"));
    let notes = copy.path().join("notes").display().to_string();
    let found = release(copy.path(), "check", &["v0.1.0", &notes]);
    assert_eq!(found.as_deref(), Ok("0.1.0"));
    assert!(fs::read_to_string(notes).expect("the notes").contains("### Added"));
}
