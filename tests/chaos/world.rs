//! One test's cluster, proxy, controllers and oracles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use testing::control_plane::{AuditEntry, Builder, ControlPlane};
use testing::fault_proxy::FaultProxy;
use testing::tenants::USER;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{TestCluster, cluster_test_on};
use crate::observer::{Addresses, Looks, Observer, Sources, lock};
use crate::oracles::{Limits, Oracle, Report, Violation};

/// What a scenario acts on.
pub struct World<'a> {
    pub cluster: &'a mut TestCluster,
    pub proxy: Arc<FaultProxy>,
    addresses: Addresses,
    report: Report,
    limits: Limits,
    observer: Option<Observer>,
}

/// Runs a scenario and returns what the oracles reported.
pub fn violations(
    control_plane: Builder,
    scenario: impl AsyncFnOnce(&mut World<'_>),
) -> Option<Vec<Violation>> {
    let mut found = None;
    // The controllers use it until the end of the test.
    let mut kept = None;
    cluster_test_on(control_plane, async |cluster| {
        let proxy = Arc::new(FaultProxy::start(&cluster.control_plane));
        kept = Some(proxy.clone());
        cluster.kubeconfig = proxy.kubeconfig(&cluster.kubeconfig);
        let mut world = World {
            cluster,
            proxy,
            addresses: Addresses::default(),
            report: Report::default(),
            limits: Limits::default(),
            observer: None,
        };
        scenario(&mut world).await;
        world.inspect().await;
        found = Some(world.report.all());
        // Otherwise the controllers could not release the Lease.
        world.proxy.clear();
        world.cluster.aws.reset();
    });
    drop(kept);
    found
}

/// The control plane of most scenarios.
pub fn plain() -> Builder {
    ControlPlane::builder()
}

impl World<'_> {
    /// Starts the readers with these limits.
    pub fn observe(&mut self, limits: Limits) {
        self.limits = limits;
        self.observer = Some(Observer::start(&Sources {
            admin: self.cluster.admin.clone(),
            proxy: self.proxy.clone(),
            addresses: self.addresses.clone(),
            report: self.report.clone(),
            limits,
        }));
    }

    /// Starts the readers with the usual limits, except for a missing Secret.
    pub fn observe_missing(&mut self, seconds: u64) {
        self.observe(Limits { missing: Duration::from_secs(seconds), ..Limits::default() });
    }

    /// What the readers looked at so far.
    pub fn looks(&self) -> Looks {
        self.observer.as_ref().map(Observer::looks).unwrap_or_default()
    }

    /// Whether the metrics of the leader agreed with the cluster at the last visit.
    pub fn belief_is_right(&self) -> bool {
        self.observer.as_ref().is_some_and(Observer::belief_is_right)
    }

    /// Starts a controller.
    pub fn spawn(&mut self, name: &str, flags: &[&str]) {
        self.cluster.start_controller(name, flags);
        self.resume_visits(name);
    }

    /// Starts a controller and waits until it is ready.
    pub async fn start(&mut self, name: &str, flags: &[&str]) {
        self.spawn(name, flags);
        let cluster = &*self.cluster;
        let ready = async || cluster.candidate(name).probe("/readyz").await.0 == 200;
        cluster.wait_until(&format!("{name} is ready"), ready).await;
    }

    /// Ends a controller with SIGKILL.
    pub fn kill(&mut self, name: &str) {
        self.stop_visits(name);
        self.cluster.kill(name);
    }

    /// Ends a controller with SIGTERM.
    pub async fn stop(&mut self, name: &str) {
        self.stop_visits(name);
        self.cluster.stop(name).await;
    }

    /// From now on nothing is expected from the pages of this controller.
    pub fn stop_visits(&self, name: &str) {
        lock(&self.addresses).remove(name);
    }

    /// From now on the readers visit the pages of this controller.
    pub fn resume_visits(&self, name: &str) {
        lock(&self.addresses).insert(name.to_owned(), vec![self.address(name)]);
    }

    /// The address and the port of a controller's HTTP server.
    pub fn address(&self, name: &str) -> String {
        let url = self.cluster.candidate(name).page("");
        url.strip_prefix("http://").expect("a URL of HTTP").to_owned()
    }

    /// Probes a controller at one more address.
    pub fn also_probe(&self, name: &str, address: &str) {
        lock(&self.addresses).entry(name.to_owned()).or_default().push(address.to_owned());
    }

    pub fn report(&self, oracle: Oracle, subject: &str, text: impl FnOnce() -> String) {
        self.report.add(oracle, subject, text);
    }

    /// Lets the readers look for so many seconds, or until there is nothing more to see.
    pub async fn watch_for(&self, seconds: u64) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < deadline && !self.is_decided() {
            self.inspect().await;
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn is_decided(&self) -> bool {
        !self.report.all().is_empty()
    }

    /// Asks the oracles about the audit log and the Events.
    pub async fn inspect(&self) {
        let repairs = self.reported_repairs().await;
        // After the list of Events, so that it has the writes before each of them.
        let audit = self.cluster.control_plane.audit();
        self.count_writes(&audit);
        self.look_for_false_alarms(repairs, &audit);
    }

    fn count_writes(&self, audit: &[AuditEntry]) {
        const PERIOD: i64 = 10 * 60;
        let mut writes: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        for entry in audit.iter().filter(|entry| is_write(entry) && entry.user == USER) {
            writes.entry(object(entry)).or_default().push(entry.stage_timestamp);
        }
        for (object, times) in writes {
            let most = self.limits.writes;
            let many = |window: &[Timestamp]| window[most].as_second() - window[0].as_second() < PERIOD;
            if times.windows(most + 1).any(many) {
                let text = || format!("{object} was written more than {most} times in ten minutes");
                self.report(Oracle::Writes, &object, text);
            }
        }
    }

    /// The writes of a Secret, for a person who looks for the cause of a violation.
    pub fn writes_of(&self, secret: &str) -> Vec<String> {
        let audit = self.cluster.control_plane.audit();
        let writes = audit.iter().filter(|entry| is_write(entry) && object(entry) == secret);
        writes
            .map(|it| format!("{} {} {} by {}", it.stage_timestamp, it.verb, it.code, it.user_agent))
            .collect()
    }

    pub fn violations(&self) -> Vec<Violation> {
        self.report.all()
    }

    /// The Events about repairs; none if the API server does not reply.
    async fn reported_repairs(&self) -> Vec<Event> {
        let events: Api<Event> = Api::all(self.cluster.admin.clone());
        let repaired = ListParams::default().fields("reason=SecretRepaired");
        match timeout(Duration::from_secs(2), events.list(&repaired)).await {
            Ok(Ok(events)) => events.items,
            _ => vec![],
        }
    }

    fn look_for_false_alarms(&self, repairs: Vec<Event>, audit: &[AuditEntry]) {
        for event in repairs {
            let namespace = event.metadata.namespace.unwrap_or_default();
            let foreign = |entry: &AuditEntry| {
                let here = entry.namespace.as_ref() == Some(&namespace);
                here && is_write(entry) && entry.user != USER
            };
            if !audit.iter().any(foreign) {
                let message = event.message.unwrap_or_default();
                let text = || format!("{namespace}: {message:?}, but no other client wrote the Secret");
                self.report(Oracle::FalseAlarm, &namespace, text);
            }
        }
    }
}

fn is_write(entry: &AuditEntry) -> bool {
    entry.resource == "secrets" && ["create", "update", "patch", "delete"].contains(&entry.verb.as_str())
}

fn object(entry: &AuditEntry) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&entry.namespace), part(&entry.name))
}
