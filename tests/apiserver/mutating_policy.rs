//! The mutating admission policy of the chart: pods that are created together with their service account.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use testing::tenants::{HOST, NAME};
use tokio::time::sleep;

use crate::admission::POLICY;
use crate::chart::{configuration, install};
use crate::harness::{TestCluster, cluster_test, cluster_test_with};

const ATTACHED: &str = "ecr-pull-secrets.dev/attached";
const OTHER: &str = "other-pull";
const PODS: usize = 15;

const VALUES: [&str; 4] = [
    "--set-json",
    r#"config={"secretNames":["ecr-pull","other-pull"],"serviceAccounts":{"enabled":true},
        "namespaces":{"include":["default-*"]},
        "defaults":{"registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com"]}}"#,
    "--set",
    "mutatingAdmissionPolicy.enabled=true",
];

/// Installs the chart, and waits until its policy is in force.
async fn start(cluster: &TestCluster) {
    install(cluster, &VALUES).await;
    create_namespace(cluster, "probe", &[("registries", HOST), ("service-accounts", "*")]).await;
    let api: Api<ServiceAccount> = cluster.api("probe");
    let in_force = async || {
        let is_set = !create_account(cluster, "probe", "probe", json!({})).await.0.is_empty();
        api.delete("probe", &DeleteParams::default()).await.expect("it exists");
        is_set
    };
    cluster.wait_until("the policy is in force", in_force).await;
}

async fn create_namespace(cluster: &TestCluster, name: &str, annotations: &[(&str, &str)]) {
    let annotations = annotations.iter().map(|(key, value)| (format!("ecr-pull-secrets.dev/{key}"), *value));
    let annotations: std::collections::BTreeMap<_, _> = annotations.collect();
    let body = json!({"metadata": {"name": name, "annotations": annotations}});
    let api: Api<Namespace> = Api::all(cluster.admin.clone());
    let body = serde_json::from_value(body).expect("a Namespace");
    api.create(&PostParams::default(), &body).await.expect("it is created");
}

/// The references and the record of a service account.
fn references(account: &ServiceAccount) -> (Vec<String>, Option<String>) {
    let names = account.image_pull_secrets.iter().flatten().map(|reference| reference.name.clone());
    let annotations = account.metadata.annotations.as_ref();
    (names.collect(), annotations.and_then(|all| all.get(ATTACHED)).cloned())
}

async fn create_account(
    cluster: &TestCluster,
    namespace: &str,
    name: &str,
    mut body: Value,
) -> (Vec<String>, Option<String>) {
    body["metadata"]["name"] = name.into();
    references(&cluster.create::<ServiceAccount>(namespace, body).await)
}

async fn create_pod(cluster: &TestCluster, namespace: &str) -> Vec<String> {
    let body = json!({
        "metadata": {"name": "app"},
        "spec": {
            "serviceAccountName": "app", "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": format!("{HOST}/app:1")}],
        },
    });
    let pod: Pod = cluster.create(namespace, body).await;
    let references = pod.spec.expect("a spec").image_pull_secrets.unwrap_or_default();
    references.into_iter().map(|reference| reference.name).collect()
}

/// What one `kubectl apply` of three objects sends.
async fn apply_at_once(cluster: &TestCluster, namespace: &str) -> Vec<String> {
    create_namespace(cluster, namespace, &[("registries", HOST), ("service-accounts", "app")]).await;
    create_account(cluster, namespace, "app", json!({})).await;
    create_pod(cluster, namespace).await
}

#[test]
fn pods_that_are_created_with_their_service_account_get_the_reference_and_an_opt_out_removes_it() {
    cluster_test_with(POLICY, async |cluster| {
        start(cluster).await;
        let config = cluster.config(&configuration(&VALUES).await);
        cluster.run_controller_with(&["--config", &config]).await;
        let mut with = 0;
        for n in 0..PODS {
            with += usize::from(apply_at_once(cluster, &format!("team-{n}")).await == [NAME]);
        }
        assert_eq!(with, PODS, "of {PODS} pods");
        for n in 0..PODS {
            cluster.wait_for_secret(&format!("team-{n}")).await;
        }
        let accounts: Api<ServiceAccount> = cluster.api("team-0");
        let account = accounts.get("app").await.expect("it exists");
        assert_eq!(references(&account), (vec![NAME.to_owned()], Some("ecr-pull-secrets/ecr-pull".into())));
        let changes = cluster.control_plane.requests(testing::tenants::USER, "patch", "serviceaccounts");
        assert_eq!(changes.len(), 0, "the controller finds them as it would make them");
        cluster.opt_out("team-0").await;
        let removed =
            async || references(&accounts.get("app").await.expect("it exists")) == (Vec::new(), None);
        cluster.wait_until("the reference is removed", removed).await;
        cluster.wait_for_no_secret("team-0").await;
    });
}

/// Why the policy exists.
#[test]
fn without_the_policy_such_a_pod_never_gets_the_reference() {
    cluster_test(async |cluster| {
        let values = [VALUES[0], VALUES[1]];
        install(cluster, &values).await;
        let config = cluster.config(&configuration(&values).await);
        cluster.run_controller_with(&["--config", &config]).await;
        cluster.controller().signal("STOP");
        let first = apply_at_once(cluster, "team-a").await;
        cluster.controller().signal("CONT");
        let accounts: Api<ServiceAccount> = cluster.api("team-a");
        let attached = async || references(&accounts.get("app").await.expect("it exists")).0 == [NAME];
        cluster.wait_until("the controller adds the reference", attached).await;
        sleep(Duration::from_secs(1)).await;
        let pods: Api<Pod> = cluster.api("team-a");
        let pod = pods.list(&ListParams::default()).await.expect("a list").items.remove(0);
        assert_eq!(first, [""; 0], "the pod was created before");
        assert_eq!(pod.spec.expect("a spec").image_pull_secrets, None, "and a pod does not change");
    });
}

#[test]
fn a_service_account_is_only_changed_where_the_controller_would_change_it() {
    cluster_test_with(POLICY, async |cluster| {
        start(cluster).await;
        let ours = |name: &str| Some(format!("ecr-pull-secrets/{name}"));
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let own = (named(&[NAME]), ours(NAME));
        let none = (vec![], None);
        for (namespace, annotations, expected) in [
            ("named", &[("registries", HOST), ("service-accounts", "x, app\n")][..], &own),
            ("all", &[("registries", HOST), ("service-accounts", "*")], &own),
            ("not-named", &[("registries", HOST), ("service-accounts", "ap, apps")], &none),
            ("no-list", &[("registries", HOST)], &none),
            ("not-opted-in", &[("service-accounts", "*")], &none),
            ("opted-out", &[("registries", " none "), ("service-accounts", "*")], &none),
            ("default-in", &[("service-accounts", "app")], &own),
            ("default-out", &[("registries", "none"), ("service-accounts", "app")], &none),
            (
                "other",
                &[("registries", HOST), ("service-accounts", "app"), ("secret-name", " other-pull ")],
                &(named(&[OTHER]), ours(OTHER)),
            ),
            (
                "not-allowed",
                &[("registries", HOST), ("service-accounts", "app"), ("secret-name", "mine")],
                &none,
            ),
        ] {
            create_namespace(cluster, namespace, annotations).await;
            assert_eq!(create_account(cluster, namespace, "app", json!({})).await, *expected, "{namespace}");
        }
        let theirs =
            json!({"imagePullSecrets": [{"name": "theirs"}], "metadata": {"annotations": {"a": "b"}}});
        let found = create_account(cluster, "all", "theirs", theirs).await;
        assert_eq!(found, (named(&["theirs", NAME]), ours(NAME)), "other references and annotations stay");
        let present = json!({"imagePullSecrets": [{"name": NAME}]});
        let found = create_account(cluster, "all", "present", present).await;
        assert_eq!(
            found,
            (named(&[NAME]), None),
            "a reference of the tenant is not recorded as the controller's"
        );
        let copied =
            json!({"metadata": {"annotations": {ATTACHED: "two/ecr-pull,ecr-pull-secrets/ecr-pull"}}});
        let found = create_account(cluster, "all", "copied", copied).await;
        assert_eq!(found, (named(&[NAME]), Some("two/ecr-pull,ecr-pull-secrets/ecr-pull".into())));
        let others = json!({"metadata": {"annotations": {ATTACHED: "two/ecr-pull"}}});
        let found = create_account(cluster, "all", "others", others).await;
        assert_eq!(found, (named(&[NAME]), Some("two/ecr-pull,ecr-pull-secrets/ecr-pull".into())));
    });
}
