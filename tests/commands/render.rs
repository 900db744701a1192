//! `render`: the Secret for registries, which a user can apply.

use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use testing::aws::{Behaviour, Fault};
use testing::tenants::{HOST, NAME, live_token};

use crate::harness::cluster_test;
use crate::users::User;

#[test]
fn tokens_are_hidden_unless_they_are_revealed_and_then_the_secret_can_be_applied() {
    cluster_test(async |cluster| {
        let user = User::admin(cluster);
        let hidden = user.run_without_cluster(&["render", HOST, "public.ecr.aws", "-n", "team-a"]).await;
        assert_eq!(hidden.code, Some(0), "{}", hidden.text);
        testing::leaks::assert_none(&hidden.text, &cluster.aws.secrets());
        let object: Value = serde_saphyr::from_str(&hidden.text).expect("YAML");
        assert_eq!(object["metadata"]["namespace"], "team-a");
        assert_eq!(object["data"][".dockerconfigjson"], "<hidden: use --reveal>");
        assert_eq!(object["type"], "kubernetes.io/dockerconfigjson");
        assert!(object["metadata"]["resourceVersion"].is_null());

        let revealed =
            user.run_without_cluster(&["render", HOST, "-n", "team-a", "--reveal", "-o", "json"]).await;
        assert_eq!(revealed.code, Some(0));
        let secret: Secret = serde_json::from_value(revealed.json()).expect("a Secret");
        assert!(live_token(&cluster.aws, &secret, HOST).is_some(), "the token is one of AWS");
        cluster.annotate("team-a", &[]).await;
        cluster.control_plane.apply(&revealed.json().to_string()).await;
        assert!(cluster.secret_named("team-a", NAME).await.is_some());
    });
}

#[test]
fn failures_name_the_remedy() {
    cluster_test(async |cluster| {
        let user = User::admin(cluster);
        for (args, code, said) in [
            (&["render", "nonsense"][..], 2, "is not an Amazon ECR registry"),
            (&["render", HOST, "--role", "admin"], 2, "\"admin\" is unknown or not granted"),
            (&["render", HOST, "--secret-name", "other"], 2, "the configuration allows \"ecr-pull\""),
            (&["render", HOST, "none"], 2, "\"none\" is not an Amazon ECR registry"),
            (&["render"], 2, "<REGISTRY>..."),
        ] {
            let output = user.run_without_cluster(args).await;
            assert_eq!(
                (output.code, output.text.contains(said)),
                (Some(code), true),
                "{args:?}: {}",
                output.text
            );
        }
        assert!(cluster.aws.calls_for_tokens().is_empty());
        cluster.aws.set(Behaviour::failing(Fault::AccessDenied));
        let denied = user.run_without_cluster(&["render", HOST]).await;
        assert_eq!(
            (denied.code, denied.text.contains("AccessDeniedException")),
            (Some(1), true),
            "{}",
            denied.text
        );
    });
}
