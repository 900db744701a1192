//! Fixtures of the unit tests: settings, times, requests and Secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};

use super::aws::Region;
use super::grants::{Assignment, CredentialSource, Grants, Identity, NamespaceSelector, Role};
use super::leader_election::ElectionTiming;
use super::plan::{Mutability, Observed, Owner, PullSecretChange, PullSecretRefs, SecretDraft};
use super::request::applied::{AppliedEntry, RecordedState};
use super::request::{
    AppliedState, OptIn, OwnedNames, ParsedAnnotations, Request, ScopeFingerprint, Target, Times,
};
use super::secret::{DraftEntry, RefreshPolicy, SecretTemplate, Token};
use super::settings::Settings;
use super::{Jitter, Now};

pub const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
pub const HOUR: i64 = 3_600;
pub const JITTER: Jitter = Jitter::new(7);

/// `second` seconds after the origin of the tests, by all clocks.
pub fn at(second: i64) -> Now {
    let mono = Duration::from_secs(u64::try_from(second + 1_000_000).expect("not that early"));
    Now { wall: wall(second), mono, skew: Some(SignedDuration::ZERO) }
}

/// The same time, with the clock of AWS this many hours ahead; `None` before its first reply.
pub fn skewed(now: Now, hours: Option<i64>) -> Now {
    Now { skew: hours.map(SignedDuration::from_hours), ..now }
}

/// The wall clock `second` seconds after the origin of the tests.
pub fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

pub fn settings() -> Settings {
    let region: Region = "eu-central-1".parse().expect("a region");
    Settings {
        names: OwnedNames {
            instance: "test".into(),
            secret_names: vec!["ecr-pull".into(), "other".into()],
            retired_names: vec!["old".into()],
            service_accounts: true,
        },
        namespace_selector: NamespaceSelector::default(),
        default_registries: vec![],
        region: Some(region.clone()),
        grants: Grants {
            identities: vec![],
            default_identity: Some(Identity::controller()),
            default_region: Some(region),
        },
        secret_template: SecretTemplate::default(),
        adopt: vec![],
        static_grants: vec![],
        refresh: RefreshPolicy { at: 0.5, jitter: 0.1, writes_per_second: 50, tokens_per_second: 1_000 },
        election: ElectionTiming {
            lease_duration: Duration::from_secs(4),
            renew_deadline: Duration::from_secs(3),
            retry_period: Duration::from_secs(1),
        },
        jitter: JITTER,
    }
}

/// A role without any option.
pub fn role() -> Role {
    Role {
        arn: "arn:aws:iam::123456789012:role/ecr-pull".parse().expect("an ARN"),
        source: CredentialSource::Controller,
        external_id: None,
        session_name: None,
        tags: BTreeMap::new(),
        max_token_age: None,
    }
}

pub fn target(host: &str) -> Target {
    host.to_owned().try_into().expect("a target")
}

/// A request for `registries` under the default name.
pub fn request_for(registries: Vec<Target>) -> Request {
    Request {
        registries,
        repositories: vec![],
        role: vec![],
        secret_name: "ecr-pull".into(),
        service_accounts: vec![],
        by_default: false,
    }
}

/// A request for these hosts, in canonical order.
pub fn request(hosts: &[&str]) -> Request {
    let mut registries: Vec<_> = hosts.iter().map(|host| target(host)).collect();
    registries.sort();
    request_for(registries)
}

/// Annotations with a valid request.
pub fn parsed(request: Request) -> ParsedAnnotations {
    ParsedAnnotations { opt_in: OptIn::In(request), renew: None, problems: vec![] }
}

/// A token that was issued at `issued` and lives for `life` seconds.
pub fn token(issued: Now, life: i64) -> Arc<Token> {
    let expires = issued.wall + SignedDuration::from_secs(life);
    let endpoint = Some(format!("https://{HOST}"));
    Arc::new(Token::new(&STANDARD.encode("AWS:x"), issued.wall, expires, endpoint).expect("a token"))
}

/// The applied state of `request`, with entries that expire at these seconds (the last one is repeated).
pub fn applied(request: &Request, expiries: &[i64]) -> AppliedState {
    let assigned = settings().grants.assign("team-a", request);
    let assignments = assigned.map(|(granted, _)| granted.assignments).unwrap_or_default();
    let expiry = |index: usize| wall(*expiries.get(index).or(expiries.last()).expect("an expiry"));
    let entry = |(index, assignment)| Some(applied_entry(assignment, Some(expiry(index))));
    AppliedState {
        request: request.clone(),
        entries: assignments.iter().enumerate().map(entry).collect(),
        static_entries: BTreeMap::new(),
        template: None,
    }
}

/// The entry of an assignment with a token that expires then.
pub fn applied_entry(assignment: &Assignment, expires_at: Option<Timestamp>) -> AppliedEntry {
    AppliedEntry {
        host: match &assignment.target {
            Target::Host(registry) => registry.clone(),
            Target::Default => HOST.parse().expect("a host"),
        },
        identity: assignment.request.key.identity.as_str().into(),
        scope: assignment.scope,
        issued_at: expires_at.map(|at| at - SignedDuration::from_secs(12 * HOUR)),
        expires_at,
    }
}

/// The longest entry that a target can have, with an identity of this length.
pub fn longest_entry(target: &Target, identity: usize) -> AppliedEntry {
    let longest = "123456789012.dkr-ecr-fips.cn-northwest-99.on.amazonwebservices.com.cn";
    let last = Timestamp::from_second(Timestamp::MAX.as_second()).ok();
    AppliedEntry {
        host: match target {
            Target::Host(registry) => registry.clone(),
            Target::Default => longest.parse().expect("a host"),
        },
        identity: "i".repeat(identity).into(),
        scope: ScopeFingerprint(u64::MAX),
        issued_at: Timestamp::from_second(Timestamp::MIN.as_second()).ok(),
        expires_at: last,
    }
}

/// A managed, intact Secret that holds `request` with a token issued at the origin.
pub fn observed(request: &Request) -> Observed {
    observed_with(applied(request, &[12 * HOUR]))
}

/// A managed, intact Secret with this applied state and the times of a token issued at the origin.
pub fn observed_with(applied: AppliedState) -> Observed {
    Observed {
        uid: "uid-1".into(),
        resource_version: 7,
        owner: Owner::This,
        is_applied: true,
        intact: true,
        data_intact: true,
        is_deleting: false,
        mutability: Mutability::Mutable,
        times: Some(Times { expires_at: wall(12 * HOUR), refresh_after: wall(6 * HOUR) }),
        applied: Some(Arc::new(applied)),
    }
}

/// The Secret after `draft` was applied to `current`: its annotations, as they are read back, and its version change.
pub fn after_write(draft: &SecretDraft, current: Observed) -> Observed {
    let instance = settings().names.instance;
    let recorded = RecordedState::from_annotations(&draft.applied.to_annotations(&instance, draft.times));
    let (_, applied) = recorded.applied.expect("a written state can be read");
    Observed {
        resource_version: current.resource_version + 1,
        times: recorded.times,
        applied: Some(Arc::new(applied)),
        ..current
    }
}

/// The registries whose entries the draft sets.
pub fn set_targets(draft: &SecretDraft) -> Vec<Target> {
    let set = |entry: &DraftEntry| match entry {
        DraftEntry::Set { host, .. } => host.clone().try_into().ok(),
        DraftEntry::Keep { .. } => None,
    };
    draft.entries.iter().filter_map(set).collect()
}

/// The registries whose entries the draft keeps.
pub fn kept_targets(draft: &SecretDraft) -> Vec<Target> {
    let kept = |entry: &DraftEntry| match entry {
        DraftEntry::Set { .. } => None,
        DraftEntry::Keep { host } => host.clone().try_into().ok(),
    };
    draft.entries.iter().filter_map(kept).collect()
}

/// Changes the references of a service account as the API server stores it.
pub fn attach(refs: &mut PullSecretRefs, change: &PullSecretChange) {
    let PullSecretChange { secret, kept, .. } = change;
    let stays = |name: &Arc<str>| Some(name) == secret.as_ref() || kept.contains(name);
    refs.references.retain(|name| stays(name) || !refs.attached.contains(name));
    refs.attached.retain(stays);
    if let Some(secret) = secret.as_ref().filter(|secret| !refs.references.contains(secret)) {
        refs.references.push(secret.clone());
        refs.attached.push(secret.clone());
    }
}
