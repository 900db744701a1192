//! What the tests of `ecr-pull-secrets` run against, all of it on loopback and in temporary folders.
//!
//! | module | what it gives |
//! |---|---|
//! | [`control_plane`] | a real kube-apiserver with etcd or kine, on request with kube-controller-manager |
//! | [`aws`] | an ECR and STS that checks signatures, fails on request and remembers every call |
//! | [`credentials`] | the places from which a pod or a machine gets credentials of that AWS |
//! | [`documents`] | code blocks of documents, and their commands as they are printed |
//! | [`fault_proxy`] | a proxy in front of an API server that delays, holds, drops and refuses requests |
//! | [`link`] | a TCP connection that can be frozen, and whose bytes are counted |
//! | [`upstream`] | a client of an API server that sends prepared requests |
//! | [`proxy`] | a proxy behind which that AWS goes by the names of the real one |
//! | [`moto`] | an ECR and STS that no one here wrote, to check the above against |
//! | [`isolation`] | a network, mounts and process IDs that only one test sees |
//! | [`node`] | a real kubelet, scheduler, containerd and runc in those |
//! | [`tunnel`] | a proxy behind which registries go by the names of ECR |
//! | [`registry`] | a real container registry that wants a password |
//! | [`release`] | the scripts of `deploy/release` |
//! | [`tenants`] | tenants' namespaces and pull secrets, as an admin edits and reads them |
//! | [`compromised_credential`] | what a stolen credential of the controller is refused, and by which layer |
//! | [`folder`] | a file that is replaced at once |
//! | [`ports`] | a free port that parallel tests do not give to each other |
//! | [`leaks`] | the search for tokens and keys in what was said |
//! | [`clock`] | another clock for one program |
//! | [`prometheus`] | a real Prometheus that scrapes the controller |
//! | [`process`] | children that never outlive the test process |
//! | [`tools`] | the programs that `tests/tools/build` builds |
//!
//! Everything here panics with a sentence that says what was wrong: a test can do nothing better with an
//! error. Nothing depends on the crate under test, so that none of its mistakes can hide here.

pub mod aws;
mod certificates;
pub mod clock;
pub mod compromised_credential;
pub mod control_plane;
pub mod credentials;
pub mod documents;
pub mod fault_proxy;
pub mod folder;
pub mod isolation;
pub mod leaks;
pub mod link;
pub mod moto;
pub mod node;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod proxy;
mod random;
pub mod registry;
pub mod release;
#[cfg(test)]
mod sdk;
mod server;
pub mod tenants;
pub mod tools;
pub mod tunnel;
pub mod upstream;

use std::io::Write as _;

pub use certificates::{Authority, Certificate};

/// The environment variable that skips what needs a real cluster, when it is `1`.
pub const SKIP_CLUSTER_TESTS: &str = "ECR_PULL_SECRETS_SKIP_CLUSTER_TESTS";

/// Whether tests against a real control plane are to run: always, unless [`SKIP_CLUSTER_TESTS`] is `1`.
///
/// A skipped test says so on the real stderr, past the capture of the test harness, so that a skipped run
/// never looks like a passed one. A control plane that cannot be built is no reason to skip: then
/// [`control_plane::ControlPlane::start`] fails.
pub fn real_cluster() -> bool {
    if std::env::var_os(SKIP_CLUSTER_TESTS).is_none_or(|value| value != "1") {
        return true;
    }
    skip_this(&format!("it needs a real control plane, and {SKIP_CLUSTER_TESTS}=1 is set"));
    false
}

/// Says on the real stderr that the test that runs in this thread is skipped, and why.
pub fn skip_this(why: &str) {
    let thread = std::thread::current();
    skipped(thread.name().unwrap_or("a test"), why);
}

/// Says on the real stderr that a test is skipped, and why.
fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
}
