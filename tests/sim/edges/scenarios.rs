//! What happens around the controller, as data, and how a scenario runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ecr_pull_secrets::simulation::Clock;
use ecr_pull_secrets::simulation::core::leader_election::ElectionTiming;
use ecr_pull_secrets::simulation::core::plan::PullSecretRefs;
use ecr_pull_secrets::simulation::core::planted::{Bug, plant};
use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::core::testing;
use jiff::SignedDuration;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use super::call::Shape;
use super::oracles::Violation;
use super::process::{Aws, Process};
use super::rules::Rule;
use super::server::Server;
use crate::store::{Key, Kind, NamespaceObject, Object, annotation, namespace_key, secret_key};

/// Something that another client, AWS or the network does.
#[derive(Clone, Debug)]
pub enum Action {
    /// A namespace appears, or changes its annotations; the values are without prefix.
    Annotate(&'static str, &'static [(&'static str, &'static str)]),
    DeleteSecret(&'static str),
    /// The API server forgets old versions, so that watches end with 410 and list again.
    Compact,
    /// Open watches go silent; new ones are answered.
    Silence,
    AddRule(Rule),
    ClearRules,
    /// AWS throttles a region, or does not.
    Throttle(&'static str, bool),
    /// A process is stopped, as by SIGTERM.
    Stop(usize),
    /// A process is killed.
    Kill(usize),
}

/// How often the namespaces are checked, in seconds.
const CHECK: u64 = 10;

pub const REGISTRIES: &[(&str, &str)] = &[("registries", testing::HOST)];

#[derive(Clone)]
pub struct Scenario {
    pub minor: u32,
    pub elects: bool,
    /// Short by default, so that failovers are.
    pub election: ElectionTiming,
    pub processes: usize,
    /// The namespaces of the start, which opt in.
    pub namespaces: usize,
    pub latency: Duration,
    pub token_life: SignedDuration,
    pub rules: Vec<Rule>,
    /// What happens, by seconds since the start.
    pub actions: Vec<(u64, Action)>,
    pub length: Duration,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            minor: 36,
            elects: true,
            election: testing::settings().election,
            processes: 1,
            namespaces: 3,
            latency: Duration::from_millis(2),
            token_life: SignedDuration::from_hours(12),
            rules: vec![],
            actions: vec![],
            length: Duration::from_mins(10),
        }
    }
}

impl Scenario {
    /// An API server that does not stream lists.
    pub fn paged(self) -> Self {
        Self { minor: 33, ..self }
    }

    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    pub fn at(mut self, second: u64, action: Action) -> Self {
        self.actions.push((second, action));
        self
    }

    /// Runs on the paused clock, until an oracle reports something or the time is over.
    pub fn run(self) -> Result<Figures, Violation> {
        self.run_with(None)
    }

    /// The same with a planted bug.
    pub fn run_with(self, bug: Option<Bug>) -> Result<Figures, Violation> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        plant(bug);
        let result = LocalSet::new().block_on(&runtime.expect("a runtime"), self.execute());
        plant(None);
        result
    }

    async fn execute(self) -> Result<Figures, Violation> {
        let start = Instant::now();
        let settings = Settings { election: self.election, ..testing::settings() };
        let server = Server::new(Arc::new(settings), Clock::start());
        {
            let mut state = server.state();
            (state.minor, state.latency, state.rules) = (self.minor, self.latency, self.rules.clone());
        }
        for n in 0..self.namespaces {
            annotate(&server, &format!("team-{n}"), REGISTRIES);
        }
        let aws = Aws { server: server.clone(), life: self.token_life, failing: Mutex::new(BTreeSet::new()) };
        let aws = Arc::new(aws);
        let start_one = |n: usize| Some(Process::start(&server, &aws, &format!("process-{n}"), self.elects));
        let mut processes: Vec<_> = (0..self.processes).map(start_one).collect();
        let mut actions = self.actions.iter().peekable();
        for second in 0..=self.length.as_secs() {
            sleep_until(start + Duration::from_secs(second)).await;
            while let Some((_, action)) = actions.next_if(|(at, _)| *at <= second) {
                act(&server, &aws, &mut processes, action).await;
            }
            let mut state = server.state();
            state.check_requests();
            if second % CHECK == 0 {
                state.check_namespaces();
            }
            if let Some(violation) = state.oracles.violation.clone() {
                return Err(violation);
            }
        }
        Ok(figures(&server))
    }
}

/// What a run without a violation did.
#[derive(Debug)]
pub struct Figures {
    pub requests: u64,
    pub shapes: BTreeSet<Shape>,
    pub tokens: usize,
    /// The versions of the Secrets, by namespace: one that was written again has grown.
    pub secrets: BTreeMap<String, u64>,
    pub events: usize,
}

fn figures(server: &Server) -> Figures {
    let state = server.state();
    let secrets = state.store.secrets().map(|(key, secret)| (key.namespace.to_string(), secret.version));
    Figures {
        requests: state.requests,
        shapes: state.seen.clone(),
        tokens: state.tokens.len(),
        secrets: secrets.collect(),
        events: state.events.len(),
    }
}

fn annotate(server: &Server, namespace: &str, annotations: &[(&str, &str)]) {
    let found = server.state().store.namespace(namespace).cloned();
    if found.is_none() {
        let key = Key { kind: Kind::ServiceAccount, namespace: namespace.into(), name: "default".into() };
        let refs = PullSecretRefs { resource_version: 0, references: vec![], attached: vec![] };
        server.put(&key, Some(Object::ServiceAccount(refs)));
    }
    let uid = format!("namespace-{namespace}");
    let mut object = found.unwrap_or(NamespaceObject { uid, ..NamespaceObject::default() });
    object.annotations = annotations.iter().map(|(key, value)| (annotation(key), (*value).into())).collect();
    server.put(&namespace_key(namespace), Some(Object::Namespace(object)));
}

async fn act(server: &Server, aws: &Arc<Aws>, processes: &mut [Option<Process>], action: &Action) {
    match action {
        Action::Annotate(namespace, annotations) => annotate(server, namespace, annotations),
        Action::DeleteSecret(namespace) => server.put(&secret_key(namespace, "ecr-pull"), None),
        Action::Compact => {
            let mut state = server.state();
            state.oldest = state.store.next_version();
            state.end_watches();
        }
        Action::Silence => server.state().silence_watches(),
        Action::AddRule(rule) => server.state().rules.push(rule.clone()),
        Action::ClearRules => server.state().rules.clear(),
        Action::Throttle(region, throttles) => {
            let mut failing = aws.failing.lock().expect("no panic");
            if *throttles {
                failing.insert((*region).to_owned())
            } else {
                failing.remove(*region)
            };
        }
        Action::Stop(n) => {
            if let Some(process) = processes[*n].take() {
                process.stop().await;
            }
        }
        Action::Kill(n) => processes[*n] = None,
    }
}
