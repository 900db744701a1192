//! Whether a namespace that opted in has a valid Secret: the states that the metrics count and `status` shows.

use jiff::Timestamp;

use crate::core::Now;

/// Whether the Secrets of a namespace that opted in are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has a valid Secret.
    Ready,
    /// It has an expired Secret.
    Expired,
    /// It has no Secret, and a person must act.
    Blocked,
    /// It has no Secret, and the controller retries.
    Pending,
}

impl Readiness {
    /// `expires_at` is the earliest expiry of the Secrets that this instance manages; `None` if there are none. `blocked` is
    /// that of the plan.
    pub fn of(expires_at: Option<Timestamp>, blocked: bool, now: Now) -> Self {
        match expires_at {
            Some(at) if at > now.wall => Self::Ready,
            Some(_) => Self::Expired,
            None if blocked => Self::Blocked,
            None => Self::Pending,
        }
    }
}
