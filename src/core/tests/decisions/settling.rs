//! What a write has, with the tokens that were to be had.

use super::*;

proptest! {
    #[test]
    fn a_secret_is_never_due_before_its_token_may_be_renewed(
        nanos in 0i64..1_000_000_000, life in 1i64..50_000, spread in any::<bool>(),
    ) {
        let mut settings = settings();
        settings.refresh.jitter = if spread { settings.refresh.jitter } else { 0.0 };
        let now = at(0) + SignedDuration::from_nanos(nanos);
        let (token, wanted) = (token(now, life), intent(WriteCause::Create, &request(&[HOST]), None));
        let made = settle(&wanted, &[Some(token.clone())], "team-a", &History::default(), &settings, now);
        let times = made.and_then(|made| made.times).expect("a write");
        prop_assert!(times.refresh_after >= token.renew_after(settings.refresh), "{times:?}");
        prop_assert!(times.expires_at <= token.expires_at(), "{times:?}");
        prop_assert_eq!(times.refresh_after.subsec_nanosecond() + times.expires_at.subsec_nanosecond(), 0);
    }
}

#[test]
fn a_live_entry_is_not_replaced_by_a_token_that_ends_earlier() {
    let one = request(&[HOST]);
    let repair = intent(WriteCause::Repair, &one, Some(ours(&one)));
    let made = settled(&repair, &[Some(token(at(HOUR), 2 * HOUR))], at(HOUR)).expect("a repair");
    assert_eq!((fresh(&made), &made.carried), (vec![], &one.registries));
    assert_eq!(made.times, ours(&one).times);
    let made = settled(&repair, &[Some(token(at(HOUR), 12 * HOUR))], at(HOUR)).expect("a repair");
    assert_eq!((fresh(&made), &made.carried), (one.registries, &vec![]));
}

#[test]
fn an_expired_token_is_used_only_when_nothing_better_stands() {
    let (one, now) = (request(&[HOST]), at(HOUR));
    let tokens = [Some(token(at(-HOUR), HOUR))];
    let create = settled(&intent(WriteCause::Create, &one, None), &tokens, now).expect("a write");
    assert_eq!(fresh(&create), one.registries);
    assert_eq!(create.times.map(|times| times.expires_at), Some(at(0)), "it says when it ended");
    let standing = |expires| {
        let times = Some(Times { expires_at: at(expires), refresh_after: at(0) });
        Some(Observed { times, applied: Some(Arc::new(accepted(&one, &[expires]))), ..ours(&one) })
    };
    for (expires, used) in [(12 * HOUR, false), (0, false), (1, false), (-HOUR, true)] {
        let made = settled(&intent(WriteCause::Refresh, &one, standing(expires)), &tokens, now);
        assert_eq!(made.is_some(), used, "what stands ended at {expires}");
    }
    let mut unknown = accepted(&one, &[12 * HOUR]);
    unknown.entries[0].as_mut().expect("an entry").expires_at = None;
    let unknown = Observed { applied: Some(Arc::new(unknown)), ..ours(&one) };
    for unknown in [Observed { times: None, ..ours(&one) }, unknown] {
        assert!(settled(&intent(WriteCause::Refresh, &one, Some(unknown)), &tokens, now).is_none());
    }
}

#[test]
fn nothing_is_written_without_a_token_or_twice_with_the_same_ones() {
    let (one, now) = (request(&[HOST]), at(6 * HOUR));
    assert!(settled(&intent(WriteCause::Create, &one, None), &[None], now).is_none());
    let refresh = intent(WriteCause::Refresh, &one, Some(ours(&one)));
    assert!(settled(&refresh, &[None], now).is_none());
    let tokens = [Some(token(now, 12 * HOUR))];
    let made = settled(&refresh, &tokens, now).expect("a refresh");
    let history = History { fingerprint: Some(made.fingerprint), ..History::default() };
    assert!(settle(&refresh, &tokens, "team-a", &history, &settings(), now).is_none());
    let newer = [Some(token(at(12 * HOUR), 12 * HOUR))];
    assert!(settle(&refresh, &newer, "team-a", &history, &settings(), now).is_some());
}

#[test]
fn a_failing_entry_is_carried_and_keeps_the_times_it_had() {
    let (both, now) = (request(&[HOST, PUBLIC]), at(6 * HOUR));
    let refresh = intent(WriteCause::Refresh, &both, Some(ours(&both)));
    let made =
        settled(&refresh, &[Some(token(now, 12 * HOUR)), None], now).expect("the other is not delayed");
    assert_eq!((fresh(&made), &made.carried), (vec![target(HOST)], &vec![target(PUBLIC)]));
    assert_eq!(made.times, ours(&both).times);
    let now = at(12 * HOUR);
    let made = settled(&refresh, &[Some(token(now, 12 * HOUR)), None], now).expect("a refresh");
    assert_eq!(made.carried, [target(PUBLIC)], "an expired entry is kept");
    let times = made.times.expect("times");
    assert_eq!(times.expires_at, at(24 * HOUR), "but no longer counts");
    assert!(times.refresh_after <= now, "and stays due");
}

#[test]
fn a_missing_entry_is_due_at_once() {
    let wanted = intent(WriteCause::Create, &request(&[HOST, PUBLIC]), None);
    let made = settled(&wanted, &[Some(token(at(0), 12 * HOUR)), None], at(0)).expect("the other one");
    assert_eq!((fresh(&made), made.carried), (vec![target(HOST)], vec![]));
    assert_eq!(made.times, Some(Times { expires_at: at(12 * HOUR), refresh_after: at(0) }));
}

#[test]
fn nothing_is_carried_from_data_that_somebody_changed() {
    let both = request(&[HOST, PUBLIC]);
    let tampered = Observed { intact: false, data_intact: false, ..ours(&both) };
    let repair = intent(WriteCause::Repair, &both, Some(tampered));
    assert!(settled(&repair, &[None, None], at(0)).is_none());
    let made = settled(&repair, &[Some(token(at(0), HOUR)), None], at(0)).expect("a repair");
    assert_eq!((fresh(&made), made.carried), (vec![target(HOST)], vec![]));
    let relabelled = Observed { intact: false, ..ours(&both) };
    let made = settled(&intent(WriteCause::Repair, &both, Some(relabelled)), &[None, None], at(0));
    assert_eq!(made.expect("metadata are repaired").carried, both.registries);
}

#[test]
fn a_token_that_reaches_further_than_is_granted_now_is_neither_kept_nor_carried() {
    let both = request(&[HOST, PUBLIC]);
    let mut wider = accepted(&both, &[12 * HOUR]);
    let entry = wider.entries[0].as_mut().expect("an entry");
    entry.scope = Scope(entry.scope.0 ^ 1);
    let secret = Observed { applied: Some(Arc::new(wider)), ..ours(&both) };
    let step = decide(Some(&wants(both.clone())), &standing(&secret), &History::default(), at(0)).step;
    assert_eq!(written(&step), Some((WriteCause::Change, "ecr-pull")));
    let change = intent(WriteCause::Change, &both, Some(secret));
    let shorter = token(at(0), HOUR);
    let made = settled(&change, &[Some(shorter), None], at(0)).expect("a change");
    assert_eq!((fresh(&made), made.carried), (vec![target(HOST)], vec![target(PUBLIC)]));
    let made = settled(&change, &[None, Some(token(at(0), 12 * HOUR))], at(0)).expect("a change");
    assert_eq!((made.carried, made.entries[0]), (vec![], None), "the wider token is not written again");
}

#[test]
fn entries_of_one_secret_have_ends_of_their_own_also_after_a_restart() {
    let both = request(&[HOST, PUBLIC]);
    let mut secret =
        Observed { applied: Some(Arc::new(accepted(&both, &[12 * HOUR, 7 * HOUR]))), ..ours(&both) };
    secret.times = Some(Times { expires_at: at(7 * HOUR), refresh_after: at(6 * HOUR) });
    let refresh = intent(WriteCause::Refresh, &both, Some(secret));
    let tokens = [Some(token(at(6 * HOUR), 3 * HOUR)), Some(token(at(6 * HOUR), 3 * HOUR))];
    let made = settled(&refresh, &tokens, at(6 * HOUR)).expect("a refresh");
    assert_eq!((made.carried, made.fresh.len()), (vec![target(HOST)], 1), "only the one that ends earlier");
}
