//! Which part of the program may import which, as `src/lib.rs` and `src/core/mod.rs` draw it. The core and the controller reach
//! no I/O, so that every decision can be tested in simulated time.

use std::fs;
use std::path::{Path, PathBuf};

/// The parts of the program, and what each may import of the others.
const LAYERS: [(&str, &[&str]); 9] = [
    ("core", &["core"]),
    ("controller", &["core", "controller"]),
    ("ecr", &["core", "ecr"]),
    ("telemetry", &["core", "controller", "telemetry"]),
    ("config", &["core", "ecr", "config"]),
    ("kubernetes", &["core", "controller", "clock", "telemetry", "kubernetes"]),
    ("runtime", &["core", "controller", "clock", "telemetry", "kubernetes", "runtime"]),
    ("clock.rs", &["core"]),
    // A command that fetches a token reaches neither a cluster nor the controller.
    ("commands/credentials", &["core", "ecr", "config", "cli", "clock", "commands", "telemetry"]),
];

/// The parts of the core, lowest first: each may import only those before it.
const CORE: [&str; 7] = ["aws", "request", "grants", "secret", "leader_election", "settings", "plan"];

/// What does I/O, or belongs to a runtime. `kube::core` has types and no client.
const IO: [&str; 12] = [
    "tokio::",
    "kube::",
    "k8s_openapi::",
    "aws_",
    "hyper",
    "tower",
    "http::",
    "tracing::",
    "std::fs",
    "std::net",
    "Timestamp::now",
    "Instant::now",
];
const PURE: &str = "kube::core::";

/// Hashes with a fixed key, which a user can make collide.
const FIXED_HASHES: [&str; 5] = ["DefaultHasher", "BuildHasher", "with_hasher", "ahash", "fxhash"];
/// The files of the core and the controller that hash with a fixed key, and why a collision is harmless there.
const HASHED: [(&str, &str); 4] = [
    ("controller/report.rs", "two Events of one namespace are one series"),
    ("controller/tokens/share.rs", "a namespace does not wait until it is quiet"),
    ("core/jitter.rs", "two delays are equal"),
    ("core/plan/compose.rs", "a write of a namespace counts as its last one"),
];

/// The production code of a file or folder: no comments, no tests.
fn sources(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
        let skipped = ["tests", "tests.rs", "testing.rs"];
        return entries
            .filter(|path| !skipped.iter().any(|name| path.ends_with(name)))
            .flat_map(|path| sources(&path))
            .collect();
    }
    let text = fs::read_to_string(path).expect("a source file");
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    vec![(path.to_owned(), lines.collect::<Vec<_>>().join("\n"))]
}

fn source_of(part: &str) -> Vec<(PathBuf, String)> {
    let found = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(part));
    assert!(!found.is_empty(), "src/{part} has no source file");
    found
}

/// What follows `prefix` in the code, up to the end of the name.
fn names<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    code.split(prefix).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn each_layer_imports_only_what_lies_below() {
    for (part, allowed) in LAYERS {
        for (path, code) in source_of(part) {
            for name in names(&code, "crate::") {
                assert!(allowed.contains(&name), "{}: crate::{name} is not below {part}", path.display());
            }
        }
    }
}

#[test]
fn each_part_of_the_core_imports_only_those_before_it() {
    for (index, part) in CORE.iter().enumerate() {
        let file = format!("core/{part}.rs");
        let is_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&file).is_file();
        let part_path = if is_file { file.clone() } else { format!("core/{part}") };
        for (path, code) in source_of(&part_path) {
            // In the head of a part, `super` is the core.
            let is_head = path.ends_with("mod.rs") || path.ends_with(&file);
            let code = if is_head { code.replace("super::", "crate::core::") } else { code };
            for name in names(&code, "crate::core::") {
                let above = CORE[index + 1..].contains(&name);
                assert!(!above, "{}: crate::core::{name} comes after {part}", path.display());
            }
        }
    }
}

#[test]
fn the_core_and_the_controller_do_no_io() {
    for part in ["core", "controller"] {
        for (path, code) in source_of(part) {
            let code = code.replace(PURE, "");
            let found = IO.iter().find(|name| code.contains(**name));
            assert_eq!(found, None, "{}: the {part} does no I/O", path.display());
        }
    }
}

/// Maps with keys of users have the randomly seeded hash of the standard library, or are sorted.
#[test]
fn no_map_of_the_core_and_the_controller_has_a_hash_with_a_fixed_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut hashed = vec![];
    for (path, code) in ["core", "controller"].into_iter().flat_map(source_of) {
        if FIXED_HASHES.iter().any(|name| code.contains(name)) {
            let file = path.strip_prefix(&root).expect("below src").display().to_string();
            // Maps have a hasher as their last parameter.
            let in_map = code.contains("_hasher(") || code.contains("BuildHasher");
            assert!(!in_map, "{file}: a map with a hasher of its own");
            hashed.push(file);
        }
    }
    hashed.sort();
    assert_eq!(hashed, HASHED.map(|(file, _)| file), "the files that hash with a fixed key");
}

#[test]
fn the_program_has_no_planted_bugs() {
    let program = fs::read(env!("CARGO_BIN_EXE_ecr-pull-secrets")).expect("the program");
    let mark = b"built with planted bugs";
    assert!(
        !program.windows(mark.len()).any(|window| window == mark),
        "tests/sim/planted.rs has the opposite test"
    );
}

#[test]
fn the_check_sees_an_import() {
    assert_eq!(
        names("use crate::runtime::Runtime;\nlet x = crate::ecr::y();", "crate::").collect::<Vec<_>>(),
        ["runtime", "ecr"]
    );
}
