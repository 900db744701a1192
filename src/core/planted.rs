//! Planted bugs: one-line faults that the simulation must find, so that its oracles are believed. Only the feature
//! `simulation` compiles them in; without it, [`planted`] is the constant `false`.

/// A bug that a test of the simulation turns on for its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The controller ignores that a Secret was deleted.
    IgnoreDeletions,
    /// Reads and writes of single objects have no timeout.
    NoCallTimeout,
}

#[cfg(feature = "simulation")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Turns a bug on in this thread, or all off.
#[cfg(feature = "simulation")]
pub fn plant(bug: Option<Bug>) {
    ACTIVE.set(bug);
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
