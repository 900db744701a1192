//! The second half of the decision: with the tokens that were to be had, is a write worth it, and which entries
//! does it have?

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::facts::WriteCause;
use super::facts::{History, Observed, Times};
use super::plan::Intent;
use super::request::{Request, Target};
use super::settings::Settings;
use super::token::Token;
use super::whole_seconds;

/// The `Date` that a token's times are reckoned from has whole seconds, so that equal times come out as unequal.
const DATE_RESOLUTION: SignedDuration = SignedDuration::from_secs(2);

/// How a write is made up of new tokens and entries that stand already.
#[derive(Clone, Debug, Default)]
pub struct Composition {
    /// Entries with the token of the same place in this list.
    pub fresh: Vec<(Target, Arc<Token>)>,
    /// Entries that are carried over from the Secret as it stands.
    pub carried: Vec<Target>,
    /// The times of the whole.
    pub times: Option<Times>,
    /// Which tokens these are, to tell whether a later write would be any different.
    pub fingerprint: u64,
}

/// Decides, with the tokens that were to be had (one place for each assignment), what to write. `None`: what
/// stands there is as good as what could be written.
pub fn settle(
    intent: &Intent,
    tokens: &[Option<Arc<Token>>],
    namespace: &str,
    history: &History,
    settings: &Settings,
    now: Timestamp,
) -> Option<Composition> {
    let mut made = Composition::default();
    for (assignment, token) in intent.assignments.iter().zip(tokens) {
        let target = &assignment.target;
        let held = intent.observed.as_ref().is_some_and(|observed| holds(observed, target));
        match token {
            Some(token) if !(held && better_stands(intent, token, now)) => {
                made.fresh.push((target.clone(), token.clone()));
            }
            _ if held => made.carried.push(target.clone()),
            _ => {}
        }
    }
    made.fingerprint = fingerprint(&intent.request, &made.fresh);
    let nothing_new = match intent.cause {
        WriteCause::Refresh => made.fresh.is_empty() || history.fingerprint == Some(made.fingerprint),
        WriteCause::Create => made.fresh.is_empty(),
        WriteCause::Change | WriteCause::Repair => made.fresh.is_empty() && made.carried.is_empty(),
    };
    if nothing_new {
        return None;
    }
    let missing = made.fresh.len() + made.carried.len() < intent.assignments.len();
    made.times = Some(times(&made, missing, standing_times(intent, now), namespace, settings, now));
    Some(made)
}

/// Whether a Secret has the entry that we wrote for `target`.
fn holds(observed: &Observed, target: &Target) -> bool {
    observed.data_intact
        && observed.applied.as_ref().is_some_and(|applied| applied.registries.contains(target))
}

fn standing_times(intent: &Intent, now: Timestamp) -> Option<Times> {
    intent.observed.as_ref()?.times.filter(|times| times.is_believable(now))
}

/// Whether what stands is better than `token`: no live entry gives way to one that ends earlier, and an expired
/// one not to another that is no newer. An entry of unknown end only gives way to a live token.
///
/// The times of a Secret are those of all its entries together. While it is due, one of several may be missing or
/// have expired, and the common end says nothing about it.
fn better_stands(intent: &Intent, token: &Token, now: Timestamp) -> bool {
    let Some(times) = standing_times(intent, now) else { return !token.is_live(now) };
    if intent.assignments.len() > 1 && times.refresh_after <= now && token.is_live(now) {
        return false;
    }
    if times.expires_at > now {
        return times.expires_at.duration_since(token.expires_at()) > DATE_RESOLUTION;
    }
    !token.is_live(now) && token.expires_at().duration_since(times.expires_at) <= DATE_RESOLUTION
}

/// The earliest end of the live entries, and the earliest due time of all; an expired entry no longer counts
/// for the first. What is missing is due at once.
fn times(
    made: &Composition,
    missing: bool,
    standing: Option<Times>,
    namespace: &str,
    settings: &Settings,
    now: Timestamp,
) -> Times {
    let mut all: Vec<Times> = made
        .fresh
        .iter()
        .map(|(_, token)| Times {
            // Whole seconds, earlier: the safe side for an end.
            expires_at: whole_seconds(token.expires_at()),
            refresh_after: rounded_up(token.rewrite_after(settings.refresh, &namespace)),
        })
        .collect();
    if !made.carried.is_empty() {
        all.push(standing.unwrap_or(Times { expires_at: now, refresh_after: now }));
    }
    let any_live = all.iter().any(|times| times.expires_at > now);
    let ends = all.iter().map(|times| times.expires_at).filter(|end| !any_live || *end > now).min();
    let due = all.iter().map(|times| times.refresh_after).chain(missing.then_some(now)).min();
    Times { expires_at: ends.unwrap_or(now), refresh_after: due.unwrap_or(now) }
}

/// A due time is put later, for one before the token may be renewed would find nothing to do.
fn rounded_up(time: Timestamp) -> Timestamp {
    let whole = whole_seconds(time);
    if whole == time { time } else { whole.checked_add(SignedDuration::from_secs(1)).unwrap_or(time) }
}

fn fingerprint(request: &Request, fresh: &[(Target, Arc<Token>)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.hash(&mut hasher);
    for (target, token) in fresh {
        (target, token.issued_at(), token.expires_at()).hash(&mut hasher);
    }
    hasher.finish()
}
