//! Secrets of other tools: the messages about those that are not adopted, with the command to run.

use std::fmt;

use super::observed::{Obstacle, Owner};
use crate::core::{LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, quote};

/// Why the controller leaves a Secret alone, and what to do.
#[derive(Clone)]
pub struct Refusal {
    pub reason: String,
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.remedy)
    }
}

/// Why the controller leaves a Secret alone; `None` if it manages or adopts it.
pub fn refusal(namespace: &str, name: &str, owner: &Owner) -> Option<Refusal> {
    let delete = format!("kubectl delete secret -n {namespace} {name}");
    let choose = "or choose another name with ecr-pull-secrets.dev/secret-name";
    let (is, remedy) = match owner {
        Owner::This | Owner::Adoptable => return None,
        Owner::OtherInstance(other) => {
            (format!("belongs to the instance {other:?}"), format!("delete it with {delete:?}, {choose}"))
        }
        Owner::Unmanaged => (
            format!(
                "was not created by this controller (it lacks the labels {LABEL_MANAGED_BY}={MANAGER} and {LABEL_INSTANCE})"
            ),
            format!(
                "delete it with {delete:?}, {choose}; or let an administrator add a rule to adopt in the controller's \
                 configuration"
            ),
        ),
        Owner::NotAdoptable(Obstacle::OwnerReference(owner)) => (
            format!("cannot be adopted, because it has the owner {}, whose deletion would delete it", quote(owner)),
            format!(
                "make the owner release it (creationPolicy: Orphan of an ExternalSecret), or stop the owner and run \
                 'kubectl patch secret -n {namespace} {name} --type merge -p {{\"metadata\":{{\"ownerReferences\":null}}}}'"
            ),
        ),
        Owner::NotAdoptable(Obstacle::Type) => (
            "cannot be adopted, because its type is not kubernetes.io/dockerconfigjson, and a type never changes".to_owned(),
            format!("run {delete:?}, and the controller creates it again immediately, {choose}"),
        ),
        Owner::NotAdoptable(Obstacle::Immutable) => (
            "cannot be adopted, because it is immutable".to_owned(),
            format!("run {delete:?}, and the controller creates it again immediately, {choose}"),
        ),
    };
    Some(Refusal { reason: format!("secret {name:?} {is}, and is not changed"), remedy })
}
