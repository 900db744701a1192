//! The annotation `service-accounts`: the Secret is added to `imagePullSecrets`, and entries of others are kept.

use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testing::tenants::{HOST, NAME, REGISTRIES, USER};
use tokio::time::{Instant, sleep};

use crate::harness::{RBAC, TestCluster, cluster_test};
use crate::repairs::most_repairs;

const SERVICE_ACCOUNTS: &str = include_str!("../../deploy/rbac-service-accounts.yaml");
const ACCOUNTS: &str = "ecr-pull-secrets.dev/service-accounts";
const ATTACHED: &str = "ecr-pull-secrets.dev/attached";
const CONFIG: &str = "secretNames: [ecr-pull, other]\nserviceAccounts: {enabled: true}";

async fn grant(cluster: &TestCluster) {
    cluster.control_plane.apply(SERVICE_ACCOUNTS).await;
    cluster.control_plane.apply(&RBAC.replace("[ecr-pull]", "[ecr-pull, other]")).await;
}

async fn create(cluster: &TestCluster, namespace: &str, name: &str, references: &[&str]) {
    let references: Vec<_> = references.iter().map(|name| json!({ "name": name })).collect();
    let account = json!({"metadata": {"name": name}, "imagePullSecrets": references});
    cluster.create::<ServiceAccount>(namespace, account).await;
}

/// The pull secrets of a service account, and those that are recorded as the controller's.
async fn references(cluster: &TestCluster, namespace: &str, name: &str) -> (Vec<String>, Option<String>) {
    let account: ServiceAccount = cluster.api(namespace).get(name).await.expect("it exists");
    let references = account.image_pull_secrets.unwrap_or_default().into_iter().map(|r| r.name).collect();
    (references, account.metadata.annotations.and_then(|mut all| all.remove(ATTACHED)))
}

async fn wait_for(
    cluster: &TestCluster,
    namespace: &str,
    name: &str,
    names: &[&str],
    attached: Option<&str>,
) {
    let what = format!("{namespace}/{name} refers to {names:?}");
    let found = async || {
        let (found, recorded) = references(cluster, namespace, name).await;
        found == names && recorded.as_deref() == attached
    };
    cluster.wait_until(&what, found).await;
}

async fn request(cluster: &TestCluster, namespace: &str, accounts: Option<&str>) {
    cluster.annotate(namespace, &[(REGISTRIES, Some(HOST)), (ACCOUNTS, accounts)]).await;
}

#[test]
fn named_or_all_service_accounts_get_the_secret_now_and_as_they_appear() {
    cluster_test(async |cluster| {
        grant(cluster).await;
        cluster.annotate("team-a", &[]).await;
        cluster.annotate("team-b", &[]).await;
        create(cluster, "team-a", "build", &["theirs"]).await;
        create(cluster, "team-a", "other", &[]).await;
        create(cluster, "team-b", "had-it", &[NAME]).await;
        cluster.run_controller_configured(CONFIG).await;
        request(cluster, "team-a", Some("build, late")).await;
        request(cluster, "team-b", Some("*")).await;
        let ours = Some("ecr-pull-secrets/ecr-pull");
        wait_for(cluster, "team-a", "build", &["theirs", NAME], ours).await;
        create(cluster, "team-a", "late", &[]).await;
        wait_for(cluster, "team-a", "late", &[NAME], ours).await;
        create(cluster, "team-b", "late", &[]).await;
        wait_for(cluster, "team-b", "late", &[NAME], ours).await;
        assert_eq!(references(cluster, "team-a", "other").await, (vec![], None), "nobody named it");
        assert_eq!(
            references(cluster, "team-b", "had-it").await,
            (vec![NAME.to_owned()], None),
            "the tenant added it"
        );

        // Another name, while the service account changes otherwise too.
        cluster.annotate("team-a", &[("ecr-pull-secrets.dev/secret-name", Some("other"))]).await;
        wait_for(cluster, "team-a", "build", &["theirs", "other"], Some("ecr-pull-secrets/other")).await;
        cluster.wait_for_no_secret("team-a").await;

        // An opt-out while no controller runs removes the recorded references, and no others.
        cluster.stop_controller().await;
        cluster.opt_out("team-a").await;
        request(cluster, "team-b", None).await;
        cluster.run_controller_configured(CONFIG).await;
        wait_for(cluster, "team-a", "build", &["theirs"], None).await;
        wait_for(cluster, "team-a", "late", &[], None).await;
        wait_for(cluster, "team-b", "late", &[], None).await;
        assert_eq!(
            references(cluster, "team-b", "had-it").await,
            (vec![NAME.to_owned()], None),
            "the tenant added it"
        );
        assert!(cluster.secret("team-b").await.is_some(), "only the references were removed");
    });
}

/// A few seconds of conflicts. `controller::tests` has longer ones.
#[test]
fn neither_a_writer_in_a_tight_loop_nor_the_controller_loses_an_entry() {
    cluster_test(async |cluster| {
        grant(cluster).await;
        cluster.annotate("team-a", &[]).await;
        create(cluster, "team-a", "build", &[]).await;
        cluster.run_controller_configured(CONFIG).await;
        let api: Api<ServiceAccount> = cluster.api("team-a");
        let (start, mut attached) = (Instant::now(), false);
        let (mut theirs, mut writes, mut asked) = (vec![], 0_u32, false);
        while !attached || writes <= 80 || start.elapsed() < Duration::from_secs(5) {
            assert!(
                start.elapsed() < Duration::from_mins(3),
                "attached: {attached}, {writes} foreign writes"
            );
            // On a busy machine, each attempt of the controller would come too late for a writer that is as fast as at first.
            sleep(start.elapsed() / 200).await;
            // What a careful writer does: read, add or remove its own, write with the version that was read.
            let account = api.get("build").await.expect("it exists");
            let mut references = account.image_pull_secrets.unwrap_or_default();
            attached = references.iter().any(|reference| reference.name == NAME);
            let mine = format!("mine-{}", writes % 3);
            let removes = references.iter().any(|reference| reference.name == mine);
            references.retain(|reference| reference.name != mine);
            let mut body: Vec<Value> = references.iter().map(|r| json!({ "name": r.name })).collect();
            if !removes {
                body.push(json!({ "name": mine }));
            }
            let version = account.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "imagePullSecrets": body});
            match api.patch("build", &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => {
                    writes += 1;
                    theirs.retain(|name| *name != mine);
                    if !removes {
                        theirs.push(mine);
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => panic!("{error}"),
            }
            if !asked && writes > 20 {
                asked = true;
                request(cluster, "team-a", Some("build")).await;
            }
        }
        let (mut found, recorded) = references(cluster, "team-a", "build").await;
        assert_eq!(recorded.as_deref(), Some("ecr-pull-secrets/ecr-pull"));
        assert!(found.contains(&NAME.to_owned()), "the controller's is missing: {found:?}");
        found.retain(|name| name != NAME);
        found.sort();
        theirs.sort();
        assert_eq!(found, theirs, "the entries of the other writer");
        let ours = patches(cluster);
        assert!((1..=60).contains(&ours), "{ours} tries of the controller");
        println!("{writes} foreign writes, {ours} of the controller");
    });
}

/// The first repairs, for at least 5 s. `controller::tests` has the whole backoff.
#[test]
fn against_a_writer_that_removes_the_reference_it_is_restored_with_backoff() {
    cluster_test(async |cluster| {
        grant(cluster).await;
        cluster.annotate("team-a", &[]).await;
        create(cluster, "team-a", "build", &["theirs"]).await;
        request(cluster, "team-a", Some("build")).await;
        cluster.run_controller_configured(CONFIG).await;
        let api: Api<ServiceAccount> = cluster.api("team-a");
        let start = Instant::now();
        let patch = json!({ "imagePullSecrets": [{ "name": "theirs" }] });
        while start.elapsed() < Duration::from_secs(5) || patches(cluster) < 2 {
            assert!(start.elapsed() < Duration::from_mins(1), "{} repairs", patches(cluster));
            api.patch("build", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("it is patched");
            sleep(Duration::from_millis(50)).await;
        }
        let (ours, most) = (patches(cluster), 1 + most_repairs(start.elapsed()));
        assert!(ours <= most, "{ours} repairs, of at most {most}");
        wait_for(cluster, "team-a", "build", &["theirs", NAME], Some("ecr-pull-secrets/ecr-pull")).await;
        api.delete("build", &DeleteParams::default()).await.expect("it is deleted");
    });
}

#[test]
fn without_the_option_or_the_right_secrets_are_written_and_the_reason_is_reported() {
    cluster_test(async |cluster| {
        cluster.annotate("team-a", &[]).await;
        create(cluster, "team-a", "build", &[]).await;
        cluster.opt_in("team-b").await;
        cluster.run_controller().await;
        request(cluster, "team-a", Some("build")).await;
        let message = cluster.wait_for_message("team-a", "InvalidAnnotation").await;
        assert!(message.contains("service-accounts: service accounts are not enabled"), "{message}");
        cluster.wait_for_secret("team-b").await;
        cluster.stop_controller().await;

        // The option without the right: secrets do not wait for it.
        cluster.run_controller_configured("serviceAccounts: {enabled: true}").await;
        cluster.wait_for_secret("team-a").await;
        assert_eq!(references(cluster, "team-a", "build").await, (vec![], None));
        let named = async || cluster.log().contains("serviceaccounts");
        cluster.wait_until("the missing right in the log", named).await;
    });
}

/// The controller's writes of service accounts, as the API server audited them.
fn patches(cluster: &TestCluster) -> usize {
    cluster.control_plane.requests(USER, "patch", "serviceaccounts").len()
}
