//! The controller's credential in the wrong hands: what it is refused, and by which layer.

mod additions;
mod events;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::tenants::{INSTANCE, NAME, Tenants, assert_untouched};
pub use additions::{Addition, additions};

/// The type that the controller writes.
pub const TYPE: &str = "kubernetes.io/dockerconfigjson";

/// What the API server made of a request: `allowed`, `RBAC`, `policy: ` with its message, or status and message.
///
/// # Panics
///
/// If there was no answer.
pub fn outcome<T>(result: Result<T, kube::Error>) -> String {
    match result {
        Ok(_) => "allowed".to_owned(),
        Err(kube::Error::Api(status)) => {
            let text = &status.message;
            if text.contains("ValidatingAdmissionPolicy 'ecr-pull-secrets-") {
                format!("policy: {text}")
            } else if text.contains("cannot ") && text.contains(" resource ") {
                "RBAC".to_owned()
            } else {
                format!("{}: {text}", status.code)
            }
        }
        Err(error) => panic!("no answer: {error}"),
    }
}

/// A Secret with the labels of an instance.
pub fn secret(name: &str, kind: &str, instance: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/managed-by": "ecr-pull-secrets", "ecr-pull-secrets.dev/instance": instance}},
        "data": {".dockerconfigjson": "e30="},
    })
}

fn typed<T: serde::de::DeserializeOwned>(body: Value) -> T {
    serde_json::from_value(body).expect("an object of its kind")
}

/// The credential, and what somebody does with it.
pub struct CompromisedCredential {
    /// Whoever has it.
    pub client: Client,
    /// The tenants whose namespaces are attacked.
    pub tenants: Tenants,
}

impl CompromisedCredential {
    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies a Secret as the controller does, over whatever is there.
    pub async fn apply(&self, namespace: &str, name: &str, body: Value) -> String {
        let force = PatchParams { force: true, ..PatchParams::apply("ecr-pull-secrets") };
        outcome(self.secrets(namespace).patch(name, &force, &Patch::Apply(body)).await)
    }

    async fn change(&self, namespace: &str, account: &str, patch: Value) -> String {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        outcome(api.patch(account, &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    /// Neither reads, creates, changes nor deletes a Secret of another name: RBAC refuses it, as it does other kinds.
    ///
    /// Leaves a Secret `private` in the namespace.
    pub async fn reaches_no_other_name(&self, namespace: &str) {
        self.tenants.create::<Secret>(namespace, secret("private", "Opaque", "x")).await;
        let here = self.secrets(namespace);
        let everywhere: Api<Secret> = Api::all(self.client.clone());
        let (nothing, all) = (DeleteParams::default(), ListParams::default());
        let new = typed(secret("new", TYPE, INSTANCE));
        for (what, said) in [
            ("read", outcome(here.get("private").await)),
            ("list", outcome(here.list(&all).await)),
            ("list all", outcome(everywhere.list_metadata(&all).await)),
            ("create", outcome(here.create(&PostParams::default(), &new).await)),
            ("apply", self.apply(namespace, "private", secret("private", "Opaque", INSTANCE)).await),
            ("delete", outcome(here.delete("private", &nothing).await)),
            ("delete all", outcome(here.delete_collection(&nothing, &all).await.map(drop))),
        ] {
            assert_eq!(said, "RBAC", "{what} of another secret");
        }
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), INSTANCE);
        assert_eq!(outcome(maps.list(&all).await), "RBAC");
    }

    /// It gets no other credential and no more rights: RBAC refuses tokens, impersonation, pods, and changes to what
    /// restricts it.
    pub async fn gains_no_rights(&self, namespace: &str) {
        let core = format!("/api/v1/namespaces/{namespace}");
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let admission = "/apis/admissionregistration.k8s.io/v1";
        let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "x-"}, "spec": {"containers": [{"name": "x", "image": "x"}]}});
        let mut generated = secret(NAME, TYPE, INSTANCE);
        generated["metadata"] = json!({"generateName": NAME});
        let admin = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "x"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        });
        let nothing = json!({});
        for (method, path, body) in [
            ("POST", format!("{core}/serviceaccounts/default/token"), &token),
            ("POST", format!("/api/v1/namespaces/{INSTANCE}/serviceaccounts/{INSTANCE}/token"), &token),
            ("POST", format!("{core}/pods"), &pod),
            ("POST", format!("{core}/secrets"), &generated),
            ("PUT", format!("{core}/secrets/{NAME}"), &secret(NAME, TYPE, INSTANCE)),
            ("PATCH", format!("/api/v1/namespaces/{namespace}"), &nothing),
            ("POST", format!("{rbac}/clusterrolebindings"), &admin),
            ("PATCH", format!("{rbac}/clusterroles/{INSTANCE}"), &nothing),
            ("PATCH", format!("{admission}/validatingadmissionpolicies/{INSTANCE}-secrets"), &nothing),
            ("DELETE", format!("{admission}/validatingadmissionpolicies/{INSTANCE}-secrets"), &nothing),
            ("DELETE", format!("{admission}/validatingadmissionpolicybindings/{INSTANCE}-secrets"), &nothing),
        ] {
            let said = self.send(method, &path, body, None).await;
            assert_eq!(said, "RBAC", "{method} {path}");
        }
        let path = format!("{core}/secrets");
        for user in ["system:admin", "system:serviceaccount:kube-system:namespace-controller"] {
            assert_eq!(self.send("GET", &path, &nothing, Some(user)).await, "RBAC", "as {user}");
        }
    }

    /// Sends a request, optionally as another user.
    async fn send(&self, method: &str, path: &str, body: &Value, user: Option<&str>) -> String {
        let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut request = hyper::Request::builder().method(method).uri(path).header("content-type", content);
        if let Some(user) = user {
            request = request.header("impersonate-user", user);
        }
        let body = if method == "GET" { vec![] } else { body.to_string().into_bytes() };
        outcome(self.client.request_text(request.body(body).expect("a request")).await)
    }

    /// Under the allowed name it creates nothing of another type or without its labels, and nothing where nobody
    /// opted in: the policy refuses it.
    ///
    /// `opted_in` did so, and has no Secret of that name; `tenant` did not.
    pub async fn creates_nothing_else(&self, opted_in: &str, tenant: &str) {
        let unlabelled = json!({"apiVersion": "v1", "kind": "Secret", "type": TYPE, "metadata": {"name": NAME}, "data": {".dockerconfigjson": "e30="}});
        for (namespace, body, reason) in [
            (opted_in, secret(NAME, "Opaque", INSTANCE), "of type kubernetes.io/dockerconfigjson"),
            (opted_in, secret(NAME, TYPE, "another"), "with the labels of its instance"),
            (opted_in, unlabelled, "with the labels of its instance"),
            (tenant, secret(NAME, TYPE, INSTANCE), "in namespaces that opted in"),
            ("kube-system", secret(NAME, TYPE, INSTANCE), "in namespaces that opted in"),
        ] {
            let said = self.apply(namespace, NAME, body).await;
            assert!(said.starts_with("policy") && said.contains(reason), "{namespace}: {reason}: {said}");
        }
    }

    /// A Secret of the allowed name that is not the controller's is neither changed nor deleted: the policy refuses it.
    ///
    /// Leaves it in the namespace, which opted in and had none.
    pub async fn leaves_a_foreign_secret_alone(&self, namespace: &str) {
        let foreign = json!({"metadata": {"name": NAME}, "data": {"key": "dmFsdWU="}});
        let before: Secret = self.tenants.create(namespace, foreign).await;
        let here = self.secrets(namespace);
        let patch = Patch::Merge(secret(NAME, "Opaque", INSTANCE));
        let said = outcome(here.patch(NAME, &PatchParams::default(), &patch).await);
        assert!(said.starts_with("policy"), "{said}");
        let said = outcome(here.delete(NAME, &DeleteParams::default()).await.map(drop));
        assert!(said.contains("only change and delete secrets of its own instance"), "{said}");
        assert_untouched(&before, &self.tenants.existing_secret(namespace).await);
    }

    /// Of a service account only our annotation and the reference to our own Secret change: RBAC refuses to create
    /// and delete one, the policy refuses the rest.
    ///
    /// Leaves a service account `builder` in the namespace.
    pub async fn changes_only_references(&self, namespace: &str) {
        let builder = json!({"metadata": {"name": "builder", "annotations": {"theirs": "x"}}, "imagePullSecrets": [{"name": "theirs"}]});
        let builder: ServiceAccount = self.tenants.create(namespace, builder).await;
        let stolen: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        assert_eq!(outcome(stolen.create(&PostParams::default(), &builder).await), "RBAC");
        assert_eq!(outcome(stolen.delete("builder", &DeleteParams::default()).await.map(drop)), "RBAC");
        let role = "eks.amazonaws.com/role-arn";
        for (patch, reason) in [
            (json!({"metadata": {"annotations": {role: "arn:aws:iam::1:role/admin"}}}), "of the annotations"),
            (json!({"metadata": {"annotations": {"theirs": "y"}}}), "of the annotations"),
            (json!({"metadata": {"annotations": {"theirs": null}}}), "of the annotations"),
            (json!({"metadata": {"labels": {"a": "b"}}}), "only change imagePullSecrets"),
            (json!({"automountServiceAccountToken": false}), "only change imagePullSecrets"),
            (json!({"secrets": [{"name": "x"}]}), "only change imagePullSecrets"),
            (json!({"imagePullSecrets": [{"name": "theirs"}, {"name": "other"}]}), "secrets of its own"),
            (json!({"imagePullSecrets": [{"name": NAME}]}), "secrets of its own"),
        ] {
            let said = self.change(namespace, "builder", patch.clone()).await;
            assert!(said.starts_with("policy: ") && said.contains(reason), "{patch}: {said}");
        }
        let own = json!({"metadata": {"annotations": {"ecr-pull-secrets.dev/attached": "x"}}, "imagePullSecrets": [{"name": "theirs"}, {"name": NAME}]});
        assert_eq!(self.change(namespace, "builder", own).await, "allowed");
    }

    /// Whether the policies are in force, each of which begins to be so at a time of its own.
    ///
    /// `namespace` did not opt in, and `account` is a service account there that would not be changed.
    pub async fn policies_are_in_force(&self, namespace: &str, account: &str) -> bool {
        let secrets = self.apply(namespace, NAME, secret(NAME, TYPE, INSTANCE)).await;
        let _ = self.tenants.secrets(namespace).delete(NAME, &DeleteParams::default()).await;
        // Nothing is stored, so that the same change stays one.
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let change = Patch::Merge(json!({"automountServiceAccountToken": true}));
        let accounts = outcome(accounts.patch(account, &dry, &change).await);
        let events = self.forge_event_dry(namespace).await;
        [secrets, accounts, events].iter().all(|said| said.starts_with("policy"))
    }
}
