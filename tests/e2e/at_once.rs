//! Pods that are created together with their namespace and their service account, with the mutating admission policy.

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
use testing::tenants::{HOST, NAME, REGISTRIES};

use crate::harness::{E2e, app_image};

const SERVICE_ACCOUNTS: &str = "ecr-pull-secrets.dev/service-accounts";
const NAMESPACES: usize = 5;
/// In each of them.
const PODS: usize = 3;

impl E2e {
    /// `probe` is a namespace that opted in.
    pub async fn test_pods_with_their_account(&self, probe: &str) {
        self.wait_for_the_policy(probe).await;
        let documents: Vec<_> =
            (0..NAMESPACES).flat_map(documents).map(|one| format!("---\n{one}\n")).collect();
        let file = self.write("at-once.yaml", &documents.concat());
        self.kubectl(&["apply", "--filename", &file]).await;
        for n in 0..NAMESPACES {
            let namespace = namespace(n);
            let all = async || self.running(&namespace).await == PODS;
            self.wait_until(&format!("{PODS} pods to run in {namespace}"), all).await;
        }
        let total = NAMESPACES * PODS;
        self.log(&format!("{total} of {total} pods run that one apply created with their service account"));

        let first = namespace(0);
        self.kubectl(&["annotate", "namespace", &first, "ecr-pull-secrets.dev/registries-"]).await;
        let accounts: Api<ServiceAccount> = self.api(&first);
        let removed = async || {
            let account = accounts.get("app").await.expect("the service account");
            account.image_pull_secrets.unwrap_or_default().is_empty()
        };
        self.wait_until("the reference to be removed", removed).await;
        self.wait_for_no_secret(&first).await;
        self.log("an opt-out removes the reference and the secret");
        self.kubectl(&["delete", "--filename", &file, "--ignore-not-found", "--wait=false"]).await;
    }

    /// Until the policy changes a service account that is not stored.
    async fn wait_for_the_policy(&self, namespace: &str) {
        self.annotate(namespace, &[(SERVICE_ACCOUNTS, Some("probe"))]).await;
        let api: Api<ServiceAccount> = self.api(namespace);
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let probe: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "probe"}})).expect("one");
        let changed = async || {
            let account = api.create(&dry, &probe).await.expect("the admin creates service accounts");
            account.image_pull_secrets.is_some()
        };
        self.wait_until("the policy to be effective", changed).await;
    }

    /// How many pods of a namespace run, each with the reference of its service account.
    async fn running(&self, namespace: &str) -> usize {
        let api: Api<Pod> = self.api(namespace);
        let pods = api.list(&ListParams::default()).await.expect("the admin lists pods").items;
        let runs = |pod: &&Pod| {
            let references = pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_ref());
            let names: Vec<_> = references.into_iter().flatten().map(|reference| &*reference.name).collect();
            assert_eq!(names, [NAME], "{:?}", pod.metadata.name);
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
            statuses.is_some_and(|all| all.iter().all(|container| container.ready))
        };
        pods.iter().filter(runs).count()
    }
}

fn namespace(n: usize) -> String {
    format!("at-once-{n}")
}

/// A Namespace, a `ServiceAccount`, and its pods.
fn documents(n: usize) -> Vec<Value> {
    let namespace = namespace(n);
    let annotations = json!({REGISTRIES: HOST, SERVICE_ACCOUNTS: "app"});
    let metadata = json!({"name": namespace, "annotations": annotations});
    let account = json!({"name": "app", "namespace": namespace});
    let mut all = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}),
    ];
    let pod = |n| {
        let container = json!({"name": "app", "image": app_image(HOST), "imagePullPolicy": "Always"});
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("app-{n}"), "namespace": namespace},
            "spec": {
                "serviceAccountName": "app", "terminationGracePeriodSeconds": 1, "containers": [container],
            },
        })
    };
    all.extend((0..PODS).map(pod));
    all
}
