//! The controller repairs its own Secrets, and leaves others alone.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use testing::aws::Behaviour;
use testing::tenants::{
    HOST, NAME, annotation, assert_untouched, auths, hosts, password, time, uid, version,
};
use tokio::time::{Instant, sleep};

use crate::harness::{TestCluster, cluster_test};

/// Every way in which somebody may spoil a Secret, with what is patched into it.
fn edits() -> Vec<(&'static str, Value)> {
    let instance = "ecr-pull-secrets.dev/instance";
    vec![
        ("data", json!({"data": {".dockerconfigjson": "e30="}})),
        ("label-changed", json!({"metadata": {"labels": {instance: "spoiled"}}})),
        ("label-stripped", json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}})),
        ("labels-stripped", json!({"metadata": {"labels": null}})),
        (
            "expiry",
            json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/expires-at": "2099-01-01T00:00:00Z"}}}),
        ),
        ("due", json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/refresh-after": null}}})),
        ("applied", json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/applied": "{}"}}})),
    ]
}

fn assert_right(namespace: &str, secret: &Secret) {
    let labels = secret.metadata.labels.as_ref().expect("labels");
    assert_eq!(labels["ecr-pull-secrets.dev/instance"], "ecr-pull-secrets", "{namespace}");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "ecr-pull-secrets", "{namespace}");
    assert_eq!(hosts(secret), [HOST], "{namespace}");
    assert!(annotation(secret, "expires-at") < "2099", "{namespace}");
    assert!(annotation(secret, "refresh-after") < "2099", "{namespace}");
    assert!(annotation(secret, "applied").contains(HOST), "{namespace}");
}

async fn wait_for_repairs(cluster: &TestCluster, spoiled: &[(&'static str, Secret, Secret)]) {
    for (namespace, before, after) in spoiled {
        let repaired = async || {
            let now = cluster.existing_secret(namespace).await;
            (version(&now) != version(after)).then_some(now)
        };
        let now = cluster.wait_for(&format!("the repair of {namespace}"), repaired).await;
        assert_eq!(uid(&now), uid(before), "{namespace}");
        assert_right(namespace, &now);
    }
}

async fn spoil(cluster: &TestCluster) -> Vec<(&'static str, Secret, Secret)> {
    let mut spoiled = vec![];
    for (namespace, patch) in edits() {
        let before = cluster.wait_for_secret(namespace).await;
        cluster.edit(namespace, patch).await;
        let after = cluster.existing_secret(namespace).await;
        spoiled.push((namespace, before, after));
    }
    spoiled
}

#[test]
fn what_was_edited_while_stopped_is_repaired() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        for (namespace, _) in edits() {
            cluster.opt_in(namespace).await;
            cluster.wait_for_secret(namespace).await;
        }
        cluster.stop_controller().await;
        let spoiled = spoil(cluster).await;
        cluster.run_controller().await;
        wait_for_repairs(cluster, &spoiled).await;
        // An entry of the audit log may follow the response. Each Secret was created and repaired.
        let audited = async || cluster.requests("patch").len() >= 2 * spoiled.len();
        cluster.wait_until("the audit log has the repairs", audited).await;
        let writes = cluster.requests("patch").len();
        sleep(Duration::from_secs(3)).await;
        assert_eq!(cluster.requests("patch").len(), writes, "then nothing is written");
    });
}

#[test]
fn what_is_edited_while_running_is_repaired() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        for (namespace, patch) in edits() {
            cluster.opt_in(namespace).await;
            let before = cluster.wait_for_secret(namespace).await;
            cluster.edit(namespace, patch).await;
            let repaired = async || {
                let now = cluster.existing_secret(namespace).await;
                let labels = now.metadata.labels.clone().unwrap_or_default();
                let annotations = now.metadata.annotations.clone().unwrap_or_default();
                let right = labels.len() == 2
                    && labels["ecr-pull-secrets.dev/instance"] != "spoiled"
                    && annotations.len() == 3
                    && annotations.values().all(|v| v != "{}" && **v < *"2099" || v.len() > 30)
                    && password(&now, HOST).is_some();
                right.then_some(now)
            };
            let now = cluster.wait_for(&format!("the repair of {namespace}"), repaired).await;
            assert_eq!(uid(&now), uid(&before), "{namespace}");
            assert_right(namespace, &now);
            cluster.wait_for_event(namespace, "SecretRepaired").await;
        }
        assert_eq!(cluster.aws.calls_for_tokens().len(), 1, "repairs fetch no token");
    });
}

#[test]
fn a_deleted_secret_comes_back() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let first = cluster.wait_for_secret("team-a").await;
        cluster.delete("team-a").await;
        let second = cluster.wait_for_secret("team-a").await;
        assert_ne!(uid(&first), uid(&second));
        assert_eq!(auths(&first), auths(&second), "with the token that there is");
        cluster.stop_controller().await;
        cluster.delete("team-a").await;
        cluster.run_controller().await;
        assert_right("team-a", &cluster.wait_for_secret("team-a").await);
    });
}

#[test]
fn a_secret_of_somebody_else_is_left_alone_and_reported() {
    cluster_test(async |cluster| {
        cluster.run_controller_configured("instance: other").await;
        cluster.opt_in("another-instance").await;
        cluster.wait_for_secret("another-instance").await;
        cluster.stop_controller().await;
        for (namespace, kind) in [("opaque", "Opaque"), ("same-type", "kubernetes.io/dockerconfigjson")] {
            cluster.opt_in(namespace).await;
            let body = json!({
                "metadata": {"name": NAME}, "type": kind,
                "data": {".dockerconfigjson": "eyJhdXRocyI6e319"},
            });
            cluster.create::<Secret>(namespace, body).await;
        }
        let before = cluster.all_secrets().await;
        assert_eq!(before.len(), 3);
        cluster.run_controller().await;
        for namespace in ["another-instance", "opaque", "same-type"] {
            let event = cluster.wait_for_event(namespace, "SecretNotOwned").await;
            assert_eq!(event.type_.as_deref(), Some("Warning"));
            assert_eq!(event.involved_object.namespace.as_deref(), Some(namespace));
            let message = event.message.expect("a message");
            assert!(
                message.starts_with("secret \"ecr-pull\"")
                    && message.contains("ecr-pull-secrets.dev/secret-name"),
                "{message}"
            );
        }
        cluster.opt_out("opaque").await;
        sleep(Duration::from_secs(2)).await;
        for (namespace, secret) in cluster.all_secrets().await {
            assert_untouched(&before[&namespace], &secret);
        }
        assert_eq!(cluster.requests("delete").len(), 0);
    });
}

/// How many repairs of one object the backoff allows in this time: the first at once, then one 0.75 s, 1.5 s, 3 s … after
/// the last. One more may have begun.
pub fn most_repairs(time: Duration) -> usize {
    let mut next = Duration::ZERO;
    let delays = (0..10).map(|n| Duration::from_millis(750) * (1 << n));
    let begun = delays.take_while(|delay| {
        next += *delay;
        next <= time
    });
    2 + begun.count()
}

/// The first repairs, for at least 5 s. `controller::tests` has the whole backoff.
#[test]
fn a_writer_in_a_loop_does_not_make_the_controller_spin() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        // An edit overtakes the request of a slow repair, which follows again. The creation has another code.
        let count = || {
            let mut requests = cluster.requests("patch");
            requests.retain(|entry| entry.code != 201);
            let of = |code: u16| requests.iter().filter(|entry| entry.code == code).count();
            let (repairs, overtaken) = (of(200), of(409));
            assert_eq!(repairs + overtaken, requests.len(), "{requests:?}");
            (repairs, overtaken)
        };
        let (start, mut edits) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(5) || count().0 < 2 || edits <= 25 {
            assert!(start.elapsed() < Duration::from_mins(1), "{:?} of {edits} edits", count());
            let patch = json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/expires-at": format!("edit {edits}")}}});
            cluster.edit("team-a", patch).await;
            edits += 1;
            sleep(Duration::from_millis(50)).await;
        }
        let ((repairs, overtaken), most) = (count(), most_repairs(start.elapsed()));
        let text = format!("{repairs} repairs and {overtaken} overtaken ones of {edits} edits");
        assert!(repairs <= most && overtaken <= 6 * most, "{text}, of at most {most}");
        let right = async || {
            let secret = cluster.existing_secret("team-a").await;
            !annotation(&secret, "expires-at").starts_with("edit")
        };
        cluster.wait_until("the last repair", right).await;
    });
}

/// The first creations, for at least 5 s. `controller::tests` has the whole backoff.
#[test]
fn a_deleter_in_a_loop_does_not_make_the_controller_spin() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) || cluster.requests("patch").len() < 2 {
            assert!(
                start.elapsed() < Duration::from_mins(1),
                "{} creations",
                cluster.requests("patch").len()
            );
            if cluster.secret("team-a").await.is_some() {
                cluster.delete("team-a").await;
            }
            sleep(Duration::from_millis(20)).await;
        }
        let (creations, most) = (cluster.requests("patch").len(), 1 + most_repairs(start.elapsed()));
        assert!(creations <= most, "{creations} creations, of at most {most}");
        cluster.wait_for_secret("team-a").await;
    });
}

/// Its `managedFields` look like those of an immutable one.
#[test]
fn a_secret_with_immutable_false_is_renewed_in_place() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::living(Duration::from_secs(8)));
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let first = cluster.wait_for_secret("team-a").await;
        cluster.edit("team-a", json!({"immutable": false})).await;
        let since = Timestamp::now() + Duration::from_secs(8);
        let renewed = async || {
            cluster
                .secret("team-a")
                .await
                .filter(|now| time(now, "expires-at") > since + Duration::from_secs(4))
        };
        let now = cluster.wait_for("a renewal after the first token expired", renewed).await;
        assert_eq!((uid(&now), now.immutable), (uid(&first), Some(false)));
        assert!(cluster.events_of("team-a", "SecretImmutable").await.is_empty());
        let logged = async || cluster.log().contains("may_be_immutable");
        cluster.wait_until("the log of the write", logged).await;
    });
}

#[test]
fn an_immutable_secret_is_reported_and_recreated_only_before_it_expires() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::living(Duration::from_secs(28)));
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let first = cluster.wait_for_secret("team-a").await;
        cluster.edit("team-a", json!({"immutable": true})).await;
        let message = cluster.wait_for_message("team-a", "SecretImmutable").await;
        assert!(message.contains("immutable"), "{message}");
        let recreated = async || cluster.secret("team-a").await.filter(|now| uid(now) != uid(&first));
        let second = cluster.wait_for("a new secret", recreated).await;
        let created = second.metadata.creation_timestamp.as_ref().expect("a time").0;
        let left = time(&first, "expires-at").duration_since(created);
        // The last quarter, and a second because the times are whole seconds.
        assert!(left.is_positive() && left.as_secs() <= 8, "recreated with {left} left");
        assert_right("team-a", &second);
    });
}
