//! Planted bugs: one-line faults that the simulation must find, so that its oracles are believed. Only the feature
//! `simulation` compiles them in; without it, [`planted`] is the constant `false`.

use std::time::Duration;

/// A bug that a test of the simulation turns on for its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The index ignores that a Secret was deleted.
    IgnoreDeletions,
    /// Reads and writes of single objects have no timeout.
    NoCallTimeout,
    /// Updates name another UID than that of the current Secret.
    WrongUid,
    /// A deletion does not depend on the Namespace that was just read.
    TrustStaleNamespace,
    /// Nothing backs off.
    NoBackoff,
    /// A namespace is not reconciled again after a failure.
    ForgetRetries,
    /// Every lookup requests a new token.
    NeverFresh,
    /// Tokens are shared across restrictions.
    ShareTokens,
    /// Namespaces that are gone stay in the index.
    KeepNamespaces,
    /// The controller does not recognize the result of its own write.
    ForgetOwnWrites,
    /// `Debug` shows credentials.
    ShowCredentials,
}

#[cfg(feature = "simulation")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Marks a program that planted bugs are compiled into. `deploy/image/build` rejects it.
#[cfg(feature = "simulation")]
#[used]
static MARK: [u8; 23] = *b"built with planted bugs";

/// Turns a bug on in this thread, or all off.
#[cfg(feature = "simulation")]
pub fn plant(bug: Option<Bug>) {
    ACTIVE.set(bug);
}

/// The limit of a request; with [`Bug::NoCallTimeout`], longer than any run.
pub fn call_limit(limit: Duration) -> Duration {
    if planted(Bug::NoCallTimeout) { Duration::from_hours(24) } else { limit }
}

/// Whether the bug is turned on in this thread.
#[cfg(feature = "simulation")]
pub fn planted(bug: Bug) -> bool {
    ACTIVE.get() == Some(bug)
}

/// Whether the bug is turned on, which it never is.
#[cfg(not(feature = "simulation"))]
pub const fn planted(_: Bug) -> bool {
    false
}
