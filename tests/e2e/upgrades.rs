//! A second secret name and registry, there and back.

use serde_json::{Value, json};
use testing::aws::Stub;
use testing::registry::Registry;

use crate::world::{CHART, NAME, OTHER_HOST, RELEASE, World, password};

const SECOND: &str = "second-pull";

/// The first revision, to which one can go back: it may remove what the second one will write.
pub fn first() -> Value {
    revision(&[NAME], &[SECOND], &[Registry::HOST])
}

fn second() -> Value {
    revision(&[NAME, SECOND], &[], &[Registry::HOST, OTHER_HOST])
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

impl World {
    pub async fn upgrades(&self) {
        self.deploy("team-a", "first", Registry::HOST, &[NAME]).await;
        self.runs("team-a", "first").await;
        self.say("a pod runs");
        self.helm(&["upgrade", RELEASE, CHART, "--wait", "--timeout", "2m"], &second()).await;
        self.say("helm upgrade: a second name and a second registry");
        let name = "ecr-pull-secrets.dev/secret-name";
        self.annotate("team-c", json!({name: SECOND})).await;
        self.opt_in("team-c", OTHER_HOST).await;
        for (namespace, name) in [("team-a", NAME), ("team-c", SECOND)] {
            let both = async || password(&self.look(namespace, name).await?, OTHER_HOST);
            self.wait(&format!("the second registry in {namespace}/{name}"), both).await;
            self.deploy(namespace, "second", OTHER_HOST, &[name]).await;
            self.runs(namespace, "second").await;
            self.say(&format!("{namespace}/second runs, from the second registry with {name}"));
        }
    }

    pub async fn rolls_back(&self) {
        let reader = self.reads("team-c", OTHER_HOST);
        self.helm(&["rollback", RELEASE, "1", "--wait", "--timeout", "2m"], &Value::Null).await;
        self.say("helm rollback");
        self.no_secret("team-c", SECOND).await;
        self.secret("team-c", NAME).await;
        let one = async || {
            let secret = self.look("team-a", NAME).await?;
            password(&secret, OTHER_HOST).is_none().then_some(())
        };
        self.wait("only the first registry in team-a", one).await;
        self.deploy("team-a", "third", Registry::HOST, &[NAME]).await;
        self.runs("team-a", "third").await;
        // As the documentation says for a way back: one that is not there does no harm.
        self.deploy("team-c", "both", OTHER_HOST, &[SECOND, NAME]).await;
        self.runs("team-c", "both").await;
        let looks = reader.finish().await.looks;
        self.say(&format!(
            "team-c has the first name again, without a gap in {looks} looks; no second-pull is left"
        ));
    }
}
