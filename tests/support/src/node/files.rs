//! What the programs of the node read.

use std::path::Path;

use serde_json::json;

use super::{Node, SANDBOX, SOCKET};
use crate::control_plane::ControlPlane;
use crate::isolation::ADDRESS;
use crate::registry::Registry;

/// Where pods have their addresses.
const PODS: &str = "10.98.0.0/16";
/// What names of Services end with.
const DOMAIN: &str = "cluster.local";

pub(super) fn write(
    folder: &Path,
    binaries: &Path,
    cluster: &ControlPlane,
    registry: &Registry,
    hosts: &[&str],
) {
    let kubeconfig = cluster.admin_kubeconfig();
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder takes folders");
        std::fs::write(path, text).expect("a temporary folder takes files");
    };
    put("containerd.toml", &containerd(folder, binaries));
    put("network/pods.conflist", &network(folder));
    // JSON is YAML.
    put("kubelet.yaml", &kubelet(folder, &cluster.ca_file()));
    put("proxy.yaml", &proxy(&kubeconfig));
    put("Corefile", &names(&kubeconfig));
    for host in hosts {
        let url = format!("https://{host}");
        let trust = format!("server = {url:?}\n[host.{url:?}]\nca = \"{}\"\n", registry.ca_file().display());
        put(&format!("registries/{host}/hosts.toml"), &trust);
    }
}

/// For a machine whose kernel has little: no overlay file system, no `AppArmor`, control groups as they are.
fn containerd(folder: &Path, binaries: &Path) -> String {
    format!(
        r#"version = 3
root = "{root}"
state = "/run/containerd"
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"
use_local_image_pull = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{SANDBOX}"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "{registries}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{binaries}"]
conf_dir = "{network}"
use_internal_loopback = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{binaries}/runc"
SystemdCgroup = false
"#,
        root = folder.join("containerd").display(),
        registries = folder.join("registries").display(),
        network = folder.join("network").display(),
        binaries = binaries.display(),
    )
}

/// Each pod has an address and a link to the node, and reaches the node and other pods.
fn network(folder: &Path) -> String {
    let addresses = json!({
        "type": "host-local",
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": folder.join("addresses"),
    });
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": addresses}]})
        .to_string()
}

fn kubelet(folder: &Path, ca_file: &Path) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": ca_file},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "podLogsDir": folder.join("logs"),
        "volumePluginDir": folder.join("plugins"),
        "clusterDNS": [ADDRESS],
        "clusterDomain": DOMAIN,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "nodeStatusUpdateFrequency": "1s",
        // A test that kills a container twenty times does not wait for five minutes each.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        // The default, five pulls in a second, would delay fifteen pods that start at once.
        "registryPullQPS": 0,
        // A disk that is nearly full is no reason to end the tests' pods.
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    })
    .to_string()
}

fn proxy(kubeconfig: &Path) -> String {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig},
        "hostnameOverride": Node::NAME,
        "mode": "nftables",
        "clusterCIDR": PODS,
        // Limits of the whole machine stay as they are.
        "conntrack": {"maxPerCore": 0, "min": 0},
    })
    .to_string()
}

/// The names of Services, and no others.
fn names(kubeconfig: &Path) -> String {
    format!(
        ".:53 {{\n  bind {ADDRESS}\n  errors\n  kubernetes {DOMAIN} {{\n    kubeconfig {}\n  }}\n}}\n",
        kubeconfig.display()
    )
}
