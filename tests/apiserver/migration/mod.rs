//! The way from another tool to this controller, without a moment in which the Secret has no live token: see
//! `docs/migrate.md`. The chart's policies are in force.

mod readers;
mod tools;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testing::aws::Stub;
use testing::compromised_credential::{CompromisedCredential, TYPE, secret};
use testing::control_plane::AuditEntry;
use testing::tenants::{HOST, NAME, assert_untouched, live_token, uid, version};
use tokio::time::{Instant, sleep};

use self::readers::Readers;
use self::tools::Tool;
use crate::admission::{install_with, opt_in};
use crate::chart::{RELEASE, configuration};
use crate::harness::{TestCluster, cluster_test};
use crate::repairs::most_repairs;

const NAMESPACE: &str = "team-a";
const HOURS: Duration = Duration::from_hours(12);

/// Installs the chart with a rule for the tool's Secrets, and starts the controller.
async fn start(cluster: &mut TestCluster, tool: Tool) -> CompromisedCredential {
    let config = json!({
        "secretNames": [tool.secret_name(), NAME], "serviceAccounts": {"enabled": true},
        "adopt": [{"name": tool.secret_name(), "labels": tool.labels()}],
    });
    let set = format!("config={config}");
    let values = ["--set-json", &set];
    let stolen = install_with(cluster, &values).await;
    let config = cluster.config(&configuration(&values).await);
    cluster.run_controller_with(&["--config", &config]).await;
    stolen
}

fn is_live(aws: &Stub) -> impl Fn(&str, Timestamp) -> bool + use<> {
    let minted = aws.minted();
    move |password, at| {
        minted.iter().any(|token| token.password == password && token.expires_at.is_some_and(|end| end > at))
    }
}

async fn existing(cluster: &TestCluster, tool: Tool) -> Secret {
    cluster.secret_named(NAMESPACE, tool.secret_name()).await.expect("the secret exists")
}

async fn run_tool(cluster: &TestCluster, tool: Tool) {
    tool.run(&cluster.admin, NAMESPACE, &cluster.aws.mint(HOURS)).await;
}

async fn patch(cluster: &TestCluster, tool: Tool, patch: Value) -> Secret {
    let params = PatchParams::default();
    let patched = cluster.secrets(NAMESPACE).patch(tool.secret_name(), &params, &Patch::Merge(patch)).await;
    patched.expect("an admin edits it")
}

/// Whether the controller wrote the present content: a later write of the tool takes the field away from our entry.
fn is_ours(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.clone().unwrap_or_default();
    let entries = secret.metadata.managed_fields.iter().flatten();
    let owns_data = |entry: &ManagedFieldsEntry| {
        let is_ours = entry.manager.as_deref() == Some("ecr-pull-secrets");
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0["f:data"]["f:.dockerconfigjson"]);
        is_ours && entry.operation.as_deref() == Some("Apply") && fields.is_some_and(|field| !field.is_null())
    };
    let has_label = labels.get("ecr-pull-secrets.dev/instance").is_some_and(|value| value == RELEASE);
    has_label && entries.clone().any(owns_data)
}

async fn wait_until_adopted(cluster: &TestCluster, tool: Tool) -> Secret {
    let adopted = async || {
        let secret = cluster.secret_named(NAMESPACE, tool.secret_name()).await?;
        (is_ours(&secret) && live_token(&cluster.aws, &secret, HOST).is_some()).then_some(secret)
    };
    cluster.wait_for(&format!("the adoption of {tool:?}'s secret"), adopted).await
}

/// The tool was stopped, as `docs/migrate.md` says.
async fn adopts_in_place(cluster: &mut TestCluster, tool: Tool) {
    cluster.annotate(NAMESPACE, &[]).await;
    run_tool(cluster, tool).await;
    run_tool(cluster, tool).await;
    let data = json!({"data": {"notes": "a2VwdA=="}, "metadata": {"labels": {"team": "kept"}}});
    let before = patch(cluster, tool, data).await;
    start(cluster, tool).await;
    sleep(Duration::from_secs(1)).await;
    assert_untouched(&before, &existing(cluster, tool).await);

    let readers = Readers::start(&cluster.admin, NAMESPACE, tool.secret_name());
    cluster.opt_in(NAMESPACE).await;
    let adopted = wait_until_adopted(cluster, tool).await;
    let message = cluster.wait_for_message(NAMESPACE, "SecretAdopted").await;
    sleep(Duration::from_secs(2)).await;
    let (reads, gaps) = readers.stop(is_live(&cluster.aws)).await;
    assert!(reads > 15 && gaps == 0, "{tool:?}: {gaps} of {reads} reads found no live token");

    assert_eq!((uid(&before), Some(TYPE)), (uid(&adopted), adopted.type_.as_deref()), "{tool:?}");
    assert!(message.contains("stop the tool"), "{message}");
    let labels = adopted.metadata.labels.as_ref().expect("labels");
    assert_eq!(labels["team"], "kept", "{tool:?}");
    for (key, value) in before.metadata.labels.iter().flatten() {
        assert_eq!(labels.get(key), Some(value), "{tool:?}");
    }
    assert_eq!(adopted.data.as_ref().expect("data")["notes"].0, b"kept", "{tool:?}");
    assert_untouched(&adopted, &existing(cluster, tool).await);
    for reason in ["SecretCreated", "SecretRepaired", "SecretNotOwned", "WriteFailed"] {
        assert_eq!(cluster.events_of(NAMESPACE, reason).await.len(), 0, "{tool:?}: {reason}");
    }
    cluster.opt_out(NAMESPACE).await;
    let gone = async || cluster.secret_named(NAMESPACE, tool.secret_name()).await.is_none();
    cluster.wait_until(&format!("{tool:?}: after an opt-out it is deleted"), gone).await;
}

/// The tool was not stopped first.
async fn converges_after_the_tool_stops(cluster: &mut TestCluster, tool: Tool) {
    cluster.annotate(NAMESPACE, &[]).await;
    run_tool(cluster, tool).await;
    let before = existing(cluster, tool).await;
    start(cluster, tool).await;
    let before_requests = cluster.requests("patch").len();
    let readers = Readers::start(&cluster.admin, NAMESPACE, tool.secret_name());
    // Those that succeed, and all with those that a run of the tool overtakes, which follow again.
    let writes = || {
        let requests: Vec<_> = cluster.requests("patch").into_iter().skip(before_requests).collect();
        (requests.iter().filter(|request| request.code == 200).count(), requests.len())
    };
    let (begun, mut runs) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(6) || runs <= 15 || writes().0 == 0 {
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "{tool:?}: {:?} writes during {runs} runs",
            writes()
        );
        if runs == 5 {
            cluster.opt_in(NAMESPACE).await;
        }
        run_tool(cluster, tool).await;
        runs += 1;
        sleep(Duration::from_millis(100)).await;
    }
    // With the adoption.
    let ((writes, requests), most) = (writes(), 1 + most_repairs(begun.elapsed()));
    let text = format!("{tool:?}: {writes} writes with {requests} requests during {runs} runs");
    assert!(writes <= most && requests <= 6 * most, "{text}, of at most {most}");
    let adopted = wait_until_adopted(cluster, tool).await;
    let (reads, gaps) = readers.stop(is_live(&cluster.aws)).await;
    assert!(reads > 40 && gaps == 0, "{tool:?}: {gaps} of {reads} reads found no live token");
    assert_eq!(uid(&before), uid(&adopted), "{tool:?}");
    cluster.wait_for_event(NAMESPACE, "SecretAdopted").await;
    sleep(Duration::from_secs(1)).await;
    assert_untouched(&adopted, &existing(cluster, tool).await);
}

#[test]
fn secrets_of_k8s_ecr_login_renew_are_adopted_without_a_gap() {
    cluster_test(async |cluster| adopts_in_place(cluster, Tool::LoginRenew).await);
}

#[test]
fn secrets_of_registry_creds_are_adopted_without_a_gap() {
    cluster_test(async |cluster| adopts_in_place(cluster, Tool::RegistryCreds).await);
}

#[test]
fn secrets_of_external_secrets_with_orphan_are_adopted_without_a_gap() {
    cluster_test(async |cluster| adopts_in_place(cluster, Tool::ExternalSecretsOrphan).await);
}

#[test]
fn secrets_of_scripts_with_kubectl_apply_are_adopted_without_a_gap() {
    cluster_test(async |cluster| adopts_in_place(cluster, Tool::KubectlApply).await);
}

#[test]
fn secrets_of_scripts_with_kubectl_create_are_adopted_without_a_gap() {
    cluster_test(async |cluster| adopts_in_place(cluster, Tool::KubectlDeleteAndCreate).await);
}

#[test]
fn while_k8s_ecr_login_renew_still_writes_no_token_is_lost() {
    cluster_test(async |cluster| converges_after_the_tool_stops(cluster, Tool::LoginRenew).await);
}

/// Each of its writes removes the labels and annotations of the controller.
#[test]
fn while_registry_creds_still_writes_no_token_is_lost() {
    cluster_test(async |cluster| converges_after_the_tool_stops(cluster, Tool::RegistryCreds).await);
}

#[test]
fn while_external_secrets_still_writes_no_token_is_lost() {
    cluster_test(async |cluster| converges_after_the_tool_stops(cluster, Tool::ExternalSecretsOrphan).await);
}

#[test]
fn while_a_script_with_kubectl_apply_still_writes_no_token_is_lost() {
    cluster_test(async |cluster| converges_after_the_tool_stops(cluster, Tool::KubectlApply).await);
}

/// A script that deletes the Secret makes a gap itself, with this controller and without it.
#[test]
fn after_a_script_that_deletes_and_creates_the_secret_has_run_again_it_is_adopted_again() {
    let tool = Tool::KubectlDeleteAndCreate;
    cluster_test(async |cluster| {
        cluster.annotate(NAMESPACE, &[]).await;
        run_tool(cluster, tool).await;
        start(cluster, tool).await;
        cluster.opt_in(NAMESPACE).await;
        for _ in 0..3 {
            let adopted = wait_until_adopted(cluster, tool).await;
            run_tool(cluster, tool).await;
            let now = wait_until_adopted(cluster, tool).await;
            assert_ne!((uid(&adopted), version(&adopted)), (uid(&now), version(&now)));
        }
    });
}

#[test]
fn a_secret_that_an_external_secret_owns_is_adopted_once_it_is_orphaned() {
    let tool = Tool::ExternalSecretsOwner;
    cluster_test(async |cluster| {
        cluster.annotate(NAMESPACE, &[]).await;
        run_tool(cluster, tool).await;
        let before = existing(cluster, tool).await;
        start(cluster, tool).await;
        let requests = cluster.requests("patch").len();
        let readers = Readers::start(&cluster.admin, NAMESPACE, tool.secret_name());
        cluster.opt_in(NAMESPACE).await;
        let message = cluster.wait_for_message(NAMESPACE, "SecretNotOwned").await;
        let parts = ["\"ExternalSecret/ecr-secret\"", "creationPolicy: Orphan", "ownerReferences"];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        sleep(Duration::from_secs(1)).await;
        assert_untouched(&before, &existing(cluster, tool).await);
        assert_eq!(cluster.requests("patch").len(), requests, "it is not even tried");
        run_tool(cluster, Tool::ExternalSecretsOrphan).await;
        let adopted = wait_until_adopted(cluster, tool).await;
        let (reads, gaps) = readers.stop(is_live(&cluster.aws)).await;
        assert!(reads > 5 && gaps == 0, "{gaps} of {reads} reads found no live token");
        assert_eq!(uid(&before), uid(&adopted));
        assert_eq!(adopted.metadata.owner_references, None);
    });
}

/// What the Event says to run.
#[test]
fn a_secret_without_its_owner_references_is_adopted() {
    let tool = Tool::ExternalSecretsOwner;
    cluster_test(async |cluster| {
        cluster.opt_in(NAMESPACE).await;
        run_tool(cluster, tool).await;
        start(cluster, tool).await;
        let message = cluster.wait_for_message(NAMESPACE, "SecretNotOwned").await;
        let (_, rest) = message.split_once("--type merge -p ").expect("a command");
        let (body, _) = rest.split_once('\'').expect("its end");
        let before = patch(cluster, tool, serde_json::from_str(body).expect("JSON")).await;
        assert_eq!(uid(&before), uid(&wait_until_adopted(cluster, tool).await));
    });
}

#[test]
fn a_secret_of_another_type_or_that_is_immutable_is_reported_and_created_soon_after_its_deletion() {
    let tool = Tool::RegistryCreds;
    cluster_test(async |cluster| {
        start(cluster, tool).await;
        for (n, (kind, key, immutable)) in [
            ("kubernetes.io/dockercfg", ".dockercfg", false),
            ("Opaque", ".dockerconfigjson", false),
            (TYPE, ".dockerconfigjson", true),
        ]
        .into_iter()
        .enumerate()
        {
            let namespace = format!("team-{n}");
            cluster.opt_in_teams(n..n + 1).await;
            cluster
                .wait_until("a secret", async || {
                    cluster.secret_named(&namespace, tool.secret_name()).await.is_some()
                })
                .await;
            cluster.opt_out(&namespace).await;
            cluster
                .wait_until("none", async || {
                    cluster.secret_named(&namespace, tool.secret_name()).await.is_none()
                })
                .await;
            let mut body = json!({
                "metadata": {"name": tool.secret_name()}, "type": kind, "data": {key: "e30="}, "immutable": immutable,
            });
            if !immutable {
                body.as_object_mut().expect("a map").remove("immutable");
            }
            let before: Secret = cluster.create(&namespace, body).await;
            cluster.opt_in(&namespace).await;
            let message = cluster.wait_for_message(&namespace, "SecretNotOwned").await;
            let command = format!("kubectl delete secret -n {namespace} {}", tool.secret_name());
            assert!(message.contains(&command) && message.contains("cannot be adopted"), "{message}");
            // The audit log may be behind the Event.
            let is_refusal =
                |entry: &AuditEntry| entry.namespace.as_deref() == Some(&*namespace) && entry.code == 422;
            let refused = async || cluster.requests("patch").iter().any(is_refusal);
            cluster.wait_until("the refusal in the audit log", refused).await;
            sleep(Duration::from_secs(1)).await;
            let tried = cluster.requests("patch").len();
            sleep(Duration::from_secs(3)).await;
            assert_eq!(cluster.requests("patch").len(), tried, "{kind}: it is not tried again and again");
            let api = cluster.secrets(&namespace);
            assert_untouched(&before, &api.get(tool.secret_name()).await.expect("it exists"));
            api.delete(tool.secret_name(), &DeleteParams::default()).await.expect("its owner deletes it");
            let deleted = Instant::now();
            let created = async || cluster.secret_named(&namespace, tool.secret_name()).await;
            let now = cluster.wait_for("the new secret", created).await;
            assert!(deleted.elapsed() < Duration::from_secs(20), "{kind}: {:?}", deleted.elapsed());
            assert!(uid(&before) != uid(&now) && is_ours(&now), "{kind}");
        }
    });
}

/// Without a matching rule, or with one that the Secret does not meet, even a stolen credential cannot take it.
#[test]
fn the_policy_allows_exactly_what_the_rule_describes() {
    let tool = Tool::ExternalSecretsOrphan;
    cluster_test(async |cluster| {
        let stolen = start(cluster, tool).await;
        cluster.stop_controller().await;
        opt_in(cluster, &stolen, NAMESPACE).await;
        let name = tool.secret_name();
        let take = async || stolen.apply(NAMESPACE, name, secret(name, TYPE, RELEASE)).await;
        let denied = |said: &str| said.contains("policy") && said.contains("config.adopt");
        let labels =
            |value: &Value| json!({"metadata": {"labels": {"reconcile.external-secrets.io/managed": value}}});
        run_tool(cluster, Tool::ExternalSecretsOwner).await;
        assert!(denied(&take().await), "it has an owner");
        run_tool(cluster, tool).await;
        for value in [json!("false"), Value::Null] {
            patch(cluster, tool, labels(&value)).await;
            assert!(denied(&take().await), "its label is {value}");
        }
        patch(cluster, tool, labels(&json!("true"))).await;
        let other = json!({"metadata": {"labels": {
            "app.kubernetes.io/managed-by": "ecr-pull-secrets", "ecr-pull-secrets.dev/instance": "other"}}});
        patch(cluster, tool, other).await;
        assert!(denied(&take().await), "it belongs to another instance");
        let none = json!({"metadata": {"labels": {
            "app.kubernetes.io/managed-by": null, "ecr-pull-secrets.dev/instance": null}}});
        patch(cluster, tool, none).await;
        let here = kube::Api::<Secret>::namespaced(stolen.client.clone(), NAMESPACE);
        let said = here.delete(name, &DeleteParams::default()).await.expect_err("it is not ours").to_string();
        assert!(said.contains("own instance"), "a rule allows no deletion: {said}");
        cluster.opt_out(NAMESPACE).await;
        let closed = async || take().await.contains("opted in");
        cluster.wait_until("without an opt-in it is denied", closed).await;
        cluster.opt_in(NAMESPACE).await;
        let open = async || take().await == "allowed";
        cluster.wait_until("with an opt-in it is allowed", open).await;
    });
}
