//! The findings about Secrets of other tools: the entries and data keys that their adoption removes.

use std::collections::BTreeSet;

use crate::commands::check::facts::{AdoptionFacts, ClusterFacts, ForeignContent, ForeignSecret};
use crate::commands::check::finding::{Category, Finding, Link};
use crate::core::aws::Registry;
use crate::core::plan::entry_host;
use crate::core::quote;
use crate::core::request::Target;

const CATEGORY: Category = Category::Adoption;

/// The maximum number of names in one list of a message.
const MAX_LISTED: usize = 5;

pub fn judge(cluster: &ClusterFacts) -> Vec<Finding> {
    let AdoptionFacts { secrets, more } = match &cluster.adoption {
        None => return vec![],
        Some(Err(reason)) => {
            let message = format!("the secrets that adopt describes cannot be read: {reason}");
            return vec![Finding::skipped(CATEGORY, message)];
        }
        Some(Ok(found)) => found,
    };
    if secrets.is_empty() {
        return vec![Finding::ok(CATEGORY, "no secret of another tool matches a rule under adopt")];
    }
    let mut findings: Vec<_> = secrets.iter().map(secret).collect();
    if *more > 0 {
        let message =
            format!("{more} more secrets of other tools match a rule under adopt; they were not read");
        findings.push(Finding::skipped(CATEGORY, message));
    }
    findings
}

fn secret(secret: &ForeignSecret) -> Finding {
    let ForeignSecret { namespace, name, .. } = secret;
    if let Some(refusal) = &secret.refusal {
        let message = format!("namespace {namespace:?}: {}", refusal.reason);
        return Finding::warning(CATEGORY, message, Link::Adoption, &refusal.remedy);
    }
    let content = match &secret.content {
        Ok(content) => content,
        Err(reason) => {
            let message = format!("secret {name:?} in namespace {namespace:?} cannot be read: {reason}");
            return Finding::skipped(CATEGORY, message);
        }
    };
    let managers = match content.managers.as_slice() {
        [] => "unknown".to_owned(),
        managers => list(managers),
    };
    let condition = match secret.assignments {
        Some(_) => "it has a token for each registry",
        None => "the namespace requests it",
    };
    let removed = removed(secret, content);
    let lost = if removed.is_empty() { "no entry".to_owned() } else { removed.join(", and ") };
    let kept = content.keys.iter().filter(|key| !key.is_removed).map(|key| key.name.clone());
    let kept = match kept.collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        kept => format!("; the other data keys stay: {}", list(kept)),
    };
    let message = format!(
        "the controller adopts secret {name:?} in namespace {namespace:?} (field manager: {managers}) once {condition}: \
         the first write removes {lost}{kept}"
    );
    if removed.is_empty() {
        return Finding::ok(CATEGORY, message);
    }
    let remedy = "request each registry of ECR in ecr-pull-secrets.dev/registries, and add other entries to \
                  staticRegistries; or copy the secret to another name first";
    Finding::warning(CATEGORY, message, Link::Adoption, remedy)
}

/// The parts of the Secret that the first write removes. It replaces the whole key with the entries, and leaves the other data
/// keys alone, except those that belong to the controller's own Apply entry (docs/decisions/0003-server-side-apply.md).
fn removed(secret: &ForeignSecret, content: &ForeignContent) -> Vec<String> {
    let of = |fate: Fate| {
        let found = content.registries.iter().filter(|key| fate == self::fate(key, secret));
        found.map(|key| host(key).to_owned()).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let keys = content.keys.iter().filter(|key| key.is_removed).map(|key| key.name.clone());
    let unless = match secret.assignments {
        Some(_) => "default is this registry",
        None => "the namespace requests it",
    };
    [
        ("the entries of ", of(Fate::Removed), String::new()),
        ("each entry of ", of(Fate::Unknown), format!(" unless {unless}")),
        ("the data keys ", keys.collect(), String::new()),
    ]
    .into_iter()
    .filter(|(_, names, _)| !names.is_empty())
    .map(|(what, names, end)| format!("{what}{}{end}", list(&names)))
    .collect()
}

/// The effect of the first write on an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Replaced,
    Removed,
    /// It depends on the request, or on the registry that a token names.
    Unknown,
}

fn fate(key: &str, secret: &ForeignSecret) -> Fate {
    if secret.static_hosts.iter().any(|by| is_served(key, by)) {
        return Fate::Replaced;
    }
    let Ok(registry) = Registry::from_url(host(key)) else { return Fate::Removed };
    let Some(assignments) = &secret.assignments else { return Fate::Unknown };
    if assignments.iter().any(|assignment| entry_host(assignment, None).as_ref() == Some(&registry)) {
        return Fate::Replaced;
    }
    let may_be_default = assignments.iter().any(|assignment| {
        assignment.target == Target::Default
            && entry_host(assignment, None).is_none()
            && assignment.request.key.endpoint == registry.endpoint()
            && assignment.may_be(&registry)
    });
    if may_be_default { Fate::Unknown } else { Fate::Removed }
}

/// The host and the port of a key of `auths`, without what may precede and follow them, such as a password.
fn host(key: &str) -> &str {
    place(key).split('/').next().unwrap_or_default()
}

/// As [`host`], with the path.
fn place(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    // A password may contain any character.
    let rest = rest.rsplit('@').next().unwrap_or_default();
    let place = rest.split(['?', '#']).next().unwrap_or_default();
    place.trim_end_matches('/')
}

/// Whether the entry of the second key is used for the images of the first one.
fn is_served(key: &str, by: &str) -> bool {
    let rest = place(key).strip_prefix(place(by));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Names that other tools chose.
fn list(names: &[String]) -> String {
    let mut listed: Vec<_> = names.iter().take(MAX_LISTED).map(|name| quote(name)).collect();
    if names.len() > MAX_LISTED {
        listed.push(format!("{} more", names.len() - MAX_LISTED));
    }
    listed.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::facts::DataKey;
    use crate::core::request::Request;
    use crate::core::testing::{self, HOST};

    const OTHER: &str = "222222222222.dkr.ecr.us-east-1.amazonaws.com";

    fn foreign(request: Option<&Request>, registries: &[&str]) -> ForeignSecret {
        let granted = |request| testing::settings().grants.assign("team-a", request).expect("granted").0;
        ForeignSecret {
            namespace: "team-a".to_owned(),
            name: "regcred".to_owned(),
            assignments: request.map(|request| granted(request).assignments),
            static_hosts: vec!["docker.io".to_owned()],
            refusal: None,
            content: Ok(ForeignContent {
                managers: vec!["kubectl-create".to_owned()],
                registries: registries.iter().map(ToString::to_string).collect(),
                keys: vec![],
            }),
        }
    }

    fn message(secret: &ForeignSecret) -> (bool, String) {
        let finding = super::secret(secret);
        (finding.hint.is_some(), finding.message)
    }

    #[test]
    fn entries_that_the_first_write_replaces_are_not_removed_in_whatever_form_their_key_is() {
        let urls = [&format!("https://{HOST}"), &format!("{HOST}:443/team-a"), HOST, "https://docker.io/v1/"];
        let (is_bad, text) = message(&foreign(Some(&testing::request(&[HOST])), &urls));
        assert!(!is_bad, "{text}");
        assert!(
            text.ends_with("once it has a token for each registry: the first write removes no entry"),
            "{text}"
        );
        assert!(
            text.contains("\"regcred\" in namespace \"team-a\" (field manager: \"kubectl-create\")"),
            "{text}"
        );
    }

    #[test]
    fn each_other_entry_is_removed_and_named_by_its_host_alone() {
        let keys = [
            "https://me:hunter2@ghcr.io/v2/",
            "https://me:ab/hunter2@ghcr.io",
            "https://ghcr.io?token=hunter2",
            OTHER,
            HOST,
            "*.dkr.ecr.eu-central-1.amazonaws.com",
        ];
        let (is_bad, text) = message(&foreign(Some(&testing::request(&[HOST])), &keys));
        assert!(is_bad && !text.contains("hunter2"), "{text}");
        let removed = format!(
            "removes the entries of \"*.dkr.ecr.eu-central-1.amazonaws.com\", \"{OTHER}\", \"ghcr.io\""
        );
        assert!(text.ends_with(&removed), "{text}");
        let many: Vec<_> = (0..9).map(|n| format!("r{n}.example")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let (_, text) = message(&foreign(Some(&testing::request(&[HOST])), &many));
        assert!(text.ends_with("\"r4.example\", 4 more"), "{text}");
    }

    #[test]
    fn a_static_entry_replaces_those_below_its_path_only() {
        let mut secret =
            foreign(Some(&testing::request(&[HOST])), &["ghcr.io/team-a/app", "ghcr.io/team-ab"]);
        secret.static_hosts = vec!["https://ghcr.io/team-a".to_owned()];
        assert!(message(&secret).1.ends_with("removes the entries of \"ghcr.io\""));
        secret.static_hosts = vec!["ghcr.io/team-a".to_owned(), "ghcr.io/team-ab/".to_owned()];
        assert!(message(&secret).1.ends_with("removes no entry"));
    }

    #[test]
    fn before_the_request_an_entry_of_ecr_depends_on_it() {
        let (is_bad, text) = message(&foreign(None, &["docker.io", "ghcr.io", HOST]));
        let removed = format!(
            "once the namespace requests it: the first write removes the entries of \"ghcr.io\", and each entry of \
             \"{HOST}\" unless the namespace requests it"
        );
        assert!(is_bad && text.ends_with(&removed), "{text}");
    }

    #[test]
    fn an_entry_of_the_same_region_may_be_the_default_registry() {
        let default = testing::request_for(vec![Target::Default]);
        let (is_bad, text) = message(&foreign(Some(&default), &[HOST, OTHER]));
        let removed = format!(
            "removes the entries of \"{OTHER}\", and each entry of \"{HOST}\" unless default is this registry"
        );
        assert!(is_bad && text.ends_with(&removed), "{text}");
    }

    #[test]
    fn other_data_keys_stay_unless_only_the_controllers_apply_owns_them() {
        let mut secret = foreign(Some(&testing::request(&[HOST])), &[HOST]);
        let content = secret.content.as_mut().expect("content");
        content.managers.clear();
        content.keys = [("notes", false), ("forged\n", true)]
            .map(|(name, is_removed)| DataKey { name: name.to_owned(), is_removed })
            .into();
        let (is_bad, text) = message(&secret);
        assert!(is_bad && text.contains("(field manager: unknown)"), "{text}");
        assert!(
            text.ends_with("removes the data keys \"forged\\n\"; the other data keys stay: \"notes\""),
            "{text}"
        );
    }
}
