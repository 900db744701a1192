//! The rights that the controller needs, and those that it must not have.

use std::collections::BTreeMap;

use crate::commands::check::facts::{ClusterFacts, Right, RightFact, Subject};
use crate::commands::check::finding::{Category, Finding, Link};

/// Verbs by what they act on.
type ByObject<'a> = BTreeMap<String, (Vec<&'static str>, Vec<&'static str>)>;

pub fn judge(cluster: &ClusterFacts, pre: bool) -> Vec<Finding> {
    let category = Category::Rights;
    let user = cluster.subject.user();
    if let Subject::ServiceAccount { exists: false, .. } = cluster.subject {
        let message = format!("{user} does not exist");
        let remedy = "install the controller, or name its namespace and service account with --controller-namespace and \
                      --service-account";
        return vec![Finding::failed(category, message, Link::Rights, remedy)];
    }
    let rights = match &cluster.rights {
        Ok(rights) => rights,
        Err(reason) => return vec![Finding::skipped(category, format!("cannot be reviewed: {reason}"))],
    };
    let (needed, surplus): (Vec<_>, Vec<_>) = rights.iter().partition(|fact| fact.right.needed);
    let mut by_object = ByObject::new();
    for RightFact { right, allowed } in needed {
        let (granted, missing) = by_object.entry(object(right)).or_default();
        if *allowed { granted.push(right.verb) } else { missing.push(right.verb) }
    }
    let is_single = cluster.single.is_some();
    let remedy = remedy(is_single, pre);
    let mut findings: Vec<_> =
        by_object.into_iter().map(|(object, verbs)| needed_finding(user, &object, &verbs, remedy)).collect();
    if !pre {
        findings.extend(wide(user, &surplus, cluster.subject.is_service_account(), is_single));
    }
    findings
}

fn needed_finding(
    user: &str,
    object: &str,
    (granted, missing): &(Vec<&str>, Vec<&str>),
    remedy: &str,
) -> Finding {
    if missing.is_empty() {
        return Finding::ok(Category::Rights, format!("{user} may {} {object}", granted.join(", ")));
    }
    let message = format!("{user} may not {} {object}", missing.join(", "));
    Finding::failed(Category::Rights, message, Link::Rights, remedy)
}

fn remedy(is_single: bool, pre: bool) -> &'static str {
    match (pre, is_single) {
        (true, false) => "ask an administrator of the cluster to install the controller",
        (true, true) => "ask an administrator of the namespaces to install the controller",
        (false, true) => {
            "upgrade the chart with the same configuration: it creates a Role in each namespace of namespaces.only, and \
             one in the namespace of the controller"
        }
        (false, false) => {
            "apply deploy/rbac.yaml, with the same names as in the configuration; it has each right with its reason. \
             serviceAccounts.enabled and staticRegistries need deploy/rbac-service-accounts.yaml and \
             deploy/rbac-static-registries.yaml"
        }
    }
}

/// Rights that a stolen credential of the controller must not have. An administrator has all of them.
fn wide(user: &str, surplus: &[&RightFact], is_service_account: bool, is_single: bool) -> Vec<Finding> {
    let category = Category::Rights;
    if !is_service_account {
        let message = format!("{user} is not a service account, so its other rights are not judged");
        return vec![Finding::skipped(category, message)];
    }
    let allowed: Vec<_> = surplus.iter().filter(|fact| fact.allowed).collect();
    if allowed.is_empty() {
        return vec![Finding::ok(category, format!("{user} can read and write no other secret"))];
    }
    let remedy = if is_single {
        "bind the service account to the Roles of the chart only: kubectl get rolebindings -n NAMESPACE -o wide lists the \
         others in a namespace"
    } else {
        "bind the service account to the roles of deploy/rbac.yaml only: kubectl get clusterrolebindings,rolebindings -A -o \
         wide lists the others"
    };
    let mut by_object: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for fact in allowed {
        by_object.entry(object(&fact.right)).or_default().push(fact.right.verb);
    }
    let finding = |(object, verbs): (String, Vec<&str>)| {
        let message = format!("{user} has a right that is too wide: it may {} {object}", verbs.join(", "));
        Finding::failed(category, message, Link::WideRights, remedy)
    };
    by_object.into_iter().map(finding).collect()
}

fn object(right: &Right) -> String {
    let Right { resource, name, namespace, .. } = right;
    let named = name.as_ref().map(|name| format!(" named {name:?}")).unwrap_or_default();
    let within = namespace
        .as_ref()
        .map_or(", in every namespace".to_owned(), |namespace| format!(", in namespace {namespace:?}"));
    let is_cluster_scoped = matches!(*resource, "namespaces" | "clusterroles" | "clusterrolebindings")
        || resource.starts_with("validatingadmission");
    format!("{resource}{named}{}", if is_cluster_scoped { String::new() } else { within })
}
