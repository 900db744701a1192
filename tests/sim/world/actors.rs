//! Actions of tenants, administrators and other clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ecr_pull_secrets::simulation::core::plan::PullSecretRefs;
use ecr_pull_secrets::simulation::core::secret::{DockerConfig, StaticSource};
use ecr_pull_secrets::simulation::core::{LABEL_INSTANCE, PREFIX, SECRET_TYPE, testing, whole_seconds};
use jiff::SignedDuration;

use super::{Happening, Planned, World};
use crate::profile::What;
use crate::store::secret::{ALL, ANNOTATIONS, DATA, LABELS, SecretObject};
use crate::store::{Key, Kind, Name, NamespaceObject, Object, annotation, namespace_key, secret_key};

/// The password in data that another client wrote.
pub const FORGED: &str = "forged";

/// The annotations that a namespace may have: key without prefix, and value.
const VARIANTS: [&[(&str, &str)]; 10] = [
    &[("registries", testing::HOST)],
    &[("registries", "123456789012.dkr.ecr.eu-west-1.amazonaws.com")],
    &[(
        "registries",
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com, 123456789012.dkr.ecr.eu-west-1.amazonaws.com",
    )],
    &[("registries", testing::HOST), ("secret-name", "other")],
    &[
        (
            "registries",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com, 123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        ),
        ("secret-name", "other"),
    ],
    &[("registries", testing::HOST), ("service-accounts", "*")],
    &[("registries", "nonsense")],
    &[("registries", testing::HOST), ("secret-name", "not-allowed")],
    &[
        (
            "registries",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com, 123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        ),
        ("service-accounts", "*"),
    ],
    &[
        (
            "registries",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com, 123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        ),
        ("secret-name", "other"),
        ("service-accounts", "*"),
    ],
];

impl World {
    pub fn name(&self, argument: u32) -> Name {
        format!("team-{}", argument % self.profile.namespaces).into()
    }

    /// Creates the namespaces of the start.
    pub fn populate(&mut self) {
        for n in 0..self.profile.namespaces {
            let opted_in = self.profile.opted_in;
            let annotations = if opted_in { (self.profile.annotations)(n) } else { BTreeMap::new() };
            self.put_namespace(&self.name(n), |object| {
                object.annotations = annotations;
                object.labels = BTreeMap::from([("pull".to_owned(), "ecr".to_owned())]);
            });
            self.put_accounts(&self.name(n));
        }
        self.put_namespace(&"outside".into(), |_| ());
        self.restore_sources();
    }

    fn put_namespace(&mut self, name: &Name, change: impl FnOnce(&mut NamespaceObject)) {
        let uid = format!("namespace-{}", self.store.version);
        let mut object =
            self.store.namespace(name).cloned().unwrap_or(NamespaceObject { uid, ..Default::default() });
        change(&mut object);
        self.put(&namespace_key(name), Some(Object::Namespace(object)));
        self.namespace_changed(name);
    }

    /// Executes an action, or begins a fault.
    pub fn act(&mut self, planned: Planned) {
        let Planned { what, args: [first, second], .. } = planned;
        let namespace = self.name(first);
        self.tell(|| format!("{what:?} {namespace} {second}"));
        if what.is_fault() && !self.profile.faults {
            return;
        }
        if what.is_fault() {
            return self.begin_fault(what, first, second);
        }
        match what {
            What::Annotate => {
                let annotations = variant(second);
                self.revive(&namespace);
                self.put_namespace(&namespace, |object| object.annotations = annotations);
            }
            What::OptOut => self.put_namespace(&namespace, |object| object.annotations.clear()),
            What::Unlabel => self.put_namespace(&namespace, |object| object.labels.clear()),
            What::InventRegions => self.invent_regions(&namespace, second),
            What::AskRenewal => self.ask_renewal(&namespace, second),
            What::AnnotateDefault => {
                self.put_namespace(&namespace, |object| object.annotations = default_registry(0));
            }
            What::LongRequest => {
                self.put_namespace(&namespace, |object| object.annotations = long_request());
            }
            What::Arrive | What::Leave => {
                for n in first..first + 20 {
                    let arrives = what == What::Arrive;
                    let annotations = if arrives { (self.profile.annotations)(n) } else { BTreeMap::new() };
                    self.put_namespace(&self.name(n), |object| object.annotations = annotations);
                }
            }
            What::AnnotateAll => {
                for n in 0..self.profile.namespaces {
                    let annotations = (self.profile.annotations)(n);
                    self.put_namespace(&self.name(n), |object| object.annotations = annotations);
                }
            }
            What::TerminateMost => {
                for n in (0..self.profile.namespaces).filter(|n| n % 5 != 0) {
                    self.put_namespace(&self.name(n), |object| object.terminating = true);
                }
            }
            What::TerminateNamespace if self.store.namespace(&namespace).is_some() => {
                self.put_namespace(&namespace, |object| object.terminating = true);
                // The namespace controller deletes what is in it.
                self.schedule_in(Duration::from_mins(1), Happening::End(what, first));
            }
            What::TerminateNamespace => {}
            What::DeleteNamespace => self.delete_namespace(&namespace),
            What::ForeignSecret => self.foreign_secret(&namespace),
            What::CloneSecret => self.clone_secret(&namespace),
            What::EditServiceAccount => self.edit_service_accounts(&namespace),
            What::ChangeSource => self.change_source(second),
            _ => self.change_secret(what, &namespace, second),
        }
    }

    /// A namespace that was deleted or is being deleted exists again.
    pub fn revive(&mut self, namespace: &Name) {
        if self.store.namespace(namespace).is_some_and(|object| object.terminating) {
            self.delete_namespace(namespace);
        }
    }

    /// Asks for tokens that are not older than now, or than a time of up to three minutes before or after now.
    fn ask_renewal(&mut self, namespace: &Name, second: u32) {
        let offset = [0, 0, -180, 180][second as usize % 4];
        let time = whole_seconds(self.wall() + SignedDuration::from_secs(offset));
        if self.store.namespace(namespace).is_some() {
            self.put_namespace(namespace, |object| {
                object.annotations.insert(annotation("renew"), time.to_string());
            });
            self.renewal_requested(namespace);
        }
    }

    fn invent_regions(&mut self, namespace: &Name, second: u32) {
        self.named_new_keys(namespace, 8);
        let base = second % 32 * 8;
        let region = |n: u32| format!("123456789012.dkr.ecr.zz-invented-{n}.amazonaws.com");
        let hosts: Vec<_> = (base..base + 8).map(region).collect();
        self.put_namespace(namespace, |object| {
            object.annotations = BTreeMap::from([(annotation("registries"), hosts.join(","))]);
        });
    }

    fn delete_namespace(&mut self, namespace: &Name) {
        let inside = |key: &&Key| key.namespace == *namespace && key.kind != Kind::Namespace;
        let keys: Vec<Key> = self.store.objects.keys().filter(inside).cloned().collect();
        for key in keys {
            self.put(&key, None);
        }
        if self.store.namespace(namespace).is_some() {
            self.put(&namespace_key(namespace), None);
        }
        self.namespace_changed(namespace);
    }

    /// Another client changes or deletes the first managed Secret of the namespace.
    fn change_secret(&mut self, what: What, namespace: &Name, second: u32) {
        let found =
            self.store.secrets().find(|(key, secret)| key.namespace == *namespace && secret.ours.is_some());
        let Some((key, secret)) = found.map(|(key, secret)| (key.clone(), secret.clone())) else { return };
        self.edited(&key);
        let mut new = secret;
        match what {
            What::DeleteSecret if new.finalizer => new.deleting = true,
            What::Finalize if new.finalizer && new.deleting => {
                self.put(&key, None);
                return self.check_at(namespace, self.time);
            }
            What::Finalize => new.finalizer = !new.finalizer,
            What::DeleteSecret => {
                self.put(&key, None);
                return self.check_at(namespace, self.time);
            }
            // Without both, nothing shows that it is ours.
            What::StripLabels if !new.annotations.contains_key(&annotation("applied")) => {}
            What::StripLabels => {
                new.labels.clear();
                new.ours = new.ours.map(|ours| ours & !LABELS);
            }
            // Some tools write `false`.
            What::MakeImmutable if !new.is_immutable() => new.immutable = Some(!second.is_multiple_of(4)),
            What::MakeImmutable => {}
            _ if second.is_multiple_of(2) => {
                let entry =
                    serde_json::json!({"username": "AWS", "password": FORGED, "auth": "QVdTOmZvcmdlZA=="});
                let hosts = new.passwords().keys().map(|host| (host.clone(), entry.clone()));
                let auths: BTreeMap<_, _> = hosts.collect();
                let data = serde_json::to_vec(&serde_json::json!({"auths": auths})).expect("it serializes");
                new.data = Arc::new(data);
                new.take_over(DATA);
            }
            _ if second.is_multiple_of(3) && new.labels.contains_key(LABEL_INSTANCE) => {
                new.annotations.retain(|key, _| !key.starts_with(PREFIX));
                new.take_over(ANNOTATIONS);
            }
            _ => {
                new.annotations.insert(annotation("expires-at"), "2099-01-01T00:00:00Z".to_owned());
                new.take_over(16);
            }
        }
        self.put(&key, Some(Object::Secret(new)));
    }

    fn foreign_secret(&mut self, namespace: &Name) {
        if self.store.namespace(namespace).is_none() || self.store.secret(namespace, "ecr-pull").is_some() {
            return;
        }
        let uid = format!("foreign-{}", self.store.version);
        let secret = SecretObject { uid, ..SecretObject::foreign(SECRET_TYPE) };
        let key = secret_key(namespace, "ecr-pull");
        self.edited(&key);
        self.put(&key, Some(Object::Secret(secret)));
    }

    /// A policy engine copies a managed Secret, labels included, and keeps the copy in place.
    fn clone_secret(&mut self, namespace: &Name) {
        let Some(secret) = self.store.secret(namespace, "ecr-pull").filter(|s| s.ours.is_some()).cloned()
        else {
            return;
        };
        let uid = format!("copy-{}", self.store.version);
        let copy = SecretObject { uid, ours: None, others: ALL, immutable: None, ..secret };
        let key = secret_key("outside", "ecr-pull");
        if self.store.secret("outside", "ecr-pull").is_none() {
            self.put(&key, Some(Object::Secret(copy)));
        }
    }

    /// The policy engine makes its copy again.
    pub fn synchronise_copy(&mut self, deleted: &SecretObject) {
        let uid = format!("copy-{}", self.store.version);
        let copy = SecretObject { uid, deleting: false, ..deleted.clone() };
        self.put(&secret_key("outside", "ecr-pull"), Some(Object::Secret(copy)));
    }

    fn edit_service_accounts(&mut self, namespace: &Name) {
        if self.store.namespace(namespace).is_some() {
            self.put_accounts(namespace);
        }
    }

    /// The service accounts of a namespace have no references.
    fn put_accounts(&mut self, namespace: &Name) {
        for number in 0..self.profile.accounts {
            let name = if number == 0 { "default".to_owned() } else { format!("account-{number}") };
            let key = Key { kind: Kind::ServiceAccount, namespace: namespace.clone(), name: name.into() };
            let refs = PullSecretRefs { resource_version: 0, references: vec![], attached: vec![] };
            self.put(&key, Some(Object::ServiceAccount(refs)));
        }
    }

    pub fn source_names(&self) -> Vec<(Name, Vec<String>)> {
        let grants = self.settings.static_grants.iter();
        grants.map(|grant| (grant.secret.clone(), grant.hosts.clone())).collect()
    }

    /// Every static source has its entries.
    pub fn restore_sources(&mut self) {
        for (name, hosts) in self.source_names() {
            self.put_source(&name, &hosts, 0);
        }
    }

    fn change_source(&mut self, second: u32) {
        for (name, hosts) in self.source_names() {
            self.put_source(&name, &hosts, second);
        }
    }

    pub fn put_source(&mut self, name: &Name, hosts: &[String], number: u32) {
        use base64::Engine as _;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("user:static{number}"));
        let entries: BTreeMap<_, _> =
            hosts.iter().map(|host| (host, serde_json::json!({"auth": auth}))).collect();
        let data = serde_json::to_vec(&serde_json::json!({"auths": entries})).expect("it serializes");
        let source = StaticSource {
            version: 0,
            entries: DockerConfig::parse_foreign(&data),
            unreadable: BTreeSet::new(),
        };
        let key = Key { kind: Kind::Source, namespace: "".into(), name: name.clone() };
        self.put(&key, Some(Object::Source(source)));
    }
}

/// The annotations of a namespace that asks for the default registry.
pub fn default_registry(_: u32) -> BTreeMap<String, String> {
    BTreeMap::from([(annotation("registries"), "default".to_owned())])
}

/// A request whose record is nearly as long as it may be.
fn long_request() -> BTreeMap<String, String> {
    let accounts: Vec<_> = (0..31).map(|n| format!("{n:0>250}")).collect();
    let values = [("registries", testing::HOST.to_owned()), ("service-accounts", accounts.join(","))];
    values.into_iter().map(|(key, value)| (annotation(key), value)).collect()
}

/// The annotations of a variant.
pub fn variant(number: u32) -> BTreeMap<String, String> {
    let all = VARIANTS[number as usize % VARIANTS.len()];
    all.iter().map(|(key, value)| (annotation(key), (*value).to_owned())).collect()
}
