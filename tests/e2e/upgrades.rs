//! A second secret name and registry, there and back.

use serde_json::{Value, json};
use testing::aws::Stub;
use testing::tenants::{HOST, NAME, password};

use crate::harness::{CHART, E2e, OTHER_HOST, RELEASE};

const SECOND: &str = "second-pull";

/// The first revision, to which one can go back: it may remove what the second one will write.
pub fn first() -> Value {
    revision(&[NAME], &[SECOND], &[HOST])
}

fn second() -> Value {
    revision(&[NAME, SECOND], &[], &[HOST, OTHER_HOST])
}

fn revision(names: &[&str], retired: &[&str], registries: &[&str]) -> Value {
    let role = format!("arn:aws:iam::{}:role/ecr-pull", Stub::ACCOUNT);
    json!({
        "aws": {"region": Stub::REGION, "webIdentity": {"roleArn": role}},
        "config": {
            "secretNames": names,
            "retiredSecretNames": retired,
            "defaults": {"registries": registries},
            "serviceAccounts": {"enabled": true},
        },
    })
}

impl E2e {
    pub async fn test_upgrade(&self) {
        self.deploy("team-a", "first", HOST, &[NAME]).await;
        self.wait_until_running("team-a", "first").await;
        self.log("a pod runs");
        self.helm(&["upgrade", RELEASE, CHART, "--wait", "--timeout", "2m"], &second()).await;
        self.log("helm upgrade: a second name and a second registry");
        self.annotate("team-c", &[("ecr-pull-secrets.dev/secret-name", Some(SECOND))]).await;
        self.request("team-c", OTHER_HOST).await;
        for (namespace, name) in [("team-a", NAME), ("team-c", SECOND)] {
            let both = async || password(&self.secret_named(namespace, name).await?, OTHER_HOST);
            self.wait_for(&format!("the second registry in {namespace}/{name}"), both).await;
            self.deploy(namespace, "second", OTHER_HOST, &[name]).await;
            self.wait_until_running(namespace, "second").await;
            self.log(&format!("{namespace}/second runs, from the second registry with {name}"));
        }
    }

    pub async fn test_rollback(&self) {
        let probe = self.probe_availability("team-c", OTHER_HOST);
        self.helm(&["rollback", RELEASE, "1", "--wait", "--timeout", "2m"], &Value::Null).await;
        self.log("helm rollback");
        let deleted = async || self.secret_named("team-c", SECOND).await.is_none();
        self.wait_until("no second-pull in team-c", deleted).await;
        self.wait_for_secret("team-c").await;
        let one = async || {
            let secret = self.secret_named("team-a", NAME).await?;
            password(&secret, OTHER_HOST).is_none().then_some(())
        };
        self.wait_for("only the first registry in team-a", one).await;
        self.deploy("team-a", "third", HOST, &[NAME]).await;
        self.wait_until_running("team-a", "third").await;
        // As documented for a rollback: a pull secret that does not exist does no harm.
        self.deploy("team-c", "both", OTHER_HOST, &[SECOND, NAME]).await;
        self.wait_until_running("team-c", "both").await;
        let reads = probe.finish().await.reads;
        self.log(&format!(
            "team-c has the first name again, without a gap in {reads} reads; no second-pull is left"
        ));
    }
}
