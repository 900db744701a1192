//! The scripts of `deploy/release`, against a registry on loopback.

use std::time::Duration;

use testing::process::Process;
use testing::tools;

use super::*;

/// Starts a registry in memory: its process, and its address.
async fn start_registry(crane: &Path, folder: &Path) -> (Process, String) {
    let mut command = Command::new(crane);
    command.args(["registry", "serve", "--address", "127.0.0.1:0"]);
    let mut process = Process::spawn("registry", &command, folder);
    loop {
        let log = process.log();
        if let Some(line) = log.lines().find_map(|line| line.split_once("serving on port ")) {
            return (process, format!("127.0.0.1:{}", line.1.trim()));
        }
        assert_eq!(process.exit_code(), None, "{log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a script of `deploy/release`, for a registry without TLS: its only line, or its errors.
fn release(sources: &Path, script: &str, arguments: &[&str]) -> Result<String, String> {
    testing::release::run(sources, script, arguments, &[("HELM_FLAGS", "--plain-http")])
}

#[tokio::test]
async fn an_image_and_a_chart_are_pushed_and_the_chart_installs_the_image_by_its_digest() {
    let crane = tools::folder("crane").await.join("crane");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_registry, address) = start_registry(&crane, folder.path()).await;
    let programs: Vec<_> = PLATFORMS.iter().map(|(_, machine)| elf(*machine, 1)).collect();
    let archive = run(Path::new(SOURCES), "release", &programs, &VARIABLES);
    let digest = String::from_utf8_lossy(&archive.stderr)
        .lines()
        .find_map(|line| Some(line.strip_prefix("digest")?.trim().to_owned()));
    let archive = written(&archive).display().to_string();
    let sources = Path::new(SOURCES);

    let name = format!("{address}/team/ecr-pull-secrets");
    let image = release(sources, "push-image", &[&archive, &format!("{name}:9.9.9")]).expect("it is pushed");
    assert_eq!(Some(image.as_str()), digest.map(|digest| format!("{name}@{digest}")).as_deref());
    let index = Command::new(&crane).args(["manifest", &image]).output().expect("crane starts");
    let index: Value = serde_json::from_slice(&index.stdout).expect("an index");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(PLATFORMS.len()));

    let charts = format!("{address}/charts");
    let chart = release(sources, "push-chart", &["9.9.9", &charts, &image]).expect("it is pushed");
    assert!(chart.starts_with(&format!("{charts}/ecr-pull-secrets@sha256:")), "{chart}");
    let place = format!("oci://{charts}/ecr-pull-secrets");
    let rendered =
        tools::run("helm", &["template", "a", &place, "--version", "9.9.9", "--plain-http"], &[]).await;
    let rendered = rendered.expect("the chart is rendered");
    assert!(rendered.contains(&format!("image: {image:?}")), "{image}");

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
    let refused = release(copy.path(), "check", &["v0.1.0"]).expect_err("the chart has other addresses");
    for difference in ["addresses that are not below", "Chart.yaml has the placeholder OWNER"] {
        assert!(refused.contains(difference), "{difference}: {refused}");
    }
    change("charts/ecr-pull-secrets/Chart.yaml", &|text| text.replace("OWNER", "example"));
    let icon = "raw.githubusercontent.com/example/";
    change("charts/ecr-pull-secrets/Chart.yaml", &|text| {
        text.replace(icon, "raw.githubusercontent.com/other/")
    });
    let refused = release(copy.path(), "check", &["v0.1.0"]).expect_err("the icon has another address");
    assert!(refused.contains("change https://raw.githubusercontent.com/other/"), "{refused}");
    change("charts/ecr-pull-secrets/Chart.yaml", &|text| {
        text.replace("raw.githubusercontent.com/other/", icon)
    });
    let notes = copy.path().join("notes").display().to_string();
    let found = release(copy.path(), "check", &["v0.1.0", &notes]);
    assert_eq!(found.as_deref(), Ok("0.1.0"));
    assert!(fs::read_to_string(notes).expect("the notes").contains("### Added"));
}
