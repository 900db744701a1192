//! Tenants that forge Secrets, so that the revocation of the grants of others waits.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use testing::aws::{Call, Stub};
use testing::tenants::{INSTANCE, NAME, Tenants, hosts};

use super::bystanders::{Attack, Bystanders, MAX_WAIT, short_tokens};
use crate::harness::{TestCluster, cluster_test};

const STATIC_RIGHTS: &str = include_str!("../../../deploy/rbac-static-registries.yaml");
const GRANTED: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
const FORGED: usize = 12;

/// What a forged Secret claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgery {
    /// The labels and annotations of the controller.
    Labels,
    /// That the controller applied it, too: the API server lets each client name its field manager.
    Apply,
}

/// Keeps copies of a Secret in the attacker's namespaces, which request what they are not granted.
async fn forge(cluster: &TestCluster, original: &Secret, forgery: Forgery) -> Attack {
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "type": original.type_, "data": original.data,
        "metadata": {"name": NAME, "labels": original.metadata.labels, "annotations": original.metadata.annotations},
    });
    for number in 0..FORGED {
        cluster.request(&format!("evil-{number}"), GRANTED).await;
    }
    let tenants = Tenants::clone(cluster);
    Attack::repeat(Duration::from_millis(20), move |turn| {
        let (tenants, body) = (tenants.clone(), body.clone());
        async move {
            let secrets = tenants.secrets(&format!("evil-{}", turn % FORGED));
            match forgery {
                // It may be there already.
                Forgery::Labels => {
                    let body = serde_json::from_value(body).expect("a Secret");
                    let _ = secrets.create(&PostParams::default(), &body).await;
                }
                Forgery::Apply => {
                    let params = PatchParams::apply("ecr-pull-secrets").force();
                    secrets.patch(NAME, &params, &Patch::Apply(body)).await.expect("it is applied");
                }
            }
        }
    })
}

fn revocation_config(granted: &str) -> String {
    format!(
        "
defaults: {{identity: none}}
identities:
  - name: tenants
    roleArn: arn:aws:iam::222222222222:role/ecr-pull
    namespaces: [{granted}]
    registries: ['222222222222/*']
    repositories: ['{{namespace}}/*']
  - name: others
    roleArn: arn:aws:iam::123456789012:role/others
    namespaces: ['bystander-*']
    registries: ['123456789012/*']
    repositories: ['{{namespace}}/*']
staticRegistries:
  - {{secret: registry-logins, registries: [docker.io], namespaces: [{granted}]}}
"
    )
}

/// The number of sessions of the role whose grant is withdrawn.
fn sessions(aws: &Stub) -> usize {
    let is_withdrawn = |call: &&Call| call.role.as_ref().is_some_and(|role| role.contains("::222222222222:"));
    aws.calls().iter().filter(is_withdrawn).count()
}

/// The hold protects from mistakes in the configuration. Whether or not it can be forced, nothing is left that does not expire.
#[test]
fn forged_secrets_keep_no_static_credential_of_a_tenant_whose_grant_was_withdrawn_m3() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(STATIC_RIGHTS).await;
        cluster.aws.set(short_tokens());
        let logins = json!({"auths": {"docker.io": {"username": "me", "password": "static"}}});
        let logins = json!({
            "metadata": {"name": "registry-logins"}, "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": logins.to_string()},
        });
        cluster.create::<Secret>(INSTANCE, logins).await;
        for forgery in [Forgery::Labels, Forgery::Apply] {
            let granted = cluster.config(&revocation_config("team-a"));
            cluster.run_controller_with(&["--config", &granted, "--namespace", INSTANCE]).await;
            cluster.request("team-a", GRANTED).await;
            let both = async || cluster.secret("team-a").await.filter(|secret| hosts(secret).len() == 2);
            let original = cluster.wait_for("both entries", both).await;
            // It comes first, so that the tokens of the bystanders last until the next controller runs.
            let mut attack = forge(cluster, &original, forgery).await;
            let bystanders = Bystanders::settle(cluster).await;
            cluster.stop_controller().await;
            let (before, turns) = (sessions(&cluster.aws), attack.turns());
            cluster.wait_until("each forged Secret", async || attack.turns() > turns + FORGED).await;
            let withdrawn = cluster.config(&revocation_config("nobody"));
            cluster.run_controller_with(&["--config", &withdrawn, "--namespace", INSTANCE]).await;
            let start = Instant::now();
            let left = async || {
                let secret = cluster.secret("team-a").await;
                let hosts = secret.map(|secret| hosts(&secret)).unwrap_or_default();
                (!hosts.contains(&"docker.io".to_owned())).then_some(hosts)
            };
            let left = cluster.wait_for("the revocation", left).await;
            let waited = start.elapsed();
            assert!(waited < MAX_WAIT, "the revocation took {waited:?}");
            if forgery == Forgery::Labels {
                cluster.wait_for_no_secret("team-a").await;
            }
            println!(
                "{forgery:?}: revoked after {waited:.1?}, held is {:?}, left {left:?}",
                cluster.held_id()
            );
            bystanders.wait_for_renewals(cluster).await;
            bystanders.assert_unharmed(cluster, &mut attack).await;
            assert_eq!(sessions(&cluster.aws), before, "a session under a grant that was withdrawn");
            drop(attack);
            cluster.opt_out("bystander-new").await;
            cluster.wait_for_no_secret("bystander-new").await;
            cluster.stop_controller().await;
        }
    });
}
