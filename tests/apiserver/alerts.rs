//! A real Prometheus scrapes the controller, with the rules of the chart. Each alert fires when its fault is made, and clears
//! after it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testing::aws::{Behaviour, Fault};
use testing::compromised_credential::outcome;
use testing::prometheus::Prometheus;
use testing::tenants::{INSTANCE, NAME, REGISTRIES};
use testing::tools;
use tokio::time::sleep;

use crate::harness::{TestCluster, cluster_test};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/ecr-pull-secrets");
const DASHBOARD: &str = include_str!("../../charts/ecr-pull-secrets/files/dashboard.json");

/// The lifetime of a token; with the defaults a Secret has 16 s left when it is renewed.
const LIFETIME: Duration = Duration::from_secs(40);

/// How long an alert may take to fire or to clear: the controller retries after up to a minute.
const PATIENCE: Duration = Duration::from_secs(150);

/// Times of the rules, and those for tokens of 40 s.
const SCALE: [(&str, &str); 5] =
    [("< 10800", "< 8"), ("> 1800", "> 15"), ("[10m]", "[10s]"), ("[5m]", "[10s]"), ("[1h]", "[20s]")];

/// The rules of the chart, in seconds instead of minutes and hours.
async fn rules() -> Value {
    let args = ["template", INSTANCE, CHART, "--namespace", INSTANCE, "--set", "prometheusRule.enabled=true"];
    let text =
        tools::run("helm", &[&args[..], &["--show-only", "templates/prometheusrule.yaml"]].concat(), &[])
            .await;
    let object: Value = serde_saphyr::from_str(&text.expect("the chart renders")).expect("YAML");
    let mut spec = object["spec"].clone();
    for rule in spec["groups"][0]["rules"].as_array_mut().expect("rules") {
        let expression = rule["expr"].as_str().expect("an expression").to_owned();
        let scale = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
        rule["expr"] = SCALE.iter().fold(expression, scale).into();
        rule["for"] = "3s".into();
    }
    spec
}

struct Monitoring(Prometheus);

impl Monitoring {
    async fn start() -> Self {
        Self(Prometheus::start(&rules().await).await)
    }

    /// Scrapes these controllers, with the labels that a `ServiceMonitor` of the chart gives them.
    async fn scrape(&mut self, cluster: &TestCluster, names: &[&str]) {
        let target = |name: &&str| {
            let page = cluster.candidate(name).page("");
            let address = page.strip_prefix("http://").expect("a URL").to_owned();
            (address, json!({"namespace": INSTANCE, "job": INSTANCE, "pod": name}))
        };
        self.0.scrape(&names.iter().map(target).collect::<Vec<_>>());
        // Counters are at 0 before the fault.
        #[allow(clippy::cast_precision_loss)]
        let all = [names.len() as f64];
        let scraped = async || self.0.query("count(ecr_pull_secrets_build_info)").await == all;
        cluster.wait_until("a scrape of each target", scraped).await;
    }

    async fn wait(&self, what: &str, condition: impl Fn(&BTreeSet<String>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let firing = self.0.firing().await;
            if condition(&firing) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: firing are {firing:?}");
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn fires(&self, alert: &str) {
        let alert = format!("EcrPullSecrets{alert}");
        self.wait(&alert, |firing| firing.contains(&alert)).await;
    }

    async fn clears(&self) {
        self.wait("all alerts clear", BTreeSet::is_empty).await;
    }

    /// Waits until no alert has fired for this time. On a machine under load, scrapes may fail for seconds, and a namespace that
    /// waits then counts as waiting until the next one.
    async fn is_quiet(&self, time: Duration) {
        let deadline = Instant::now() + PATIENCE;
        let mut since = Instant::now();
        while since.elapsed() < time {
            let mut firing = self.0.firing().await;
            firing.remove("EcrPullSecretsAbsent");
            if !firing.is_empty() {
                assert!(Instant::now() < deadline, "firing are {firing:?}");
                since = Instant::now();
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

#[test]
fn while_aws_denies_every_request_alerts_follow_the_secret_to_its_end() {
    cluster_test(async |cluster| {
        cluster.aws.set(Behaviour::living(LIFETIME));
        cluster.run_controller().await;
        let mut monitoring = Monitoring::start().await;
        monitoring.scrape(cluster, &["controller"]).await;
        monitoring.clears().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        monitoring.is_quiet(LIFETIME).await;
        monitoring.0.wait_until_complete(DASHBOARD, INSTANCE).await;

        cluster.aws.set(Behaviour::failing(Fault::AccessDenied));
        cluster.annotate("team-b", &[(REGISTRIES, Some(OTHER))]).await;
        for alert in ["TokenRequestsFail", "Pending", "RenewalOverdue", "ExpireSoon", "Expired", "SyncStale"]
        {
            monitoring.fires(alert).await;
        }
        cluster.aws.set(Behaviour::default());
        monitoring.clears().await;
    });
}

/// Without a token in the cache.
const OTHER: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";

#[test]
fn alerts_tell_whether_one_controller_leads() {
    cluster_test(async |cluster| {
        cluster.spawn_candidate("first");
        cluster.wait_until_leader("first").await;
        cluster.spawn_candidate("second");
        let mut monitoring = Monitoring::start().await;
        monitoring.fires("Absent").await;
        monitoring.scrape(cluster, &["first", "second"]).await;
        monitoring.clears().await;

        let leases: Api<Lease> = cluster.api(INSTANCE);
        let other = json!({"spec": {"holderIdentity": "other", "leaseDurationSeconds": 3600}});
        leases.patch(INSTANCE, &PatchParams::default(), &Patch::Merge(other)).await.expect("the admin may");
        monitoring.fires("NoLeader").await;
        leases.delete(INSTANCE, &DeleteParams::default()).await.expect("the admin may");
        monitoring.clears().await;

        cluster.start_controller("third", &[]);
        monitoring.scrape(cluster, &["first", "second", "third"]).await;
        monitoring.fires("TwoLeaders").await;
        cluster.stop("third").await;
        monitoring.scrape(cluster, &["first", "second"]).await;
        monitoring.clears().await;
    });
}

const DENY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-secrets}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], resources: [secrets], operations: [CREATE]}]}
  validations: [{expression: "false", message: no secrets here}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-secrets}
spec: {policyName: no-secrets, validationActions: [Deny]}
"#;

/// A configuration that opts namespaces in.
fn including(namespaces: &str) -> String {
    format!("defaults: {{registries: [{OTHER}]}}\nnamespaces: {{include: [{namespaces}]}}\n")
}

#[test]
fn alerts_tell_what_the_api_server_and_other_clients_do() {
    cluster_test(async |cluster| {
        for n in 0..12 {
            cluster.annotate(&format!("app-{n}"), &[]).await;
        }
        cluster.run_controller_configured(&including("'app-*'")).await;
        cluster.wait_for_secrets(12).await;
        let mut monitoring = Monitoring::start().await;
        monitoring.scrape(cluster, &["controller"]).await;
        monitoring.clears().await;

        for n in 0..6 {
            cluster.edit(&format!("app-{n}"), json!({"data": {".dockerconfigjson": "e30="}})).await;
        }
        monitoring.fires("RepairLoop").await;
        cluster.annotate("foreign", &[]).await;
        let _: Secret = cluster.create("foreign", json!({"metadata": {"name": NAME}})).await;
        cluster.control_plane.apply(DENY).await;
        // The API server applies a new policy after some time.
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let secret = serde_json::from_value(json!({"metadata": {"name": "x"}})).expect("a Secret");
        let secrets = cluster.secrets("default");
        let denied = async || outcome(secrets.create(&dry, &secret).await).contains("no secrets here");
        cluster.wait_until("creations are denied", denied).await;
        for namespace in ["denied", "foreign"] {
            cluster.opt_in(namespace).await;
        }
        for alert in ["WritesFail", "Blocked"] {
            monitoring.fires(alert).await;
        }
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.admin.clone());
        bindings.delete("no-secrets", &DeleteParams::default()).await.expect("the admin may");
        cluster.api::<Secret>("foreign").delete(NAME, &DeleteParams::default()).await.expect("the admin may");
        monitoring.clears().await;

        cluster.control_plane.stop_apiserver().await;
        monitoring.fires("ApiErrors").await;
        cluster.control_plane.start_apiserver().await;
        monitoring.clears().await;

        cluster.stop_controller().await;
        cluster.run_controller_configured(&including("")).await;
        monitoring.scrape(cluster, &["controller"]).await;
        monitoring.fires("RemovalsHeld").await;
        cluster.stop_controller().await;
        cluster.run_controller_configured(&including("'app-*'")).await;
        monitoring.scrape(cluster, &["controller"]).await;
        monitoring.clears().await;
    });
}

/// The alerts that the tests above make fire.
#[tokio::test]
async fn every_alert_is_made_to_fire() {
    let source = include_str!("alerts.rs");
    for rule in rules().await["groups"][0]["rules"].as_array().expect("rules") {
        let alert = rule["alert"].as_str().expect("a name").trim_start_matches("EcrPullSecrets");
        let code = source.split("fn every_alert_is_made_to_fire").next().unwrap_or_default();
        assert!(code.contains(&format!(r#""{alert}""#)), "{alert}");
    }
}
