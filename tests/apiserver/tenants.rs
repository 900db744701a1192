//! Grants: a namespace gets tokens of the identities that are granted to it, bound to its repositories, and no others.

use jiff::{SignedDuration, Timestamp};
use testing::aws::{Behaviour, Fault, Minted};
use testing::tenants::{self, HOST, assert_untouched, auths, hosts, time};

use crate::harness::{TestCluster, cluster_test};

const A: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
const B: &str = "333333333333.dkr.ecr.eu-central-1.amazonaws.com";
const ROLE_A: &str = "arn:aws:iam::222222222222:role/ecr-pull";
const ROLE_B: &str = "arn:aws:iam::333333333333:role/b/ecr-pull";
const ROLE: &str = "ecr-pull-secrets.dev/role";
/// The reason of Events about anything that is not granted.
const NOT_GRANTED: &str = "NotGranted";
const REPOSITORIES: &str = "ecr-pull-secrets.dev/repositories";

fn config(bound: &str, namespaces: &str) -> String {
    format!(
        "
defaults: {{identity: none}}
identities:
  - name: a
    roleArn: {ROLE_A}
    externalId: our/secret:handshake
    sessionName: cluster-one
    sessionTags: {{cluster: one}}
    maxTokenAge: 15m
    namespaces: {namespaces}
    registries: ['222222222222/*']
    repositories: {bound}
  - name: b
    roleArn: {ROLE_B}
    namespaces: ['dev']
    registries: ['333333333333/eu-*']
    repositories: ['*']"
    )
}

async fn token(cluster: &TestCluster, namespace: &str, host: &str) -> Option<Minted> {
    tenants::token(&cluster.aws, &cluster.secret(namespace).await?, host)
}

/// Waits for a token whose policy names exactly these repositories.
async fn wait_for_bound(cluster: &TestCluster, namespace: &str, repositories: &[&str]) -> Minted {
    let arn = |name: &&str| format!("\"arn:aws:ecr:eu-central-1:222222222222:repository/{name}\"");
    let resources = format!("\"Resource\":[{}]", repositories.iter().map(arn).collect::<Vec<_>>().join(","));
    let found = async || {
        let minted = token(cluster, namespace, A).await?;
        minted.policy.as_ref().is_some_and(|policy| policy.contains(&resources)).then_some(minted)
    };
    cluster.wait_for(&format!("a token for {repositories:?} in {namespace}"), found).await
}

async fn wait_for_event(cluster: &TestCluster, namespace: &str, reason: &str, said: &str) -> String {
    let found = async || {
        let all = cluster.events_of(namespace, reason).await;
        all.into_iter().find_map(|event| event.message.filter(|message| message.contains(said)))
    };
    cluster.wait_for(&format!("an Event {reason} in {namespace} that says {said:?}"), found).await
}

#[test]
fn each_tenant_gets_a_token_for_its_own_repositories_and_an_annotation_only_narrows() {
    cluster_test(async |cluster| {
        let file = cluster.config(&config("['{namespace}/*']", "['team-a', 'team-a-*']"));
        for namespace in ["team-a", "team-a-x", "team-b"] {
            cluster.request(namespace, A).await;
        }
        cluster.request("dev", &format!("{A},{B}")).await;
        cluster.run_controller_with(&["--config", &file]).await;
        let own = wait_for_bound(cluster, "team-a", &["team-a/*"]).await;
        wait_for_bound(cluster, "team-a-x", &["team-a-x/*"]).await;
        assert_eq!(own.role.as_deref(), Some(ROLE_A));
        let calls = cluster.aws.calls();
        let assumed = calls.iter().find(|call| call.role.as_deref() == Some(ROLE_A)).expect("a call");
        assert_eq!(assumed.external_id.as_deref(), Some("our/secret:handshake"));
        assert_eq!(assumed.session_name.as_deref(), Some("cluster-one"));
        assert_eq!(assumed.tags, [("cluster".to_owned(), "one".to_owned())]);
        let secret = cluster.wait_for_secret("team-a").await;
        assert!(
            time(&secret, "expires-at") <= Timestamp::now() + SignedDuration::from_mins(15),
            "maxTokenAge"
        );

        // What is not granted is said without a word about others, and nothing is written for it.
        let said = wait_for_event(cluster, "team-b", NOT_GRANTED, "no identity is granted").await;
        assert!(!said.contains("team-a") && !said.contains("ecr-pull\"") && !said.contains(ROLE_A), "{said}");
        assert!(cluster.secret("team-b").await.is_none());
        wait_for_event(cluster, "dev", NOT_GRANTED, A).await;
        let other = cluster.wait_for("the other one in dev", async || token(cluster, "dev", B).await).await;
        assert_eq!(other.role.as_deref(), Some(ROLE_B));
        assert_eq!(cluster.aws.count("AssumeRole"), 3, "one for each namespace with a grant");
        let calls = cluster.aws.calls();
        let assumed = calls.iter().find(|call| call.role.as_deref() == Some(ROLE_B)).expect("a call");
        assert_eq!(assumed.session_name.as_deref(), Some("ecr-pull-secrets.dev"), "no other has this token");
        assert_eq!(auths(&cluster.wait_for_secret("dev").await).len(), 1);

        // Choosing and narrowing.
        for chosen in ["a", ROLE_A] {
            cluster.annotate("team-a", &[(ROLE, Some(chosen)), (REPOSITORIES, Some("team-a/app"))]).await;
            wait_for_bound(cluster, "team-a", &["team-a/app"]).await;
        }
        let narrow = cluster.wait_for_secret("team-a").await;
        for (key, value, reason, said) in [
            (REPOSITORIES, "*", NOT_GRANTED, "\"*\" is not within"),
            (REPOSITORIES, "team-b/*", NOT_GRANTED, "\"team-b/*\" is not within"),
            (REPOSITORIES, "team-a*", NOT_GRANTED, "\"team-a*\" is not within"),
            (REPOSITORIES, "a/*/b", "InvalidAnnotation", "at most one *, at the end"),
            (ROLE, "b", NOT_GRANTED, "\"b\" is unknown or not granted"),
            (ROLE, ROLE_B, NOT_GRANTED, "is unknown or not granted"),
            (ROLE, "nobody", NOT_GRANTED, "\"nobody\" is unknown or not granted"),
        ] {
            let before = if key == ROLE { "a" } else { "team-a/app" };
            cluster.annotate("team-a", &[(key, Some(value))]).await;
            wait_for_event(cluster, "team-a", reason, said).await;
            cluster.annotate("team-a", &[(key, Some(before))]).await;
        }
        let same = cluster.wait_for_secret("team-a").await;
        assert_eq!(auths(&narrow), auths(&same), "what was applied stays in force");
    });
}

#[test]
fn a_withdrawn_grant_deletes_the_secret_and_a_narrower_one_is_a_new_token() {
    cluster_test(async |cluster| {
        let file = cluster.config(&config("['{namespace}/*', 'shared/*']", "['team-*']"));
        for namespace in ["team-a", "team-b"] {
            cluster.request(namespace, A).await;
        }
        cluster.request("dev", B).await;
        cluster.run_controller_with(&["--config", &file]).await;
        wait_for_bound(cluster, "team-a", &["shared/*", "team-a/*"]).await;
        cluster.wait_for_secret("team-b").await;
        let other = cluster.wait_for_secret("dev").await;
        cluster.stop_controller().await;
        let calls = cluster.aws.calls_for_tokens().len();

        let file = cluster.config(&config("['{namespace}/*']", "['team-a']"));
        cluster.run_controller_with(&["--config", &file]).await;
        wait_for_bound(cluster, "team-a", &["team-a/*"]).await;
        cluster.wait_for_no_secret("team-b").await;
        assert_untouched(&other, &cluster.wait_for_secret("dev").await);
        assert_eq!(
            cluster.aws.calls_for_tokens().len(),
            calls + 2,
            "one session and one token: for the narrower grant"
        );
    });
}

#[test]
fn each_denial_by_aws_is_reported_with_its_cause_and_the_others_are_served() {
    cluster_test(async |cluster| {
        let denials = [
            ("denied", Fault::AccessDenied, "the role's trust policy"),
            ("large", Fault::PackedPolicyTooLarge, "PackedPolicyTooLarge"),
            ("disabled", Fault::RegionDisabled, "STS is not activated in this region"),
        ];
        let role = |namespace: &str| format!("arn:aws:iam::222222222222:role/{namespace}");
        // A role for each denial, so that none waits for the backoff of another.
        let identities = denials.map(|(name, ..)| {
            let role = role(name);
            format!("\n  - {{name: {name}, roleArn: {role}, namespaces: [{name}], registries: ['222222222222/*'], \
                 repositories: ['*']}}")
        });
        for (name, fault, _) in denials {
            cluster.aws.set_for_role(&role(name), Behaviour::failing(fault));
            cluster.request(name, &format!("{A} {B}")).await;
        }
        let yaml = config("['*']", "[]").replace("'dev'", "'*'") + &identities.concat();
        cluster.run_controller_configured(&yaml).await;
        for (namespace, _, said) in denials {
            let message = wait_for_event(cluster, namespace, "TokenFailed", said).await;
            let is_ours = |line: &&str| line.contains("WARN") && line.contains(&role(namespace));
            assert!(cluster.log().lines().any(|line| is_ours(&line)), "the log names the role");
            assert!(message.contains("role <ARN>") && !message.contains("arn:"), "{message}");
            let found = async || token(cluster, namespace, B).await;
            cluster.wait_for(&format!("the other registry in {namespace}"), found).await;
        }
        cluster.aws.reset();
        for (namespace, ..) in denials {
            let found = async || token(cluster, namespace, A).await;
            cluster.wait_for(&format!("the recovery of {namespace}"), found).await;
        }
    });
}

#[test]
fn two_roles_that_fail_in_one_region_are_two_events_and_two_lines_of_the_log() {
    cluster_test(async |cluster| {
        let file = cluster.config(&config("['*']", "['team-a']").replace("'dev'", "'team-a'"));
        let roles = [(ROLE_A, Fault::AccessDenied), (ROLE_B, Fault::RegionDisabled)];
        for (role, fault) in roles {
            cluster.aws.set_for_role(role, Behaviour::failing(fault));
        }
        cluster.run_controller_with(&["--config", &file]).await;
        cluster.request("team-a", &format!("{A} {B}")).await;
        for identity in ["identity \"a\"", "identity \"b\""] {
            wait_for_event(cluster, "team-a", "TokenFailed", identity).await;
        }
        let events = cluster.events_of("team-a", "TokenFailed").await;
        assert_eq!(events.len(), 2, "one for each, side by side: {events:?}");
        let log = cluster.log();
        for (role, _) in roles {
            let warned =
                |line: &str| line.contains("WARN") && line.contains("TokenFailed") && line.contains(role);
            assert!(log.lines().any(warned), "a warning about {role}");
        }
    });
}

/// A pull does not need the list of tags, so a token allows it only where an identity says so.
#[test]
fn only_tokens_of_an_identity_with_list_tags_may_list_them_and_a_change_replaces_the_token() {
    cluster_test(async |cluster| {
        let without = config("['*']", "['team-a']");
        let list = without.replacen("roleArn", "listTags: true\n    roleArn", 1);
        cluster.request("team-a", A).await;
        cluster.request("dev", B).await;
        let allows = async |cluster: &TestCluster, namespace: &str, host: &str, expected: bool| {
            let found = async || {
                let policy = token(cluster, namespace, host).await?.policy?;
                (policy.contains("\"ecr:ListImages\"") == expected).then_some(())
            };
            cluster.wait_for(&format!("{namespace} may list tags: {expected}"), found).await;
        };
        for (yaml, expected) in [(&without, false), (&list, true), (&without, false)] {
            cluster.run_controller_configured(yaml).await;
            allows(cluster, "team-a", A, expected).await;
            allows(cluster, "dev", B, false).await;
            cluster.stop_controller().await;
        }
    });
}

/// The token of the controller's own credentials names their account; a role's ARN names the account of the role.
#[test]
fn default_is_checked_against_the_grant_by_the_host_that_it_gets() {
    cluster_test(async |cluster| {
        let config = |own: &str, of_role: &str| {
            format!(
                "
defaults: {{identity: none}}
identities:
  - {{name: controller, namespaces: [dev], registries: ['{own}/*']}}
  - {{name: a, roleArn: {ROLE_A}, namespaces: [team-a], registries: ['{of_role}/*'], repositories: ['*']}}"
            )
        };
        cluster.request("dev", &format!("default,{A}")).await;
        cluster.request("team-a", "default").await;
        // Each identity serves the account of the other one.
        cluster.run_controller_configured(&config("222222222222", "123456789012")).await;
        let secret = cluster.wait_for_secret("dev").await;
        assert_eq!(hosts(&secret), [A], "the token names {HOST}, which is not granted");
        wait_for_event(cluster, "team-a", NOT_GRANTED, "serves default").await;
        assert!(cluster.secret("team-a").await.is_none());
        assert_eq!(cluster.aws.count("AssumeRole"), 0, "no session for a registry that is not granted");
        cluster.stop_controller().await;

        // Each serves its own.
        cluster.run_controller_configured(&config("123456789012", "222222222222")).await;
        for (namespace, host) in [("dev", HOST), ("team-a", A)] {
            let found = async || {
                let hosts = cluster.secret(namespace).await.map(|secret| hosts(&secret));
                hosts == Some(vec![host.to_owned()])
            };
            cluster.wait_until(&format!("{host} alone in {namespace}"), found).await;
        }
    });
}
