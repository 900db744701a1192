//! A real Kubernetes control plane for one test: kube-apiserver with etcd or kine, RBAC, an audit log.
//!
//! Its version and its storage are those that [`TEST_KUBERNETES`] selects, unless a test selects them itself.
//!
//! ```no_run
//! # async fn example() {
//! use testing::control_plane::ControlPlane;
//!
//! if !testing::real_cluster() {
//!     return;
//! }
//! let mut cluster = ControlPlane::start().await;
//! cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: team-a}}").await;
//! cluster.stop_apiserver().await;
//! cluster.start_apiserver().await;
//! # }
//! ```
//!
//! Without kube-controller-manager ([`Builder::controller_manager`]) no namespace gets a `default` service
//! account, and a deleted namespace stays `Terminating`.

mod apply;
mod audit;
mod files;
mod kubernetes;
mod prepared;
mod programs;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::certificates::Certificate;
use crate::link::Link;
use crate::process::Process;
pub use audit::{AuditEntry, assert_one_at_a_time};
use files::Files;
use kubernetes::Binaries;
pub use kubernetes::{Kubernetes, TEST_KUBERNETES};
use programs::Programs;

/// How long a component may take on a machine that is busy with other tests.
const START: Duration = Duration::from_mins(2);

/// What a control plane consists of, before it is started.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    controller_manager: bool,
    second_apiserver: bool,
    long_lived: bool,
    address: Ipv4Addr,
    kubernetes: Kubernetes,
}

impl Builder {
    /// Whether kube-controller-manager runs too, with the controllers for service accounts, namespaces,
    /// garbage, Deployments, replica sets, jobs, disruption budgets and the taints of nodes.
    #[must_use]
    pub fn controller_manager(mut self, wanted: bool) -> Self {
        self.controller_manager = wanted;
        self
    }

    /// Whether a second API server uses the same storage, through a connection that can be frozen: see
    /// [`ControlPlane::storage_link`].
    #[must_use]
    pub fn second_apiserver(mut self, wanted: bool) -> Self {
        self.second_apiserver = wanted;
        self
    }

    /// Whether the API server collects garbage as usual. Otherwise, it does not before it has a GiB, with which its start takes
    /// a quarter less processor time.
    #[must_use]
    pub fn long_lived(mut self, wanted: bool) -> Self {
        self.long_lived = wanted;
        self
    }

    /// Where the API server listens: 127.0.0.1, unless a test in a network of its own has another address.
    #[must_use]
    pub fn address(mut self, address: Ipv4Addr) -> Self {
        self.address = address;
        self
    }

    /// The version and the storage, whatever [`TEST_KUBERNETES`] selects. kube-controller-manager stays that of
    /// [`Kubernetes::Usual`].
    #[must_use]
    pub fn kubernetes(mut self, kubernetes: Kubernetes) -> Self {
        self.kubernetes = kubernetes;
        self
    }

    /// Whether its kube-apiserver serves `what`, which is new in this minor version. Otherwise, it prints that the test is
    /// skipped.
    pub async fn serves(self, what: &str, minor: u32) -> bool {
        let found = self.kubernetes.minor().await;
        if found < minor {
            crate::skip_this(&format!(
                "{what} needs Kubernetes 1.{minor}, and this API server has 1.{found}"
            ));
        }
        found >= minor
    }

    /// Starts it and waits until it is ready; panics with the end of a component's log where one fails.
    pub async fn start(self) -> ControlPlane {
        let binaries = Binaries::of(self.kubernetes).await;
        // Only for what is in use although nobody claimed it; each try has new ports.
        for _ in 0..5 {
            let files = Files::write(self.address);
            match Programs::start(&files, &binaries, self.long_lived, self.controller_manager).await {
                Ok(mut programs) => {
                    if self.second_apiserver {
                        let started = programs.start_second(&files, &binaries).await;
                        started.unwrap_or_else(|reason| panic!("{reason}"));
                    }
                    let admin = client(&files.admin_kubeconfig()).await;
                    return ControlPlane { programs, admin, files, binaries };
                }
                Err(reason) if reason.contains("address already in use") => {}
                Err(reason) => panic!("{reason}"),
            }
        }
        panic!("five times in a row a port was taken between its choice and its use");
    }
}

/// A running control plane; ended, with everything it has stored, when this is dropped.
pub struct ControlPlane {
    // Dropped in this order: programs before their files.
    programs: Programs,
    admin: Client,
    files: Files,
    binaries: Binaries,
}

impl ControlPlane {
    /// Starts a storage and kube-apiserver, as [`ControlPlane::builder`] does without further wishes.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// For more than a storage and kube-apiserver, or for certain ones.
    pub fn builder() -> Builder {
        Builder {
            controller_manager: false,
            second_apiserver: false,
            long_lived: false,
            address: Ipv4Addr::LOCALHOST,
            kubernetes: Kubernetes::selected(),
        }
    }

    /// A client that may do everything. Like every client from here it does not repeat what fails.
    pub fn admin(&self) -> Client {
        self.admin.clone()
    }

    /// The kubeconfig of user `admin`, group `system:masters`.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.files.admin_kubeconfig()
    }

    /// The API server's URL; it stays the same over [`ControlPlane::stop_apiserver`].
    pub fn url(&self) -> String {
        self.files.url()
    }

    /// A PEM file with the authority that signed the API server's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.files.path("ca.crt")
    }

    /// A token, valid for a day, of a service account, which must exist.
    pub async fn token_for(&self, namespace: &str, service_account: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(24 * 60 * 60), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(service_account, &PostParams::default(), &request).await;
        let answer =
            answer.unwrap_or_else(|error| panic!("no token for {namespace}/{service_account}: {error}"));
        answer.status.expect("a token request is answered in its status").token
    }

    /// A kubeconfig with the token of a service account, which must exist. Its default namespace is the
    /// account's.
    pub async fn kubeconfig_for(&self, namespace: &str, service_account: &str) -> PathBuf {
        let token = self.token_for(namespace, service_account).await;
        self.files.kubeconfig(&format!("{namespace}-{service_account}"), namespace, &token)
    }

    /// A client certificate of this user that is valid for `lifetime`.
    pub fn client_certificate(&self, user: &str, lifetime: Duration) -> Certificate {
        self.files.authority.issue_for(user, None, lifetime)
    }

    /// A kubeconfig with a client certificate of the kubelet of this node. The API server restricts it to what the node
    /// needs (Node authorizer, `NodeRestriction`).
    pub fn kubeconfig_of_node(&self, node: &str) -> PathBuf {
        self.files.kubeconfig_of_node(node)
    }

    /// Writes a kubeconfig of this name for a user with these fields, such as `client-certificate`. Where there is one
    /// of the same name, it is replaced.
    pub fn kubeconfig_of(&self, name: &str, namespace: &str, user: &serde_json::Value) -> PathBuf {
        self.files.kubeconfig_of(name, namespace, user)
    }

    /// A client of whoever has this token.
    pub async fn client_with(&self, token: &str) -> Client {
        client(&self.files.kubeconfig("bearer", "default", token)).await
    }

    /// A client that uses this kubeconfig.
    pub async fn client_for(&self, kubeconfig: &Path) -> Client {
        client(kubeconfig).await
    }

    /// Applies every document of a YAML text, in its order and as `admin`, over whatever is there.
    ///
    /// Objects without a namespace go to `default`. Panics at the first that the API server refuses.
    pub async fn apply(&self, yaml: &str) {
        apply::apply(&self.admin, yaml).await;
    }

    /// As [`ControlPlane::apply`], with the rights of this client.
    pub async fn apply_as(&self, client: &Client, yaml: &str) {
        apply::apply(client, yaml).await;
    }

    /// Ends kube-apiserver: its port refuses connections until [`ControlPlane::start_apiserver`].
    pub async fn stop_apiserver(&mut self) {
        self.programs.stop_apiserver().await;
    }

    /// Starts kube-apiserver again, with the same port, certificate and data, and waits until it is ready.
    pub async fn start_apiserver(&mut self) {
        let started = self.programs.start_apiserver(&self.files, &self.binaries).await;
        started.unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Replaces the authority in [`ControlPlane::ca_file`], and starts kube-apiserver again with a certificate of the new
    /// one. Clients from before trust the old one.
    pub async fn rotate_authority(&mut self) {
        self.stop_apiserver().await;
        self.files.rotate_authority();
        self.start_apiserver().await;
        self.admin = client(&self.files.admin_kubeconfig()).await;
    }

    /// Stops kube-apiserver and its storage, copies the storage's folder, and starts both again.
    /// [`ControlPlane::restore_storage`] puts the copy back.
    pub async fn save_storage(&mut self) {
        self.kill_storage();
        replace(&self.files.path("saved"), &self.files.storage_folder());
        self.start_storage().await;
    }

    /// Stops kube-apiserver and its storage, puts the copied folder back, and starts both again: resource versions go
    /// back.
    pub async fn restore_storage(&mut self) {
        self.kill_storage();
        replace(&self.files.storage_folder(), &self.files.path("saved"));
        self.start_storage().await;
    }

    /// Without the time that open watches would be given.
    fn kill_storage(&mut self) {
        self.programs.kill_apiserver();
        self.programs.kill_storage();
    }

    async fn start_storage(&mut self) {
        let started = self.programs.start_storage(&self.files, &self.binaries).await;
        started.unwrap_or_else(|reason| panic!("{reason}"));
        self.start_apiserver().await;
    }

    /// The URL of the second API server, if there is one ([`Builder::second_apiserver`]).
    pub fn second_url(&self) -> Option<String> {
        self.programs.link().map(|_| self.files.second_url())
    }

    /// The connection between the second API server and the storage. While it is frozen, that server is stale.
    pub fn storage_link(&self) -> &Link {
        self.programs.link().expect("the control plane has a second API server")
    }

    /// Every request that has been answered completely, in the order of answers.
    ///
    /// A watch is not among them before it ends. Left out are the API server's requests to itself and those
    /// for its health. An entry may follow a moment after its answer.
    pub fn audit(&self) -> Vec<AuditEntry> {
        self.audit_from(0).0
    }

    /// As [`ControlPlane::audit`], without the first bytes of the log. The number is that of the bytes read so far, for the
    /// next call.
    pub fn audit_from(&self, byte: u64) -> (Vec<AuditEntry>, u64) {
        audit::read(&self.files.path("audit.log"), byte)
    }

    /// The requests of one user with this verb and resource, among those of [`ControlPlane::audit`].
    pub fn requests(&self, user: &str, verb: &str, resource: &str) -> Vec<AuditEntry> {
        let mut all = self.audit();
        all.retain(|entry| entry.user == user && entry.verb == verb && entry.resource == resource);
        all
    }

    /// The API server's process, for tests that stop or kill it.
    pub fn apiserver(&mut self) -> Option<&mut Process> {
        self.programs.apiserver()
    }
}

/// Makes a folder a copy of another one. A file that only the old folder had would be a gap in etcd's log, with which etcd does
/// not start.
fn replace(to: &Path, from: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).expect("a temporary folder is removed");
    }
    prepared::copy(from, to);
}

/// A client without repetition, so that a test sees what the API server says, when it says it.
async fn client(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig)
        .unwrap_or_else(|error| panic!("{} is no kubeconfig: {error}", kubeconfig.display()));
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.unwrap_or_else(|error| panic!("{}: {error}", kubeconfig.display()));
    config.default_retry = false;
    Client::try_from(config).expect("a client for a kubeconfig of ours")
}

/// Asks every few milliseconds until `done`, or until a program has ended or the time is up; the error holds
/// the end of the program's log.
async fn wait_for(
    process: &mut Process,
    what: &str,
    mut done: impl AsyncFnMut() -> bool,
) -> Result<(), String> {
    let deadline = Instant::now() + START;
    while process.exit_code().is_none() && Instant::now() < deadline {
        if done().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let state = process.exit_code().map_or("still runs".to_owned(), |code| format!("exited with {code}"));
    Err(format!(
        "{} {state}, but {what} never came; its log ends with\n{}",
        process.name(),
        process.log_tail()
    ))
}
