//! A sequence on the store.

use ecr_pull_secrets::simulation::core::SECRET_TYPE;
use ecr_pull_secrets::simulation::core::secret::NO_OBJECTS_VERSION;
use k8s_openapi::api::core::v1::Secret;
use kube::core::Status;

use super::steps::{NAME, Step, WRONG_UID, Which, body, patch, taking};
use super::view::{Seen, View, class, uid, version};
use crate::store::secret::SecretObject;
use crate::store::{NamespaceObject, Object, Store, namespace_key};

const NAMESPACE: &str = "team-a";

/// What each step does, on a store with these rules.
pub fn run(store: Store, steps: &[Step]) -> Vec<Seen> {
    let mut model = Model { store, stale: 0 };
    model.put_namespace(false);
    steps.iter().map(|step| model.step(*step)).collect()
}

struct Model {
    store: Store,
    /// The last version of the Secret that is not its present one.
    stale: u64,
}

impl Model {
    fn put_namespace(&mut self, terminating: bool) {
        let object = NamespaceObject { terminating, ..NamespaceObject::default() };
        self.store.put(&namespace_key(NAMESPACE), Some(Object::Namespace(object)));
    }

    fn secret(&self) -> Option<Secret> {
        let whole = self.store.secret(NAMESPACE, NAME)?.whole(NAMESPACE, NAME);
        Some(serde_json::from_value(whole).expect("a Secret"))
    }

    fn step(&mut self, step: Step) -> Seen {
        let before = self.secret();
        let outcome = class(self.carry_out(step, before.as_ref()));
        let after = self.secret();
        if let (Some(before), true) = (&before, before != after) {
            self.stale = version(before);
        }
        Seen { outcome, object: after.map(|after| View::new(before.as_ref(), &after)) }
    }

    fn carry_out(&mut self, step: Step, current: Option<&Secret>) -> kube::Result<()> {
        let uid_of = |which| match which {
            Which::None => None,
            Which::Current => Some(current.map_or_else(|| WRONG_UID.to_owned(), uid)),
            Which::Wrong | Which::Never => Some(WRONG_UID.to_owned()),
        };
        let stale = self.stale;
        let version_of = |which| match which {
            Which::None => None,
            Which::Current => Some(current.map_or(stale, version)),
            Which::Never => Some(NO_OBJECTS_VERSION.parse().expect("a number")),
            Which::Wrong => Some(stale),
        };
        let result: Result<(), Status> = match step {
            Step::Apply { uid, version, force, content } => {
                let version = version_of(version).map(|version| version.to_string());
                let body = body(content, uid_of(uid).as_deref(), version.as_deref());
                self.store.apply_secret(NAMESPACE, NAME, &body, force).map(drop)
            }
            Step::ApplyElsewhere { uid, content } => {
                let body = body(content, uid_of(uid).as_deref(), None);
                self.store.apply_secret("missing", NAME, &body, uid != Which::None).map(drop)
            }
            Step::Create { is_pull_secret } => {
                let kind = if is_pull_secret { SECRET_TYPE } else { "Opaque" };
                self.store.create_secret(NAMESPACE, NAME, kind).map(drop)
            }
            Step::Update { edit, .. } => self.store.update_secret(NAMESPACE, NAME, &patch(edit)).map(drop),
            Step::Take(content) => self.store.take_secret(NAMESPACE, NAME, &taking(content)).map(drop),
            Step::Replace => {
                let body = SecretObject::foreign(SECRET_TYPE);
                self.store.replace_secret(NAMESPACE, NAME, &body).map(drop)
            }
            Step::Delete { uid, version } => {
                let (uid, version) =
                    (uid_of(uid).unwrap_or_default(), version_of(version).unwrap_or_default());
                self.store.delete_secret(NAMESPACE, NAME, &uid, version).map(drop)
            }
            Step::Get => Ok(()),
            Step::Terminate => {
                self.put_namespace(true);
                Ok(())
            }
        };
        result.map_err(|status| kube::Error::Api(Box::new(status)))
    }
}
