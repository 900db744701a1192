//! The tools that users come from. Each writes a Secret as its source does: name, type, keys, labels, annotations, owner
//! references, field manager, and the requests of a renewal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use testing::aws::Minted;
use testing::compromised_credential::TYPE;
use testing::tenants::HOST;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// <https://github.com/nabsul/k8s-ecr-login-renew/blob/02386dee/src/k8s/kubernetes.go> and `chart/values.yaml`: a job
    /// that updates what it read.
    LoginRenew,
    /// <https://github.com/upmc-enterprises/registry-creds/blob/b2e8fec4/main.go> and `k8sutil/k8sutil.go`, which is minikube's
    /// add-on in version 1.10: replaces the whole object, whatever its version is, and edits the default service account.
    RegistryCreds,
    /// <https://github.com/external-secrets/external-secrets/blob/cc5bfbc2/pkg/controllers/externalsecret/externalsecret_controller.go>
    /// with `docs/snippets/generator-ecr-example.yaml` and `creationPolicy: Orphan`.
    ExternalSecretsOrphan,
    /// The same with the default, `creationPolicy: Owner`.
    ExternalSecretsOwner,
    /// A script with `kubectl create secret docker-registry --dry-run=client -o yaml | kubectl apply -f -`.
    KubectlApply,
    /// A script with `kubectl delete secret` and `kubectl create secret docker-registry`.
    KubectlDeleteAndCreate,
}

impl Tool {
    /// The name that its documentation and its defaults have.
    pub fn secret_name(self) -> &'static str {
        match self {
            Self::LoginRenew => "k8s-ecr-login-renew-docker-secret",
            Self::RegistryCreds => "awsecr-cred",
            Self::ExternalSecretsOrphan | Self::ExternalSecretsOwner => "ecr-secret",
            Self::KubectlApply | Self::KubectlDeleteAndCreate => "regcred",
        }
    }

    /// The labels of a rule that matches its Secrets; empty if it sets none.
    pub fn labels(self) -> Value {
        match self {
            Self::ExternalSecretsOrphan | Self::ExternalSecretsOwner => {
                json!({"reconcile.external-secrets.io/managed": "true"})
            }
            _ => json!({}),
        }
    }

    /// client-go derives the default from the name of the program.
    fn field_manager(self) -> &'static str {
        match self {
            Self::LoginRenew => "k8s-ecr-login-renew",
            Self::RegistryCreds => "registry-creds",
            Self::ExternalSecretsOrphan | Self::ExternalSecretsOwner => {
                "externalsecrets.external-secrets.io/ecr-secret"
            }
            Self::KubectlApply => "kubectl-client-side-apply",
            Self::KubectlDeleteAndCreate => "kubectl-create",
        }
    }

    fn auths(self, token: &Minted) -> Value {
        let password = &token.password;
        let auth = STANDARD.encode(format!("AWS:{password}"));
        match self {
            Self::LoginRenew => json!({format!("https://{HOST}"): {
                "username": "AWS", "password": password, "email": "awsregrenew@demo.test", "auth": auth,
            }}),
            Self::RegistryCreds => json!({format!("https://{HOST}"): {"auth": auth, "email": "none"}}),
            _ => json!({HOST: {"username": "AWS", "password": password, "auth": auth}}),
        }
    }

    fn data(self, token: &Minted) -> Value {
        json!({".dockerconfigjson": STANDARD.encode(json!({"auths": self.auths(token)}).to_string())})
    }

    /// What it creates.
    fn first_version(self, token: &Minted) -> Value {
        let mut body = json!({
            "apiVersion": "v1", "kind": "Secret", "type": TYPE,
            "metadata": {"name": self.secret_name()}, "data": self.data(token),
        });
        if matches!(self, Self::ExternalSecretsOrphan | Self::ExternalSecretsOwner) {
            self.own(&mut body);
        }
        body
    }

    /// What External Secrets sets on each write, after it removed what it manages.
    fn own(self, body: &mut Value) {
        let metadata = &mut body["metadata"];
        metadata["labels"]["reconcile.external-secrets.io/managed"] = json!("true");
        metadata["annotations"]["expiresAt"] = json!("1790000000");
        metadata["annotations"]["reconcile.external-secrets.io/data-hash"] =
            json!("d41d8cd98f00b204e9800998ecf8427e");
        if self == Self::ExternalSecretsOwner {
            metadata["labels"]["reconcile.external-secrets.io/created-by"] =
                json!("7c2a3b4d5e6f708192a3b4c5d6e7f809");
            metadata["ownerReferences"] = json!([{
                "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "ecr-secret",
                "uid": "3d6f1c52-6d1a-4c7e-9e37-1f6d0f4f2b11", "controller": true, "blockOwnerDeletion": true,
            }]);
        } else {
            let labels = metadata["labels"].as_object_mut().expect("labels");
            labels.remove("reconcile.external-secrets.io/created-by");
            metadata.as_object_mut().expect("metadata").remove("ownerReferences");
        }
    }

    /// A run of the tool in one namespace, with this token. A conflict with another writer ends the run.
    pub async fn run(self, client: &Client, namespace: &str, token: &Minted) {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let name = self.secret_name();
        let post =
            PostParams { field_manager: Some(self.field_manager().to_owned()), ..PostParams::default() };
        let of = |body: Value| serde_json::from_value::<Secret>(body).expect("a Secret");
        if self == Self::KubectlDeleteAndCreate {
            let _ = secrets.delete(name, &DeleteParams::default()).await;
        }
        let Some(found) = secrets.get_opt(name).await.expect("the tool reads secrets") else {
            let mut new = self.first_version(token);
            if self == Self::KubectlApply {
                record_last_applied(&mut new);
            }
            let _ = secrets.create(&post, &of(new)).await;
            return self.edit_service_account(client, namespace).await;
        };
        match self {
            Self::RegistryCreds => {
                let _ = secrets.replace(name, &post, &of(self.first_version(token))).await;
            }
            Self::KubectlApply => {
                let mut patch = self.first_version(token);
                record_last_applied(&mut patch);
                let params =
                    PatchParams { field_manager: post.field_manager.clone(), ..PatchParams::default() };
                let _ = secrets.patch(name, &params, &Patch::Merge(patch)).await;
            }
            _ => {
                let mut body = serde_json::to_value(found).expect("a Secret serializes");
                body["data"][".dockerconfigjson"] = self.data(token)[".dockerconfigjson"].clone();
                if matches!(self, Self::ExternalSecretsOrphan | Self::ExternalSecretsOwner) {
                    self.own(&mut body);
                }
                let _ = secrets.replace(name, &post, &of(body)).await;
            }
        }
        self.edit_service_account(client, namespace).await;
    }

    async fn edit_service_account(self, client: &Client, namespace: &str) {
        if self == Self::RegistryCreds {
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
            let patch = json!({"imagePullSecrets": [{"name": self.secret_name()}]});
            let _ = accounts.patch("default", &PatchParams::default(), &Patch::Merge(patch)).await;
        }
    }
}

/// The annotation of `kubectl apply`, with the whole object, and so with the token.
fn record_last_applied(body: &mut Value) {
    let text = body.to_string();
    body["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = text.into();
}

/// The password that a pull secret has for [`HOST`], in each form that the kubelet reads.
pub fn any_password(secret: &Secret) -> Option<String> {
    let data = secret.data.as_ref()?.get(".dockerconfigjson")?;
    let config: Value = serde_json::from_slice(&data.0).ok()?;
    let (_, entry) =
        config["auths"].as_object()?.iter().find(|(host, _)| host.trim_start_matches("https://") == HOST)?;
    if let Some(password) = entry["password"].as_str() {
        return Some(password.to_owned());
    }
    let decoded = STANDARD.decode(entry["auth"].as_str()?).ok()?;
    Some(String::from_utf8(decoded).ok()?.strip_prefix("AWS:")?.to_owned())
}
