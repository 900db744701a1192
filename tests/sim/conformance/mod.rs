//! The store of the model does what a real API server does: the same generated sequences of requests run on both, and
//! the class of each outcome, the versions, the owned fields and the data are compared.

mod model;
mod real;
mod steps;
mod view;

use std::fmt::Write as _;
use std::sync::OnceLock;

use futures::{StreamExt as _, stream};
use testing::control_plane::{ControlPlane, Kubernetes};

use self::steps::{Step, sequence};
use self::view::Seen;
use crate::store::{BrokenRule, Store};

/// How many sequences `make test` runs, and how many `make conformance`.
const FEW: u64 = 60;
const MANY: u64 = 500;
/// How many run at the same time.
const PARALLEL: usize = 16;

/// What the real API server did in each sequence.
type Transcript = Vec<(u64, Vec<Step>, Vec<Seen>)>;

async fn record(kubernetes: Kubernetes, count: u64) -> Transcript {
    let cluster = ControlPlane::builder().kubernetes(kubernetes).start().await;
    let one = async |seed: u64| {
        let steps = sequence(seed);
        let seen = real::run(cluster.admin(), &format!("sequence-{seed}"), &steps).await;
        (seed, steps, seen)
    };
    stream::iter(0..count).map(one).buffered(PARALLEL).collect().await
}

/// The first sequences on one API server, recorded once for all tests.
fn recorded() -> &'static Transcript {
    static RECORDED: OnceLock<Transcript> = OnceLock::new();
    RECORDED.get_or_init(|| runtime().block_on(record(Kubernetes::selected(), FEW)))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The sequences in which the store does something else.
fn differences(store: &Store, transcript: &Transcript) -> Vec<String> {
    let differs = |(seed, steps, real): &(u64, Vec<Step>, Vec<Seen>)| {
        let model = model::run(store.clone(), steps);
        let at = real.iter().zip(&model).position(|(real, model)| real != model)?;
        let mut text = format!("sequence {seed}\n");
        for (step, seen) in steps[..=at].iter().zip(real) {
            let _ = writeln!(text, "  {step:?}: {}", seen.outcome);
        }
        let (real, model) = (format!("{:#?}", real[at]), format!("{:#?}", model[at]));
        let only = |of: &str, other: &str| {
            let lines = of.lines().filter(|line| !other.lines().any(|known| known == *line));
            lines.map(str::trim).collect::<Vec<_>>().join(" ")
        };
        let (real, model) = (only(&real, &model), only(&model, &real));
        let _ = writeln!(text, "  only the API server: {real}\n  only the store: {model}");
        Some(text)
    };
    transcript.iter().filter_map(differs).collect()
}

fn assert_conforms(transcript: &Transcript) {
    let found = differences(&Store::default(), transcript);
    assert!(found.is_empty(), "{} of {} differ; the first:\n{}", found.len(), transcript.len(), found[0]);
    let steps = transcript.iter().map(|(_, steps, _)| steps.len()).sum::<usize>();
    println!("{} sequences, {steps} requests: the store does what the API server does", transcript.len());
}

#[test]
fn the_store_does_what_the_api_server_does() {
    if testing::real_cluster() {
        assert_conforms(recorded());
    }
}

#[test]
#[ignore = "builds another kube-apiserver, which takes minutes: make conformance runs it"]
fn the_store_does_what_the_oldest_api_server_does() {
    assert_conforms(&runtime().block_on(record(Kubernetes::Oldest, MANY)));
}

#[test]
#[ignore = "builds another kube-apiserver, which takes minutes: make conformance runs it"]
fn the_store_does_what_the_newest_api_server_does() {
    assert_conforms(&runtime().block_on(record(Kubernetes::Newest, MANY)));
}

#[test]
#[ignore = "builds kine, which takes minutes: make conformance runs it"]
fn the_store_does_what_an_api_server_on_kine_does() {
    assert_conforms(&runtime().block_on(record(Kubernetes::Kine, MANY)));
}

/// A test for each rule of the model that could be wrong: without it, the comparison fails.
macro_rules! broken {
    ($($test:ident: $rule:ident;)*) => {
        $(
            #[test]
            fn $test() {
                if testing::real_cluster() {
                    assert_notices(BrokenRule::$rule);
                }
            }
        )*
    };
}

broken! {
    an_apply_that_changes_nothing_gets_no_version: NoOpGrows;
    an_apply_without_force_overwrites_nothing: ConflictsOverwritten;
    a_stale_version_is_refused: StaleVersionAccepted;
    an_update_takes_the_ownership: UpdateOwnsNothing;
    equal_values_are_owned_by_both: ApplyOwnsAlone;
    immutable_data_stay: ImmutableChanged;
    a_deletion_has_preconditions: PreconditionsIgnored;
}

fn assert_notices(rule: BrokenRule) {
    let found = differences(&Store { broken: Some(rule), ..Store::default() }, recorded());
    assert!(!found.is_empty(), "the comparison does not notice {rule:?}");
    println!("{rule:?}: {} of {} sequences differ", found.len(), recorded().len());
}
