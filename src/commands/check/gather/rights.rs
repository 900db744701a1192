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
    if pre { to_install(settings, namespace) } else { of_controller(settings, namespace) }
}

fn right(verb: &'static str, resource: &'static str, name: Option<&str>, namespace: Option<&str>) -> Right {
    let (name, namespace) = (name.map(str::to_owned), namespace.map(str::to_owned));
    Right { verb, group: "", resource, name, namespace, needed: true }
}

/// The namespaces of the controller's rights; `None` for the whole cluster.
fn scopes(settings: &Settings) -> Vec<Option<&str>> {
    let selector = &settings.namespace_selector;
    if selector.is_single() { selector.only.iter().map(|name| Some(&**name)).collect() } else { vec![None] }
}

/// As deploy/rbac.yaml and deploy/rbac-*.yaml. In single-namespace mode, as the Roles of the chart.
fn of_controller(settings: &Settings, namespace: &str) -> Vec<Right> {
    let names = &settings.names;
    let mut rights = vec![];
    let mut all = |verbs: &[&'static str], group, resource, name: Option<&str>, namespace: Option<&str>| {
        rights.extend(verbs.iter().map(|verb| Right { group, ..right(verb, resource, name, namespace) }));
    };
    for scope in scopes(settings) {
        // In single-namespace mode, the controller works without it: the judge warns about a Namespace that was not read.
        if scope.is_none() {
            all(&["get", "list", "watch"], "", "namespaces", None, None);
        }
        for name in &names.secret_names {
            all(&["get", "list", "watch", "create", "patch", "delete"], "", "secrets", Some(name), scope);
        }
        for name in &names.retired_names {
            all(&["get", "list", "watch", "delete"], "", "secrets", Some(name), scope);
        }
        all(&["create", "patch"], "", "events", None, scope);
        if names.service_accounts {
            all(&["get", "list", "watch", "patch"], "", "serviceaccounts", None, scope);
        }
    }
    let lease = Some(&*names.instance);
    all(&["get", "create", "update"], "coordination.k8s.io", "leases", lease, Some(namespace));
    for grant in &settings.static_grants {
        all(&["get", "list", "watch"], "", "secrets", Some(&*grant.secret), Some(namespace));
    }
    let within = |scope| {
        [
            right("get", "secrets", Some(OTHER), scope),
            right("patch", "secrets", Some(OTHER), scope),
            right("delete", "secrets", Some(OTHER), scope),
            right("list", "secrets", None, scope),
            right("create", "secrets", None, scope),
            right("create", "pods", None, scope),
            right("patch", "namespaces", scope, scope),
        ]
    };
    let bind = Right { group: "rbac.authorization.k8s.io", ..right("bind", "clusterroles", None, None) };
    let wide = scopes(settings).into_iter().flat_map(within).chain([bind]);
    rights.extend(wide.map(|right| Right { needed: false, ..right }));
    rights
}

/// The kinds of deploy/install.yaml. In single-namespace mode, those of the chart.
fn to_install(settings: &Settings, namespace: &str) -> Vec<Right> {
    const RBAC: &str = "rbac.authorization.k8s.io";
    const ADMISSION: &str = "admissionregistration.k8s.io";
    let within = Some(namespace);
    let create = |group, resource, namespace| Right { group, ..right("create", resource, None, namespace) };
    let mut rights = vec![
        create("", "serviceaccounts", within),
        create("", "configmaps", within),
        create("", "services", within),
        create("apps", "deployments", within),
        create(RBAC, "roles", within),
        create(RBAC, "rolebindings", within),
    ];
    // The controller may be in one of these namespaces.
    for scope in scopes(settings).into_iter().filter(|scope| *scope != within) {
        rights.extend(match scope {
            Some(_) => vec![create(RBAC, "roles", scope), create(RBAC, "rolebindings", scope)],
            None => vec![
                create("", "namespaces", None),
                create(RBAC, "clusterroles", None),
                create(RBAC, "clusterrolebindings", None),
                create(ADMISSION, "validatingadmissionpolicies", None),
                create(ADMISSION, "validatingadmissionpolicybindings", None),
            ],
        });
    }
    rights
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing;

    fn only(names: &[&str]) -> Settings {
        let mut settings = testing::settings();
        settings.namespace_selector.only = names.iter().map(|name| (*name).into()).collect();
        settings
    }

    #[test]
    fn in_single_namespace_mode_each_right_is_reviewed_once_and_in_one_of_the_namespaces() {
        let settings = only(&["team-a", "team-b"]);
        for pre in [false, true] {
            let all = rights(&settings, "team-a", pre);
            let is_outside = |right: &&Right| {
                right.needed && !matches!(right.namespace.as_deref(), Some("team-a" | "team-b"))
            };
            assert_eq!(all.iter().find(is_outside), None);
            for (n, right) in all.iter().enumerate() {
                assert!(!all[..n].contains(right), "{right:?} is reviewed twice");
            }
        }
    }
}
