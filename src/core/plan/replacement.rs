//! The replacement of immutable Secrets: the old one is deleted once the tokens of the new one are at hand.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::compose::{entry_host, is_newer_than, recorded_entry};
use super::{DATE_RESOLUTION, DeleteReason, Deletion, Facts, Observed, Planner, Step, plan};
use crate::core::grants::{Assignment, Granted};
use crate::core::request::Problem;
use crate::core::request::applied::is_plausible;
use crate::core::secret::Token;
use crate::core::{EventReason, Now};

/// How long a token whose renewal fails must still live to count as one for the new Secret. It may expire before that exists.
const MIN_LEFT: SignedDuration = SignedDuration::from_mins(5);

/// A Secret to be deleted so that another one can be created, once there are tokens with which no entry ends sooner.
#[derive(Clone, Debug, PartialEq)]
pub struct Replacement {
    pub deletion: Deletion,
    pub observed: Observed,
    pub granted: Arc<Granted>,
    /// When the last quarter of its lifetime begins. Until then, only a token for an entry that is missing or has expired is
    /// a reason to replace it.
    pub due_at: Option<Timestamp>,
    /// The step to start if the tokens are not at hand.
    pub otherwise: Option<Box<Step>>,
    /// When another step may start, if the tokens are not at hand.
    pub again_at: Option<Timestamp>,
}

impl Replacement {
    /// Whether the tokens (`tokens[i]` belongs to `granted.assignments[i]`) make no entry end sooner, and one later.
    pub fn is_ready(&self, tokens: &[Option<Arc<Token>>], now: Now) -> bool {
        if self.observed.hides_entries(now) && tokens.iter().any(Option::is_none) {
            return false;
        }
        let is_early = self.due_at.is_some_and(|due_at| !now.has_certainly_passed(due_at));
        let changes = self.granted.assignments.iter().zip(tokens);
        let changes = changes
            .map(|(assignment, token)| self.change(assignment, token.as_deref(), is_early, now))
            .collect::<Option<Vec<_>>>();
        changes.is_some_and(|changes| changes.contains(&true))
    }

    /// Compares the token for a new entry with the present entry: `None` if the new one would end sooner, otherwise whether it
    /// is a reason to replace the Secret. `is_early` tells whether the last quarter of its lifetime has not begun.
    fn change(
        &self,
        assignment: &Assignment,
        token: Option<&Token>,
        is_early: bool,
        now: Now,
    ) -> Option<bool> {
        let host = entry_host(assignment, token);
        let ends = token.filter(|token| token.is_live(now)).map(Token::expires_at);
        let Some(entry) = recorded_entry(&self.observed, assignment, host.as_ref()) else {
            return Some(ends.is_some());
        };
        let Some(expires_at) = entry.expires_at.filter(|at| is_plausible(*at, now)) else {
            // The issue times tell which one ends later. If the expiry is known, the wall clock is behind.
            let is_older = token.is_some_and(|token| is_newer_than(entry, token));
            return (ends.is_some() && !is_older).then_some(entry.expires_at.is_none());
        };
        let is_expired = entry.has_expired(now);
        let Some(ends) = ends else { return is_expired.then_some(false) };
        let later_by = ends.duration_since(expires_at);
        let is_reason = later_by > DATE_RESOLUTION && (is_expired || !is_early);
        (later_by >= -DATE_RESOLUTION).then_some(is_reason)
    }

    /// Whether a token counts as one for the new Secret. `is_fresh` tells whether it needs no renewal yet.
    pub fn is_lasting(token: &Token, is_fresh: bool, now: Now) -> bool {
        is_fresh || now.until(token.expires_at()) > MIN_LEFT
    }
}

impl Planner<'_> {
    /// An immutable Secret is kept until the last quarter of its lifetime, because its replacement has another UID, unless an
    /// entry is missing or has expired, or another client changed the data. It is deleted only when there are tokens with which
    /// no entry ends sooner.
    pub(super) fn replace_immutable(
        &mut self,
        name: &Arc<str>,
        observed: &Observed,
        granted: Arc<Granted>,
    ) -> Step {
        let now = self.now;
        let message = format!(
            "secret {name:?} is immutable and cannot be renewed: delete it, or the controller replaces it shortly before \
             its token expires"
        );
        self.problems.push(Problem {
            reason: EventReason::SecretImmutable,
            subject: name.to_string(),
            message,
        });
        if observed.is_deleting {
            self.report_blocked(name);
            return Step::Idle(None);
        }
        let times = observed.times.filter(|times| times.is_plausible(now));
        let expires_at = times.map(|times| observed.first_expiry(times, now));
        let may_be_live = expires_at.filter(|at| !now.has_certainly_passed(*at));
        if let Some(expires_at) = may_be_live.filter(|_| self.would_lose_static(observed)) {
            return Step::Idle(Some(now.certainly_passes_at(expires_at)));
        }
        let last_quarter = times.and_then(|times| observed.last_quarter_at(times, now));
        let due_at = last_quarter.filter(|at| !now.has_certainly_passed(*at) && observed.data_intact);
        let lacks_entry = granted.assignments.iter().any(|assignment| {
            let host = entry_host(assignment, None);
            recorded_entry(observed, assignment, host.as_ref()).is_none_or(|entry| !entry.is_live(now))
        });
        // Its tokens are fetched, and the reply shows the clock of AWS.
        let wait = due_at.filter(|at| *at > now.wall && !lacks_entry);
        // The creation that follows would fail, too.
        let wait = wait.or_else(|| self.facts.history.retry.retry_after(now));
        match self.delete(name, observed, DeleteReason::Immutable).at(wait) {
            Step::Delete(deletion) => {
                if let Err(wake) = self.check_recreation(&granted) {
                    return Step::Idle(wake);
                }
                let (observed, otherwise, again_at) = (observed.clone(), None, None);
                let replacement = Replacement { deletion, observed, granted, due_at, otherwise, again_at };
                Step::Replace(Box::new(replacement))
            }
            step => step,
        }
    }

    /// Checks that the same Secret would be created again, if it were deleted now, and otherwise returns until when not. The
    /// record of the applied request is a part of it, so nothing would create it while the present request cannot be used.
    fn check_recreation(&self, granted: &Granted) -> Result<(), Option<Timestamp>> {
        let name = &granted.request.secret_name;
        let others = self.facts.secrets.iter().filter(|(other, _)| **other != **name);
        let others: Vec<_> = others.cloned().collect();
        let next = plan(&Facts { secrets: &others, ..*self.facts }, self.settings, self.now).step;
        let creates = |step: &Step| matches!(step, Step::Write(write) if write.observed.is_none() && *write.granted == *granted);
        match next {
            next if next.alternatives().any(creates) => Ok(()),
            Step::Idle(wake) => Err(wake),
            Step::Write(write) => Err(write.again_at),
            _ => Err(None),
        }
    }

    /// Whether it has a static entry whose source cannot be read now, so that a new Secret would not have it.
    fn would_lose_static(&self, observed: &Observed) -> bool {
        self.granted_static_entries(Some(observed)).values().any(|entry| !entry.available)
    }
}
