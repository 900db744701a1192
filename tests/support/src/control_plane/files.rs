//! What the components read: certificates, keys, tokens, policies, kubeconfigs.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::certificates::{Authority, key_pair};
use crate::folder::Folder;
use crate::ports::Port;

/// The address of the Service `kubernetes`: the first of those that Services have here.
const SERVICE: &str = "10.0.0.1";
/// Of client certificates: longer than any test.
const LIFETIME: Duration = Duration::from_hours(24);

/// The folder and the ports of one control plane.
pub(super) struct Files {
    folder: Folder,
    /// The authority of the API server's certificate and of client certificates.
    pub(super) authority: Authority,
    pub(super) storage: Port,
    pub(super) etcd_peer: Port,
    pub(super) apiserver: Port,
    pub(super) second: Port,
    /// Where the API server listens.
    pub(super) address: Ipv4Addr,
}

impl Files {
    /// Claims ports and writes everything that does not change while the control plane lives.
    pub(super) fn write(address: Ipv4Addr) -> Self {
        let folder = Folder::new();
        let [storage, etcd_peer, apiserver, second] = std::array::from_fn(|_| Port::claim());
        let authority = Authority::new("control plane of a test");
        let files = Self { folder, authority, storage, etcd_peer, apiserver, second, address };
        files.put_certificates();
        let key = key_pair();
        files.put("service-accounts.key", &key.serialize_pem());
        files.put("service-accounts.pub", &key.public_key_pem());
        files.put("audit.yaml", &audit_policy());
        // Of its own name, so that an audit entry of `admin` is the test's.
        let tokens = [("admin", random_token()), ("controller-manager", random_token())];
        let lines: Vec<String> = tokens
            .iter()
            .map(|(user, token)| format!("{token},{user},{user},\"system:masters\"\n"))
            .collect();
        files.put("tokens.csv", &lines.concat());
        for (user, token) in &tokens {
            files.kubeconfig(user, "default", token);
        }
        files
    }

    /// Writes the certificate of the authority, and new ones of the API server: for its clients, and for kubelets.
    fn put_certificates(&self) {
        let address = self.address.to_string();
        let service = [SERVICE, "kubernetes.default.svc", "kubernetes.default", "kubernetes"];
        let certificate = self.authority.issue(&[&[&*address, "localhost"][..], &service].concat());
        self.put("ca.crt", self.authority.pem());
        self.put("apiserver.crt", &certificate.certificate);
        self.put("apiserver.key", &certificate.key);
        self.put_client_certificate("apiserver-client", "kube-apiserver", "system:masters");
    }

    /// Writes `name.crt` and `name.key` of a user in a group.
    fn put_client_certificate(&self, name: &str, user: &str, group: &str) {
        let certificate = self.authority.issue_for(user, Some(group), LIFETIME);
        self.put(&format!("{name}.crt"), &certificate.certificate);
        self.put(&format!("{name}.key"), &certificate.key);
    }

    /// Replaces the authority, and the certificate of the API server, which reads it when it starts.
    pub(super) fn rotate_authority(&mut self) {
        self.authority = Authority::new("another control plane of a test");
        self.put_certificates();
    }

    /// The folder of etcd or kine.
    pub(super) fn storage_folder(&self) -> PathBuf {
        self.path("storage")
    }

    pub(super) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.apiserver.number())
    }

    pub(super) fn second_url(&self) -> String {
        format!("https://{}:{}", self.address, self.second.number())
    }

    pub(super) fn admin_kubeconfig(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// Writes the kubeconfig of `admin` for the second API server.
    pub(super) fn second_kubeconfig(&self) -> PathBuf {
        let text = std::fs::read_to_string(self.admin_kubeconfig()).expect("it was written");
        self.put("second.kubeconfig", &text.replace(&self.url(), &self.second_url()));
        self.path("second.kubeconfig")
    }

    /// Writes `name.kubeconfig` for the bearer of `token`.
    pub(super) fn kubeconfig(&self, name: &str, namespace: &str, token: &str) -> PathBuf {
        self.kubeconfig_of(name, namespace, &json!({"token": token}))
    }

    /// Writes `kubelet.kubeconfig` for the kubelet of a node.
    pub(super) fn kubeconfig_of_node(&self, node: &str) -> PathBuf {
        self.put_client_certificate("kubelet", &format!("system:node:{node}"), "system:nodes");
        let user =
            json!({"client-certificate": self.path("kubelet.crt"), "client-key": self.path("kubelet.key")});
        self.kubeconfig_of("kubelet", "default", &user)
    }

    /// Writes `name.kubeconfig` for a user with these fields.
    pub(super) fn kubeconfig_of(&self, name: &str, namespace: &str, user: &serde_json::Value) -> PathBuf {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": self.url(),
                "certificate-authority": self.path("ca.crt"),
            }}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name, "namespace": namespace}}],
            "current-context": "test",
        });
        let file = format!("{name}.kubeconfig");
        // JSON is YAML.
        self.put(&file, &kubeconfig.to_string());
        self.path(&file)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a temporary folder takes files");
    }
}

fn audit_policy() -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            {"level": "None", "users": ["system:apiserver"]},
            {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]},
            {"level": "Metadata"},
        ],
    })
    .to_string()
}

fn random_token() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    u128::from_be_bytes(bytes).to_string()
}
