//! Real parts and injected faults: the program as it is released, a real API server behind a proxy that delays, holds and
//! loses requests, and oracles that look at the cluster all the time.
//!
//! | module | what it holds |
//! |---|---|
//! | [`guards`] | scenarios in which no oracle may report anything |
//! | [`kills`] | SIGKILL before and after each write |
//! | [`random`] | two replicas and faults in a random order; `make chaos` |
//! | [`scenarios`] | faults and actors |
//! | [`oracles`], [`judge`], [`observer`] | what must always hold, and who looks |
//! | [`world`] | a cluster, the proxy, the controllers and the oracles of one test |

mod guards;
#[path = "../apiserver/harness/mod.rs"]
#[allow(dead_code, reason = "tests/apiserver uses the rest")]
mod harness;
mod judge;
mod kills;
mod observer;
mod oracles;
mod random;
mod scenarios;
mod world;
