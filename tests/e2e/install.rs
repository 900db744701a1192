//! In and out.

use serde_json::{Value, json};
use testing::aws::Stub;
use testing::leaks;
use testing::registry::Registry;

use crate::upgrades::first;
use crate::world::{CHART, NAME, RELEASE, World, basic};

impl World {
    async fn install(&self, values: &Value) {
        let args = ["install", RELEASE, CHART, "--create-namespace", "--wait", "--timeout", "2m"];
        self.helm(&args, values).await;
        self.say("helm install: the Deployment is available");
    }

    pub async fn installs_on_the_node(&self) {
        let keys = json!({"AWS_ACCESS_KEY_ID": Stub::ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": Stub::SECRET_KEY});
        self.install(&json!({
            "hostNetwork": true, "replicaCount": 1, "strategy": {"type": "Recreate", "rollingUpdate": null},
            "aws": {"region": Stub::REGION, "credentialsSecret": "aws"},
            "extraObjects": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "aws"}, "stringData": keys}],
        }))
        .await;
        self.tests().await;
    }

    async fn tests(&self) {
        self.helm(&["test", RELEASE, "--timeout", "1m"], &Value::Null).await;
        self.say("helm test passed");
    }

    pub async fn installs_two_replicas(&self) {
        self.create_namespace(RELEASE, json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
        self.install(&first()).await;
        self.tests().await;
        self.leads_anew(None, 2).await;
        self.opt_in("team-a", "default").await;
        self.secret("team-a", NAME).await;
        assert!(self.aws.count("AssumeRoleWithWebIdentity") > 0, "with the token of the projected volume");
    }

    pub async fn pulls(&self) {
        self.opt_in("team-a", Registry::HOST).await;
        self.secret("team-a", NAME).await;
        for (namespace, name, secrets) in
            [("team-a", "with", &[NAME][..]), ("team-a", "without", &[]), ("team-b", "with", &[NAME])]
        {
            self.deploy(namespace, name, Registry::HOST, secrets).await;
        }
        self.runs("team-a", "with").await;
        self.say("team-a/with runs");
        for (namespace, name) in [("team-a", "without"), ("team-b", "with")] {
            self.cannot_pull(namespace, name).await;
            self.say(&format!("{namespace}/{name} cannot pull its image"));
        }
    }

    pub async fn rotates(&self) {
        let old = self.password();
        self.say("waiting for a new token");
        self.refreshed("team-a", NAME, Registry::HOST, &old).await;
        assert_eq!(self.registry.get_v2(Registry::HOST, Some(&basic(&old))).await, 401);
        self.deploy("team-a", "after", Registry::HOST, &[NAME]).await;
        self.runs("team-a", "after").await;
        self.say("the token rotated, the old one is refused, and a new pod runs");
    }

    /// Searches what its pods said for tokens and keys, removes the release, and what the test itself put into its namespaces.
    pub async fn uninstalls(&self, namespaces: &[String]) {
        let said = self.node.pod_logs(RELEASE);
        assert!(said.contains("this process holds the Lease"), "the logs were searched: {said}");
        leaks::assert_none(&said, &self.aws.secrets());
        self.helm(&["uninstall", RELEASE, "--wait", "--timeout", "2m"], &Value::Null).await;
        self.say("helm uninstall, with cleanup");
        for namespace in namespaces {
            self.forgets(namespace).await;
        }
        self.is_as_before().await;
        self.say(&format!(
            "each of the {} objects of before is as it was, and there is no other",
            self.objects_before()
        ));
    }
}
