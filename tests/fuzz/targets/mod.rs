//! The fuzz targets: each reads untrusted bytes with one of the program's parsers and asserts what every caller relies on.
//!
//! libFuzzer calls them from `fuzz/`, and `make test` with each file of `fuzz/corpus`. A target never panics on input that
//! is merely invalid.

// Each program of `fuzz/` calls one of them.
#![allow(dead_code)]

pub mod annotations;
pub mod applied;
pub mod aws_reply;
pub mod configuration;
pub mod docker_config;
pub mod hosts;
pub mod managed_fields;

use std::collections::BTreeMap;

use ecr_pull_secrets::simulation::core::PREFIX;
use ecr_pull_secrets::simulation::core::request::applied::RecordedState;
use ecr_pull_secrets::simulation::core::request::{AppliedState, Request, Target};

/// A target: what it is called, and what it does with an input.
pub type Check = fn(&[u8]);

/// Every target by name.
pub const ALL: [(&str, Check); 7] = [
    ("annotations", annotations::check),
    ("applied", applied::check),
    ("aws_reply", aws_reply::check),
    ("configuration", configuration::check),
    ("docker_config", docker_config::check),
    ("hosts", hosts::check),
    ("managed_fields", managed_fields::check),
];

/// The value of an annotation of ours, by its key without the prefix.
fn ours<'a>(annotations: &'a BTreeMap<String, String>, key: &str) -> &'a str {
    &annotations[&format!("{PREFIX}{key}")]
}

/// Asserts the bounds of a request, wherever it comes from.
fn assert_bounded(request: &Request) {
    let registries = &request.registries;
    assert!((1..=64).contains(&registries.len()), "{} registries", registries.len());
    assert!(registries.is_sorted_by(|a, b| a < b), "{registries:?}");
    let mut endpoints: Vec<_> = registries.iter().filter_map(Target::endpoint).collect();
    endpoints.sort();
    endpoints.dedup();
    assert!(endpoints.len() <= 8, "{} regions", endpoints.len());
    for target in registries {
        let host = target.to_string();
        assert!(host == "default" || hosts::is_ecr_host(&host), "{host}");
        assert_eq!(Target::try_from(host).as_ref(), Ok(target));
    }
    for list in [&request.repositories, &request.service_accounts] {
        assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
    }
}

/// Asserts that a state is recorded as itself, unless it is too long to be read.
fn assert_recorded(state: &AppliedState, annotations: &BTreeMap<String, String>, instance: &str) {
    let read = RecordedState::from_annotations(annotations);
    let written = ours(annotations, "applied");
    if written.len() > 8 * 1024 {
        assert_eq!(read.applied, None, "{} bytes", written.len());
    } else {
        assert_eq!(read.applied.as_ref(), Some(&(instance.to_owned(), state.clone())), "{written}");
    }
}
