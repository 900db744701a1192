//! Somebody has the controller's token: which layer refuses what.

use testing::registry::Registry;

use crate::world::{NAME, World};

impl World {
    /// The token is taken from the leader's pod.
    pub async fn is_robbed(&self) {
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
