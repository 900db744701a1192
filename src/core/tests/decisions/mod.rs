//! The contract of the decisions: the steps and the content that [`plan`] and [`compose`] return in each situation.

mod adoption;
mod composing;
mod convergence;
mod former;
mod immutable;
mod planning;
mod recording;
mod regressions;
mod removals;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::option::of;
use proptest::prelude::*;

use crate::core::plan::{
    DeleteReason, Facts, History, KnownAccounts, Mutability, Observed, Owner, Plan, RetryState, SecretDraft,
    Step, WritePlan, WriteReason, compose, plan,
};
use crate::core::request::annotations::{self, OptIn, ParsedAnnotations};
use crate::core::request::{Problem, Request, ScopeFingerprint, Target, Times};
use crate::core::secret::{StaticSources, Token};
use crate::core::settings::Settings;
use crate::core::testing::{
    HOST, HOUR, after_write, applied, at, attach, kept_targets, observed, observed_with, parsed, request,
    request_for, set_targets, settings, skewed, target, token, wall,
};
use crate::core::{Now, Uid};

const WEST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const PUBLIC: &str = "public.ecr.aws";
const IN_2099: i64 = 4_070_908_800 - 1_700_000_000;

/// The moment at which the wall clock shows this time.
fn at_wall(wall: Timestamp) -> Now {
    Now { wall, ..at(0) }
}

fn any_mutability() -> impl Strategy<Value = Mutability> {
    prop_oneof![Just(Mutability::Mutable), Just(Mutability::Unknown), Just(Mutability::Immutable)]
}

fn named(name: &str) -> Request {
    Request { secret_name: name.into(), ..request(&[HOST]) }
}

fn with_role(role: &str) -> Request {
    Request { role: vec![role.into()], ..request(&[HOST]) }
}

fn invalid() -> ParsedAnnotations {
    ParsedAnnotations { opt_in: OptIn::Invalid, renew: None, problems: vec![] }
}

/// The state after a failure whose retry is at `second`.
fn retry_at(second: i64) -> RetryState {
    RetryState { retry_at: Some(wall(second)), ..RetryState::default() }
}

/// The settings of a controller that does not know its region.
fn nowhere() -> Settings {
    let mut nowhere = settings();
    (nowhere.region, nowhere.grants.default_region) = (None, None);
    nowhere
}

type Secrets<'a> = &'a [(Arc<str>, Observed)];

/// The one Secret of a namespace, under the name that was applied.
fn only(observed: &Observed) -> Vec<(Arc<str>, Observed)> {
    let name = observed.applied.as_ref().map_or("ecr-pull", |applied| &*applied.request.secret_name);
    vec![(name.into(), observed.clone())]
}

fn decide(parsed: Option<&ParsedAnnotations>, secrets: Secrets<'_>, history: &History, now: Now) -> Plan {
    decide_with(&settings(), parsed, secrets, history, now)
}

fn decide_with(
    settings: &Settings,
    parsed: Option<&ParsedAnnotations>,
    secrets: Secrets<'_>,
    history: &History,
    now: Now,
) -> Plan {
    plan(&Facts { parsed, secrets, ..facts(history) }, settings, now)
}

/// The facts about a namespace without annotations and objects.
fn facts(history: &History) -> Facts<'_> {
    static NO_SOURCES: StaticSources = StaticSources::new();
    Facts {
        terminating: false,
        held: false,
        keeps_all: false,
        is_single_pass: false,
        namespace: "team-a",
        parsed: None,
        secrets: &[],
        service_accounts: &[],
        known_accounts: KnownAccounts::All,
        static_sources: &NO_SOURCES,
        history,
    }
}

/// The step for a namespace that requests the one registry and has the Secret `observed`.
fn step_for(observed: &Observed, history: &History, now: Now) -> Step {
    decide(Some(&parsed(request(&[HOST]))), &only(observed), history, now).step
}

fn written(step: &Step) -> Option<(WriteReason, &str)> {
    let Step::Write(write) = step else { return None };
    Some((write.reason, &write.granted.request.secret_name))
}

fn deleted(step: &Step) -> Option<(DeleteReason, &str, Uid, u64)> {
    let deletion = match step {
        Step::Delete(deletion) => deletion,
        Step::Replace(replacement) => &replacement.deletion,
        _ => return None,
    };
    let version = &deletion.version;
    Some((deletion.reason, &deletion.name, version.uid.clone(), version.resource_version))
}

fn write_plan(reason: WriteReason, request: &Request, observed: Option<Observed>) -> WritePlan {
    let (granted, _) = settings().grants.assign("team-a", request).expect("granted");
    WritePlan::new(reason, Arc::new(granted), BTreeMap::new(), observed)
}

type Tokens<'a> = &'a [Option<Arc<Token>>];

fn composed(plan: &WritePlan, tokens: Tokens<'_>, now: Now) -> Option<SecretDraft> {
    composed_after(&History::default(), plan, tokens, now)
}

fn composed_after(history: &History, plan: &WritePlan, tokens: Tokens<'_>, now: Now) -> Option<SecretDraft> {
    compose(plan, tokens, &facts(history), &settings(), now)
}
