//! The processes of a control plane and the flags they run with.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hyper::Request;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use tokio::net::TcpStream;

use super::kubernetes::Storage;
use super::{Binaries, Files, client, prepared, wait_for};
use crate::link::Link;
use crate::process::Process;

const CONTROLLERS: [&str; 10] = [
    "serviceaccount-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "deployment-controller",
    "replicaset-controller",
    "job-controller",
    "disruption-controller",
    "endpointslice-controller",
    "node-lifecycle-controller",
    "root-ca-certificate-publisher-controller",
];
/// Where Services have their addresses; the first is that of the API server, [`super::files`] certifies it.
const SERVICES: &str = "10.0.0.0/24";

#[derive(Default)]
pub(super) struct Programs {
    long_lived: bool,
    // Dropped in this order: none loses what it depends on while it runs.
    controller_manager: Option<Process>,
    apiserver: Option<Process>,
    second: Option<Second>,
    storage: Option<Process>,
}

/// An API server of its own on the same storage, and its connection to it.
struct Second {
    _apiserver: Process,
    link: Link,
}

impl Programs {
    /// Starts everything; an error holds the end of the log of what failed.
    pub(super) async fn start(
        files: &Files,
        binaries: &Binaries,
        long_lived: bool,
        controller_manager: bool,
    ) -> Result<Self, String> {
        prepared::put(files, binaries).await?;
        let mut programs = Self { long_lived, ..Self::default() };
        programs.start_storage(files, binaries).await?;
        programs.start_apiserver(files, binaries).await?;
        if controller_manager {
            let command = controller_manager_command(files, binaries);
            let mut process = Process::spawn("kube-controller-manager", &command, files.root());
            let accounts: Api<ServiceAccount> =
                Api::default_namespaced(client(&files.admin_kubeconfig()).await);
            wait_for(&mut process, "the first service account", async || {
                accounts.get("default").await.is_ok()
            })
            .await?;
            programs.controller_manager = Some(process);
        }
        Ok(programs)
    }

    pub(super) async fn start_apiserver(&mut self, files: &Files, binaries: &Binaries) -> Result<(), String> {
        assert!(self.apiserver.is_none(), "kube-apiserver runs already");
        let ports = (files.apiserver.number(), files.storage.number());
        let mut command = apiserver(files, binaries, ports, "audit.log");
        if !self.long_lived {
            command.envs([("GOGC", "off"), ("GOMEMLIMIT", "1GiB")]);
        }
        let process = Process::spawn("kube-apiserver", &command, files.root());
        self.apiserver = Some(ready(process, &files.admin_kubeconfig()).await?);
        Ok(())
    }

    /// Starts the second API server.
    pub(super) async fn start_second(&mut self, files: &Files, binaries: &Binaries) -> Result<(), String> {
        let link = Link::start((Ipv4Addr::LOCALHOST, files.storage.number()).into());
        let ports = (files.second.number(), link.address().port());
        let command = apiserver(files, binaries, ports, "second-audit.log");
        let process = Process::spawn("second-kube-apiserver", &command, files.root());
        let kubeconfig = files.second_kubeconfig();
        let apiserver = ready(process, &kubeconfig).await?;
        self.second = Some(Second { _apiserver: apiserver, link });
        Ok(())
    }

    pub(super) fn link(&self) -> Option<&Link> {
        self.second.as_ref().map(|second| &second.link)
    }

    pub(super) async fn start_storage(&mut self, files: &Files, binaries: &Binaries) -> Result<(), String> {
        let (name, command) = match binaries.storage {
            Storage::Etcd => ("etcd", etcd(files, binaries)),
            Storage::Kine => ("kine", kine(files, binaries)),
        };
        let mut process = Process::spawn(name, &command, files.root());
        wait_for(&mut process, "its port", async || listens(files.storage.number()).await).await?;
        self.storage = Some(process);
        Ok(())
    }

    /// What the storage has acknowledged is in its log: a clean end, which waits for clients, is not necessary.
    pub(super) fn kill_storage(&mut self) {
        self.storage.take().expect("the storage runs").kill9();
    }

    pub(super) async fn stop_apiserver(&mut self) {
        let mut process = self.apiserver.take().expect("kube-apiserver runs");
        process.terminate();
        // It waits for requests in flight; what still runs after that ends with the drop.
        process.wait(Duration::from_secs(5)).await;
    }

    pub(super) fn kill_apiserver(&mut self) {
        self.apiserver.take().expect("kube-apiserver runs").kill9();
    }

    pub(super) fn apiserver(&mut self) -> Option<&mut Process> {
        self.apiserver.as_mut()
    }
}

/// Waits until an API server is ready.
async fn ready(mut process: Process, kubeconfig: &Path) -> Result<Process, String> {
    let client = client(kubeconfig).await;
    wait_for(&mut process, "/readyz", async || {
        let request = Request::get("/readyz").body(Vec::new()).expect("a request");
        client.request_text(request).await.is_ok()
    })
    .await?;
    Ok(process)
}

async fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
}

fn program(folder: &Path, name: &str, flags: &[(&str, String)]) -> Command {
    let mut command = Command::new(folder.join(name));
    command.args(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
    command
}

fn etcd(files: &Files, binaries: &Binaries) -> Command {
    let client = format!("http://127.0.0.1:{}", files.storage.number());
    let peer = format!("http://127.0.0.1:{}", files.etcd_peer.number());
    let flags = [
        ("data-dir", files.storage_folder().display().to_string()),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client),
        ("listen-peer-urls", peer.clone()),
        ("initial-advertise-peer-urls", peer.clone()),
        ("initial-cluster", format!("default={peer}")),
        ("log-level", "warn".to_owned()),
        // Nothing here has to survive a power cut.
        ("unsafe-no-fsync", "true".to_owned()),
    ];
    program(&binaries.storage_folder, "etcd", &flags)
}

/// Without an endpoint, it has the database `db/state.db` of `SQLite` in its working directory, with the settings that
/// k3s has by default.
fn kine(files: &Files, binaries: &Binaries) -> Command {
    let flags = [
        ("listen-address", format!("127.0.0.1:{}", files.storage.number())),
        // No port for metrics.
        ("metrics-bind-address", "0".to_owned()),
    ];
    let mut command = program(&binaries.storage_folder, "kine", &flags);
    std::fs::create_dir_all(files.storage_folder()).expect("a temporary folder takes folders");
    command.current_dir(files.storage_folder());
    command
}

/// The command of an API server with its own port, a port that leads to the storage, and an audit log of this name.
fn apiserver(files: &Files, binaries: &Binaries, (port, storage): (u16, u16), audit_log: &str) -> Command {
    let path = |name: &str| files.path(name).display().to_string();
    let flags = [
        ("etcd-servers", format!("http://127.0.0.1:{storage}")),
        ("bind-address", files.address.to_string()),
        ("secure-port", port.to_string()),
        ("advertise-address", files.address.to_string()),
        // The endpoints of the Service `kubernetes` must not name a loopback address.
        ("endpoint-reconciler-type", if files.address.is_loopback() { "none" } else { "lease" }.to_owned()),
        ("service-cluster-ip-range", SERVICES.to_owned()),
        ("cert-dir", path("certificates")),
        ("tls-cert-file", path("apiserver.crt")),
        ("tls-private-key-file", path("apiserver.key")),
        ("client-ca-file", path("ca.crt")),
        // As kubeadm sets it up: a kubelet has only the rights that its node needs.
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("kubelet-client-certificate", path("apiserver-client.crt")),
        ("kubelet-client-key", path("apiserver-client.key")),
        ("token-auth-file", path("tokens.csv")),
        ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
        ("service-account-key-file", path("service-accounts.pub")),
        ("service-account-signing-key-file", path("service-accounts.key")),
        ("audit-policy-file", path("audit.yaml")),
        ("audit-log-path", path(audit_log)),
        ("audit-log-format", "json".to_owned()),
        // One file, so that a count misses nothing.
        ("audit-log-maxsize", "10000".to_owned()),
    ];
    program(&binaries.apiserver, "kube-apiserver", &flags)
}

fn controller_manager_command(files: &Files, binaries: &Binaries) -> Command {
    let path = |name: &str| files.path(name).display().to_string();
    let flags = [
        ("kubeconfig", path("controller-manager.kubeconfig")),
        ("controllers", CONTROLLERS.join(",")),
        ("root-ca-file", path("ca.crt")),
        ("service-account-private-key-file", path("service-accounts.key")),
        ("leader-elect", "false".to_owned()),
        ("secure-port", "0".to_owned()),
        ("kube-api-qps", "500".to_owned()),
        ("kube-api-burst", "1000".to_owned()),
    ];
    program(&binaries.controller_manager, "kube-controller-manager", &flags)
}
