//! What a stolen credential of the controller can do, and which layer refuses the rest: RBAC or the admission policy,
//! both as the chart renders them.

use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::chart::{RELEASE, configuration, install};
use crate::world::{HOST, NAME, REGISTRIES, World, uid};

const TYPE: &str = "kubernetes.io/dockerconfigjson";
const VALUES: [&str; 2] = [
    "--set-json",
    r#"config={"secretNames":["ecr-pull"],"serviceAccounts":{"enabled":true},"namespaces":{
        "selector":{"matchLabels":{"team":"blue"},"matchExpressions":[{"key":"stage","operator":"NotIn","values":["test","it's \"q\""]}]},
        "include":["app-*"],"exclude":["app-test"]},
        "defaults":{"registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com"]}}"#,
];

fn outcome<T>(result: Result<T, kube::Error>) -> String {
    match result {
        Ok(_) => "allowed".to_owned(),
        Err(kube::Error::Api(status)) => {
            let text = &status.message;
            if text.contains("ValidatingAdmissionPolicy 'ecr-pull-secrets-") {
                format!("policy: {text}")
            } else if text.contains("cannot ") && text.contains(" resource ") {
                "RBAC".to_owned()
            } else {
                format!("{}: {text}", status.code)
            }
        }
        Err(error) => panic!("no answer: {error}"),
    }
}

fn secret(name: &str, kind: &str, instance: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/managed-by": "ecr-pull-secrets", "app.kubernetes.io/instance": instance}},
        "data": {".dockerconfigjson": "e30=", "key": "dmFsdWU="},
    })
}

struct Stolen {
    client: Client,
}

impl Stolen {
    async fn of(world: &World) -> Self {
        let kubeconfig = world.cluster.kubeconfig_for(RELEASE, RELEASE).await;
        Self { client: world.cluster.client_for(&kubeconfig).await }
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn apply(&self, namespace: &str, name: &str, body: Value) -> String {
        let force = PatchParams { force: true, ..PatchParams::apply("ecr-pull-secrets") };
        outcome(self.secrets(namespace).patch(name, &force, &Patch::Apply(body)).await)
    }

    async fn change(&self, namespace: &str, account: &str, patch: Value) -> String {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        outcome(api.patch(account, &PatchParams::default(), &Patch::Merge(patch)).await)
    }
}

/// A cluster with the chart's rights and policies, the latter in force.
async fn installed() -> (World, Stolen) {
    let world = World::start().await;
    install(&world, &VALUES).await;
    let stolen = Stolen::of(&world).await;
    world.annotate("probe", &[]).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), "probe");
    let account = serde_json::from_value(json!({"metadata": {"name": "probe"}})).expect("a service account");
    accounts.create(&PostParams::default(), &account).await.expect("it is created");
    // Each policy comes into force at a time of its own. Nothing is stored, so that the same change stays one.
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let theirs: Api<ServiceAccount> = Api::namespaced(stolen.client.clone(), "probe");
    let change = Patch::Merge(json!({"automountServiceAccountToken": true}));
    let refused = async |_: &World| {
        let secrets = stolen.apply("probe", NAME, secret(NAME, TYPE, RELEASE)).await;
        let _ = world.secrets("probe").delete(NAME, &DeleteParams::default()).await;
        let accounts = outcome(theirs.patch("probe", &dry, &change).await);
        secrets.starts_with("policy") && accounts.starts_with("policy")
    };
    world.wait_until("the policies are in force", refused).await;
    (world, stolen)
}

#[tokio::test]
async fn a_stolen_credential_reaches_no_other_secret_and_no_other_namespace() {
    if !testing::real_cluster() {
        return;
    }
    let (world, stolen) = installed().await;
    world.annotate("tenant", &[]).await;
    world.opt_in("opted-in").await;
    for namespace in ["tenant", "opted-in"] {
        let private = serde_json::from_value(secret("private", "Opaque", "x")).expect("a secret");
        world
            .secrets(namespace)
            .create(&PostParams::default(), &private)
            .await
            .expect("a secret of the tenant");
    }
    let here = stolen.secrets("opted-in");
    let everywhere: Api<Secret> = Api::all(stolen.client.clone());
    let nothing = DeleteParams::default();
    for (what, said) in [
        ("read", outcome(here.get("private").await)),
        ("list", outcome(here.list(&ListParams::default()).await)),
        ("list all", outcome(everywhere.list_metadata(&ListParams::default()).await)),
        (
            "create",
            outcome(
                here.create(
                    &PostParams::default(),
                    &serde_json::from_value(secret("new", TYPE, RELEASE)).expect("a secret"),
                )
                .await,
            ),
        ),
        ("apply", stolen.apply("opted-in", "private", secret("private", "Opaque", RELEASE)).await),
        ("delete", outcome(here.delete("private", &nothing).await)),
        ("delete all", outcome(here.delete_collection(&nothing, &ListParams::default()).await.map(drop))),
    ] {
        assert_eq!(said, "RBAC", "{what} of another secret");
    }
    let maps: Api<ConfigMap> = Api::namespaced(stolen.client.clone(), RELEASE);
    assert_eq!(outcome(maps.list(&ListParams::default()).await), "RBAC");

    for (namespace, body, reason) in [
        ("opted-in", secret(NAME, "Opaque", RELEASE), "of type kubernetes.io/dockerconfigjson"),
        ("opted-in", secret(NAME, TYPE, "another"), "with the labels of its instance"),
        (
            "opted-in",
            json!({"apiVersion": "v1", "kind": "Secret", "type": TYPE, "metadata": {"name": NAME}, "data": {".dockerconfigjson": "e30="}}),
            "with the labels of its instance",
        ),
        ("tenant", secret(NAME, TYPE, RELEASE), "in namespaces that opted in"),
        ("kube-system", secret(NAME, TYPE, RELEASE), "in namespaces that opted in"),
    ] {
        let said = stolen.apply(namespace, NAME, body).await;
        assert!(said.starts_with("policy") && said.contains(reason), "{namespace}: {reason}: {said}");
    }
    let foreign = serde_json::from_value(json!({"metadata": {"name": NAME}, "data": {"key": "dmFsdWU="}}));
    let foreign = world.secrets("opted-in").create(&PostParams::default(), &foreign.expect("a secret")).await;
    let foreign = foreign.expect("a secret of this name that is not ours");
    let patch = Patch::Merge(secret(NAME, "Opaque", RELEASE));
    let said = outcome(here.patch(NAME, &PatchParams::default(), &patch).await);
    assert!(said.starts_with("policy"), "{said}");
    let said = outcome(here.delete(NAME, &nothing).await.map(drop));
    assert!(said.contains("only change and delete secrets of its own instance"), "{said}");
    assert_eq!(uid(&world.secret("opted-in").await.expect("it stays")), uid(&foreign));
}

#[tokio::test]
async fn the_policy_knows_the_configured_opt_in_as_the_controller_does() {
    if !testing::real_cluster() {
        return;
    }
    let (world, stolen) = installed().await;
    for (namespace, labels, annotation, allowed) in [
        ("plain", json!({}), None, false),
        ("asks", json!({}), Some(HOST), true),
        ("says-none", json!({"team": "blue"}), Some(" none\n"), false),
        ("labelled", json!({"team": "blue"}), None, true),
        ("labelled-test", json!({"team": "blue", "stage": "test"}), None, false),
        ("labelled-live", json!({"team": "blue", "stage": "live"}), None, true),
        ("other-team", json!({"team": "red"}), None, false),
        ("app-one", json!({}), None, true),
        ("app-test", json!({"team": "blue"}), None, false),
        ("app-test-asks", json!({}), Some(""), true),
        ("kube-app", json!({"team": "blue"}), None, false),
    ] {
        world.annotate(namespace, &[]).await;
        world.label(namespace, labels).await;
        world.annotate(namespace, &[(REGISTRIES, annotation)]).await;
        let expected = async |_: &World| {
            let said = stolen.apply(namespace, NAME, secret(NAME, TYPE, RELEASE)).await;
            let _ = world.secrets(namespace).delete(NAME, &DeleteParams::default()).await;
            if allowed { said == "allowed" } else { said.contains("in namespaces that opted in") }
        };
        // Its view of a namespace may lag for a moment.
        world.wait_until(&format!("{namespace}: allowed is {allowed}"), expected).await;
    }
    let config = world.config(&configuration(&VALUES).await);
    let (code, said) = world.run("sync", &["--config", &config, "--force"]).await;
    assert_eq!(code, Some(1), "an empty annotation is an error: {said}");
    let served: Vec<_> = world.all_secrets().await.into_keys().collect();
    assert_eq!(served, ["app-one", "asks", "labelled", "labelled-live"], "{said}");
}

#[tokio::test]
async fn of_service_accounts_only_the_reference_to_its_own_secret_can_be_changed() {
    if !testing::real_cluster() {
        return;
    }
    let (world, stolen) = installed().await;
    world.opt_in("team-a").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), "team-a");
    let builder = json!({"metadata": {"name": "builder", "annotations": {"theirs": "x"}}, "imagePullSecrets": [{"name": "theirs"}]});
    let builder: ServiceAccount = serde_json::from_value(builder).expect("a service account");
    accounts.create(&PostParams::default(), &builder).await.expect("it is created");
    let stolen_accounts: Api<ServiceAccount> = Api::namespaced(stolen.client.clone(), "team-a");
    assert_eq!(outcome(stolen_accounts.create(&PostParams::default(), &builder).await), "RBAC");
    assert_eq!(outcome(stolen_accounts.delete("builder", &DeleteParams::default()).await.map(drop)), "RBAC");
    let role = "eks.amazonaws.com/role-arn";
    for (patch, reason) in [
        (json!({"metadata": {"annotations": {role: "arn:aws:iam::1:role/admin"}}}), "of the annotations"),
        (json!({"metadata": {"annotations": {"theirs": "y"}}}), "of the annotations"),
        (json!({"metadata": {"annotations": {"theirs": null}}}), "of the annotations"),
        (json!({"metadata": {"labels": {"a": "b"}}}), "only change imagePullSecrets"),
        (json!({"automountServiceAccountToken": false}), "only change imagePullSecrets"),
        (json!({"secrets": [{"name": "x"}]}), "only change imagePullSecrets"),
        (json!({"imagePullSecrets": [{"name": "theirs"}, {"name": "other"}]}), "secrets of its own"),
        (json!({"imagePullSecrets": [{"name": NAME}]}), "secrets of its own"),
    ] {
        let said = stolen.change("team-a", "builder", patch.clone()).await;
        assert!(said.starts_with("policy: ") && said.contains(reason), "{patch}: {said}");
    }
    let own = json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/attached": "x"}}, "imagePullSecrets": [{"name": "theirs"}, {"name": NAME}]});
    assert_eq!(stolen.change("team-a", "builder", own).await, "allowed");
}

#[tokio::test]
async fn under_the_charts_rights_and_policies_the_whole_job_is_done() {
    if !testing::real_cluster() {
        return;
    }
    let (mut world, _) = installed().await;
    let config = world.config(&configuration(&VALUES).await);
    world.run_controller_with(&["--config", &config, "--leader-election"]).await;
    for n in 0..30 {
        world.opt_in(&format!("team-{n}")).await;
    }
    for n in 0..30 {
        world.wait_for_secret(&format!("team-{n}")).await;
    }
    let denied: Vec<_> = world.requests("patch").into_iter().filter(|entry| entry.code == 403).collect();
    println!("refused while the policy's view lagged: {} of 30", denied.len());
    // It is put right, also when its labels are gone.
    let strip = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null, "app.kubernetes.io/instance": null}}});
    for (namespace, edit) in [("team-0", json!({"data": {".dockerconfigjson": "e30="}})), ("team-1", strip)] {
        let before = world.wait_for_secret(namespace).await;
        world.edit(namespace, edit).await;
        let repaired = async |world: &World| {
            let now = world.secret(namespace).await.expect("it stays");
            now.data == before.data && now.metadata.labels == before.metadata.labels
        };
        world.wait_until(&format!("{namespace} is put right"), repaired).await;
    }
    world.annotate("team-2", &[("ecr-pull-secrets.dev/service-accounts", Some("builder"))]).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), "team-2");
    let builder =
        serde_json::from_value(json!({"metadata": {"name": "builder"}})).expect("a service account");
    accounts.create(&PostParams::default(), &builder).await.expect("it is created");
    let attached = async |wanted: usize| {
        let account = accounts.get("builder").await.expect("it is there");
        account.image_pull_secrets.unwrap_or_default().len() == wanted
    };
    world.wait_until("the reference", async |_: &World| attached(1).await).await;
    world.annotate("team-2", &[(REGISTRIES, Some("none"))]).await;
    world.wait_until("no reference", async |_: &World| attached(0).await).await;
    world.annotate("team-3", &[(REGISTRIES, None)]).await;
    for namespace in ["team-2", "team-3"] {
        world.wait_for_no_secret(namespace).await;
    }
    for n in 0..30 {
        let events = world.events(&format!("team-{n}")).await;
        assert!(!events.iter().any(|event| event.reason.as_deref() == Some("WriteFailed")), "{events:?}");
    }
    world.finish().await;
}
