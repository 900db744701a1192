//! A second secret name and registry, there and back, and what a thief can do meanwhile.

use serde_json::{Value, json};
use testing::registry::Registry;

use crate::world::{CHART, NAME, OTHER_HOST, RELEASE, World, password};

const SECOND: &str = "second-pull";

/// The first revision, to which one can go back: it may remove what the second one will write.
pub fn first() -> Value {
    json!({"config": {
        "secretNames": [NAME], "retiredSecretNames": [SECOND], "defaults": {"registries": [Registry::HOST]},
        "serviceAccounts": {"enabled": true},
    }})
}

fn second() -> Value {
    json!({"config": {
        "secretNames": [NAME, SECOND], "defaults": {"registries": [Registry::HOST, OTHER_HOST]},
        "serviceAccounts": {"enabled": true},
    }})
}

impl World {
    pub async fn upgrades_and_rolls_back(&self) {
        self.opt_in("team-a", "default").await;
        let uid = self.secret("team-a", NAME).await.metadata.uid;
        let reader = self.reads("team-a", Registry::HOST);
        self.deploy("team-a", "first", Registry::HOST, &[NAME]).await;
        self.runs("team-a", "first").await;
        self.say("a pod runs");
        self.upgrades().await;
        self.is_robbed().await;
        self.rolls_back().await;
        let looks = reader.finish().await;
        assert_eq!(self.secret("team-a", NAME).await.metadata.uid, uid);
        self.say(&format!("of {looks} looks at team-a during all that, each found a live token"));
    }

    async fn upgrades(&self) {
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

    async fn rolls_back(&self) {
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
        let looks = reader.finish().await;
        self.say(&format!(
            "team-c has the first name again, without a gap in {looks} looks; no second-pull is left"
        ));
    }

    /// Somebody takes the token from the leader's pod.
    async fn is_robbed(&self) {
        let stolen = self.stolen().await;
        // Opted in, but nothing that could be served.
        self.opt_in("asks", "nonsense").await;
        for namespace in ["tenant", "asks"] {
            stolen.reaches_no_other_name(namespace).await;
            self.delete_secret(namespace, "private").await;
        }
        self.say("another secret is neither read, listed, created, applied nor deleted: RBAC");
        stolen.creates_nothing_else("asks", "tenant").await;
        stolen.leaves_a_foreign_secret_alone("asks").await;
        self.delete_secret("asks", NAME).await;
        self.say(
            "another type, other labels, a namespace that did not opt in, a foreign secret: admission policy",
        );
        stolen.changes_only_references("tenant").await;
        self.delete_account("tenant", "builder").await;
        self.say("of a service account nothing but our reference: RBAC and admission policy");
        self.opt_in("tenant", Registry::HOST).await;
        self.secret("tenant", NAME).await;
        self.opt_out("tenant").await;
        self.no_secret("tenant", NAME).await;
        self.say("its own cleanup after an opt-out is allowed");
    }
}
