//! `check`: green on a sound setup, in the cluster and from a laptop, and the remedy of each planted fault.

mod adoption;
mod single_namespace;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testing::aws::{Behaviour, Fault, Operation};
use testing::compromised_credential::{TYPE, outcome, secret};
use testing::proxy::Proxy;
use testing::registry::Registry;
use testing::tenants::{HOST, INSTANCE, NAME};

use crate::harness::{RBAC, TestCluster, cluster_test};
use crate::users::{Output, User};

const POLICY: &str = include_str!("../../deploy/admission-policy.yaml");
const PASSWORD: &str = "the password of the registry of this test";

/// A registry behind a proxy, under the host name of ECR, that accepts the tokens of the stub.
struct Ecr {
    registry: Registry,
    proxy: Proxy,
}

impl Ecr {
    async fn start(cluster: &TestCluster) -> Self {
        let registry = Registry::start(PASSWORD).await;
        cluster.aws.set(Behaviour { password: Some(PASSWORD.to_owned()), ..Behaviour::default() });
        let proxy = Proxy::start(&cluster.aws).await;
        proxy.route(HOST, SocketAddr::from((Ipv4Addr::LOCALHOST, registry.port())));
        Self { registry, proxy }
    }

    /// The environment of a user, whose requests to the registry reach this one.
    fn env(&self, user: &mut User) {
        let ca = self.registry.ca_file().display().to_string();
        let all =
            [("HTTPS_PROXY", self.proxy.url()), ("SSL_CERT_FILE", ca), ("NO_PROXY", "127.0.0.1".to_owned())];
        user.env.extend(all.map(|(name, value)| (name.to_owned(), value)));
    }
}

/// Installs everything that a sound setup has, and starts the controller.
async fn install(cluster: &mut TestCluster) {
    cluster.control_plane.apply(POLICY).await;
    // `default` did not opt in. A policy takes effect some time after it was created.
    let secrets: Api<Secret> = Api::namespaced(cluster.own_client().await, "default");
    let dry_run = PatchParams { dry_run: true, force: true, ..PatchParams::apply("ecr-pull-secrets") };
    let own = Patch::Apply(secret(NAME, TYPE, INSTANCE));
    let in_force = async || outcome(secrets.patch(NAME, &dry_run, &own).await).starts_with("policy");
    cluster.wait_until("the policy is in force", in_force).await;
    // `check` reports a Lease whose renewal is late.
    let election = "leaderElection: {leaseDuration: 60s, renewDeadline: 40s, retryPeriod: 2s}";
    cluster.spawn_candidate_with("controller", election);
    cluster.wait_until_leader("controller").await;
    cluster.opt_in("team-a").await;
    cluster.wait_for_secret("team-a").await;
}

/// The findings with this outcome, as `CATEGORY: MESSAGE (REMEDY)`.
fn findings(output: &Output, outcome: &str) -> Vec<String> {
    let result = output.json();
    let all =
        result["findings"].as_array().cloned().unwrap_or_else(|| panic!("no findings: {}", output.text));
    let text = |finding: &Value| {
        let part = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let remedy = finding["hint"]["remedy"].as_str().unwrap_or_default();
        format!("{}: {} ({remedy})", part("category"), part("message"))
    };
    all.iter().filter(|finding| finding["outcome"] == outcome).map(text).collect()
}

#[test]
fn a_sound_setup_is_green_in_the_cluster_and_from_a_laptop() {
    cluster_test(async |cluster| {
        let ecr = Ecr::start(cluster).await;
        install(cluster).await;
        for mut user in [User::controller(cluster), User::admin(cluster)] {
            ecr.env(&mut user);
            let output = user.run(cluster, &["check", "-o", "json"]).await;
            assert_eq!(output.code, Some(0), "{}: {}", user.name, output.text);
            assert_eq!(output.json()["success"], true);
            assert_eq!(findings(&output, "warning"), [""; 0], "{}", user.name);
            let passed = findings(&output, "ok").join("\n");
            for category in [
                "configuration:",
                "region: eu-central-1",
                "api-server:",
                "rights:",
                "admission-policy:",
                "lease: \"controller_",
                "clock: AWS",
                "clock: the API server",
                "aws-identity: AWS is called as arn:aws",
                "tokens: eu-central-1",
                &format!("registries: {HOST}"),
                "namespaces: 1 of 1 namespace ready",
            ] {
                assert!(passed.contains(category), "{}: {category} is missing in {passed}", user.name);
            }
        }
        let mut user = User::admin(cluster);
        ecr.env(&mut user);
        let text = user.run(cluster, &["check"]).await.text;
        assert!(text.contains("lease\n-----\n√ ") && text.contains("All checks passed."), "{text}");
        let short = user.run(cluster, &["check", "-o", "short"]).await;
        assert_eq!((short.code, short.text.as_str()), (Some(0), ""));
        assert_eq!(cluster.all_secrets().await.len(), 1, "the dry run stored nothing");
    });
}

/// Repeats the check until one finding of this outcome contains the texts: the API server learns of changed rights by a
/// watch.
async fn assert_finds(cluster: &TestCluster, user: &User, args: &[&str], outcome: &str, texts: &[&str]) {
    let args = [&["check", "-o", "json"], args].concat();
    let has = |finding: &String| texts.iter().all(|text| finding.contains(text));
    let check = async || {
        let output = user.run(cluster, &args).await;
        let found = findings(&output, outcome);
        let is_found = found.iter().any(has);
        if !is_found {
            println!("{texts:?} is not in {found:?}");
        }
        is_found.then_some(output)
    };
    let output = cluster.wait_for(&format!("{texts:?}"), check).await;
    assert_eq!(output.code, Some(i32::from(!findings(&output, "failed").is_empty())));
}

#[test]
fn faults_of_the_cluster_are_found_with_their_remedy() {
    cluster_test(async |cluster| {
        let ecr = Ecr::start(cluster).await;
        let mut user = User::controller(cluster);
        ecr.env(&mut user);
        let mut admin = User::admin(cluster);
        ecr.env(&mut admin);
        // Nothing but the rights is installed.
        assert_finds(cluster, &user, &[], "failed", &["lease: there is no Lease"]).await;
        let accepted = ["admission-policy:", "was accepted (dry run)", "deploy/admission-policy.yaml"];
        assert_finds(cluster, &user, &[], "failed", &accepted).await;
        let none = ["admission-policy: no ValidatingAdmissionPolicy", "deploy/admission-policy.yaml"];
        assert_finds(cluster, &admin, &[], "failed", &none).await;

        let unbound = POLICY.replace("validationActions: [Deny, Audit]", "validationActions: [Audit]");
        cluster.control_plane.apply(&unbound).await;
        assert_finds(cluster, &admin, &[], "failed", &["does not deny", "validationActions"]).await;
        cluster.control_plane.apply(POLICY).await;
        let wait = async || {
            let output = user.run(cluster, &["check", "-o", "json"]).await;
            findings(&output, "ok").iter().any(|finding| finding.contains("was denied by a policy (dry run)"))
        };
        cluster.wait_until("the policy is effective", wait).await;

        let names = cluster.config("secretNames: [ecr-pull, second]");
        let args = ["--config", &*names];
        assert_finds(cluster, &admin, &args, "failed", &["does not allow the secrets named second"]).await;
        assert_finds(
            cluster,
            &user,
            &args,
            "failed",
            &["may not", "secrets named \"second\"", "deploy/rbac.yaml"],
        )
        .await;

        let wide = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "wide"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}],
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "wide"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wide"},
            "subjects": [{"kind": "ServiceAccount", "name": INSTANCE, "namespace": INSTANCE}],
        });
        cluster.control_plane.apply(&wide.to_string()).await;
        cluster.control_plane.apply(&binding.to_string()).await;
        for user in [&user, &admin] {
            let texts = ["it may get secrets named \"another-secret\"", "clusterrolebindings"];
            assert_finds(cluster, user, &[], "failed", &texts).await;
        }
        let less = RBAC.replace("verbs: [create, patch]", "verbs: [create]");
        assert_ne!(less, RBAC);
        cluster.control_plane.apply(&less).await;
        assert_finds(cluster, &admin, &[], "failed", &["may not patch events"]).await;
        let elsewhere = ["--service-account", "missing"];
        assert_finds(cluster, &admin, &elsewhere, "failed", &["ecr-pull-secrets:missing does not exist"])
            .await;

        cluster.request("bad", "nonsense").await;
        assert_finds(cluster, &user, &[], "failed", &["namespaces: bad is Blocked", "\"nonsense\""]).await;
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": INSTANCE, "namespace": INSTANCE},
            "spec": {"holderIdentity": "gone", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"},
        });
        cluster.control_plane.apply(&lease.to_string()).await;
        assert_finds(cluster, &user, &[], "failed", &["\"gone\" has not renewed the Lease since"]).await;
    });
}

#[test]
fn faults_of_aws_and_of_registries_are_found_with_their_remedy() {
    cluster_test(async |cluster| {
        let ecr = Ecr::start(cluster).await;
        let mut user = User::controller(cluster);
        ecr.env(&mut user);
        let password = || Some(PASSWORD.to_owned());
        let denied = Behaviour::failing(Fault::AccessDenied);
        cluster.aws.set_for(Operation::GetAuthorizationToken, denied.clone());
        assert_finds(
            cluster,
            &user,
            &[],
            "failed",
            &["tokens:", "AccessDenied", "allow ecr:GetAuthorizationToken"],
        )
        .await;
        cluster.aws.reset();
        cluster.aws.set(Behaviour { date_skew: 1_000, password: password(), ..Behaviour::default() });
        assert_finds(cluster, &user, &[], "failed", &["clock: AWS's clock differs", "NTP"]).await;
        cluster.aws.set(Behaviour { date_skew: 1_000, ..Behaviour::failing(Fault::SignatureExpired) });
        assert_finds(cluster, &user, &[], "failed", &["clock: AWS's clock differs", "NTP"]).await;
        cluster.aws.reset();
        cluster.aws.set(Behaviour {
            password: Some("not the password of the registry".to_owned()),
            ..Behaviour::default()
        });
        assert_finds(cluster, &user, &[], "failed", &["registries:", "HTTP 401", "denied the token"]).await;
        cluster.aws.set(Behaviour { password: password(), ..Behaviour::default() });
        let repository = ["--repository", "team-a/app"];
        assert_finds(
            cluster,
            &user,
            &repository,
            "failed",
            &["team-a/app, tags: HTTP 404", "does not exist"],
        )
        .await;

        let role = "arn:aws:iam::222222222222:role/pull";
        let config = cluster.config(&format!(
            "defaults: {{identity: none}}\nidentities: [{{name: own, roleArn: '{role}', namespaces: [team-*], \
             registries: [222222222222/*], repositories: ['*']}}]\n"
        ));
        let args = ["--config", &*config];
        cluster.aws.set_for_role(role, denied);
        assert_finds(cluster, &user, &args, "failed", &["identities:", role, "trust policy"]).await;
        cluster.aws.set_for_role(role, Behaviour::default());
        let passed = ["identities: identity \"own\" assumed arn:aws:iam::222222222222:role/pull"];
        assert_finds(cluster, &user, &args, "ok", &passed).await;
        // The proxy has another certificate for this host.
        assert_finds(cluster, &user, &args, "failed", &["registries: 222222222222.dkr", "SSL_CERT_FILE"])
            .await;

        let invalid = cluster.config("refresh: {at: 1.5}");
        let args = ["--config", &*invalid];
        assert_finds(cluster, &user, &args, "failed", &["configuration:", "refresh.at: 1.5"]).await;
        let with = |name: &str, value: &str| {
            let mut other = User::controller(cluster);
            ecr.env(&mut other);
            other.env.push((name.to_owned(), value.to_owned()));
            other
        };
        let nowhere = with("AWS_REGION", "nowhere");
        assert_finds(cluster, &nowhere, &[], "failed", &["region:", "\"nowhere\" is not an AWS region"])
            .await;
        let wrong = with("AWS_SECRET_ACCESS_KEY", "wrong");
        assert_finds(cluster, &wrong, &[], "failed", &["aws-identity:", "AWS returned"]).await;
        let mut lost = User::controller(cluster);
        lost.env.push(("HTTPS_PROXY".to_owned(), "http://127.0.0.1:9".to_owned()));
        assert_finds(cluster, &lost, &[], "failed", &["registries:", "port 443"]).await;
    });
}

#[test]
fn before_the_installation_it_reviews_the_rights_to_install() {
    cluster_test(async |cluster| {
        let ecr = Ecr::start(cluster).await;
        let mut admin = User::admin(cluster);
        ecr.env(&mut admin);
        let output = admin.run(cluster, &["check", "--pre", "-o", "json"]).await;
        assert_eq!(output.code, Some(0), "{}", output.text);
        let passed = findings(&output, "ok").join("\n");
        assert!(
            passed.contains("may create validatingadmissionpolicies") && !passed.contains("lease"),
            "{passed}"
        );
        let mut guest = User::with_roles(cluster, "guest", &[]).await;
        ecr.env(&mut guest);
        assert_finds(
            cluster,
            &guest,
            &["--pre"],
            "failed",
            &["may not create clusterroles", "administrator"],
        )
        .await;
    });
}

#[test]
fn wait_repeats_the_checks_until_none_fails() {
    cluster_test(async |cluster| {
        let ecr = Ecr::start(cluster).await;
        let mut user = User::controller(cluster);
        ecr.env(&mut user);
        let mut process = user.start(&["check", "--wait=5m"]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(process.exit_code(), None, "{}", process.log());
        install(cluster).await;
        assert_eq!(process.wait(Duration::from_mins(5)).await, Some(0), "{}", process.log());
    });
}

#[test]
fn without_an_api_server_it_ends_with_the_reason() {
    cluster_test(async |cluster| {
        let user = User::admin(cluster);
        let output = user.run(cluster, &["check", "-o", "short", "--context", "missing"]).await;
        assert_eq!(output.code, Some(1));
        assert!(
            output.text.contains("missing") && output.text.contains("check --kubeconfig"),
            "{}",
            output.text
        );
    });
}
