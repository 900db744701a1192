//! The second half of the decision: with the tokens that were to be had, is a write worth it, and which entries
//! does it have?

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::facts::WriteCause;
use super::facts::{History, Observed, Times};
use super::identity::Assignment;
use super::plan::Intent;
use super::request::{Entry, Target};
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
    /// What each registry of the request has then.
    pub entries: Vec<Option<Entry>>,
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
    for (assignment, token) in intent.granted.assignments.iter().zip(tokens) {
        let target = assignment.target.clone();
        let held = held(intent.observed.as_ref(), assignment, now);
        match (token, held) {
            (Some(token), held) if !held.is_some_and(|held| better_stands(held, token, now)) => {
                let expires_at = Some(whole_seconds(token.expires_at()));
                made.entries.push(Some(Entry { scope: assignment.scope, expires_at }));
                made.fresh.push((target, token.clone()));
            }
            (_, held) => {
                made.entries.push(held);
                made.carried.extend(held.map(|_| target));
            }
        }
    }
    made.fingerprint = fingerprint(intent, &made.fresh);
    let nothing_new = match intent.cause {
        WriteCause::Refresh => made.fresh.is_empty() || history.fingerprint == Some(made.fingerprint),
        WriteCause::Create => made.fresh.is_empty(),
        WriteCause::Change | WriteCause::Repair | WriteCause::Static => {
            made.fresh.is_empty() && made.carried.is_empty()
        }
    };
    if nothing_new {
        return None;
    }
    made.times = Some(times(&made, standing_times(intent, now), namespace, settings, now));
    Some(made)
}

/// The entry that we wrote for a registry, if it stands and reaches as far as it may now. What reaches further, or less
/// far, is not carried.
fn held(observed: Option<&Observed>, assignment: &Assignment, now: Timestamp) -> Option<Entry> {
    let observed = observed.filter(|observed| observed.data_intact)?;
    let mut entry = observed.applied.as_ref()?.entry(&assignment.target)?;
    let believable = |end: &Timestamp| Times { expires_at: *end, refresh_after: *end }.is_believable(now);
    entry.expires_at = entry.expires_at.filter(believable).filter(|_| observed.times.is_some());
    (entry.scope == assignment.scope).then_some(entry)
}

fn standing_times(intent: &Intent, now: Timestamp) -> Option<Times> {
    intent.observed.as_ref()?.times.filter(|times| times.is_believable(now))
}

/// Whether what stands is better than `token`: no live entry gives way to one that ends earlier, and an expired
/// one not to another that is no newer. An entry of unknown end only gives way to a live token.
fn better_stands(held: Entry, token: &Token, now: Timestamp) -> bool {
    let Some(expires_at) = held.expires_at else { return !token.is_live(now) };
    if expires_at > now {
        return expires_at.duration_since(token.expires_at()) > DATE_RESOLUTION;
    }
    !token.is_live(now) && token.expires_at().duration_since(expires_at) <= DATE_RESOLUTION
}

/// The earliest end of the live entries, and the earliest due time of all; an expired entry no longer counts
/// for the first. What is missing is due at once.
fn times(
    made: &Composition,
    standing: Option<Times>,
    namespace: &str,
    settings: &Settings,
    now: Timestamp,
) -> Times {
    let ends = || made.entries.iter().flatten().filter_map(|entry| entry.expires_at);
    let expires_at = ends().filter(|end| *end > now).min().or_else(|| ends().min());
    let missing = made.entries.iter().any(Option::is_none);
    let fresh =
        made.fresh.iter().map(|(_, token)| rounded_up(token.rewrite_after(settings.refresh, &namespace)));
    let carried = (!made.carried.is_empty()).then(|| standing.map_or(now, |standing| standing.refresh_after));
    let due = fresh.chain(carried).chain(missing.then_some(now)).min();
    Times { expires_at: expires_at.unwrap_or(now), refresh_after: due.unwrap_or(now) }
}

/// A due time is put later, for one before the token may be renewed would find nothing to do.
fn rounded_up(time: Timestamp) -> Timestamp {
    let whole = whole_seconds(time);
    if whole == time { time } else { whole.checked_add(SignedDuration::from_secs(1)).unwrap_or(time) }
}

fn fingerprint(intent: &Intent, fresh: &[(Target, Arc<Token>)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&intent.granted.request, &intent.statics).hash(&mut hasher);
    for (target, token) in fresh {
        (target, token.issued_at(), token.expires_at()).hash(&mut hasher);
    }
    hasher.finish()
}
