//! The content of a write, composed from the available tokens.

use super::*;

proptest! {
    #[test]
    fn a_secret_is_never_due_before_its_token_can_be_renewed(
        nanos in 0i64..1_000_000_000, life in 1i64..50_000, spread in any::<bool>(),
    ) {
        let mut settings = settings();
        settings.refresh.jitter = if spread { settings.refresh.jitter } else { 0.0 };
        let now = at_wall(wall(0) + SignedDuration::from_nanos(nanos));
        let (token, plan) = (token(now, life), write_plan(WriteReason::Missing, &request(&[HOST]), None));
        let history = History::default();
        let draft = compose(&plan, &[Some(token.clone())], &facts(&history), &settings, now);
        let times = draft.expect("a write").times;
        prop_assert!(times.refresh_after >= token.successor_due_at(settings.refresh), "{times:?}");
        prop_assert!(times.expires_at <= token.expires_at(), "{times:?}");
        prop_assert_eq!(times.refresh_after.subsec_nanosecond() + times.expires_at.subsec_nanosecond(), 0);
    }
}

#[test]
fn a_live_entry_is_not_replaced_by_a_token_that_expires_sooner() {
    let one = request(&[HOST]);
    let repair = write_plan(WriteReason::FieldsTakenOver, &one, Some(observed(&one)));
    let draft = composed(&repair, &[Some(token(at(HOUR), 2 * HOUR))], at(HOUR)).expect("a repair");
    assert_eq!((set_targets(&draft), kept_targets(&draft)), (vec![], one.registries.clone()));
    assert_eq!(draft.times.expires_at, wall(12 * HOUR));
    assert!((wall(6 * HOUR)..wall(8 * HOUR)).contains(&draft.times.refresh_after), "{:?}", draft.times);
    let draft = composed(&repair, &[Some(token(at(HOUR), 12 * HOUR))], at(HOUR)).expect("a repair");
    assert_eq!((set_targets(&draft), kept_targets(&draft)), (one.registries, vec![]));
}

#[test]
fn an_expired_token_is_used_only_if_the_current_entry_is_not_better() {
    let (one, now) = (request(&[HOST]), at(HOUR));
    let tokens = [Some(token(at(-HOUR), HOUR))];
    let missing = write_plan(WriteReason::Missing, &one, None);
    assert!(composed(&missing, &tokens, now).is_none(), "it expired since, as AWS is away (B15)");
    let arrived_expired = [Some(token(at(HOUR), -HOUR))];
    let create = composed(&missing, &arrived_expired, now).expect("AWS has no better one");
    assert_eq!(set_targets(&create), one.registries);
    assert_eq!(create.times.expires_at, wall(0), "the expiry is in the past");
    let current = |expires| {
        let times = Some(Times { expires_at: wall(expires), refresh_after: wall(0) });
        Some(Observed { times, ..observed_with(applied(&one, &[expires])) })
    };
    for (expires, used) in [(12 * HOUR, false), (0, false), (1, false), (-HOUR, true)] {
        let draft = composed(&write_plan(WriteReason::RenewalDue, &one, current(expires)), &tokens, now);
        assert_eq!(draft.is_some(), used, "the current entry expires at {expires}");
    }
    let mut unknown = applied(&one, &[12 * HOUR]);
    unknown.entries[0].as_mut().expect("an entry").expires_at = None;
    for unknown in [Observed { times: None, ..observed(&one) }, observed_with(unknown)] {
        assert!(composed(&write_plan(WriteReason::RenewalDue, &one, Some(unknown)), &tokens, now).is_none());
    }
}

#[test]
fn nothing_is_written_without_a_token_or_twice_with_the_same_tokens() {
    let (one, now) = (request(&[HOST]), at(6 * HOUR));
    assert!(composed(&write_plan(WriteReason::Missing, &one, None), &[None], now).is_none());
    let renewal = write_plan(WriteReason::RenewalDue, &one, Some(observed(&one)));
    assert!(composed(&renewal, &[None], now).is_none());
    let tokens = [Some(token(now, 12 * HOUR))];
    let draft = composed(&renewal, &tokens, now).expect("a renewal");
    let history = History { fingerprint: Some(draft.fingerprint), ..History::default() };
    assert!(composed_after(&history, &renewal, &tokens, now).is_none());
    let newer = [Some(token(at(12 * HOUR), 12 * HOUR))];
    assert!(composed_after(&history, &renewal, &newer, now).is_some());
}

#[test]
fn a_renewal_that_stays_due_is_written_once_for_the_same_tokens() {
    let (both, now) = (request(&[HOST, PUBLIC]), at(8 * HOUR));
    let tokens = [Some(token(now, 12 * HOUR)), None];
    let renewal = write_plan(WriteReason::RenewalDue, &both, Some(observed(&both)));
    let draft = composed(&renewal, &tokens, now).expect("a renewal");
    let secret = after_write(&draft, observed(&both));
    let mut history = History::default();
    history.record_write(renewal.reason, &"ecr-pull".into(), &secret, draft.fingerprint, now);
    let Step::Write(renewal) = decide(Some(&parsed(both)), &only(&secret), &history, now).step else {
        panic!("the entry without a token is still due")
    };
    assert_eq!(renewal.reason, WriteReason::RenewalDue);
    assert!(composed_after(&history, &renewal, &tokens, now).is_none());
}

#[test]
fn a_renewal_with_an_expired_token_among_others_is_written_once() {
    let (both, now) = (request(&[HOST, PUBLIC]), at(13 * HOUR));
    // One is newer than the entry although it has expired, the other is live and already due.
    let tokens = [Some(token(at(HOUR), 11 * HOUR + 1_800)), Some(token(at(12 * HOUR + 1_800), HOUR))];
    let renewal = write_plan(WriteReason::RenewalDue, &both, Some(observed(&both)));
    let draft = composed(&renewal, &tokens, now).expect("a renewal");
    assert_eq!(set_targets(&draft), both.registries);
    let secret = after_write(&draft, observed(&both));
    let mut history = History::default();
    history.record_write(renewal.reason, &"ecr-pull".into(), &secret, draft.fingerprint, now);
    let Step::Write(again) = decide(Some(&parsed(both)), &only(&secret), &history, now).step else {
        panic!("it is still due")
    };
    assert_eq!(again.reason, WriteReason::RenewalDue);
    assert!(composed_after(&history, &again, &tokens, now).is_none());
}

#[test]
fn an_entry_without_a_new_token_is_kept_with_its_times() {
    let (both, now) = (request(&[HOST, PUBLIC]), at(6 * HOUR));
    let renewal = write_plan(WriteReason::RenewalDue, &both, Some(observed(&both)));
    let draft = composed(&renewal, &[Some(token(now, 12 * HOUR)), None], now)
        .expect("the other entry is not delayed");
    assert_eq!((set_targets(&draft), kept_targets(&draft)), (vec![target(HOST)], vec![target(PUBLIC)]));
    assert_eq!(draft.times.expires_at, wall(12 * HOUR));
    assert!((wall(6 * HOUR)..wall(8 * HOUR)).contains(&draft.times.refresh_after), "{:?}", draft.times);
    let now = at(12 * HOUR);
    let draft = composed(&renewal, &[Some(token(now, 12 * HOUR)), None], now).expect("a renewal");
    assert_eq!(kept_targets(&draft), [target(PUBLIC)], "an expired entry is kept");
    assert_eq!(draft.times.expires_at, wall(24 * HOUR), "but does not count");
    assert!(draft.times.refresh_after <= now.wall, "and its renewal stays due");
}

#[test]
fn a_missing_entry_makes_the_secret_due_whatever_its_times_are() {
    let both = request(&[HOST, PUBLIC]);
    let plan = write_plan(WriteReason::Missing, &both, None);
    let draft = composed(&plan, &[Some(token(at(0), 12 * HOUR)), None], at(0)).expect("the other entry");
    assert_eq!((set_targets(&draft), kept_targets(&draft)), (vec![target(HOST)], vec![]));
    let secret = after_write(&draft, observed(&both));
    assert!(secret.times.is_some_and(|times| times.refresh_after >= wall(6 * HOUR)));
    let step = decide(Some(&parsed(both)), &only(&secret), &History::default(), at(1)).step;
    assert_eq!(written(&step), Some((WriteReason::RenewalDue, "ecr-pull")));
}

#[test]
fn no_entry_is_kept_from_data_that_another_client_changed() {
    let both = request(&[HOST, PUBLIC]);
    let tampered = Observed { intact: false, data_intact: false, ..observed(&both) };
    let repair = write_plan(WriteReason::FieldsTakenOver, &both, Some(tampered));
    assert!(composed(&repair, &[None, None], at(0)).is_none());
    let draft = composed(&repair, &[Some(token(at(0), HOUR)), None], at(0)).expect("a repair");
    assert_eq!((set_targets(&draft), kept_targets(&draft)), (vec![target(HOST)], vec![]));
    let relabelled = Observed { intact: false, ..observed(&both) };
    let repair = write_plan(WriteReason::FieldsTakenOver, &both, Some(relabelled));
    let draft = composed(&repair, &[None, None], at(0)).expect("the metadata are repaired");
    assert_eq!(kept_targets(&draft), both.registries);
}

#[test]
fn an_entry_whose_scope_is_no_longer_granted_is_replaced_or_removed() {
    let both = request(&[HOST, PUBLIC]);
    let mut wider = applied(&both, &[12 * HOUR]);
    let entry = wider.entries[0].as_mut().expect("an entry");
    entry.scope = ScopeFingerprint(entry.scope.0 ^ 1);
    let secret = observed_with(wider);
    let step = decide(Some(&parsed(both.clone())), &only(&secret), &History::default(), at(0)).step;
    assert_eq!(written(&step), Some((WriteReason::ScopeChanged, "ecr-pull")));
    let change = write_plan(WriteReason::ScopeChanged, &both, Some(secret));
    let shorter = token(at(0), HOUR);
    let draft = composed(&change, &[Some(shorter), None], at(0)).expect("a change");
    assert_eq!((set_targets(&draft), kept_targets(&draft)), (vec![target(HOST)], vec![target(PUBLIC)]));
    let draft = composed(&change, &[None, Some(token(at(0), 12 * HOUR))], at(0)).expect("a change");
    assert_eq!(kept_targets(&draft), []);
    assert_eq!(draft.applied.entries[0], None, "the entry with the wider scope is removed");
}

#[test]
fn each_entry_has_its_own_expiry_even_after_a_restart() {
    let both = request(&[HOST, PUBLIC]);
    let mut secret = observed_with(applied(&both, &[12 * HOUR, 7 * HOUR]));
    secret.times = Some(Times { expires_at: wall(7 * HOUR), refresh_after: wall(6 * HOUR) });
    let renewal = write_plan(WriteReason::RenewalDue, &both, Some(secret));
    let tokens = [Some(token(at(6 * HOUR), 3 * HOUR)), Some(token(at(6 * HOUR), 3 * HOUR))];
    let draft = composed(&renewal, &tokens, at(6 * HOUR)).expect("a renewal");
    assert_eq!(kept_targets(&draft), [target(HOST)]);
    assert_eq!(set_targets(&draft), [target(PUBLIC)], "only the entry that expires sooner is replaced");
}

#[test]
fn the_default_registry_has_an_entry_only_if_its_token_names_the_registry() {
    let default = request(&["default"]);
    let missing = write_plan(WriteReason::Missing, &default, None);
    let named = token(at(0), 12 * HOUR);
    let unnamed = Token::new("QVdTOng=", named.issued_at(), named.expires_at(), None).expect("a token");
    let draft = composed(&missing, &[Some(Arc::new(unnamed))], at(0)).expect("a write");
    assert_eq!(set_targets(&draft), [], "the token names no registry");
    assert_eq!(draft.applied.entries, [None]);
    let draft = composed(&missing, &[Some(named)], at(0)).expect("a write");
    assert_eq!(set_targets(&draft), [target(HOST)]);
    let repair = write_plan(WriteReason::ForeignWrite, &default, Some(observed(&default)));
    let draft = composed(&repair, &[None], at(0)).expect("a repair");
    assert_eq!(kept_targets(&draft), [target(HOST)]);
}

/// With a clock that was set back, both times are implausible, and the entry may be that of a newer token.
#[test]
fn a_token_from_before_the_clock_was_set_back_does_not_replace_an_entry() {
    let times = Some(Times { expires_at: wall(12 * HOUR + 5), refresh_after: wall(6 * HOUR) });
    let secret = Observed { times, ..observed(&request(&[HOST])) };
    let write = write_plan(WriteReason::ImplausibleTimes, &request(&[HOST]), Some(secret));
    assert!(composed(&write, &[Some(token(at(0), 12 * HOUR))], at(-8 * HOUR)).is_none());
    assert!(composed(&write, &[None], at(-8 * HOUR)).is_none(), "the record keeps its expiry");
}

/// N36: the machine was suspended, so the monotonic clock does not tell how old the token is.
#[test]
fn a_token_does_not_replace_an_entry_that_was_issued_long_after_it() {
    let times = Some(Times { expires_at: wall(30 * HOUR), refresh_after: wall(24 * HOUR) });
    let secret = Observed { times, ..observed_with(applied(&request(&[HOST]), &[30 * HOUR])) };
    let write = write_plan(WriteReason::ImplausibleTimes, &request(&[HOST]), Some(secret));
    let token = [Some(token(at(0), 12 * HOUR))];
    let draft = composed(&write, &token, at(10 * HOUR)).expect("times that the token may have");
    assert_eq!(kept_targets(&draft), [target(HOST)], "it was issued at 18 h");
}

/// N32: the wall clock was set back, and the times of the token are later than those of the entry.
#[test]
fn a_live_entry_is_not_replaced_by_a_token_whose_lifetime_has_passed() {
    let secret = observed_with(applied(&request(&[HOST]), &[6 * HOUR]));
    let renewal = write_plan(WriteReason::RenewalDue, &request(&[HOST]), Some(secret));
    let token = token(at(0), 12 * HOUR);
    let behind = |hours| skewed(at(3 * HOUR), Some(hours));
    assert!(composed(&renewal, &[Some(token.clone())], behind(8)).is_some());
    assert!(composed(&renewal, &[Some(token)], behind(9)).is_none());
}

#[test]
fn an_entry_of_unknown_expiry_is_not_replaced_by_a_token_that_was_issued_before_it() {
    let mut state = applied(&request(&[HOST]), &[HOUR]);
    let entry = state.entries[0].as_mut().expect("an entry");
    (entry.issued_at, entry.expires_at) = (Some(wall(2 * HOUR)), None);
    let secret = Observed { intact: false, ..observed_with(state) };
    let write = write_plan(WriteReason::FieldsTakenOver, &request(&[HOST]), Some(secret));
    for (issued, kept) in [(HOUR, true), (3 * HOUR, false)] {
        let token = [Some(token(at(issued), 12 * HOUR))];
        let draft = composed(&write, &token, at(4 * HOUR)).expect("a repair");
        assert_eq!(kept_targets(&draft).len(), usize::from(kept), "a token of {issued}");
        let again = write_plan(WriteReason::FieldsTakenOver, &request(&[HOST]), {
            Some(Observed { intact: false, ..after_write(&draft, observed(&request(&[HOST]))) })
        });
        let draft = composed(&again, &token, at(4 * HOUR)).expect("another repair");
        assert_eq!(kept_targets(&draft).len(), usize::from(kept), "a token of {issued}, again");
    }
}
