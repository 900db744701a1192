//! The controller's token in the wrong hands: what it is refused, and by which layer.

use testing::tenants::NAME;

use crate::harness::E2e;

impl E2e {
    /// The token is taken from the leader's pod.
    pub async fn test_compromised_credential(&self) {
        let stolen = self.steal_credential().await;
        // Opted in, but nothing that could be served.
        self.request("asks", "nonsense").await;
        for namespace in ["tenant", "asks"] {
            stolen.reaches_no_other_name(namespace).await;
            stolen.gains_no_rights(namespace).await;
            self.delete_secret(namespace, "private").await;
        }
        self.log("another secret is neither read, listed, created, applied nor deleted: RBAC");
        stolen.creates_nothing_else("asks", "tenant").await;
        stolen.creates_nothing_with_an_addition("asks").await;
        stolen.leaves_a_foreign_secret_alone("asks").await;
        self.delete_secret("asks", NAME).await;
        self.log(
            "another type, other labels, a namespace that did not opt in, a foreign secret: admission policy",
        );
        stolen.changes_only_references("tenant").await;
        self.delete_service_account("tenant", "builder").await;
        self.log("of a service account nothing but our reference: RBAC and admission policy");
        self.opt_in("tenant").await;
        self.wait_for_secret("tenant").await;
        stolen.adds_nothing("tenant").await;
        self.log(
            "to its secret no finalizer, owner, immutable, data key, label or annotation: admission policy",
        );
        self.opt_out("tenant").await;
        self.wait_for_no_secret("tenant").await;
        self.log("its own cleanup after an opt-out is allowed");
    }
}
