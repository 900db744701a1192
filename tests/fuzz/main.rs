//! Runs each fuzz target once over its corpus in `fuzz/corpus`, without libFuzzer. `make fuzz` looks for new inputs.

mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The most bytes that all corpora have together.
const MAX_CORPUS: u64 = 200 * 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.file_stem().and_then(|name| name.to_str()).expect("a name in UTF-8")
}

#[test]
fn no_target_fails_on_its_corpus() {
    for (target, check) in targets::ALL {
        let inputs = entries(&folder().join("corpus").join(target));
        assert!(inputs.len() >= 5, "{target} has {} inputs", inputs.len());
        for path in inputs {
            let data = fs::read(&path).expect("an input");
            let result = catch_unwind(AssertUnwindSafe(|| check(&data)));
            assert!(result.is_ok(), "{target} fails on {}", path.display());
        }
    }
}

#[test]
fn no_target_panics_on_noise() {
    for (_, check) in targets::ALL {
        for length in [0, 1, 2, 100, 10_000] {
            for byte in [0, b' ', b'\n', b'0', b'[', b'{', b'"', b'=', 0x7f, 0xff] {
                check(&vec![byte; length]);
            }
        }
    }
}

#[test]
fn each_target_has_a_program_and_a_corpus() {
    let names: Vec<_> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    for folder in [folder().join("corpus"), folder().join("fuzz_targets")] {
        assert_eq!(entries(&folder).iter().map(|path| name(path)).collect::<Vec<_>>(), names);
    }
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("a manifest");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml does not build {name}");
    }
}

#[test]
fn the_corpora_are_small() {
    let inputs = entries(&folder().join("corpus")).into_iter().flat_map(|target| entries(&target));
    let bytes: u64 = inputs.map(|path| fs::metadata(path).expect("a file").len()).sum();
    assert!(bytes <= MAX_CORPUS, "{bytes} bytes: run tests/tools/fuzz minimise TARGET");
}
