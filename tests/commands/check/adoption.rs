//! `check` names what an adoption removes, and the adoption removes exactly that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use testing::compromised_credential::TYPE;
use testing::tenants::{HOST, INSTANCE, NAME, hosts};

use super::{Ecr, findings};
use crate::harness::{TestCluster, cluster_test};
use crate::users::User;

const RBAC: &str = include_str!("../../../deploy/rbac-static-registries.yaml");
const CONFIG: &str = "\
adopt: [{name: ecr-pull, labels: {}}]
staticRegistries:
  - {secret: registry-logins, registries: [docker.io], namespaces: [team-a]}";
const PASSWORD: &str = "hunter2-of-the-other-tool";

/// Creates a Secret as another tool does.
async fn create(cluster: &TestCluster, namespace: &str, name: &str, kind: &str, hosts: &[&str]) {
    let auth = json!({"auth": STANDARD.encode(format!("me:{PASSWORD}"))});
    let auths: serde_json::Map<_, _> = hosts.iter().map(|host| ((*host).to_owned(), auth.clone())).collect();
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": name}, "type": kind,
        "data": {".dockerconfigjson": STANDARD.encode(json!({"auths": auths}).to_string()), "notes": "a2VwdA=="},
    }))
    .expect("a secret");
    let params = PostParams { field_manager: Some("old-tool".to_owned()), ..PostParams::default() };
    cluster.secrets(namespace).create(&params, &secret).await.expect("it is created");
}

/// Adds a data key under the controller's field manager, which any user who edits the Secret can do.
async fn forge(cluster: &TestCluster, namespace: &str) {
    let apply = Patch::Apply(json!({"apiVersion": "v1", "kind": "Secret", "data": {"forged": "eA=="}}));
    let params = PatchParams::apply("ecr-pull-secrets");
    cluster.secrets(namespace).patch(NAME, &params, &apply).await.expect("it is patched");
}

#[test]
fn each_secret_that_would_be_adopted_is_named_with_all_that_the_first_write_removes() {
    cluster_test(async |cluster| {
        let ecr = Ecr::start(cluster).await;
        cluster.control_plane.apply(RBAC).await;
        cluster.opt_in("team-a").await;
        for namespace in ["team-b", "team-c", "team-d"] {
            cluster.annotate(namespace, &[]).await;
        }
        let registries = [&*format!("https://{HOST}"), "docker.io", "ghcr.io"];
        create(cluster, "team-a", NAME, TYPE, &registries).await;
        forge(cluster, "team-a").await;
        create(cluster, "team-b", NAME, TYPE, &registries).await;
        create(cluster, "team-c", NAME, "Opaque", &[HOST]).await;
        create(cluster, "team-d", "another-name", TYPE, &registries).await;
        create(cluster, INSTANCE, "registry-logins", TYPE, &["docker.io"]).await;
        let config = cluster.config(CONFIG);
        let expected = [
            "adoption: the controller adopts secret \"ecr-pull\" in namespace \"team-a\" (field manager: \"old-tool\") \
             once it has a token for each registry: the first write removes the entries of \"ghcr.io\", and the data \
             keys \"forged\"; the other data keys stay: \"notes\""
                .to_owned(),
            format!(
                "adoption: the controller adopts secret \"ecr-pull\" in namespace \"team-b\" (field manager: \"old-tool\") \
                 once the namespace requests it: the first write removes the entries of \"docker.io\", \"ghcr.io\", and \
                 each entry of \"{HOST}\" unless the namespace requests it; the other data keys stay: \"notes\""
            ),
            "adoption: namespace \"team-c\": secret \"ecr-pull\" cannot be adopted, because its type is not"
                .to_owned(),
        ];
        for (mut user, args) in [
            (User::controller(cluster), &["check"][..]),
            (User::admin(cluster), &["check"]),
            (User::admin(cluster), &["check", "--pre"]),
        ] {
            ecr.env(&mut user);
            let args = [args, &["-o", "json", "--config", &config]].concat();
            let output = user.run(cluster, &args).await;
            assert!(!output.text.contains(PASSWORD), "{}", output.text);
            let found = findings(&output, "warning");
            let found: Vec<_> = found.iter().filter(|finding| finding.starts_with("adoption:")).collect();
            assert_eq!(found.len(), expected.len(), "{args:?}: {found:?}");
            for (found, expected) in found.iter().zip(&expected) {
                assert!(found.starts_with(expected), "{args:?}: {expected} is not the start of {found}");
            }
        }
        let flags = ["--config", &config, "--namespace", INSTANCE];
        cluster.run_controller_with(&flags).await;
        cluster.wait_for_event("team-a", "SecretAdopted").await;
        let adopted = cluster.existing_secret("team-a").await;
        assert_eq!(hosts(&adopted), [HOST, "docker.io"]);
        let data = adopted.data.expect("data");
        assert_eq!(data.keys().collect::<Vec<_>>(), [".dockerconfigjson", "notes"]);
    });
}
