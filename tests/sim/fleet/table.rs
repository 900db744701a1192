//! The scenarios, and their table in `docs/performance.md`.

use std::time::Duration;

use ecr_pull_secrets::simulation::core::secret::RefreshPolicy;
use ecr_pull_secrets::simulation::core::testing;

use super::aws::{ECR, Quota};
use super::{Fleet, Scenario};
use crate::configurations::with_own_keys;
use crate::report;

const DOCUMENT: &str = "docs/performance.md";
/// The start, and the two half-lives of the tokens after it.
const HOURS: [std::ops::Range<u64>; 3] = [0..3, 3..10, 10..17];

/// The defaults of the configuration.
const DEFAULTS: RefreshPolicy =
    RefreshPolicy { at: 0.5, jitter: 0.1, writes_per_second: 50, tokens_per_second: 50 };

fn scenarios() -> Vec<Scenario> {
    let shared = Scenario {
        name: "one token for each cluster, no Secrets yet",
        clusters: 1_000,
        namespaces: 100,
        settings: testing::settings,
        refresh: DEFAULTS,
        is_fresh: false,
        ecr: ECR,
    };
    let own = Scenario {
        name: "one token for each namespace (`{namespace}`), no Secrets yet",
        settings: with_own_keys,
        ..shared.clone()
    };
    vec![
        Scenario { name: "one token for each cluster, all Secrets fresh", is_fresh: true, ..shared.clone() },
        Scenario {
            name: "the same with 1,000 namespaces in each cluster",
            namespaces: 1_000,
            is_fresh: true,
            ..shared.clone()
        },
        Scenario {
            name: "100 namespaces, and `refresh.jitter: 0`",
            refresh: RefreshPolicy { jitter: 0.0, ..DEFAULTS },
            is_fresh: true,
            ..shared.clone()
        },
        shared.clone(),
        Scenario {
            name: "the same with a quota of 20 in a second and a burst of 200",
            ecr: Quota { burst: 200.0, per_second: 20.0 },
            ..shared
        },
        Scenario {
            name: "one token for each namespace (`{namespace}`), all Secrets fresh",
            is_fresh: true,
            ..own.clone()
        },
        own.clone(),
        Scenario {
            name: "the same with `refresh.tokensPerSecond: 1`",
            refresh: RefreshPolicy { tokens_per_second: 1, ..DEFAULTS },
            ..own
        },
    ]
}

const HEAD: &str = "| restart of 1,000 clusters at the same moment | ECR: calls | most in 1 s | throttled | STS: calls | most in 1 s | throttled | \
         last Secret after | next renewal, ECR: most in 1 s | throttled | the renewal after it: most in 1 s | throttled |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n";

/// A row for each scenario, on every processor.
fn rows(scenarios: &[Scenario]) -> Vec<String> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = scenarios.iter().map(|scenario| scope.spawn(|| row(scenario))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a simulation does not panic")).collect()
    })
}

fn row(scenario: &Scenario) -> String {
    let mut fleet = Fleet::start(scenario);
    fleet.run_until(Duration::from_hours(HOURS[2].end));
    assert!(fleet.all_are_valid(), "{}: a Secret is missing or expired at the end", scenario.name);
    let [start, next, then] = &HOURS;
    let (calls, most, throttled) = fleet.aws.ecr.during(start);
    let (sts_calls, sts_most, sts_throttled) = fleet.aws.sts.during(start);
    let complete = fleet.complete.as_secs_f64();
    let complete = if scenario.is_fresh { "–".to_owned() } else { format!("{complete:.1} s") };
    let (_, next_most, next_throttled) = fleet.aws.ecr.during(next);
    let (_, then_most, then_throttled) = fleet.aws.ecr.during(then);
    format!(
        "| {} | {calls} | {most} | {throttled} | {sts_calls} | {sts_most} | {sts_throttled} | {complete} | {next_most} | \
         {next_throttled} | {then_most} | {then_throttled} |\n",
        scenario.name
    )
}

/// Those with a token for each namespace take ten times as long.
fn is_quick(scenario: &Scenario) -> bool {
    scenario.namespaces == 100 && (scenario.settings)().grants.identities.is_empty()
}

#[test]
fn the_table_of_the_fleet_is_current() {
    let table = report::get(DOCUMENT, "fleet");
    let mut scenarios = scenarios();
    scenarios.retain(is_quick);
    assert!(scenarios.len() > 3, "most of the table is checked");
    for row in rows(&scenarios) {
        assert!(table.contains(&row), "docs/performance.md does not have this row, run `make fleet`: {row}");
    }
}

#[test]
#[ignore = "writes docs/performance.md: make fleet"]
fn write_the_table() {
    report::put(DOCUMENT, "fleet", &format!("{HEAD}{}", rows(&scenarios()).concat()));
}
