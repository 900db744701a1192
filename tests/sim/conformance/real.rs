//! A sequence on a real API server.

use ecr_pull_secrets::simulation::core::secret::NO_OBJECTS_VERSION;
use ecr_pull_secrets::simulation::core::{MANAGER, SECRET_TYPE};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::steps::{NAME, Step, WRONG_UID, Which, body, patch, taking};
use super::view::{Seen, View, class, uid, version};
use crate::store::secret::SecretObject;

const OTHER: &str = "kubectl";

/// What each step does, in a namespace of its own.
pub async fn run(client: Client, namespace: &str, steps: &[Step]) -> Vec<Seen> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let object = serde_json::from_value(object).expect("a Namespace");
    namespaces.create(&PostParams::default(), &object).await.expect("a new namespace");
    let secrets = Api::namespaced(client.clone(), namespace);
    let elsewhere = Api::namespaced(client, "missing");
    let mut real = Real { namespace: namespace.to_owned(), namespaces, secrets, elsewhere, stale: 1 };
    let mut all = vec![];
    let mut before = None;
    for step in steps {
        let outcome = class(real.carry_out(*step, before.as_ref()).await);
        let after = real.secrets.get_opt(NAME).await.expect("the API server answers");
        if let (Some(before), true) = (&before, before != after) {
            real.stale = version(before);
        }
        let object = after.as_ref().map(|after| View::new(before.as_ref(), after));
        all.push(Seen { outcome, object });
        before = after;
    }
    real.clean_up().await;
    all
}

struct Real {
    namespace: String,
    namespaces: Api<Namespace>,
    secrets: Api<Secret>,
    elsewhere: Api<Secret>,
    stale: u64,
}

impl Real {
    async fn carry_out(&self, step: Step, current: Option<&Secret>) -> kube::Result<()> {
        let uid_of = |which| match which {
            Which::None => None,
            Which::Current => Some(current.map_or_else(|| WRONG_UID.to_owned(), uid)),
            Which::Wrong | Which::Never => Some(WRONG_UID.to_owned()),
        };
        let version_of = |which| match which {
            Which::None => None,
            Which::Current => Some(current.map_or(self.stale, version).to_string()),
            Which::Never => Some(NO_OBJECTS_VERSION.to_owned()),
            Which::Wrong => Some(self.stale.to_string()),
        };
        match step {
            Step::Apply { uid, version, force, content } => {
                let body = body(content, uid_of(uid).as_deref(), version_of(version).as_deref());
                apply(&self.secrets, MANAGER, force, &body).await
            }
            Step::ApplyElsewhere { uid, content } => {
                let body = body(content, uid_of(uid).as_deref(), None);
                apply(&self.elsewhere, MANAGER, uid != Which::None, &body).await
            }
            Step::Create { is_pull_secret } => self.create(is_pull_secret).await,
            Step::Update { edit, as_us } => {
                let manager = if as_us { MANAGER } else { OTHER };
                let params = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
                self.secrets.patch(NAME, &params, &Patch::Merge(patch(edit))).await.map(drop)
            }
            Step::Take(content) => {
                // An apply creates what is not there; the step is about what is.
                if current.is_none() {
                    return self.secrets.get(NAME).await.map(drop);
                }
                apply(&self.secrets, "argocd", true, &taking(content)).await
            }
            Step::Replace => {
                let params = PostParams { field_manager: Some(OTHER.to_owned()), ..PostParams::default() };
                self.secrets.replace(NAME, &params, &self.foreign(SECRET_TYPE)).await.map(drop)
            }
            Step::Delete { uid, version } => {
                let preconditions = Preconditions { uid: uid_of(uid), resource_version: version_of(version) };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                self.secrets.delete(NAME, &params).await.map(drop)
            }
            Step::Get => Ok(()),
            Step::Terminate => {
                // A second deletion is a conflict.
                let _ = self.namespaces.delete(&self.namespace, &DeleteParams::default()).await;
                Ok(())
            }
        }
    }

    async fn create(&self, is_pull_secret: bool) -> kube::Result<()> {
        let kind = if is_pull_secret { SECRET_TYPE } else { "Opaque" };
        let params = PostParams { field_manager: Some(OTHER.to_owned()), ..PostParams::default() };
        self.secrets.create(&params, &self.foreign(kind)).await.map(drop)
    }

    /// The body of another client.
    fn foreign(&self, kind: &str) -> Secret {
        let mut object = SecretObject::foreign(kind).whole(&self.namespace, NAME);
        object["metadata"] = json!({"name": NAME});
        serde_json::from_value(object).expect("a Secret")
    }

    /// The namespace stays, but not its Secret, so that the API server does not grow.
    async fn clean_up(&self) {
        let params = PatchParams::default();
        let none = json!({"metadata": {"finalizers": []}});
        let _ = self.secrets.patch(NAME, &params, &Patch::Merge(none)).await;
        let _ = self.secrets.delete(NAME, &DeleteParams::default()).await;
    }
}

async fn apply(secrets: &Api<Secret>, manager: &str, force: bool, body: &Value) -> kube::Result<()> {
    let params = PatchParams { force, ..PatchParams::apply(manager) };
    secrets.patch(NAME, &params, &Patch::Apply(body)).await.map(drop)
}
