//! Annotate → secret.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use testing::aws::Behaviour;
use testing::registry::Registry;
use testing::tenants::{HOST, annotation, auths, hosts, password, time};

use crate::harness::{RBAC, cluster_test};

#[test]
fn an_annotated_namespace_gets_a_secret_that_the_registry_accepts() {
    cluster_test(async |cluster| {
        let registry = Registry::start_for(&[HOST], "the-password-of-the-token").await;
        cluster
            .aws
            .set(Behaviour { password: Some("the-password-of-the-token".into()), ..Behaviour::default() });
        cluster.run_controller().await;
        cluster.request("team-a", "123456789012, public.ecr.aws").await;
        // An entry whose token takes long follows.
        let whole = async || cluster.secret("team-a").await.filter(|secret| auths(secret).len() == 2);
        let secret = cluster.wait_for("both entries", whole).await;

        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
        let labels = serde_json::to_value(&secret.metadata.labels).expect("labels");
        let expected = json!({"app.kubernetes.io/managed-by": "ecr-pull-secrets", "ecr-pull-secrets.dev/instance": "ecr-pull-secrets"});
        assert_eq!(labels, expected);
        let lifetime = time(&secret, "expires-at").duration_since(Timestamp::now());
        assert!(
            lifetime > SignedDuration::from_mins(11 * 60 + 50) && lifetime <= SignedDuration::from_hours(12)
        );
        let half = time(&secret, "refresh-after").duration_since(Timestamp::now());
        assert!(
            half > SignedDuration::from_mins(5 * 60 + 50) && half < SignedDuration::from_mins(7 * 60 + 15),
            "{half}"
        );
        let ends = time(&secret, "expires-at").as_second();
        let rest = r#""instance":"ecr-pull-secrets","registries":["123456789012.dkr.ecr.eu-central-1.amazonaws.com","public.ecr.aws"],"repositories":[],"role":[],"secretName":"ecr-pull","serviceAccounts":[],"version":1}"#;
        let applied = annotation(&secret, "applied");
        let (entries, found) = applied.split_at(applied.find(r#""instance""#).expect("an instance"));
        assert_eq!(found, rest);
        // The second token may be issued a second later.
        let found: Vec<_> =
            entries.split("\"expiresAt\":").skip(1).filter_map(|rest| rest.split(',').next()).collect();
        assert_eq!(found.len(), 2, "{entries}: each entry with its end");
        let first = found.iter().filter_map(|end| end.parse::<i64>().ok()).min();
        assert_eq!(first, Some(ends), "{entries}");
        assert_eq!(secret.metadata.annotations.as_ref().map(BTreeMap::len), Some(3));

        let auths = auths(&secret);
        assert_eq!(auths.keys().collect::<Vec<_>>(), [HOST, "public.ecr.aws"]);
        let auth = STANDARD.encode("AWS:the-password-of-the-token");
        let entry = json!({"username": "AWS", "password": "the-password-of-the-token", "auth": auth});
        assert_eq!(auths[HOST], entry);
        assert_eq!(registry.get_v2(HOST, Some(&format!("Basic {auth}"))).await, 200);
        assert_eq!(registry.get_v2(HOST, None).await, 401);
        assert_eq!(
            registry.get_v2(HOST, Some(&format!("Basic {}", STANDARD.encode("AWS:other")))).await,
            401
        );
        assert_eq!(
            (cluster.aws.count("GetAuthorizationToken"), cluster.aws.count("GetPublicAuthorizationToken")),
            (1, 1)
        );
        cluster.wait_for_event("team-a", "SecretCreated").await;
    });
}

#[test]
fn default_is_the_registry_that_the_token_names() {
    cluster_test(async |cluster| {
        cluster.run_controller().await;
        cluster.request("team-a", "default").await;
        let secret = cluster.wait_for_secret("team-a").await;
        assert_eq!(hosts(&secret), [HOST]);
    });
}

#[test]
fn two_hundred_namespaces_cost_one_token() {
    cluster_test(async |cluster| {
        for n in 0..100 {
            cluster.opt_in(&format!("before-{n}")).await;
        }
        cluster.run_controller().await;
        for n in 0..100 {
            cluster.opt_in(&format!("after-{n}")).await;
        }
        cluster.wait_for_secrets(200).await;
        assert_eq!(cluster.aws.calls_for_tokens().len(), 1, "one GetAuthorizationToken and no other call");
        // An entry of the audit log may follow the response.
        let audited = async || cluster.requests("patch").len() >= 200;
        cluster.wait_until("the audit log has the writes", audited).await;
        assert_eq!(cluster.requests("patch").len(), 200, "one write each");
        let secrets = cluster.all_secrets().await;
        let passwords: BTreeSet<_> = secrets.values().map(|secret| password(secret, HOST)).collect();
        assert_eq!(passwords.len(), 1);
    });
}

#[test]
fn another_secret_name_is_written_before_the_old_one_is_deleted() {
    cluster_test(async |cluster| {
        cluster.control_plane.apply(&RBAC.replace("[ecr-pull]", "[ecr-pull, other-name]")).await;
        cluster.run_controller_configured("secretNames: [ecr-pull, other-name]").await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        cluster.annotate("team-a", &[("ecr-pull-secrets.dev/secret-name", Some("other-name"))]).await;
        cluster.wait_for_no_secret("team-a").await;
        let other = cluster
            .secret_named("team-a", "other-name")
            .await
            .expect("it exists before the old one is deleted");
        assert_eq!(hosts(&other), [HOST]);
        assert!(cluster.secret("team-a").await.is_none());
    });
}
