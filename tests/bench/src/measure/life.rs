//! The memory and the work of two controllers with leader election, from their start on.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use testing::tenants::{HOST, REGISTRIES};
use tokio::time::sleep;

use crate::audit::Log;
use crate::figures::{Life, Stage, Work};
use crate::program::Program;
use crate::world::{SETTLE, World};

/// Renewals are as fast as the API server allows, which needs more memory than the default rate.
/// The standby must not take over while the API server is restarted.
const COMMON: &str = "refresh: {at: 0.1, jitter: 0, writesPerSecond: 1000, tokensPerSecond: 1000}
leaderElection: {leaseDuration: 60s, renewDeadline: 50s, retryPeriod: 2s}
";
const LIVES_PER_PERIOD: u32 = 10;
const REFRESHES: usize = 3;
const ACCOUNTS: [&str; 3] = ["default", "builder", "deployer"];
const SERVICE_ACCOUNTS: &str = "ecr-pull-secrets.dev/service-accounts";
/// Longer than a watch stays open, so that each watch is in the audit log.
const WATCH_ENDS: Duration = Duration::from_secs(40);
const LEADER: &str = "leader";
const STANDBY: &str = "standby";

/// A configuration, and what the namespaces request.
pub struct Variant {
    pub name: &'static str,
    configuration: String,
    own_tokens: bool,
    service_accounts: bool,
}

pub fn variants() -> Vec<Variant> {
    let own = format!(
        "{COMMON}defaults: {{identity: none}}\nidentities: [{{name: team, \
         roleArn: 'arn:aws:iam::123456789012:role/ecr-pull', namespaces: ['team-*'], registries: ['*'], \
         repositories: ['{{namespace}}/*']}}]\n"
    );
    vec![
        Variant {
            name: "one token",
            configuration: COMMON.to_owned(),
            own_tokens: false,
            service_accounts: false,
        },
        Variant {
            name: "one token for each namespace",
            configuration: own,
            own_tokens: true,
            service_accounts: false,
        },
        Variant {
            name: "one token, three service accounts in each namespace",
            configuration: format!("{COMMON}serviceAccounts: {{enabled: true}}\n"),
            own_tokens: false,
            service_accounts: true,
        },
    ]
}

/// Both processes.
struct Pair {
    leader: Program,
    standby: Program,
    stages: Vec<Stage>,
}

impl Pair {
    async fn start(world: &World, variant: &Variant) -> Self {
        let leader = world.controller(LEADER, &variant.configuration);
        leader.ready().await;
        while !leader.leads().await {
            sleep(Duration::from_millis(100)).await;
        }
        let standby = world.controller(STANDBY, &variant.configuration);
        standby.ready().await;
        Self { leader, standby, stages: vec![] }
    }

    /// Reads the memory of both.
    async fn stage(&mut self, name: &str) {
        sleep(SETTLE).await;
        let (leader, standby) = (self.leader.memory(), self.standby.memory());
        self.stages.push(Stage { name: name.to_owned(), leader, standby });
    }
}

pub async fn measure(world: &mut World, variant: &Variant) -> Life {
    let namespaces = world.namespaces;
    let accounts = if variant.service_accounts { ACCOUNTS.len() * namespaces } else { 0 };
    let annotations = request(variant);
    // The Secrets and the namespaces of earlier phases.
    world.annotate_teams(&opted_out()).await;
    world.delete_secrets().await;
    if variant.service_accounts {
        for name in ACCOUNTS {
            world.for_teams(|admin, team| admin.create_service_account(team, name)).await;
        }
    }
    let period = Duration::from_secs((namespaces / 100) as u64 + 45);
    world.token_life(period * LIVES_PER_PERIOD);

    let mut pair = Pair::start(world, variant).await;
    pair.stage("start").await;
    let mut measuring = world.begin(&pair.leader);
    world.annotate_teams(&annotations).await;
    world.wait_for(&mut measuring.log, "the cold sync", |log| is_synced(log, namespaces, accounts)).await;
    world.wait_until_quiet().await;
    let (cold_sync, _) = measuring.end(world, &pair.leader, LEADER);
    pair.stage("cold sync").await;
    let mut refreshes = vec![];
    for number in 1..=REFRESHES {
        if number == REFRESHES {
            // No refresh follows, which would overlap with the next stages.
            world.token_life(Duration::from_hours(12));
        }
        refreshes.push(refresh(world, &pair, namespaces).await);
        pair.stage(&format!("refresh {number}")).await;
    }
    let restored = relist(world).await;
    pair.stage("forced relist").await;
    let churn = churn(world, &pair, &annotations, accounts).await;
    pair.stage("churn").await;
    sleep(WATCH_ENDS).await;
    let mut log = Log::default();
    log.read(&world.control_plane);
    assert!(pair.leader.leads().await, "the standby took over");
    let relisted = lists_since(&log, restored);
    assert!(
        relisted >= 2,
        "the controller did not list Namespaces and Secrets again; {}",
        pair.leader.log_tail()
    );
    pair.standby.stop().await;
    pair.leader.stop().await;
    let (name, own_tokens) = (variant.name.to_owned(), variant.own_tokens);
    Life { name, own_tokens, stages: pair.stages, cold_sync, refreshes, churn, relisted }
}

fn request(variant: &Variant) -> Value {
    let accounts = if variant.service_accounts { json!("*") } else { Value::Null };
    json!({ REGISTRIES: HOST, SERVICE_ACCOUNTS: accounts })
}

fn opted_out() -> Value {
    json!({ REGISTRIES: null, SERVICE_ACCOUNTS: null })
}

fn is_synced(log: &Log, secrets: usize, accounts: usize) -> bool {
    let changed = log.requests("").get("patch serviceaccounts").copied().unwrap_or_default();
    log.writes().count() >= secrets && changed >= accounts as u64
}

/// Waits for one write of each Secret.
async fn refresh(world: &World, pair: &Pair, namespaces: usize) -> Work {
    let mut measuring = world.begin(&pair.leader);
    world.wait_for_writes(&mut measuring.log, namespaces).await;
    measuring.end(world, &pair.leader, LEADER).0
}

/// Sets etcd back by some seconds, after which the controllers list everything again. Returns when it was set back.
async fn relist(world: &mut World) -> Timestamp {
    world.control_plane.save_storage().await;
    // The Lease is renewed, so that its version goes back.
    sleep(Duration::from_secs(6)).await;
    let restored = Timestamp::now();
    world.control_plane.restore_storage().await;
    sleep(Duration::from_secs(10)).await;
    restored
}

/// All namespaces opt out, and in again.
async fn churn(world: &World, pair: &Pair, annotations: &Value, accounts: usize) -> Work {
    let measuring = world.begin(&pair.leader);
    let namespaces = world.namespaces;
    world.annotate_teams(&opted_out()).await;
    while !world.secrets().await.is_empty() {
        sleep(Duration::from_secs(1)).await;
    }
    let mut log = world.log();
    world.annotate_teams(annotations).await;
    world.wait_for(&mut log, "the Secrets after the churn", |log| is_synced(log, namespaces, accounts)).await;
    world.wait_until_quiet().await;
    measuring.end(world, &pair.leader, LEADER).0
}

/// Lists and streamed lists of the first controller since this time.
fn lists_since(log: &Log, time: Timestamp) -> usize {
    let lists = |entry: &&testing::control_plane::AuditEntry| {
        let begins = entry.uri.contains("sendInitialEvents=true")
            || (entry.verb == "list" && !entry.uri.contains("continue="));
        begins
            && entry.code < 300
            && entry.received >= time
            && entry.user_agent.contains(&format!("({LEADER}_"))
    };
    log.entries.iter().filter(lists).count()
}
