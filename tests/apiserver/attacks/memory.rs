//! Tenants that create many and large objects, which the controller watches.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use testing::fault_proxy::{Action, Answer, FaultProxy, Rule};
use testing::tenants::Tenants;

use super::bystanders::{Attack, Bystanders, short_tokens};
use crate::harness::{TestCluster, cluster_test};

const RIGHTS: &str = include_str!("../../../deploy/rbac-service-accounts.yaml");
const CONFIG: &str = "serviceAccounts: {enabled: true}";
const NAMESPACES: usize = 4;
/// As many in each namespace.
const SMALL: usize = 250;
/// As many in all.
const LARGE: usize = 80;
/// One in so many of those also has a list of references, for 0.7 MB. An unoptimized controller takes long to parse it.
const LONG: usize = 20;

/// An annotation of nearly 256 KiB, the maximum of the API server, which the controller reads.
fn attached() -> Value {
    json!({ "ecr-pull-secrets.dev/attached": "ecr-pull-secrets/ecr-pull,".repeat(9_900) })
}

/// A service account of 0.25 MB and so many references, with which it has up to 0.7 MB.
fn large(name: &str, references: usize) -> Value {
    let reference = |n| json!({ "name": format!("a-reference-of-some-length-{n:06}") });
    let references: Vec<_> = (0..references).map(reference).collect();
    json!({"metadata": {"name": name, "annotations": attached()}, "imagePullSecrets": references})
}

async fn create_all(tenants: &Tenants, accounts: impl IntoIterator<Item = (String, Value)>) {
    let create = async |(namespace, account): (String, Value)| {
        tenants.create::<ServiceAccount>(&namespace, account).await;
    };
    stream::iter(accounts).map(create).buffer_unordered(8).collect::<Vec<_>>().await;
}

/// Namespaces with a megabyte of labels, and service accounts in others, none of which opted in.
async fn fill(cluster: &TestCluster) {
    let namespaces: Api<Namespace> = Api::all(cluster.admin.clone());
    for number in 0..6 {
        let labels: serde_json::Map<_, _> =
            (0..9_000).map(|n| (format!("l-{n:050}"), json!("v".repeat(60)))).collect();
        let body = json!({"metadata": {"name": format!("labelled-{number}"), "labels": labels}});
        let body = serde_json::from_value(body).expect("a namespace");
        namespaces.create(&PostParams::default(), &body).await.expect("the namespace is created");
    }
    for number in 0..NAMESPACES {
        cluster.annotate(&format!("evil-{number}"), &[]).await;
    }
    let namespace = |number: usize| format!("evil-{}", number % NAMESPACES);
    let small = (0..NAMESPACES * SMALL)
        .map(|number| (namespace(number), json!({"metadata": {"name": format!("small-{number}")}})));
    create_all(cluster, small).await;
    let references = |number: usize| if number.is_multiple_of(LONG) { 8_000 } else { 0 };
    let account = |number| (namespace(number), large(&format!("large-{number}"), references(number)));
    create_all(cluster, (0..LARGE).map(account)).await;
}

#[test]
fn a_thousand_service_accounts_and_large_metadata_fit_into_the_memory_m2() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(RIGHTS).await;
        cluster.aws.set(short_tokens());
        fill(cluster).await;
        let proxy = FaultProxy::start(&cluster.control_plane);
        cluster.kubeconfig = proxy.kubeconfig(&cluster.kubeconfig);
        // API servers before 1.34 have paginated lists, with pages of several large objects.
        for (lists, minor) in [("streamed", None), ("paginated", Some("33"))] {
            if let Some(minor) = minor {
                let version = json!({
                    "major": "1", "minor": minor, "gitVersion": "v1.33.0", "gitCommit": "", "gitTreeState": "",
                    "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
                });
                let answer = Answer { status: 200, retry_after: None, body: version.to_string() };
                proxy.add(Rule::new(Action::Answer(answer)).path("/version"));
            }
            cluster.run_controller_configured(CONFIG).await;
            let bystanders = Bystanders::settle(cluster).await;
            let mut attack = grow(cluster, lists);
            cluster.wait_until("more service accounts", async || attack.turns() >= 10).await;
            bystanders.wait_for_renewals(cluster).await;
            println!("with {lists} lists:");
            bystanders.assert_unharmed(cluster, &mut attack).await;
            drop(attack);
            cluster.opt_out("bystander-new").await;
            cluster.wait_for_no_secret("bystander-new").await;
            cluster.stop_controller().await;
        }
    });
}

/// Creates more large service accounts.
fn grow(cluster: &TestCluster, prefix: &'static str) -> Attack {
    let tenants = Tenants::clone(cluster);
    Attack::repeat(Duration::from_millis(250), move |turn| {
        let tenants = tenants.clone();
        async move {
            let account = large(&format!("{prefix}-{turn}"), 0);
            create_all(&tenants, [(format!("evil-{}", turn % NAMESPACES), account)]).await;
        }
    })
}
