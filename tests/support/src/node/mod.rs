//! A real node of a [`ControlPlane`], for a test in [`crate::isolation`]: scheduler, containerd, runc, kubelet,
//! kube-proxy, `CoreDNS`.
//!
//! Its pods reach each other, Services by name, and what listens on [`crate::isolation::ADDRESS`].

mod files;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;

use crate::control_plane::ControlPlane;
use crate::folder::Folder;
use crate::process::Process;
use crate::registry::Registry;
use crate::tools;

const SOCKET: &str = "/run/containerd/containerd.sock";
/// The image of every pod's sandbox.
pub const SANDBOX: &str = "localhost/pause:1";
const START: Duration = Duration::from_mins(2);

/// The kubelet's credential provider.
#[derive(Debug)]
pub struct Plugin {
    /// The file with its `CredentialProviderConfig`.
    pub config: PathBuf,
    /// The folder with the programs that it names.
    pub programs: PathBuf,
}

/// The node's programs; ended when this is dropped.
#[derive(Debug)]
pub struct Node {
    // Dropped in this order.
    kubelet: Process,
    others: Vec<Process>,
    containerd: Process,
    binaries: PathBuf,
    folder: Folder,
}

impl Node {
    /// The name of the node.
    pub const NAME: &'static str = "node";

    /// As [`Node::start_with`], without a credential provider.
    pub async fn start(
        cluster: &ControlPlane,
        registry: &Registry,
        hosts: &[&str],
        images: &[PathBuf],
    ) -> Self {
        Self::start_with(cluster, registry, hosts, images, None).await
    }

    /// Starts containerd, which trusts the registry as `hosts` and has `images` (OCI archives), then everything else;
    /// waits until the node takes pods. The kubelet has the identity of the node, everything else that of the admin.
    pub async fn start_with(
        cluster: &ControlPlane,
        registry: &Registry,
        hosts: &[&str],
        images: &[PathBuf],
        plugin: Option<&Plugin>,
    ) -> Self {
        let binaries = tools::folder("node").await;
        let folder = Folder::new();
        let kubeconfig = cluster.admin_kubeconfig();
        files::write(folder.path(), &binaries, cluster, registry, hosts);
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
        let program = |name: &str, flags: &[(&str, &str)]| {
            let mut command = Command::new(binaries.join(name));
            command.env("PATH", &path);
            command.args(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
            Process::spawn(name, &command, folder.path())
        };
        let at = |name: &str| folder.path().join(name).display().to_string();
        let kubeconfig = kubeconfig.display().to_string();
        let containerd = program("containerd", &[("config", &at("containerd.toml"))]);
        let ready = Instant::now();
        while !Path::new(SOCKET).exists() {
            assert!(ready.elapsed() < START, "containerd does not start:\n{}", containerd.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for image in images {
            let image = image.display().to_string();
            ctr(&binaries, &["images", "import", "--local", "--snapshotter", "native", &image]);
        }
        let scheduler = [("kubeconfig", &*kubeconfig), ("leader-elect", "false"), ("secure-port", "0")];
        let others = vec![
            program("kube-scheduler", &scheduler),
            program("kube-proxy", &[("config", &at("proxy.yaml"))]),
            program("coredns", &[("conf", &at("Corefile"))]),
        ];
        let plugin =
            plugin.map(|plugin| [&plugin.config, &plugin.programs].map(|path| path.display().to_string()));
        let mut flags: Vec<(&str, &str)> = vec![];
        if let Some([config, programs]) = &plugin {
            flags.push(("image-credential-provider-config", config));
            flags.push(("image-credential-provider-bin-dir", programs));
        }
        let [config, root, certificates] = ["kubelet.yaml", "kubelet", "certificates"].map(at);
        let own_kubeconfig = cluster.kubeconfig_of_node(Self::NAME).display().to_string();
        flags.extend([
            ("config", &*config),
            ("kubeconfig", &own_kubeconfig),
            ("root-dir", &root),
            ("cert-dir", &certificates),
            ("hostname-override", Self::NAME),
        ]);
        let kubelet = program("kubelet", &flags);
        let mut node = Self { kubelet, others, containerd, binaries: binaries.clone(), folder };
        node.gets_ready(cluster).await;
        node
    }

    async fn gets_ready(&mut self, cluster: &ControlPlane) {
        let nodes: Api<NodeObject> = Api::all(cluster.admin());
        let deadline = Instant::now() + START;
        while !nodes
            .get_opt(Self::NAME)
            .await
            .expect("the admin reads nodes")
            .is_some_and(|node| takes_pods(&node))
        {
            let ended = self.kubelet.exit_code().is_some();
            assert!(
                !ended && Instant::now() < deadline,
                "the node does not get ready:\n{}",
                self.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Pushes an image that was imported as `image` to the registry, as `reference`, with the password of user `AWS`.
    pub fn push(&self, image: &str, reference: &str, password: &str) {
        let hosts = self.folder.path().join("registries").display().to_string();
        let user = format!("AWS:{password}");
        ctr(&self.binaries, &["images", "tag", "--local", image, reference]);
        ctr(
            &self.binaries,
            &["images", "push", "--local", "--hosts-dir", &hosts, "--user", &user, reference],
        );
        // The node has to pull it.
        ctr(&self.binaries, &["images", "rm", "--sync", reference]);
    }

    /// Ends a container's process with SIGKILL; its ID is that of the pod's status, `containerd://…`.
    pub fn kill9(&self, container: &str) {
        let id = container.trim_start_matches("containerd://");
        ctr(&self.binaries, &["tasks", "kill", "--signal", "SIGKILL", id]);
    }

    /// What a container's process finds under a path.
    pub fn file(&self, container: &str, path: &str) -> String {
        let id = container.trim_start_matches("containerd://");
        let tasks = ctr(&self.binaries, &["tasks", "list"]);
        let pid = tasks.lines().find_map(|line| line.strip_prefix(id)?.split_whitespace().next());
        let pid = pid.unwrap_or_else(|| panic!("no task of {id} in\n{tasks}"));
        let path = format!("/proc/{pid}/root{path}");
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// All that the pods of a namespace wrote; with a pod its logs go.
    pub fn pod_logs(&self, namespace: &str) -> String {
        let pods = std::fs::read_dir(self.folder.path().join("logs")).into_iter().flatten().flatten();
        let ours = pods.filter(|pod| pod.file_name().to_string_lossy().starts_with(&format!("{namespace}_")));
        ours.map(|pod| text_below(&pod.path())).collect()
    }

    /// The ends of the programs' logs, for a message.
    pub fn log_tails(&self) -> String {
        let all = [&self.kubelet, &self.containerd].into_iter().chain(&self.others);
        let tails: Vec<_> =
            all.map(|process| format!("{}:\n{}", process.name(), process.log_tail())).collect();
        tails.join("\n")
    }
}

fn takes_pods(node: &NodeObject) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|all| all.type_ == "Ready" && all.status == "True");
    ready && node.spec.as_ref().is_some_and(|spec| spec.taints.is_none())
}

fn text_below(path: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(path) else {
        return String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    };
    entries.flatten().map(|entry| text_below(&entry.path())).collect()
}

fn ctr(binaries: &Path, args: &[&str]) -> String {
    let output: Output = Command::new(binaries.join("ctr"))
        .args(["--address", SOCKET, "--namespace", "k8s.io"])
        .args(args)
        .output()
        .expect("ctr starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ctr {} {}: {said}", args[0], args[1]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
