//! Bugs that were mended, by what they broke.

use super::*;

#[test]
fn a_missing_entry_is_written_also_when_its_token_ends_a_second_before_the_others() {
    let both = request(&[HOST, PUBLIC]);
    let b = token(at(0), 12 * HOUR);
    let made = settled(&intent(WriteCause::Create, &both, None), &[Some(b.clone()), None], at(0))
        .expect("something to write");
    let observed = rewritten(ours(&both), &both, &made);
    let history = History {
        fingerprint: Some(made.fingerprint),
        due: made.times.map(|t| t.refresh_after),
        ..History::default()
    };
    // PUBLIC's token arrives one second later with an end one second earlier (Date resolution)
    let p = token(at(1), 12 * HOUR - 2);
    let refresh = intent(WriteCause::Refresh, &both, Some(observed));
    let made = settle(&refresh, &[Some(b), Some(p)], "team-a", &history, &settings(), at(1));
    assert!(made.is_some_and(|m| m.fresh.len() == 2), "the missing entry is written");
}

#[test]
fn an_expired_entry_gives_way_to_a_live_token_that_ends_before_its_neighbour() {
    let both = request(&[HOST, PUBLIC]);
    let refresh = intent(WriteCause::Refresh, &both, Some(ours(&both)));
    let now = at(12 * HOUR);
    let b = token(now, 12 * HOUR);
    let made = settled(&refresh, &[Some(b.clone()), None], now).expect("something to write");
    let observed = rewritten(ours(&both), &both, &made);
    let history = History { fingerprint: Some(made.fingerprint), ..History::default() };
    let p = token(at(12 * HOUR + 60), HOUR);
    let refresh = intent(WriteCause::Refresh, &both, Some(observed));
    let made = settle(&refresh, &[Some(b), Some(p)], "team-a", &history, &settings(), at(12 * HOUR + 60));
    assert!(made.is_some_and(|m| m.carried.is_empty()), "expired entry replaced");
}

#[test]
fn unbelievable_times_are_not_kept_by_a_repair() {
    let both = request(&[HOST, PUBLIC]);
    let t2099 = at(IN_2099);
    let observed = Observed { times: Some(Times { expires_at: t2099, refresh_after: t2099 }), ..ours(&both) };
    let repair = intent(WriteCause::Repair, &both, Some(observed));
    let all_carried = settled(&repair, &[None, None], at(0)).expect("something to write");
    let made = settled(&repair, &[Some(token(at(0), 12 * HOUR)), None], at(0)).expect("something to write");
    assert!(made.times.expect("times").refresh_after <= at(0), "mixed: {:?}", made.times);
    assert!(all_carried.times.expect("times").is_believable(at(0)), "all carried: {:?}", all_carried.times);
}

#[test]
fn repairs_do_not_spin_while_one_entry_is_missing() {
    let both = request(&[HOST, PUBLIC]);
    let reading = wants(both.clone());
    let (mut now, mut history, mut writes) = (at(0), History::default(), 0);
    let tokens = [Some(token(at(0), 12 * HOUR)), None];
    let mut secret = Observed { intact: false, ..ours(&both) };
    secret.times = Some(Times { expires_at: at(12 * HOUR), refresh_after: at(0) });
    while now < at(60) {
        match decide(Some(&reading), &standing(&secret), &history, now).step {
            Step::Write(intent) => {
                if let Some(made) = settle(&intent, &tokens, "team-a", &history, &settings(), now) {
                    writes += 1;
                    secret = rewritten(secret, &both, &made);
                    secret.resource_version += 1;
                    history.wrote(intent.cause, &"ecr-pull".into(), &secret, made.fingerprint, now);
                }
                now += SignedDuration::from_millis(10);
            }
            Step::Idle(Some(t)) => now = t,
            other => panic!("{other:?}"),
        }
    }
    assert!(writes < 10, "{writes} writes in a minute");
}

#[test]
fn an_immutable_secret_is_deleted_no_sooner_than_a_failure_allows() {
    let observed = Observed { immutable: true, ..ours(&request(&[HOST])) };
    let history = History { tries: retry(10 * HOUR + 30), ..History::default() };
    assert_eq!(tend(&observed, &history, at(10 * HOUR)), Step::Idle(Some(at(10 * HOUR + 30))));
}

#[test]
fn an_immutable_secret_with_unbelievable_times_is_made_anew() {
    let t = Some(Times { expires_at: at(IN_2099), refresh_after: at(6 * HOUR) });
    let observed = Observed { immutable: true, times: t, ..ours(&request(&[HOST])) };
    let step = tend(&observed, &History::default(), at(12 * HOUR));
    assert!(matches!(step, Step::Delete { .. }), "{step:?}");
}

#[test]
fn a_rename_to_a_taken_name_keeps_the_old_secret_refreshed() {
    let mut secrets = standing(&ours(&request(&[HOST])));
    secrets
        .push(("other".into(), Observed { owner: Owner::Stranger, applied: None, ..ours(&named("other")) }));
    let step = decide(Some(&wants(named("other"))), &secrets, &History::default(), at(7 * HOUR)).step;
    assert!(matches!(step, Step::Write(_)), "{step:?}");
}

#[test]
fn a_rename_that_is_taken_back_is_no_repair() {
    // wrote "other" (rv 9), then the annotation goes back before "ecr-pull" (rv 7) was deleted
    let mut secrets = standing(&ours(&request(&[HOST])));
    secrets.push(("other".into(), Observed { resource_version: 9, ..ours(&named("other")) }));
    let history =
        History { written: Some(("other".into(), 9)), due: Some(at(6 * HOUR)), ..History::default() };
    let step = decide(Some(&wants(request(&[HOST]))), &secrets, &history, at(1)).step;
    assert!(!matches!(step, Step::Write(_)), "{step:?}");
}
