//! Executing the plans of a namespace leads to a state in which nothing is left to do.

use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::sample::{select, subsequence};

use super::*;
use crate::core::plan::{PullSecretChange, PullSecretRefs};
use crate::core::request::{AppliedState, TemplateFingerprint};
use crate::core::secret::{SecretTemplate, StaticGrant, StaticSource};

const NAMES: [&str; 3] = ["ecr-pull", "other", "old"];
const STATIC_HOST: &str = "docker.io";

/// The stored objects of a namespace, and the history of this process.
#[derive(Clone, Debug)]
struct Namespace {
    parsed: Option<ParsedAnnotations>,
    secrets: Vec<(Arc<str>, Observed)>,
    service_accounts: Vec<(Arc<str>, PullSecretRefs)>,
    /// Whether there is another service account, which was not reported.
    misses_accounts: bool,
    static_sources: StaticSources,
    history: History,
}

fn static_settings() -> Settings {
    let hub = StaticGrant {
        secret: "hub".into(),
        hosts: vec![STATIC_HOST.into()],
        namespaces: vec!["team-*".parse().expect("a pattern")],
    };
    Settings { static_grants: vec![hub], secret_template: template(), ..settings() }
}

fn template() -> SecretTemplate {
    SecretTemplate::new(BTreeMap::from([("team".to_owned(), "blue".to_owned())]), BTreeMap::new())
}

impl Namespace {
    fn facts(&self) -> Facts<'_> {
        Facts {
            terminating: false,
            held: false,
            keeps_all: false,
            is_single_pass: false,
            namespace: "team-a",
            parsed: self.parsed.as_ref(),
            secrets: &self.secrets,
            service_accounts: &self.service_accounts,
            known_accounts: if self.misses_accounts { KnownAccounts::Attached } else { KnownAccounts::All },
            static_sources: &self.static_sources,
            history: &self.history,
        }
    }

    fn plan(&self, now: Now) -> Step {
        plan(&self.facts(), &static_settings(), now).step
    }

    /// Executes `step` like the controller and the API server. Returns whether anything changed.
    fn carry_out(&mut self, step: Step, now: Now) -> bool {
        match step {
            Step::Idle(_) => false,
            Step::Write(write) => self.write(&write, now),
            Step::Delete(deletion) => {
                self.secrets.retain(|(name, _)| *name != deletion.name);
                self.history.record_deletion(&deletion.name, now);
                true
            }
            Step::Replace(replacement) => {
                self.secrets.retain(|(name, _)| *name != replacement.deletion.name);
                self.history.record_deletion(&replacement.deletion.name, now);
                true
            }
            Step::SetPullSecret(change) => {
                self.set_pull_secret(&change);
                true
            }
            Step::ListServiceAccounts => {
                let refs = PullSecretRefs { resource_version: 1, references: vec![], attached: vec![] };
                self.service_accounts.push(("late".into(), refs));
                self.misses_accounts = false;
                true
            }
        }
    }

    /// Writes the Secret with a live token for every registry.
    fn write(&mut self, write: &WritePlan, now: Now) -> bool {
        let token = token(now, 12 * HOUR);
        let tokens = vec![Some(token); write.granted.assignments.len()];
        let draft = compose(write, &tokens, &self.facts(), &static_settings(), now);
        let Some(draft) = draft else { return false };
        let name: Arc<str> = write.granted.request.secret_name.as_str().into();
        let created = || Observed { uid: "uid-2".into(), ..observed(&write.granted.request) };
        let current = write.observed.as_deref().cloned().unwrap_or_else(created);
        let current = Observed { intact: true, data_intact: true, ..current };
        let after = after_write(&draft, current);
        self.history.record_write(write.reason, &name, &after, draft.fingerprint, now);
        match self.secrets.iter_mut().find(|(known, _)| *known == name) {
            Some((_, current)) => *current = after,
            None => self.secrets.push((name, after)),
        }
        true
    }

    fn set_pull_secret(&mut self, change: &PullSecretChange) {
        let account = self.service_accounts.iter_mut().find(|(name, _)| *name == change.service_account);
        let (_, refs) = account.expect("a known service account");
        attach(refs, change);
    }
}

/// The name of the Secret that a step writes.
fn written_name(step: &Step) -> Option<&str> {
    let Step::Write(write) = step else { return None };
    Some(&write.granted.request.secret_name)
}

/// Whether the only thing left is the renewal of a Secret with an entry that expires after any new token, more than the
/// resolution of its times. [`compose`] rejects that write, and the controller retries later.
fn waits_for_longer_lived_token(step: &Step, now: Now) -> bool {
    let Step::Write(write) = step else { return false };
    let latest = now.after(SignedDuration::from_hours(12) + SignedDuration::from_secs(2));
    let applied = write.observed.as_ref().and_then(|observed| observed.applied.as_ref());
    let mut entries = applied.into_iter().flat_map(|applied| applied.entries.iter().flatten());
    write.reason == WriteReason::RenewalDue
        && entries.any(|entry| entry.expires_at.is_some_and(|at| at > latest))
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        4 => (-60_000i64..60_000).prop_map(wall),
        1 => Just(wall(IN_2099)),
    ]
}

prop_compose! {
    fn any_request(names: &'static [&'static str])(
        hosts in subsequence(vec![HOST, PUBLIC, "default"], 1..=3),
        secret_name in select(names),
        service_accounts in select(vec![vec![], vec!["*".to_owned()], vec!["builder".to_owned()]]),
        role in prop_oneof![4 => Just(vec![]), 1 => Just(vec!["nobody".to_owned()])],
        by_default in any::<bool>(),
    ) -> Request {
        Request { secret_name: secret_name.into(), service_accounts, role, by_default, ..request(&hosts) }
    }
}

prop_compose! {
    fn any_state()(
        request in any_request(&NAMES),
        expiries in vec(-60_000i64..60_000, 3),
        wider in any::<bool>(),
        tag in select(vec![None, Some("hub@3"), Some("hub@7")]),
        missing in any::<bool>(),
        template in select(vec![None, Some(TemplateFingerprint(7)), template().fingerprint()]),
    ) -> AppliedState {
        let mut state = applied(&request, &expiries);
        if let Some(Some(entry)) = state.entries.first_mut() {
            entry.scope = ScopeFingerprint(entry.scope.0 ^ u64::from(wider));
        }
        if missing && let Some(entry) = state.entries.last_mut() {
            *entry = None;
        }
        state.template = template;
        state.static_entries = tag.map(|tag| (STATIC_HOST.to_owned(), tag.to_owned())).into_iter().collect();
        state
    }
}

prop_compose! {
    fn any_secret()(
        owner in prop_oneof![
            4 => Just(Owner::This), 1 => Just(Owner::Unmanaged), 1 => Just(Owner::OtherInstance("b".into()))
        ],
        (intact, data_intact) in any::<(bool, bool)>(),
        mutability in any_mutability(),
        times in of((any_time(), any_time())),
        state in of(any_state()),
        resource_version in 6u64..9,
    ) -> Observed {
        let times = times.map(|(expires_at, refresh_after)| Times { expires_at, refresh_after });
        let applied = state.map(Arc::new);
        let intact = intact && data_intact;
        Observed { resource_version, owner, intact, data_intact, mutability, times, applied, ..observed(&named("x")) }
    }
}

prop_compose! {
    fn any_refs()(
        references in subsequence(NAMES.to_vec(), 0..=3),
        added in btree_set(select(&NAMES[..]), 0..=3),
    ) -> PullSecretRefs {
        let added: BTreeSet<_> = added.into_iter().collect();
        let attached = references.iter().filter(|name| added.contains(*name)).map(|name| Arc::from(*name)).collect();
        let references = references.into_iter().map(Arc::from).collect();
        PullSecretRefs { resource_version: 1, references, attached }
    }
}

prop_compose! {
    fn any_history()(
        written in of((select(&NAMES[..]), 6u64..9)),
        (due, retry_at, repaired_at) in (of(any_time()), of(any_time()), of(any_time())),
        (failures, repairs) in (0u32..5, 0u32..5),
    ) -> History {
        let written = written.map(|(name, version)| (name.into(), version));
        let retry = RetryState { failures, retry_at, repairs, repaired_at, ..RetryState::default() };
        History { written, due, retry: retry.into(), ..History::default() }
    }
}

prop_compose! {
    fn any_namespace()(
        parsed in of(prop_oneof![
            1 => Just(ParsedAnnotations { opt_in: OptIn::Out, renew: None, problems: vec![] }),
            1 => Just(invalid()),
            4 => any_request(&NAMES[..2]).prop_map(parsed),
        ]),
        secrets in [of(any_secret()), of(any_secret()), of(any_secret())],
        accounts in [of(any_refs()), of(any_refs())],
        misses_accounts in any::<bool>(),
        source in of(any::<bool>()),
        history in any_history(),
    ) -> Namespace {
        let secrets = NAMES.iter().zip(secrets).filter_map(|(name, secret)| Some(((*name).into(), secret?)));
        let accounts = ["builder", "default"].into_iter().zip(accounts);
        let source = source.map(|has_entry| {
            let credential = || token(at(0), HOUR).credential().clone();
            let entries = has_entry.then(|| (STATIC_HOST.to_owned(), credential()));
            (Arc::from("hub"), StaticSource { version: 7, entries: entries.into_iter().collect(), unreadable: [].into() })
        });
        Namespace {
            parsed,
            secrets: secrets.collect(),
            service_accounts: accounts.filter_map(|(name, refs)| Some((name.into(), refs?))).collect(),
            misses_accounts,
            static_sources: source.into_iter().collect(),
            history,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_write_nothing_is_left_to_write(namespace in any_namespace(), second in -40_000i64..40_000) {
        let (mut namespace, now) = (namespace, at(second));
        let mut steps = vec![];
        loop {
            let step = namespace.plan(now);
            if !namespace.carry_out(step.clone(), now) {
                let idle = matches!(&step, Step::Idle(until) if until.is_none_or(|until| until > now.wall));
                let settled = idle || waits_for_longer_lived_token(&step, now);
                prop_assert!(settled, "{:?} remains after {:#?}", step, steps);
                break;
            }
            let name = written_name(&step);
            let again = name.is_some() && steps.iter().any(|earlier| written_name(earlier) == name);
            prop_assert!(!again, "{:?} follows {:#?}", step, steps);
            steps.push(step);
            prop_assert!(steps.len() < 10, "{:#?}", steps);
        }
    }
}
