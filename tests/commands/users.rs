//! Users of the commands: service accounts with exactly the rights of a file, and the programs that they run.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::leaks;
use testing::process::Process;
use testing::tenants::INSTANCE;
use testing::tools;

use crate::harness::TestCluster;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ecr-pull-secrets");
/// The name of the program as the plugin of kubectl.
pub const PLUGIN: &str = "kubectl-ecr_pull_secrets";

/// A user, and the environment of the programs that the user runs.
pub struct User {
    pub kubeconfig: PathBuf,
    pub env: Vec<(String, String)>,
    pub name: String,
    folder: TempDir,
}

/// Output of a program.
pub struct Output {
    pub code: Option<i32>,
    /// Standard output, followed by standard error.
    pub text: String,
}

impl Output {
    /// Standard output as JSON: all from its first brace.
    pub fn json(&self) -> Value {
        let start = self.text.find('{').unwrap_or_else(|| panic!("no JSON in {}", self.text));
        let mut values = serde_json::Deserializer::from_str(&self.text[start..]).into_iter();
        values.next().expect("a document").unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl User {
    /// A service account in the controller's namespace that is bound to these cluster roles.
    pub async fn with_roles(cluster: &TestCluster, name: &str, roles: &[&str]) -> Self {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": INSTANCE},
        });
        cluster.control_plane.apply(&account.to_string()).await;
        for role in roles {
            let binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": format!("{name}-{role}")},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": INSTANCE}],
            });
            cluster.control_plane.apply(&binding.to_string()).await;
        }
        let kubeconfig = cluster.control_plane.kubeconfig_for(INSTANCE, name).await;
        let user = Self::of(cluster, &format!("system:serviceaccount:{INSTANCE}:{name}"), kubeconfig);
        for role in roles {
            let found =
                Api::<ClusterRole>::all(cluster.admin.clone()).get(role).await.expect("a cluster role");
            let rule = &found.rules.as_ref().expect("rules")[0];
            let first = |values: &Option<Vec<String>>| values.as_ref().expect("values")[0].clone();
            let verb = rule.verbs.first().expect("a verb");
            let (group, resource) = (first(&rule.api_groups), first(&rule.resources));
            let attributes = json!({"group": group, "resource": resource, "verb": verb});
            user.wait_until_allowed(cluster, attributes).await;
        }
        user
    }

    /// Waits until the API server applies a rule with these attributes of a resource for the user.
    pub async fn wait_until_allowed(&self, cluster: &TestCluster, attributes: Value) {
        cluster.wait_until_allowed(json!({"user": self.name, "resourceAttributes": attributes})).await;
    }

    /// An administrator, as on a laptop.
    pub fn admin(cluster: &TestCluster) -> Self {
        Self::of(cluster, "admin", cluster.control_plane.admin_kubeconfig())
    }

    /// The controller's own service account.
    pub fn controller(cluster: &TestCluster) -> Self {
        Self::of(cluster, testing::tenants::USER, cluster.kubeconfig.clone())
    }

    fn of(cluster: &TestCluster, name: &str, kubeconfig: PathBuf) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        Self { kubeconfig, env: cluster.aws_env.clone(), name: name.to_owned(), folder }
    }

    /// Starts the program with these arguments and the user's kubeconfig.
    pub fn start(&self, args: &[&str]) -> Process {
        let mut command = Command::new(PROGRAM);
        command.args(args).arg("--kubeconfig").arg(&self.kubeconfig).envs(self.env.clone());
        self.spawn(args[0], &command)
    }

    /// Runs the program to its end, without a kubeconfig. Its output may contain tokens.
    pub async fn run_without_cluster(&self, args: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(args).envs(self.env.clone());
        let mut process = self.spawn(args[0], &command);
        Output { code: process.wait(Duration::from_mins(10)).await, text: process.log() }
    }

    /// Runs the program to its end in a terminal, with one more variable.
    pub async fn run_in_terminal(
        &self,
        cluster: &TestCluster,
        args: &[&str],
        variable: (&str, &str),
    ) -> Output {
        let line = format!("{PROGRAM} {} --kubeconfig {}", args.join(" "), self.kubeconfig.display());
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.envs(self.env.clone()).env("TERM", "xterm").env(variable.0, variable.1);
        self.finish(cluster, self.spawn(args[0], &command)).await
    }

    /// Runs the program to its end by `kubectl ecr-pull-secrets`, which finds the link of the plugin in `PATH`.
    pub async fn run_by_kubectl(&self, cluster: &TestCluster, args: &[&str]) -> Output {
        let folder = TempDir::new().expect("a temporary folder");
        symlink(PROGRAM, folder.path().join(PLUGIN)).expect("a link");
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(tools::folder("kubectl").await.join("kubectl"));
        command.arg("ecr-pull-secrets").args(args).envs(self.env.clone());
        command.env("PATH", path).env("KUBECONFIG", &self.kubeconfig);
        self.finish(cluster, self.spawn(args[0], &command)).await
    }

    fn spawn(&self, name: &str, command: &Command) -> Process {
        let count = std::fs::read_dir(self.folder.path()).expect("a folder").count();
        Process::spawn(&format!("{name}-{count}"), command, self.folder.path())
    }

    /// Runs the program to its end. No token that exists may appear in its output.
    pub async fn run(&self, cluster: &TestCluster, args: &[&str]) -> Output {
        self.finish(cluster, self.start(args)).await
    }

    async fn finish(&self, cluster: &TestCluster, mut process: Process) -> Output {
        let code = process.wait(Duration::from_mins(10)).await;
        let text = process.log();
        leaks::assert_none(&text, &cluster.aws.secrets());
        Output { code, text }
    }
}
