//! In and out.

use serde_json::{Value, json};
use testing::aws::Stub;
use testing::leaks;
use testing::tenants::{HOST, NAME, password};

use crate::harness::{CHART, E2e, RELEASE, basic};
use crate::upgrades::first;

/// The Secret `aws`, with the keys of the stub.
pub fn credentials() -> Value {
    let keys = json!({"AWS_ACCESS_KEY_ID": Stub::ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": Stub::SECRET_KEY});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "aws"}, "stringData": keys})
}

impl E2e {
    async fn install(&self, values: &Value) {
        let args = ["install", RELEASE, CHART, "--create-namespace", "--wait", "--timeout", "2m"];
        self.helm(&args, values).await;
        self.log("helm install: the Deployment is available");
    }

    pub async fn install_on_the_node(&self) {
        self.install(&json!({
            "hostNetwork": true, "replicaCount": 1, "strategy": {"type": "Recreate", "rollingUpdate": null},
            "aws": {"region": Stub::REGION, "credentialsSecret": "aws"},
            "extraObjects": [credentials()],
        }))
        .await;
        self.helm_test().await;
    }

    async fn helm_test(&self) {
        self.helm(&["test", RELEASE, "--timeout", "1m"], &Value::Null).await;
        self.log("helm test passed");
    }

    pub async fn install_two_replicas(&self) {
        self.create_namespace(RELEASE, json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
        self.install(&first()).await;
        self.helm_test().await;
        self.wait_for_leader(None, 2).await;
        self.request("team-a", "default").await;
        self.wait_for_secret("team-a").await;
        assert!(self.aws.count("AssumeRoleWithWebIdentity") > 0, "with the token of the projected volume");
    }

    pub async fn test_pull(&self) {
        self.opt_in("team-a").await;
        self.wait_for_secret("team-a").await;
        for (namespace, name, secrets) in
            [("team-a", "with", &[NAME][..]), ("team-a", "without", &[]), ("team-b", "with", &[NAME])]
        {
            self.deploy(namespace, name, HOST, secrets).await;
        }
        self.wait_until_running("team-a", "with").await;
        self.log("team-a/with runs");
        for (namespace, name) in [("team-a", "without"), ("team-b", "with")] {
            self.wait_until_pull_fails(namespace, name).await;
            self.log(&format!("{namespace}/{name} cannot pull its image"));
        }
    }

    pub async fn test_renewal(&self) {
        let old = password(&self.existing_secret("team-a").await, HOST).expect("a password");
        self.log("waiting for a new token");
        self.wait_for_renewal("team-a", NAME, HOST, &old).await;
        // The registry gets the new password while this test runs.
        let refused = async || self.registry.get_v2(HOST, Some(&basic(&old))).await == 401;
        self.wait_until("the old token to be refused", refused).await;
        self.deploy("team-a", "after", HOST, &[NAME]).await;
        self.wait_until_running("team-a", "after").await;
        self.log("the token rotated, the old one is refused, and a new pod runs");
    }

    /// Searches the logs of the controller's pods for tokens and keys, uninstalls the release, and clears the namespaces.
    pub async fn uninstall(&self, namespaces: &[String]) {
        let said = self.node.pod_logs(RELEASE);
        assert!(said.contains("this process is the leader"), "the logs were searched: {said}");
        leaks::assert_none(&said, &self.aws.secrets());
        self.helm(&["uninstall", RELEASE, "--wait", "--timeout", "2m"], &Value::Null).await;
        self.log("helm uninstall, with cleanup");
        // Helm creates the namespace of a release, and does not delete it.
        self.kubectl(&["delete", "namespace", RELEASE]).await;
        for namespace in namespaces {
            self.clear(namespace).await;
        }
        self.wait_until_as_before().await;
        self.log(&format!(
            "each of the {} objects is as it was before, and no other exists",
            self.objects_before()
        ));
    }
}
