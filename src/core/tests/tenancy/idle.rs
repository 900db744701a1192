//! The plan after carrying out a plan is idle: over generated configurations, annotations, static entries, tokens and
//! earlier Secrets.

use std::mem;

use proptest::option::of;

use super::generators::*;
use super::*;
use crate::core::Now;
use crate::core::plan::Owner;
use crate::core::secret::{StaticGrant, StaticSource, Token};
use crate::core::testing::token;

/// The keys of static entries, and their sources.
const STATIC_HOSTS: [&str; 3] = ["docker.io", "ghcr.io", "https://index.docker.io/v1/"];
const SOURCES: [&str; 2] = ["hub", "mirror"];
/// The seconds of a token's life: shorter than it can be used, short, and ECR's own.
const LIVES: [i64; 4] = [1, 60, HOUR, 12 * HOUR];

/// The world while the controller works on the namespace, and what happened before.
#[derive(Clone, Debug)]
struct Stage {
    values: Values,
    is_valid: bool,
    /// The available tokens, by the index of the assignment: their lives in seconds, and their ages.
    tokens: Vec<Option<(i64, i64)>>,
    sources: StaticSources,
    withdrawal: Withdrawal,
    /// How many seconds have passed, and whether the process was restarted.
    later: i64,
    restarted: bool,
}

prop_compose! {
    fn any_sources()(
        sources in [of((0u64..3, subsequence(&STATIC_HOSTS[..], 0..=3))), of((0u64..3, subsequence(&STATIC_HOSTS[..], 0..=3)))],
    ) -> StaticSources {
        let credential = || token(at(0), HOUR).credential().clone();
        let source = |(version, hosts): (u64, Vec<&str>)| {
            let entries = hosts.into_iter().map(|host| (host.to_owned(), credential())).collect();
            StaticSource { version, entries, unreadable: [].into() }
        };
        let named = SOURCES.iter().zip(sources);
        named.filter_map(|(name, found)| Some(((*name).into(), source(found?)))).collect()
    }
}

prop_compose! {
    fn any_stage()(
        values in any_values(), is_valid in weighted(0.9, Just(())), withdrawal in any_withdrawal(),
        tokens in vec(weighted(0.8, (select(&LIVES[..]), 0i64..HOUR)), 1..=4), sources in any_sources(),
        later in select(vec![0, 1, HOUR, 6 * HOUR, 11 * HOUR, 30 * HOUR]), restarted in any::<bool>(),
    ) -> Stage {
        Stage { values, is_valid: is_valid.is_some(), tokens, sources, withdrawal, later, restarted }
    }
}

fn any_static_grants() -> impl Strategy<Value = Vec<StaticGrant>> {
    let grant = (select(&SOURCES[..]), some_of(&STATIC_HOSTS, 1..=3), some_of(&NAMESPACE_PATTERNS, 1..=3));
    let grant = grant.prop_map(|(secret, hosts, namespaces)| StaticGrant {
        secret: secret.into(),
        hosts,
        namespaces: namespaces.iter().map(|pattern| pattern.parse().expect("a pattern")).collect(),
    });
    vec(grant, 0..=3)
}

/// The objects of a namespace, and the history of the process.
#[derive(Default)]
struct World {
    secrets: Vec<(Arc<str>, Observed)>,
    history: History,
}

impl World {
    fn facts<'a>(&'a self, namespace: &'a str, parsed: &'a ParsedAnnotations, stage: &'a Stage) -> Facts<'a> {
        Facts {
            terminating: false,
            held: false,
            keeps_all: false,
            is_single_pass: false,
            namespace,
            parsed: Some(parsed),
            secrets: &self.secrets,
            service_accounts: &[],
            known_accounts: KnownAccounts::All,
            static_sources: &stage.sources,
            history: &self.history,
        }
    }

    /// Executes the step as the controller and the API server do. Returns whether anything changed.
    fn carry_out(
        &mut self,
        step: &Step,
        facts: (&str, &ParsedAnnotations, &Stage),
        settings: &Settings,
        now: Now,
    ) -> bool {
        match step {
            Step::Idle(_) | Step::SetPullSecret(_) | Step::ListServiceAccounts | Step::Replace(_) => false,
            Step::Delete(deletion) => {
                self.secrets.retain(|(name, _)| *name != deletion.name);
                self.history.record_deletion(&deletion.name, now);
                true
            }
            Step::Write(write) => {
                let (namespace, parsed, stage) = facts;
                let tokens = tokens(stage, &write.granted.assignments, now);
                let facts = self.facts(namespace, parsed, stage);
                let Some(draft) = compose(write, &tokens, &facts, settings, now) else { return false };
                if draft.entries.is_empty() {
                    // The registry that the token names is not granted, and the runtime writes no Secret without entries.
                    return false;
                }
                let annotations = draft.applied.to_annotations(&settings.names.instance, draft.times);
                let read = RecordedState::from_annotations(&annotations);
                let (_, applied) = read.applied.expect("what is written can be read");
                assert_eq!(applied, draft.applied);
                let version = write.observed.as_ref().map_or(1, |observed| observed.resource_version + 1);
                let after =
                    Observed { resource_version: version, times: read.times, ..observed_with(applied) };
                assert_eq!(after.owner, Owner::This);
                let name: Arc<str> = write.granted.request.secret_name.as_str().into();
                self.history.record_write(write.reason, &name, &after, draft.fingerprint, now);
                self.secrets = vec![(name, after)];
                true
            }
        }
    }
}

/// Equal keys have one token.
fn tokens(stage: &Stage, assignments: &[Assignment], now: Now) -> Vec<Option<Arc<Token>>> {
    let issued = |(life, ago): (i64, i64)| {
        let ago = jiff::SignedDuration::from_secs(ago.min(life));
        token(Now { wall: now.wall - ago, ..now }, life)
    };
    let first = |a: &Assignment| assignments.iter().position(|other| other.request.key == a.request.key);
    let token = |a| stage.tokens[first(a).expect("itself") % stage.tokens.len()].map(issued);
    assignments.iter().map(token).collect()
}

/// Whether the Secret stays due because a token is missing or does not improve on the current entry.
fn waits_for_token(step: &Step) -> bool {
    matches!(step, Step::Write(write) if matches!(write.reason, WriteReason::RenewalDue | WriteReason::Missing
        | WriteReason::RequestChanged | WriteReason::ScopeChanged | WriteReason::StaticEntryChanged))
}

/// Whether an entry stays missing because the registry that its token names is not granted.
fn has_ungranted_default(step: &Step) -> bool {
    let Step::Write(write) = step else { return false };
    let named: Registry = HOST.parse().expect("a host");
    let is_own = |a: &&Assignment| a.target == Target::Default && a.request.session.is_none();
    write.granted.assignments.iter().filter(is_own).any(|assignment| !assignment.may_be(&named))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_plan_after_carrying_out_a_plan_is_idle(
        model in any_model(), namespace in any_namespace(), grants in any_static_grants(),
        stages in vec(any_stage(), 1..=3),
    ) {
        let (mut model, mut world, mut second) = (model, World::default(), 0);
        for stage in &stages {
            model = after(&model, stage.withdrawal.clone());
            let settings = Settings { static_grants: grants.clone(), ..model.settings() };
            let parsed = if stage.is_valid { parse(&stage.values, &settings) } else { super::checks::invalid() };
            second += stage.later;
            let now = at(second);
            if stage.restarted {
                mem::take(&mut world.history);
            }
            let mut steps = vec![];
            loop {
                let step = plan(&world.facts(namespace, &parsed, stage), &settings, now).step;
                if !world.carry_out(&step, (namespace, &parsed, stage), &settings, now) {
                    let idle = matches!(&step, Step::Idle(until) if until.is_none_or(|until| until > now.wall));
                    // A token of ECR that is at most an hour old is better than any that is due.
                    let all_new = stage.tokens.iter().all(|token| token.is_some_and(|(life, _)| life == 12 * HOUR));
                    let waits = waits_for_token(&step) && (!all_new || has_ungranted_default(&step));
                    prop_assert!(idle || waits, "{:#?} after {:#?}", step, steps);
                    break;
                }
                steps.push(step);
                prop_assert!(steps.len() <= 1, "{:#?}", steps);
            }
        }
    }
}
