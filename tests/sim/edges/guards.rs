//! Scenarios in which every oracle is silent.

use std::collections::BTreeSet;
use std::time::Duration;

use ecr_pull_secrets::simulation::core::leader_election::ElectionTiming;
use ecr_pull_secrets::simulation::core::planted::Bug;
use ecr_pull_secrets::simulation::core::testing;
use ecr_pull_secrets::simulation::telemetry::metrics::Metrics;
use http::Method;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::call::Shape;
use super::oracles::Broken;
use super::rules::{Fault, Rule};
use super::scenarios::{Action, Figures, REGISTRIES, Scenario};
use crate::oracles::Oracle;

const TWO_REGIONS: &[(&str, &str)] = &[(
    "registries",
    "123456789012.dkr.ecr.eu-central-1.amazonaws.com, 123456789012.dkr.ecr.eu-west-1.amazonaws.com",
)];
const WITH_ACCOUNTS: &[(&str, &str)] = &[("registries", testing::HOST), ("service-accounts", "*")];

fn passes(scenario: Scenario) -> Figures {
    scenario.run().unwrap_or_else(|violation| panic!("{violation:?}"))
}

/// Two renewals, one by a process that took over while AWS throttled a region, a repair, service accounts, opting in and
/// out.
fn everyday() -> Scenario {
    let scenario = Scenario {
        token_life: SignedDuration::from_mins(30),
        length: Duration::from_mins(40),
        processes: 2,
        ..Scenario::default()
    };
    scenario
        .at(10, Action::Annotate("two-regions", TWO_REGIONS))
        .at(20, Action::Annotate("accounts", WITH_ACCOUNTS))
        .at(30, Action::DeleteSecret("team-0"))
        .at(60, Action::Annotate("team-1", &[]))
        .at(300, Action::Throttle("eu-west-1", true))
        .at(310, Action::Kill(0))
        .at(1_500, Action::Throttle("eu-west-1", false))
}

#[test]
fn an_ordinary_flow_with_streamed_lists_sends_every_shape() {
    let figures = passes(everyday());
    assert_eq!(figures.shapes, BTreeSet::from(Shape::ALL), "{figures:?}");
    assert!(!figures.secrets.contains_key("team-1"), "it opted out");
    assert!(figures.tokens >= 4 && figures.events > 0, "{figures:?}");
    // Each process asks for the Lease once or twice a second.
    assert!(figures.requests < 4_000, "{figures:?}");
}

#[test]
fn an_ordinary_flow_with_paged_lists() {
    let figures = passes(everyday().paged());
    assert_eq!(figures.shapes, BTreeSet::from(Shape::ALL), "{figures:?}");
}

#[test]
fn lists_of_many_pages() {
    let figures =
        passes(Scenario { namespaces: 250, length: Duration::from_mins(1), ..Scenario::default() }.paged());
    assert_eq!(figures.secrets.len(), 250);
}

#[test]
fn a_latency_of_300_ms_on_everything() {
    let figures = passes(Scenario { latency: Duration::from_millis(300), ..everyday() });
    assert!(figures.secrets.contains_key("accounts"), "{figures:?}");
}

#[test]
fn a_new_list_after_410() {
    let before = [Action::Compact, Action::Annotate("late", REGISTRIES), Action::DeleteSecret("team-0")];
    for scenario in [Scenario::default(), Scenario::default().paged()] {
        let scenario = before.iter().fold(scenario, |scenario, action| scenario.at(30, action.clone()));
        let figures = passes(scenario);
        assert_eq!(figures.secrets.len(), 4, "{figures:?}");
    }
}

#[test]
fn a_write_whose_reply_is_lost_is_tried_again() {
    let lost = Rule::all(Fault::ReplyLost).method(Method::PATCH).path("/ecr-pull").times(3);
    assert_eq!(passes(Scenario::default().rule(lost)).secrets.len(), 3);
}

/// R5, B2: such writes never succeeded, because each ended with the term in which it began.
#[test]
fn slow_writes() {
    let slow = Fault::Slow(Duration::from_millis(3_500));
    for elects in [true, false] {
        let rule = Rule::all(slow.clone()).method(Method::PATCH).path("/ecr-pull");
        let figures = passes(Scenario { elects, ..Scenario::default() }.rule(rule));
        assert_eq!(figures.secrets.len(), 3, "{figures:?}");
    }
}

/// R5, B2: no process became the leader.
#[test]
fn slow_requests_for_the_lease() {
    let slow = Fault::LateReply(Duration::from_millis(1_200));
    let figures = passes(Scenario::default().rule(Rule::all(slow).path("/leases/test")));
    assert_eq!(figures.secrets.len(), 3, "{figures:?}");
}

/// Renewals over two hours, with the election's default periods: three seconds a write and a second and a half a request for
/// the Lease, or one or two webhooks that each hold every write for ten seconds and let it pass.
#[test]
fn slow_writes_and_a_slow_lease_let_no_secret_expire() {
    let slow = |seconds| Rule::all(Fault::Slow(Duration::from_secs(seconds))).method(Method::PATCH);
    let lease = Rule::all(Fault::LateReply(Duration::from_millis(1_500))).path("/leases/test");
    let webhooks = |seconds| vec![slow(seconds).path("/ecr-pull")];
    for rules in [vec![slow(3).path("/ecr-pull"), lease], webhooks(10), webhooks(20)] {
        let scenario = Scenario {
            election: ElectionTiming::default(),
            processes: 2,
            token_life: SignedDuration::from_mins(5),
            length: Duration::from_hours(2),
            rules,
            ..Scenario::default()
        };
        let figures = passes(scenario.at(3_600, Action::Kill(0)));
        assert!(figures.secrets.len() == 3 && figures.tokens >= 40, "{figures:?}");
    }
}

/// Every watch ends once, and then one request is not answered.
fn unanswered(rule: Rule) -> Scenario {
    Scenario::default().at(30, Action::AddRule(rule.times(1))).at(30, Action::Compact)
}

/// R7, A 8.9: it blinded the watch.
#[test]
fn a_list_or_the_start_of_a_watch_without_a_reply() {
    let list = Rule::all(Fault::Hang).path("/api/v1/namespaces").no_watches();
    passes(unanswered(list).paged());
    passes(unanswered(Rule::all(Fault::Hang).path("/api/v1/secrets").watches()));
}

/// R7, A 8.9: it kept the program from starting.
#[test]
fn a_request_for_the_version_without_a_reply() {
    passes(Scenario::default().rule(Rule::all(Fault::Hang).path("/version").times(1)));
}

/// B6: they were trusted for 295 s.
#[test]
fn watches_on_which_nothing_arrives() {
    passes(Scenario::default().at(30, Action::Silence));
}

/// R14: paged lists did not back off. The API server refuses lists of namespaces for five minutes, and says when to come back.
#[test]
fn an_overloaded_api_server() {
    let busy = Fault::Refuse { code: 429, retry_after: Some(10) };
    let rule = Rule::all(busy).path("/api/v1/namespaces").method(Method::GET).no_watches();
    let scenario = Scenario::default().paged().at(30, Action::AddRule(rule)).at(31, Action::Compact);
    passes(scenario.at(330, Action::ClearRules));
}

#[test]
fn an_outage_of_the_api_server() {
    let busy = Rule::all(Fault::Refuse { code: 503, retry_after: None });
    let scenario = Scenario::default().at(60, Action::AddRule(busy)).at(60, Action::Compact);
    let scenario = scenario.at(90, Action::Annotate("late", REGISTRIES)).at(180, Action::ClearRules);
    let figures = passes(scenario);
    assert_eq!(figures.secrets.len(), 4, "{figures:?}");
}

/// One write of each namespace has no reply, without an election, whose end bounds each request as well.
fn unanswered_writes() -> Scenario {
    let hang = Rule::all(Fault::Hang).method(Method::PATCH).path("/ecr-pull").times(3);
    Scenario { elects: false, ..Scenario::default() }.rule(hang)
}

#[test]
fn a_write_without_a_reply_is_given_up() {
    assert_eq!(passes(unanswered_writes()).secrets.len(), 3);
}

#[test]
fn the_deadline_oracle_finds_a_write_that_is_never_given_up() {
    let found = unanswered_writes().run_with(Some(Bug::NoCallTimeout)).expect_err("a violation");
    assert_eq!(found.broken, Broken::World(Oracle::Deadline), "{found:?}");
    println!("{} s: {}", found.at.as_secs(), found.text);
}

#[test]
fn a_standby_takes_over_from_a_leader_that_stops_or_is_killed() {
    for end in [Action::Stop(0), Action::Kill(0)] {
        let scenario = Scenario { processes: 2, ..Scenario::default() };
        let figures = passes(scenario.at(60, end).at(61, Action::Annotate("late", REGISTRIES)));
        assert!(figures.secrets.contains_key("late"), "{figures:?}");
    }
}

#[test]
fn a_standby_takes_over_from_a_leader_whose_requests_hang() {
    let hang = Rule::all(Fault::Hang).agent("process-0").path("/leases/test");
    let scenario = Scenario { processes: 2, ..Scenario::default() }.at(60, Action::AddRule(hang));
    let figures = passes(scenario.at(61, Action::Annotate("late", REGISTRIES)));
    assert!(figures.secrets.contains_key("late"), "{figures:?}");
}

#[test]
fn a_request_of_an_unknown_shape_is_reported() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let violation = runtime.expect("a runtime").block_on(async {
        let server = super::server::Server::new(
            testing::settings().into(),
            ecr_pull_secrets::simulation::Clock::start(),
        );
        let pods: Api<Pod> = Api::all(server.client("tests", Metrics::default()));
        pods.get_opt("one").await.unwrap_or_else(|error| panic!("{error}"));
        server.state().oracles.violation.clone()
    });
    assert_eq!(violation.map(|violation| violation.broken), Some(Broken::UnknownRequest));
}
