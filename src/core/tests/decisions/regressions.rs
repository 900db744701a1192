//! Regression tests, each named after the correct behavior.

use super::*;

#[test]
fn a_missing_entry_is_written_even_if_its_token_expires_a_second_before_the_others() {
    let both = request(&[HOST, PUBLIC]);
    let b = token(at(0), 12 * HOUR);
    let draft = composed(&write_plan(WriteReason::Missing, &both, None), &[Some(b.clone()), None], at(0))
        .expect("a write");
    let secret = after_write(&draft, observed(&both));
    let history = History {
        fingerprint: Some(draft.fingerprint),
        due: Some(draft.times.refresh_after),
        ..History::default()
    };
    // The token of PUBLIC arrives one second later and expires one second earlier (the resolution of `Date`).
    let p = token(at(1), 12 * HOUR - 2);
    let renewal = write_plan(WriteReason::RenewalDue, &both, Some(secret));
    let draft = composed_after(&history, &renewal, &[Some(b), Some(p)], at(1));
    assert!(draft.is_some_and(|draft| set_targets(&draft).len() == 2), "the missing entry is written");
}

#[test]
fn an_expired_entry_is_replaced_by_a_live_token_that_expires_before_its_neighbor() {
    let both = request(&[HOST, PUBLIC]);
    let renewal = write_plan(WriteReason::RenewalDue, &both, Some(observed(&both)));
    let now = at(12 * HOUR);
    let b = token(now, 12 * HOUR);
    let draft = composed(&renewal, &[Some(b.clone()), None], now).expect("a write");
    let secret = after_write(&draft, observed(&both));
    let history = History { fingerprint: Some(draft.fingerprint), ..History::default() };
    let now = at(12 * HOUR + 60);
    let p = token(now, HOUR);
    let renewal = write_plan(WriteReason::RenewalDue, &both, Some(secret));
    let draft = composed_after(&history, &renewal, &[Some(b), Some(p)], now);
    assert!(draft.is_some_and(|draft| kept_targets(&draft).is_empty()), "the expired entry is replaced");
}

#[test]
fn a_repair_does_not_keep_implausible_times() {
    let both = request(&[HOST, PUBLIC]);
    let in_2099 = wall(IN_2099);
    let times = Some(Times { expires_at: in_2099, refresh_after: in_2099 });
    let secret = Observed { times, ..observed(&both) };
    let repair = write_plan(WriteReason::ImplausibleTimes, &both, Some(secret));
    let all_kept = composed(&repair, &[None, None], at(0)).expect("a write");
    assert!(all_kept.times.is_plausible(at(0)), "all kept: {:?}", all_kept.times);
    let mixed = composed(&repair, &[Some(token(at(0), 12 * HOUR)), None], at(0)).expect("a write");
    assert!(mixed.times.is_plausible(at(0)), "mixed: {:?}", mixed.times);
}

#[test]
fn repairs_do_not_loop_while_one_entry_is_missing() {
    let both = request(&[HOST, PUBLIC]);
    let parsed = parsed(both.clone());
    let (mut now, mut history, mut writes) = (at(0), History::default(), 0);
    let tokens = [Some(token(at(0), 12 * HOUR)), None];
    let mut secret = Observed { intact: false, ..observed(&both) };
    secret.times = Some(Times { expires_at: wall(12 * HOUR), refresh_after: wall(0) });
    while now.wall < wall(60) {
        match decide(Some(&parsed), &only(&secret), &history, now).step {
            Step::Write(write) => {
                if let Some(draft) = composed_after(&history, &write, &tokens, now) {
                    writes += 1;
                    secret = after_write(&draft, secret);
                    history.record_write(write.reason, &"ecr-pull".into(), &secret, draft.fingerprint, now);
                }
                now.wall += SignedDuration::from_millis(10);
            }
            Step::Idle(Some(until)) => now.wall = until,
            other => panic!("{other:?}"),
        }
    }
    assert!(writes < 10, "{writes} writes in a minute");
}

#[test]
fn an_immutable_secret_is_not_deleted_before_the_retry_time_of_a_failure() {
    let secret = Observed { mutability: Mutability::Immutable, ..observed(&request(&[HOST])) };
    let history = History { retry: retry_at(10 * HOUR + 30).into(), ..History::default() };
    assert_eq!(step_for(&secret, &history, at(10 * HOUR)), Step::Idle(Some(wall(10 * HOUR + 30))));
}

#[test]
fn an_immutable_secret_with_implausible_times_is_deleted() {
    let times = Some(Times { expires_at: wall(IN_2099), refresh_after: wall(6 * HOUR) });
    let secret = Observed { mutability: Mutability::Immutable, times, ..observed(&request(&[HOST])) };
    let step = step_for(&secret, &History::default(), at(12 * HOUR));
    assert_eq!(deleted(&step), Some((DeleteReason::Immutable, "ecr-pull", "uid-1".into(), 7)));
}

#[test]
fn a_rename_to_a_name_that_is_not_owned_keeps_the_old_secret_renewed() {
    let mut secrets = only(&observed(&request(&[HOST])));
    let foreign = Observed { owner: Owner::Unmanaged, applied: None, ..observed(&named("other")) };
    secrets.push(("other".into(), foreign));
    let step = decide(Some(&parsed(named("other"))), &secrets, &History::default(), at(7 * HOUR)).step;
    assert_eq!(written(&step), Some((WriteReason::RenewalDue, "ecr-pull")));
}

#[test]
fn a_rename_that_is_reverted_is_not_a_repair() {
    // "other" was written (version 9), then the annotation was reverted before "ecr-pull" (version 7) was deleted.
    let mut secrets = only(&observed(&request(&[HOST])));
    secrets.push(("other".into(), Observed { resource_version: 9, ..observed(&named("other")) }));
    let history =
        History { written: Some(("other".into(), 9)), due: Some(wall(6 * HOUR)), ..History::default() };
    let step = decide(Some(&parsed(request(&[HOST]))), &secrets, &history, at(1)).step;
    assert_eq!(deleted(&step), Some((DeleteReason::Renamed, "other", "uid-1".into(), 9)));
}

/// The wall clock was ahead when the record was repaired, and then set back: its times were hours in the future.
#[test]
fn a_secret_with_an_entry_of_unknown_expiry_is_due() {
    let mut state = applied(&request(&[HOST]), &[HOUR]);
    state.entries[0].as_mut().expect("an entry").expires_at = None;
    let times = Some(Times { expires_at: wall(10 * HOUR), refresh_after: wall(10 * HOUR) });
    let secret = Observed { times, ..observed_with(state) };
    let step = step_for(&secret, &History::default(), at(0));
    assert_eq!(written(&step), Some((WriteReason::RenewalDue, "ecr-pull")));
}
