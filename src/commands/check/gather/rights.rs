//! Reviews of rights (<https://kubernetes.io/docs/reference/access-authn-authz/authorization/>).

use futures::future::join_all;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::cli::diagnosis::CheckArgs;
use crate::commands::check::facts::{Gathered, Right, RightFact, Subject};
use crate::core::settings::Settings;
use crate::kubernetes::errors::message;

const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// The name of a Secret that the controller must not reach.
const OTHER: &str = "another-secret";

/// Whose rights to review: those of the user of this program if it is a service account, else those of the controller's.
pub async fn subject(client: &Client, args: &CheckArgs, settings: &Settings, namespace: &str) -> Subject {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let info = review.ok().and_then(|review| review.status?.user_info);
    let own = info.and_then(|info| info.username).unwrap_or_else(|| "this user".to_owned());
    if args.pre || own.starts_with(SERVICE_ACCOUNT) {
        return Subject::Own { user: own };
    }
    let name = args.service_account.as_deref().unwrap_or(&settings.names.instance);
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    // Without the right to read it, it may exist.
    let exists = accounts.get_metadata_opt(name).await.map_or(true, |found| found.is_some());
    Subject::ServiceAccount { user: format!("{SERVICE_ACCOUNT}{namespace}:{name}"), exists }
}

/// The rights to review.
pub fn rights(settings: &Settings, namespace: &str, pre: bool) -> Vec<Right> {
    if pre { to_install(namespace) } else { of_controller(settings, namespace) }
}

fn right(verb: &'static str, resource: &'static str, name: Option<&str>, namespace: Option<&str>) -> Right {
    let (name, namespace) = (name.map(str::to_owned), namespace.map(str::to_owned));
    Right { verb, group: "", resource, name, namespace, needed: true }
}

/// As deploy/rbac.yaml and deploy/rbac-*.yaml.
fn of_controller(settings: &Settings, namespace: &str) -> Vec<Right> {
    let names = &settings.names;
    let mut rights = vec![];
    let mut all = |verbs: &[&'static str], group, resource, name: Option<&str>, namespace: Option<&str>| {
        rights.extend(verbs.iter().map(|verb| Right { group, ..right(verb, resource, name, namespace) }));
    };
    all(&["get", "list", "watch"], "", "namespaces", None, None);
    for name in &names.secret_names {
        all(&["get", "list", "watch", "create", "patch", "delete"], "", "secrets", Some(name), None);
    }
    for name in &names.retired_names {
        all(&["get", "list", "watch", "delete"], "", "secrets", Some(name), None);
    }
    all(&["create", "patch"], "", "events", None, None);
    let lease = Some(&*names.instance);
    all(&["get", "create", "update"], "coordination.k8s.io", "leases", lease, Some(namespace));
    if names.service_accounts {
        all(&["get", "list", "watch", "patch"], "", "serviceaccounts", None, None);
    }
    for grant in &settings.static_grants {
        all(&["get", "list", "watch"], "", "secrets", Some(&*grant.secret), Some(namespace));
    }
    let wide = [
        right("get", "secrets", Some(OTHER), None),
        right("patch", "secrets", Some(OTHER), None),
        right("delete", "secrets", Some(OTHER), None),
        right("list", "secrets", None, None),
        right("create", "secrets", None, None),
        right("create", "pods", None, None),
        right("patch", "namespaces", None, None),
        Right { group: "rbac.authorization.k8s.io", ..right("bind", "clusterroles", None, None) },
    ];
    rights.extend(wide.map(|right| Right { needed: false, ..right }));
    rights
}

/// The kinds of deploy/install.yaml.
fn to_install(namespace: &str) -> Vec<Right> {
    const RBAC: &str = "rbac.authorization.k8s.io";
    const ADMISSION: &str = "admissionregistration.k8s.io";
    let within = Some(namespace);
    let create = |group, resource, namespace| Right { group, ..right("create", resource, None, namespace) };
    vec![
        create("", "namespaces", None),
        create("", "serviceaccounts", within),
        create("", "configmaps", within),
        create("", "services", within),
        create("apps", "deployments", within),
        create(RBAC, "roles", within),
        create(RBAC, "rolebindings", within),
        create(RBAC, "clusterroles", None),
        create(RBAC, "clusterrolebindings", None),
        create(ADMISSION, "validatingadmissionpolicies", None),
        create(ADMISSION, "validatingadmissionpolicybindings", None),
    ]
}

/// Reviews each right.
pub async fn review(client: &Client, subject: &Subject, rights: Vec<Right>) -> Gathered<Vec<RightFact>> {
    let reviews = rights.into_iter().map(|right| async {
        let allowed = review_one(client, subject, &right).await?;
        Ok(RightFact { right, allowed })
    });
    join_all(reviews).await.into_iter().collect::<kube::Result<_>>().map_err(|error| message(&error))
}

async fn review_one(client: &Client, subject: &Subject, right: &Right) -> kube::Result<bool> {
    let attributes = ResourceAttributes {
        verb: Some(right.verb.to_owned()),
        group: Some(right.group.to_owned()),
        resource: Some(right.resource.to_owned()),
        name: right.name.clone(),
        namespace: right.namespace.clone(),
        ..ResourceAttributes::default()
    };
    let params = PostParams::default();
    let status = match subject {
        Subject::Own { .. } => {
            let spec = SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            };
            let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
            Api::<SelfSubjectAccessReview>::all(client.clone()).create(&params, &review).await?.status
        }
        Subject::ServiceAccount { user, .. } => {
            let namespace = user.trim_start_matches(SERVICE_ACCOUNT).split(':').next().unwrap_or_default();
            let groups = [
                "system:serviceaccounts",
                &format!("system:serviceaccounts:{namespace}"),
                "system:authenticated",
            ];
            let spec = SubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                user: Some(user.clone()),
                groups: Some(groups.map(str::to_owned).to_vec()),
                ..SubjectAccessReviewSpec::default()
            };
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            Api::<SubjectAccessReview>::all(client.clone()).create(&params, &review).await?.status
        }
    };
    Ok(status.is_some_and(|status| status.allowed))
}
