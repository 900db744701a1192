//! What a tenant adds to the controller's Secret neither prevents its renewal, nor can a stolen credential add it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testing::aws::Behaviour;
use testing::compromised_credential::{Addition, TYPE, additions, secret};
use testing::tenants::{HOST, NAME, password, uid};

use super::{VALUES, install_chart, opt_in};
use crate::chart::{RELEASE, configuration};
use crate::harness::{TestCluster, cluster_test};

/// Whether `value` has everything that `part` has.
fn has(value: &Value, part: &Value) -> bool {
    match (value, part) {
        (Value::Object(value), Value::Object(part)) => {
            part.iter().all(|(key, part)| value.get(key).is_some_and(|value| has(value, part)))
        }
        // The API server adds fields to an owner reference.
        (Value::Array(value), Value::Array(part)) => {
            part.iter().all(|part| value.iter().any(|v| has(v, part)))
        }
        _ => value == part,
    }
}

fn as_json(secret: &Secret) -> Value {
    serde_json::to_value(secret).expect("a Secret serialises")
}

/// Opts a namespace in for each addition, makes it by `add`, and waits for the next token. Afterwards the Secret has the
/// addition if it `stays`. An immutable Secret is another one.
async fn are_renewed(
    cluster: &mut TestCluster,
    stays: bool,
    add: impl AsyncFn(&TestCluster, &str, &Secret, Value),
) {
    install_chart(cluster).await;
    cluster.aws.set(Behaviour::living(Duration::from_secs(20)));
    let config = cluster.config(&configuration(&VALUES).await);
    cluster.run_controller_with(&["--config", &config]).await;
    let mut before = vec![];
    for Addition { name, patch, .. } in additions() {
        cluster.opt_in(name).await;
        let secret = cluster.wait_for_secret(name).await;
        add(cluster, name, &secret, patch.clone()).await;
        before.push((name, patch, secret));
    }
    for (name, patch, before) in before {
        let renewed = async || {
            let now = cluster.secret(name).await?;
            let token = password(&now, HOST);
            (token.is_some() && token != password(&before, HOST)).then_some(now)
        };
        let now = cluster.wait_for(&format!("the next token of {name}"), renewed).await;
        let is_immutable = name == "immutable";
        assert_eq!(uid(&now) == uid(&before), !is_immutable, "{name}");
        assert_eq!(has(&as_json(&now), &patch), stays && !is_immutable, "{name}: {:?}", now.metadata);
        let failures = cluster.events_of(name, "WriteFailed").await;
        assert!(is_immutable || failures.is_empty(), "{name}: {failures:?}");
    }
}

#[test]
fn what_a_tenant_adds_stays_and_the_secret_is_renewed() {
    cluster_test(async |cluster| {
        let add = async |cluster: &TestCluster, namespace: &str, _: &Secret, patch| {
            cluster.edit(namespace, patch).await;
        };
        are_renewed(cluster, true, add).await;
    });
}

/// The Apply entry, which says what the controller owns, can be forged.
#[test]
fn what_a_tenant_adds_under_the_controllers_field_manager_is_removed_and_the_secret_is_renewed() {
    cluster_test(async |cluster| {
        let add = async |cluster: &TestCluster, namespace: &str, secret: &Secret, patch: Value| {
            let mut body = as_json(secret);
            body["apiVersion"] = json!("v1");
            body["kind"] = json!("Secret");
            for key in ["managedFields", "uid", "resourceVersion", "creationTimestamp"] {
                body["metadata"].as_object_mut().expect("metadata").remove(key);
            }
            merge(&mut body, &patch);
            let force = PatchParams::apply("ecr-pull-secrets").force();
            let applied = cluster.secrets(namespace).patch(NAME, &force, &Patch::Apply(body)).await;
            applied.expect("an admin applies it");
        };
        are_renewed(cluster, false, add).await;
    });
}

fn merge(body: &mut Value, patch: &Value) {
    match (body.as_object_mut(), patch.as_object()) {
        (Some(body), Some(patch)) => {
            patch.iter().for_each(|(key, value)| merge(body.entry(key).or_insert(json!({})), value));
        }
        _ => *body = patch.clone(),
    }
}

#[test]
fn a_stolen_credential_adds_nothing_to_its_secret_and_leaves_what_a_tenant_added() {
    cluster_test(async |cluster| {
        let stolen = install_chart(cluster).await;
        opt_in(cluster, &stolen, "team-a").await;
        stolen.creates_nothing_with_an_addition("team-a").await;
        stolen.leaves_additions_of_the_tenant_alone("team-a").await;
        assert_eq!(stolen.apply("team-a", NAME, secret(NAME, TYPE, RELEASE)).await, "allowed");
        stolen.adds_nothing("team-a").await;
    });
}

/// An apply that no longer has a field of the last one removes it.
#[test]
fn what_the_controllers_own_apply_set_can_be_removed() {
    cluster_test(async |cluster| {
        let stolen = install_chart(cluster).await;
        opt_in(cluster, &stolen, "removes").await;
        for Addition { name, patch, .. } in additions() {
            if name == "immutable" {
                continue;
            }
            let mut body = secret(NAME, TYPE, RELEASE);
            merge(&mut body, &patch);
            let force = PatchParams::apply("ecr-pull-secrets").force();
            let applied = cluster.secrets("removes").patch(NAME, &force, &Patch::Apply(body)).await;
            let applied = applied.expect("an admin applies it");
            assert!(has(&as_json(&applied), &patch), "{name}");
            assert_eq!(stolen.apply("removes", NAME, secret(NAME, TYPE, RELEASE)).await, "allowed", "{name}");
            let now = cluster.existing_secret("removes").await;
            assert!(!has(&as_json(&now), &patch), "{name}: {:?}", now.metadata);
        }
    });
}

/// CEL has a budget for each request.
#[test]
fn a_secret_with_thousands_of_keys_of_a_tenant_is_renewed() {
    cluster_test(async |cluster| {
        let stolen = install_chart(cluster).await;
        opt_in(cluster, &stolen, "team-a").await;
        assert_eq!(stolen.apply("team-a", NAME, secret(NAME, TYPE, RELEASE)).await, "allowed");
        let keys = |prefix: &str, value: &str| -> Value {
            let all = (0..5_000).map(|n| (format!("{prefix}{n}"), json!(value)));
            all.collect::<serde_json::Map<_, _>>().into()
        };
        let metadata =
            json!({"annotations": keys("example.com/a", "x"), "labels": keys("example.com/l", "x")});
        cluster.edit("team-a", json!({"metadata": metadata, "data": keys("d", "e30=")})).await;
        assert_eq!(stolen.apply("team-a", NAME, secret(NAME, TYPE, RELEASE)).await, "allowed");
    });
}
