//! The oracles about namespaces and Secrets, without I/O: what is seen and the time go in, violations come out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use serde_json::Value;
use testing::tenants::{NAME, REGISTRIES};

use crate::oracles::{Limits, Oracle, Report};

const LABELS: [(&str, &[&str]); 2] = [
    ("app.kubernetes.io/managed-by", &["ecr-pull-secrets"]),
    ("instance", &["app.kubernetes.io/instance", "ecr-pull-secrets.dev/instance"]),
];
/// The label that opts a namespace in, in scenarios whose configuration has it.
pub const INCLUDED: &str = "pull-secret";
/// Rounded times and two looks at different moments.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

/// What a namespace requests.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    registries: String,
    secret_name: String,
}

/// What a reader saw of one Secret.
#[derive(Clone, Debug)]
pub struct Sight {
    namespace: String,
    name: String,
    uid: String,
    labelled: bool,
    expires_at: Option<Timestamp>,
    hosts: BTreeSet<String>,
}

impl Sight {
    pub fn of(secret: &Secret) -> Self {
        let labels = secret.metadata.labels.clone().unwrap_or_default();
        let [(managed_by, values), (_, instance)] = LABELS;
        let annotations = secret.metadata.annotations.as_ref();
        let expires_at = annotations.and_then(|all| all.get("ecr-pull-secrets.dev/expires-at"));
        let data = secret.data.as_ref().and_then(|data| data.get(".dockerconfigjson"));
        // Another client may have written anything.
        let config: Value = data.and_then(|data| serde_json::from_slice(&data.0).ok()).unwrap_or_default();
        let hosts = config["auths"].as_object().map(|entries| entries.keys().cloned().collect());
        Self {
            namespace: secret.metadata.namespace.clone().unwrap_or_default(),
            name: secret.metadata.name.clone().unwrap_or_default(),
            uid: secret.metadata.uid.clone().unwrap_or_default(),
            labelled: labels.get(managed_by).is_some_and(|value| values.contains(&value.as_str()))
                && instance.iter().any(|key| labels.contains_key(*key)),
            expires_at: expires_at.and_then(|time| time.parse().ok()),
            hosts: hosts.unwrap_or_default(),
        }
    }
}

/// What was last seen of the Secret of a namespace.
struct Past {
    wanted: Wanted,
    hosts: BTreeSet<String>,
}

/// Looks at the cluster again and again.
pub struct Judge {
    limits: Limits,
    report: Report,
    /// Since when an oracle is violated, by its subject.
    since: BTreeMap<(Oracle, String), Instant>,
    /// What was violated at this look: an object may go, and come back later.
    violated: BTreeSet<(Oracle, String)>,
    past: BTreeMap<String, Past>,
    /// The longest time for which a namespace lacked its Secret.
    pub longest_missing: Duration,
}

/// How many namespaces opted in, and how many of them have a live Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    pub opted_in: usize,
    pub ready: usize,
}

impl Judge {
    pub fn new(limits: Limits, report: Report) -> Self {
        Self {
            limits,
            report,
            since: BTreeMap::new(),
            violated: BTreeSet::new(),
            past: BTreeMap::new(),
            longest_missing: Duration::ZERO,
        }
    }

    /// Forgets since when what is violated: nobody could look for a while.
    pub fn blind(&mut self) {
        self.since.clear();
    }

    pub fn look(
        &mut self,
        namespaces: &[Namespace],
        secrets: &[Sight],
        now: Instant,
        wall: Timestamp,
    ) -> Truth {
        let wanted: BTreeMap<String, Wanted> = namespaces.iter().filter_map(wanted).collect();
        let mut truth = Truth { opted_in: wanted.len(), ready: 0 };
        let terminating = |it: &&Namespace| it.metadata.deletion_timestamp.is_some();
        let going: BTreeSet<&str> =
            namespaces.iter().filter(terminating).filter_map(|it| it.metadata.name.as_deref()).collect();
        self.past.retain(|namespace, past| wanted.get(namespace) == Some(&past.wanted));
        for (namespace, wanted) in &wanted {
            let its = |sight: &&Sight| sight.namespace == *namespace && sight.name == wanted.secret_name;
            let sight = secrets.iter().find(its);
            self.lasting(Oracle::Missing, namespace, sight.is_none(), now, self.limits.missing);
            let Some(sight) = sight else { continue };
            self.lasting(Oracle::Foreign, namespace, !sight.labelled, now, self.limits.missing);
            let expired = sight.expires_at.is_some_and(|end| end <= wall);
            self.lasting(Oracle::Expired, namespace, expired, now, self.limits.expired);
            truth.ready += usize::from(sight.labelled && !expired);
            self.compare(wanted, sight, now);
        }
        let ours = |sight: &&Sight| sight.labelled && !going.contains(&*sight.namespace);
        for sight in secrets.iter().filter(ours) {
            let wanted = wanted.get(&sight.namespace);
            let unwanted = wanted.is_none_or(|wanted| wanted.secret_name != sight.name);
            let subject = format!("{}/{}", sight.namespace, sight.name);
            self.lasting(Oracle::Foreign, &subject, unwanted, now, self.limits.missing);
        }
        let violated = std::mem::take(&mut self.violated);
        self.since.retain(|key, _| violated.contains(key));
        truth
    }

    /// Compares the entries of a Secret with those that it had.
    fn compare(&mut self, wanted: &Wanted, sight: &Sight, now: Instant) {
        let namespace = &sight.namespace;
        let past = self.past.get(namespace);
        let hosts = past.map(|past| past.hosts.clone()).unwrap_or_default();
        let lost = !hosts.is_subset(&sight.hosts);
        self.lasting(Oracle::EntryLost, namespace, lost, now, self.limits.missing);
        let hosts = hosts.union(&sight.hosts).cloned().collect();
        let past = Past { wanted: wanted.clone(), hosts };
        self.past.insert(namespace.clone(), past);
    }

    /// Reports a condition that lasts for longer than `limit`.
    pub fn lasting(&mut self, oracle: Oracle, subject: &str, holds: bool, now: Instant, limit: Duration) {
        let key = (oracle, subject.to_owned());
        if !holds {
            self.since.remove(&key);
            return;
        }
        self.violated.insert(key.clone());
        let since = *self.since.entry(key).or_insert(now);
        let lasted = now.duration_since(since);
        if oracle == Oracle::Missing {
            self.longest_missing = self.longest_missing.max(lasted);
        }
        if lasted >= limit {
            self.report.add(oracle, subject, || format!("{oracle:?} in {subject} for {limit:?}"));
        }
    }
}

/// The newest token of each Secret, for which every version of the Secret must be seen.
pub struct Ages {
    report: Report,
    /// By UID: a Secret that is created again may get another token.
    newest: BTreeMap<String, (BTreeSet<String>, Timestamp)>,
}

impl Ages {
    pub fn new(report: Report) -> Self {
        Self { report, newest: BTreeMap::new() }
    }

    /// Compares a version of a Secret with those before it that have the same entries.
    pub fn see(&mut self, sight: &Sight, wall: Timestamp) {
        let Some(after) = sight.expires_at else { return };
        let secret = format!("{}/{}", sight.namespace, sight.name);
        if !self.newest.contains_key(&sight.uid) && after <= wall {
            let text = || format!("{secret} was created at {wall} with a token that expired at {after}");
            self.report.add(Oracle::BornExpired, &secret, text);
        }
        let first = || (sight.hosts.clone(), after);
        let (hosts, newest) = self.newest.entry(sight.uid.clone()).or_insert_with(first);
        if *hosts != sight.hosts {
            (*hosts, *newest) = first();
        }
        if after.saturating_add(TOLERANCE).is_ok_and(|later| later < *newest) {
            let text =
                || format!("{secret}, {wall}: the token expires at {after}, the one before it at {newest}");
            self.report.add(Oracle::Older, &secret, text);
        }
        *newest = after.max(*newest);
    }
}

fn wanted(namespace: &Namespace) -> Option<(String, Wanted)> {
    let meta = &namespace.metadata;
    let annotations = meta.annotations.clone().unwrap_or_default();
    let labels = meta.labels.as_ref();
    let by_label = labels.is_some_and(|labels| labels.contains_key(INCLUDED)).then(|| INCLUDED.to_owned());
    let requested = annotations.get(REGISTRIES).cloned().or(by_label);
    let registries = requested.filter(|registries| registries != "none")?;
    let name = annotations.get("ecr-pull-secrets.dev/secret-name");
    let secret_name = name.map_or(NAME, String::as_str).to_owned();
    meta.deletion_timestamp.is_none().then_some(())?;
    Some((meta.name.clone()?, Wanted { registries, secret_name }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(registries: &str) -> Namespace {
        let meta = json!({"name": "team-a", "annotations": {REGISTRIES: registries}});
        serde_json::from_value(json!({ "metadata": meta })).expect("a namespace")
    }

    fn sight(expires_in: i64, hosts: &[&str]) -> Sight {
        Sight {
            namespace: "team-a".to_owned(),
            name: NAME.to_owned(),
            uid: String::new(),
            labelled: true,
            expires_at: Timestamp::from_second(1000 + expires_in).ok(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        }
    }

    /// What is reported when these are seen, 50 seconds after each other.
    fn reported(looks: &[(Namespace, Option<Sight>)]) -> Vec<Oracle> {
        let report = Report::default();
        let mut judge = Judge::new(Limits::default(), report.clone());
        let wall = Timestamp::from_second(1000).expect("a time");
        let start = Instant::now();
        for (n, (namespace, secret)) in (0..).zip(looks) {
            let now = start + Duration::from_secs(50) * n;
            let secrets: Vec<Sight> = secret.iter().cloned().collect();
            judge.look(std::slice::from_ref(namespace), &secrets, now, wall);
        }
        report.all().into_iter().map(|violation| violation.oracle).collect()
    }

    #[test]
    fn each_oracle_reports_its_violation_and_no_other() {
        let (good, one) = (sight(60, &["a", "b"]), namespace("a,b"));
        let look = |secret: Sight| (one.clone(), Some(secret));
        assert_eq!(reported(&[look(good.clone()), look(sight(90, &["a", "b"]))]), []);
        assert_eq!(reported(&[(one.clone(), None), (one.clone(), None)]), [Oracle::Missing]);
        let expired = look(sight(-1, &["a"]));
        assert_eq!(reported(&[expired.clone(), expired]), [Oracle::Expired]);
        let without = look(sight(60, &["a"]));
        assert_eq!(reported(&[look(good.clone()), without.clone(), without.clone()]), [Oracle::EntryLost]);
        let less = (namespace("a"), without.1);
        assert_eq!(reported(&[look(good.clone()), less.clone(), less]), [], "it was asked for");
        let out = (namespace("none"), Some(good.clone()));
        assert_eq!(reported(&[out.clone(), out]), [Oracle::Foreign]);
        let stripped = look(Sight { labelled: false, ..good });
        assert_eq!(reported(&[stripped.clone(), stripped]), [Oracle::Foreign]);
    }
    #[test]
    fn a_token_that_expires_earlier_than_the_one_before_is_reported_unless_the_entries_differ() {
        let older = |looks: &[Sight]| {
            let report = Report::default();
            let mut ages = Ages::new(report.clone());
            for sight in looks {
                ages.see(sight, Timestamp::UNIX_EPOCH);
            }
            report.all().len()
        };
        let first = sight(60, &["a"]);
        assert_eq!(older(&[first.clone(), sight(90, &["a"]), sight(50, &["a", "b"])]), 0);
        assert_eq!(older(&[first, sight(90, &["a"]), sight(60, &["a"])]), 1);
    }
}
