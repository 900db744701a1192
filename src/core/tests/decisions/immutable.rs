//! Secrets that another client made immutable: when they are replaced, and by which tokens.

use super::*;
use crate::core::plan::Replacement;
use crate::core::secret::static_registries::StaticGrant;

fn immutable(expiries: &[i64]) -> Observed {
    let applied = applied(&request(&[HOST, WEST]), expiries);
    Observed { mutability: Mutability::Immutable, ..observed_with(applied) }
}

fn step(observed: &Observed, now: Now) -> Step {
    decide(Some(&parsed(request(&[HOST, WEST]))), &only(observed), &History::default(), now).step
}

fn replacement(observed: &Observed, now: Now) -> Replacement {
    match step(observed, now) {
        Step::Replace(replacement) => *replacement,
        step => panic!("{step:?}"),
    }
}

/// Whether tokens that expire then, in hours, are enough; `None` for a region that fails.
fn is_ready(replacement: &Replacement, hours: [Option<i64>; 2], hour: i64) -> bool {
    let tokens = hours.map(|expires| expires.map(|expires| token(at((expires - 12) * HOUR), 12 * HOUR)));
    replacement.is_ready(&tokens, at(hour * HOUR))
}

/// N58: the applied request is recorded in the Secret itself, so nothing created it again.
#[test]
fn a_secret_that_would_not_be_created_again_is_not_replaced() {
    let secret = immutable(&[12 * HOUR]);
    let step =
        |parsed: &ParsedAnnotations, now| decide(Some(parsed), &only(&secret), &History::default(), now).step;
    let valid = parsed(request(&[HOST, WEST]));
    for hour in [9, 13] {
        assert_eq!(step(&invalid(), at(hour * HOUR)), Step::Idle(None));
        assert!(matches!(step(&valid, at(hour * HOUR)), Step::Replace(_)));
    }
    // Creations back off.
    let retry = RetryState { repairs: 6, repaired_at: Some(wall(9 * HOUR)), ..RetryState::default() };
    let history = History { retry: retry.into(), ..History::default() };
    let step = decide(Some(&valid), &only(&secret), &history, at(9 * HOUR)).step;
    assert!(matches!(step, Step::Idle(Some(_))), "{step:?}");
}

/// N58: the request of a retired Secret is in force then, and it is another one.
#[test]
fn nor_is_one_that_would_be_created_with_another_request() {
    let retired = Request { secret_name: "old".into(), ..request(&[HOST]) };
    let retired = Observed { is_deleting: true, ..observed(&retired) };
    let secrets = [("old".into(), retired), ("ecr-pull".into(), immutable(&[12 * HOUR]))];
    let step = decide(Some(&invalid()), &secrets, &History::default(), at(9 * HOUR)).step;
    assert!(!matches!(step, Step::Replace(_)), "{step:?}");
}

#[test]
fn in_the_last_quarter_one_entry_must_end_later_and_none_sooner() {
    let replacement = replacement(&immutable(&[12 * HOUR, 14 * HOUR]), at(9 * HOUR));
    for (hours, expected) in [
        ([Some(18), Some(18)], true),
        ([Some(18), Some(14)], true),
        ([Some(12), Some(14)], false),
        ([Some(18), Some(13)], false),
        ([Some(18), None], false),
        ([None, Some(18)], false),
        ([None, None], false),
    ] {
        assert_eq!(is_ready(&replacement, hours, 9), expected, "{hours:?}");
    }
    assert!(is_ready(&replacement, [None, Some(18)], 12), "the other entry has expired");
}

/// N19: the last quarter is that of the entries that are live.
#[test]
fn an_entry_that_has_expired_is_replaced_as_soon_as_it_has_a_token() {
    let mut secret = immutable(&[HOUR, 14 * HOUR]);
    secret.times = Some(Times { expires_at: wall(14 * HOUR), refresh_after: wall(HOUR) });
    let replacement = replacement(&secret, at(3 * HOUR));
    assert!(is_ready(&replacement, [Some(15), Some(14)], 3));
    assert!(!is_ready(&replacement, [None, Some(15)], 3), "the last quarter has not begun");
    assert!(is_ready(&replacement, [None, Some(24)], 12));
}

/// N31: while the wall clock was ahead, the times of the Secret became those of its later entry.
#[test]
fn the_last_quarter_is_that_of_the_live_entry_that_expires_first() {
    let mut secret = immutable(&[12 * HOUR, 18 * HOUR]);
    secret.times = Some(Times { expires_at: wall(18 * HOUR), refresh_after: wall(6 * HOUR) });
    assert_eq!(step(&secret, at(8 * HOUR)), Step::Idle(Some(wall(9 * HOUR))));
    assert!(is_ready(&replacement(&secret, at(9 * HOUR)), [Some(19), Some(19)], 9));
}

/// N33: the clock is ahead, and the region of the first entry fails.
#[test]
fn an_entry_that_has_expired_only_by_a_wrong_clock_needs_a_token() {
    let replacement = replacement(&immutable(&[12 * HOUR, 14 * HOUR]), at(13 * HOUR));
    let tokens = [None, Some(token(at(6 * HOUR), 12 * HOUR))];
    for (skew, expected) in [(None, false), (Some(-10), false), (Some(0), true)] {
        let now = skewed(at(13 * HOUR), skew);
        assert_eq!(replacement.is_ready(&tokens, now), expected, "{skew:?}");
    }
}

/// N33
#[test]
fn the_last_quarter_has_begun_by_both_clocks() {
    let replacement = replacement(&immutable(&[12 * HOUR, 12 * HOUR]), skewed(at(9 * HOUR), None));
    let tokens = [Some(token(at(8 * HOUR), 12 * HOUR)), Some(token(at(8 * HOUR), 12 * HOUR))];
    for (skew, expected) in [(None, false), (Some(-1), false), (Some(0), true), (Some(1), true)] {
        let now = skewed(at(9 * HOUR), skew);
        assert_eq!(replacement.is_ready(&tokens, now), expected, "{skew:?}");
    }
}

/// N35: by a clock that is behind, no token can live as long as the entry.
#[test]
fn an_entry_with_implausible_times_is_no_reason_to_replace_the_secret() {
    let secret = immutable(&[12 * HOUR]);
    let behind = skewed(at(-2 * HOUR), None);
    let replacement = replacement(&secret, behind);
    for life in [12, 15] {
        let tokens = [Some(token(at(-2 * HOUR), life * HOUR)), Some(token(at(-HOUR), 15 * HOUR))];
        assert!(!replacement.is_ready(&tokens, behind), "{life}");
    }
}

#[test]
fn a_missing_entry_is_replaced_as_soon_as_it_has_a_token() {
    let mut applied = applied(&request(&[HOST, WEST]), &[12 * HOUR]);
    applied.entries[1] = None;
    let secret = Observed { mutability: Mutability::Immutable, ..observed_with(applied) };
    let replacement = replacement(&secret, at(HOUR));
    assert!(is_ready(&replacement, [Some(12), Some(13)], 1));
    assert!(!is_ready(&replacement, [Some(12), None], 1));
}

#[test]
fn data_that_another_client_changed_are_replaced_at_once() {
    let secret = Observed { intact: false, data_intact: false, ..immutable(&[12 * HOUR]) };
    assert!(is_ready(&replacement(&secret, at(HOUR)), [Some(12), None], 1));
}

#[test]
fn a_live_secret_whose_record_cannot_be_read_is_replaced_with_a_token_for_each_registry() {
    let secret = Observed { intact: false, applied: None, ..immutable(&[12 * HOUR]) };
    let replacement = replacement(&secret, at(9 * HOUR));
    assert!(!is_ready(&replacement, [Some(18), None], 9) && is_ready(&replacement, [Some(18), Some(18)], 9));
    assert!(is_ready(&replacement, [Some(18), None], 12), "it has expired");
}

/// The same host may be requested by its name or as `default`.
#[test]
fn a_live_entry_counts_however_its_host_was_requested() {
    let applied = applied(&request_for(vec![Target::Default]), &[12 * HOUR]);
    let secret = Observed { mutability: Mutability::Immutable, ..observed_with(applied) };
    let plan =
        decide(Some(&parsed(request(&[HOST, WEST]))), &only(&secret), &History::default(), at(9 * HOUR));
    let Step::Replace(replacement) = plan.step else { panic!("{:?}", plan.step) };
    assert!(!is_ready(&replacement, [None, Some(18)], 9), "the entry of the first is live");
}

#[test]
fn a_copied_entry_whose_source_is_missing_is_kept_until_the_tokens_have_expired() {
    let mut applied = applied(&request(&[HOST]), &[12 * HOUR]);
    applied.static_entries = BTreeMap::from([("docker.io".to_owned(), "hub@1".to_owned())]);
    let secret = Observed { mutability: Mutability::Immutable, ..observed_with(applied) };
    let grant = StaticGrant {
        secret: "hub".into(),
        hosts: vec!["docker.io".into()],
        namespaces: vec!["*".parse().expect("a pattern")],
    };
    let settings = Settings { static_grants: vec![grant], ..settings() };
    let step = |second| {
        decide_with(
            &settings,
            Some(&parsed(request(&[HOST]))),
            &only(&secret),
            &History::default(),
            at(second),
        )
        .step
    };
    assert_eq!(step(10 * HOUR), Step::Idle(Some(wall(12 * HOUR))));
    assert!(matches!(step(12 * HOUR), Step::Replace(_)));
}
