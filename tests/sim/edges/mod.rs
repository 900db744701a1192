//! The edges: the real watch, write, lease and client layers, the real elector and the real runtime, on a service that
//! answers their requests from the store of the model. The clock is paused, so a scenario of minutes takes milliseconds.
//!
//! | part | what it is |
//! |---|---|
//! | `call` | the shapes of request that the program sends |
//! | `rules` | the faults of single requests |
//! | `server`, `objects`, `watching` | the service |
//! | `process` | one process of the program on the service |
//! | `scenarios` | what happens around it, as data |
//! | `oracles` | what must hold in every scenario |
//! | `guards` | scenarios in which it holds |

mod call;
mod guards;
mod objects;
mod oracles;
mod process;
mod rules;
mod scenarios;
mod server;
mod watching;

use std::time::Duration;

use http::Method;

use self::oracles::Broken;
use self::rules::{Fault, Rule};
use self::scenarios::{Action, Scenario};
use crate::oracles::Oracle;

/// A known defect: a scenario, and the oracle that reports it.
pub struct Known {
    /// The number in the reviews.
    pub id: &'static str,
    pub title: &'static str,
    pub broken: Broken,
    pub scenario: fn() -> Scenario,
}

impl Known {
    fn assert_still_fails(&self) {
        let Self { id, title, broken, scenario } = self;
        let found = match scenario().run() {
            Ok(figures) => panic!(
                "{id} ({title}) does not fail any more ({figures:?}): take its row out of EDGES and add its scenario to the \
                 guards"
            ),
            Err(found) => found,
        };
        assert_eq!(found.broken, *broken, "{id} ({title}) is reported by another oracle: {found:?}");
        println!("{id}: {:?} after {} s: {}", found.broken, found.at.as_secs(), found.text);
    }
}

/// The table of known defects, and a test for each row.
macro_rules! known {
    ($($test:ident: $id:literal, $title:literal, $broken:expr, $scenario:expr;)*) => {
        /// The defects that the edges show.
        pub const EDGES: &[Known] =
            &[$(Known { id: $id, title: $title, broken: $broken, scenario: || $scenario }),*];

        $(
            #[test]
            fn $test() {
                let known = EDGES.iter().find(|known| known.title == $title);
                known.expect("the row of this test").assert_still_fails();
            }
        )*
    };
}

known! {
    slow_writes_with_an_election: "R5, B2", "with leader election, writes that take 3.5 s never succeed",
        Broken::World(Oracle::NoneExpired), slow_writes();
    slow_lease: "R5, B2", "with Lease requests that take 1.2 s, no process becomes the leader",
        Broken::World(Oracle::NoneExpired), slow_lease_requests();
    unanswered_list: "R7, A 8.9", "one list without a reply blinds a watch",
        Broken::World(Oracle::Deadline), unanswered(Rule::all(Fault::Hang).path("/api/v1/namespaces").no_watches()).paged();
    unanswered_watch: "R7, A 8.9", "one start of a watch without a reply blinds it",
        Broken::World(Oracle::Deadline), unanswered(Rule::all(Fault::Hang).path("/api/v1/secrets").watches());
    unanswered_version: "R7, A 8.9", "one request for the version without a reply keeps the program from starting",
        Broken::World(Oracle::Deadline), Scenario::default().rule(Rule::all(Fault::Hang).path("/version").times(1));
    silent_watch: "B6", "an open watch on which nothing arrives is trusted for 295 s",
        Broken::World(Oracle::Deadline), silent_watches();
    overload: "R14", "paged lists do not back off while the API server is overloaded",
        Broken::RetryAfter, overloaded_lists();
}

fn slow_writes() -> Scenario {
    let slow = Fault::Slow(Duration::from_millis(3_500));
    Scenario::default().rule(Rule::all(slow).method(Method::PATCH).path("/ecr-pull"))
}

fn slow_lease_requests() -> Scenario {
    let slow = Fault::LateReply(Duration::from_millis(1_200));
    Scenario::default().rule(Rule::all(slow).path("/leases/test"))
}

/// Every watch ends once, and then one request is not answered.
fn unanswered(rule: Rule) -> Scenario {
    Scenario::default().at(30, Action::AddRule(rule.times(1))).at(30, Action::Compact)
}

fn silent_watches() -> Scenario {
    Scenario::default().at(30, Action::Silence)
}

/// The API server refuses lists of namespaces for five minutes, and says when to come back.
fn overloaded_lists() -> Scenario {
    let busy = Fault::Refuse { code: 429, retry_after: Some(10) };
    let rule = Rule::all(busy).path("/api/v1/namespaces").method(Method::GET).no_watches();
    let scenario = Scenario::default().paged().at(30, Action::AddRule(rule)).at(31, Action::Compact);
    scenario.at(330, Action::ClearRules)
}
