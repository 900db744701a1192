//! The contract of the decisions: what [`plan`] and [`settle`] do in each situation, and what they never do.

mod mended;
mod planning;
mod settling;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use proptest::option::of;
use proptest::prelude::*;

use crate::core::annotations::tests::{HOST, settings};
use crate::core::annotations::{Reading, Wish};
use crate::core::facts::WriteCause;
use crate::core::facts::{Facts, History, Observed, Owner, Times};
use crate::core::plan::{DeleteCause, Intent, Plan, Report, Step, plan};
use crate::core::problem::{Problem, SECRET_NAME};
use crate::core::request::Scope;
use crate::core::request::tests::request_for;
use crate::core::request::{Accepted, Entry, Request, Target};
use crate::core::settle::{Composition, settle};
use crate::core::statics::Sources;
use crate::core::token::Token;
use crate::core::tries::Tries;

const PUBLIC: &str = "public.ecr.aws";
const HOUR: i64 = 3_600;
const IN_2099: i64 = 4_070_908_800 - 1_700_000_000;

/// `second` seconds after the moment at which the tests play.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

fn target(host: &str) -> Target {
    host.to_owned().try_into().expect("a target")
}

fn request(hosts: &[&str]) -> Request {
    let mut registries: Vec<_> = hosts.iter().map(|host| target(host)).collect();
    registries.sort();
    request_for(registries)
}

fn named(name: &str) -> Request {
    Request { secret_name: name.into(), ..request(&[HOST]) }
}

fn granted_to(role: &str) -> Request {
    Request { role: vec![role.into()], ..request(&[HOST]) }
}

/// A failure after which nothing is tried before `second`.
fn retry(second: i64) -> Tries {
    Tries { retry_at: Some(at(second)), ..Tries::default() }
}

fn wants(request: Request) -> Reading {
    Reading { wish: Wish::Wants(request), problems: vec![] }
}

/// A Secret of ours that holds `request` with a token issued at `at(0)`.
fn ours(request: &Request) -> Observed {
    Observed {
        uid: "uid-1".into(),
        resource_version: 7,
        owner: Owner::Ours,
        intact: true,
        data_intact: true,
        immutable: false,
        times: Some(Times { expires_at: at(12 * HOUR), refresh_after: at(6 * HOUR) }),
        applied: Some(Arc::new(accepted(request, &[12 * HOUR]))),
    }
}

/// What was applied for `request`, with entries that end at these times (the last one standing for the rest).
fn accepted(request: &Request, ends: &[i64]) -> Accepted {
    let scopes: Vec<_> = match settings().grants.assign("team-a", request) {
        Ok((granted, _)) => granted.assignments.iter().map(|assignment| assignment.scope).collect(),
        Err(_) => vec![],
    };
    let end = |place: usize| at(*ends.get(place).or(ends.last()).expect("an end"));
    let entry = |(place, scope)| Some(Entry { scope, expires_at: Some(end(place)) });
    Accepted {
        request: request.clone(),
        entries: scopes.into_iter().enumerate().map(entry).collect(),
        statics: BTreeMap::new(),
    }
}

/// The same Secret after a write that settled on `made`.
fn rewritten(observed: Observed, request: &Request, made: &Composition) -> Observed {
    let applied =
        Accepted { request: request.clone(), entries: made.entries.clone(), statics: BTreeMap::new() };
    Observed { times: made.times, applied: Some(Arc::new(applied)), ..observed }
}

fn standing(observed: &Observed) -> Vec<(Arc<str>, Observed)> {
    let name = observed.applied.as_ref().map_or("ecr-pull", |applied| &*applied.request.secret_name);
    vec![(name.into(), observed.clone())]
}

type Standing<'a> = &'a [(Arc<str>, Observed)];

fn decide(reading: Option<&Reading>, secrets: Standing<'_>, history: &History, now: Timestamp) -> Plan {
    plan(
        &Facts { namespace: "team-a", reading, secrets, accounts: &[], sources: &Sources::new(), history },
        &settings(),
        now,
    )
}

/// The step for a namespace that wants the one registry and in which `observed` stands.
fn tend(observed: &Observed, history: &History, now: Timestamp) -> Step {
    decide(Some(&wants(request(&[HOST]))), &standing(observed), history, now).step
}

fn written(step: &Step) -> Option<(WriteCause, &str)> {
    let Step::Write(intent) = step else { return None };
    Some((intent.cause, &intent.granted.request.secret_name))
}

fn deleted(step: &Step) -> Option<(DeleteCause, &str, &str, u64)> {
    let Step::Delete { name, uid, resource_version, cause } = step else { return None };
    Some((*cause, name, uid, *resource_version))
}

fn token(issued: Timestamp, life: i64) -> Arc<Token> {
    let expires = issued + SignedDuration::from_secs(life);
    Arc::new(Token::new(STANDARD.encode("AWS:x"), issued, expires, None).expect("a token"))
}

fn intent(cause: WriteCause, request: &Request, observed: Option<Observed>) -> Intent {
    let (granted, _) = settings().grants.assign("team-a", request).expect("granted");
    Intent { cause, granted, statics: BTreeMap::new(), observed }
}

type Tokens<'a> = &'a [Option<Arc<Token>>];

fn settled(intent: &Intent, tokens: Tokens<'_>, now: Timestamp) -> Option<Composition> {
    settle(intent, tokens, "team-a", &History::default(), &settings(), now)
}

fn fresh(made: &Composition) -> Vec<Target> {
    made.fresh.iter().map(|(target, _)| target.clone()).collect()
}
