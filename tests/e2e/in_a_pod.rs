//! The commands that diagnose, as `docs/commands.md` shows them: in the controller's pod, and on a laptop.

use std::process::Command;

use serde_json::Value;
use testing::tools;

use crate::harness::{E2e, RELEASE};

/// The configuration file in the pods of the chart.
const CONFIG: &str = "/etc/ecr-pull-secrets/config.yaml";

impl E2e {
    /// Runs the program in a pod of the controller.
    async fn exec(&self, args: &[&str]) -> String {
        let deployment = format!("deploy/{RELEASE}");
        let exec = ["exec", "-n", RELEASE, &deployment, "--", "/ecr-pull-secrets"];
        self.kubectl(&[&exec[..], args].concat()).await
    }

    /// `check` is green in the controller's pod and on a laptop, and `status` and `cleanup` find the namespace there too.
    pub async fn test_commands(&self, namespace: &str) {
        assert_green(&self.exec(&["check", "--config", CONFIG, "-o", "json"]).await);
        self.log("check is green in the controller's pod");
        self.check_in_a_copy_of_the_pod().await;
        self.log("check is green in a copy of the pod");
        let status = self.exec(&["status", "-A", "--config", CONFIG, "-o", "json"]).await;
        let status: Value = serde_json::from_str(&status).expect("JSON");
        let row = &status["items"][0];
        assert_eq!((&row["namespace"], &row["state"]), (&namespace.into(), &"ready".into()), "{status}");
        let plan = self.exec(&["cleanup", "--config", CONFIG]).await;
        assert!(plan.contains(&format!("would delete secret {namespace}/ecr-pull")), "{plan}");
        self.log("status and the plan of cleanup find the namespace there too");
        assert_green(&self.check_on_a_laptop().await);
        self.log("check is green on a laptop");
    }

    /// As for a controller that does not start.
    async fn check_in_a_copy_of_the_pod(&self) {
        let selector = "app.kubernetes.io/name=ecr-pull-secrets";
        let pods = self.kubectl(&["get", "pods", "-n", RELEASE, "-l", selector, "-o", "name"]).await;
        let pod = pods.lines().next().expect("a pod");
        let copy = ["debug", "-n", RELEASE, pod, "--copy-to=check", "--container=controller", "--"];
        let check = ["/ecr-pull-secrets", "check", "--config", CONFIG, "-o", "json"];
        self.kubectl(&[&copy[..], &check].concat()).await;
        // The container starts again when the command has ended.
        let green = async || {
            let logs = self.try_kubectl(&["logs", "-n", RELEASE, "check"]).await.ok()?;
            serde_json::from_str::<Value>(&logs).is_ok().then(|| assert_green(&logs))
        };
        self.wait_for("the result of check in a copy of the pod", green).await;
        self.kubectl(&["delete", "pod", "-n", RELEASE, "check"]).await;
    }

    /// With the file in the `ConfigMap`.
    async fn check_on_a_laptop(&self) -> String {
        let file = r"jsonpath={.data.config\.yaml}";
        let config = self.kubectl(&["get", "configmap", "-n", RELEASE, RELEASE, "-o", file]).await;
        let config = self.write("config.yaml", &config);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-pull-secrets"));
        command.env_clear().envs(self.aws.env()).env("SSL_CERT_FILE", self.registry.ca_file());
        command.args(["check", "--config", &config, "-o", "json", "--kubeconfig"]);
        let output = command.arg(self.cluster.admin_kubeconfig()).output().expect("the program starts");
        tools::result(&output).unwrap_or_else(|said| panic!("{said}"))
    }
}

/// Asserts that no check failed or warned.
fn assert_green(output: &str) {
    let result: Value = serde_json::from_str(output).expect("JSON");
    let findings = result["findings"].as_array().expect("findings");
    let bad = |finding: &&Value| ["failed", "warning"].map(Value::from).contains(&finding["outcome"]);
    let bad: Vec<_> = findings.iter().filter(bad).collect();
    assert!(result["success"] == true && bad.is_empty(), "{bad:#?}");
    let passed = |category: &str| findings.iter().any(|f| f["category"] == category && f["outcome"] == "ok");
    for category in
        ["rights", "admission-policy", "lease", "aws-identity", "tokens", "registries", "namespaces"]
    {
        assert!(passed(category), "{category}: {output}");
    }
}
