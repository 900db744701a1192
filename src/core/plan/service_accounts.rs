//! Service accounts: which of their `imagePullSecrets` this instance added, and may remove.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::core::request::OwnedNames;

/// Annotation of a service account, without the prefix: the references that we added, as `INSTANCE/NAME` separated by
/// commas.
pub const ATTACHED: &str = "attached";

/// The maximum number of service accounts of one namespace. Further ones are not changed.
pub const MAX_SERVICE_ACCOUNTS: usize = 500;

/// The record of a service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSecretRefs {
    pub resource_version: u64,
    /// The allowed Secret names that it refers to.
    pub references: Vec<Arc<str>>,
    /// The references among them that we added.
    pub attached: Vec<Arc<str>>,
}

impl PullSecretRefs {
    /// Whether it must be changed to refer to `secret`, or, if `None`, to no Secret that we added. Our references to `kept`
    /// stay.
    pub fn differs(&self, secret: Option<&str>, kept: &[Arc<str>]) -> bool {
        let missing = secret.is_some_and(|name| !self.references.iter().any(|known| **known == *name));
        missing || self.attached.iter().any(|name| Some(&**name) != secret && !kept.contains(name))
    }
}

/// A change of a service account.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The whole `imagePullSecrets`, which is an atomic list.
    pub references: Vec<Value>,
    /// The annotation [`ATTACHED`]; `None` removes it.
    pub attached: Option<String>,
}

/// The change that makes a service account refer to `secret`, or, if `None`, to no Secret that we added. A reference
/// that another client added is never removed, and ours to `kept` stay.
pub fn edit(
    references: &[Value],
    attached: Option<&str>,
    secret: Option<&str>,
    kept: &[Arc<str>],
    names: &OwnedNames,
) -> Option<Edit> {
    let mut all = references.to_vec();
    let recorded: Vec<&str> = items(attached).collect();
    let (mut records, mut added) = (vec![], None);
    for record in &recorded {
        match added_name(record, names) {
            Some(name) if Some(&*name) == secret => added = Some(name),
            Some(name) if !kept.contains(&name) => all.retain(|reference| reference["name"] != *name),
            Some(_) | None => records.push((*record).to_owned()),
        }
    }
    if let Some(name) = secret
        && !all.iter().any(|reference| reference["name"] == *name)
    {
        all.push(json!({ "name": name }));
        added = Some(name.into());
    }
    records.extend(added.map(|name| format!("{}/{name}", names.instance)));
    if all == references && records == recorded {
        return None;
    }
    Some(Edit { references: all, attached: (!records.is_empty()).then(|| records.join(",")) })
}

/// The allowed names that the annotation records for this instance, each once, however often it is recorded.
pub fn attached_names(attached: Option<&str>, names: &OwnedNames) -> Vec<Arc<str>> {
    let recorded: BTreeSet<_> = items(attached).filter_map(|record| added_name(record, names)).collect();
    recorded.into_iter().collect()
}

fn items(attached: Option<&str>) -> impl Iterator<Item = &str> {
    attached.unwrap_or_default().split(',').map(str::trim).filter(|record| !record.is_empty())
}

/// Users can forge the annotation if they can edit service accounts, so only allowed names count.
fn added_name(record: &str, names: &OwnedNames) -> Option<Arc<str>> {
    let (instance, name) = record.split_once('/')?;
    let allowed = names.all().find(|allowed| ***allowed == *name)?;
    (instance == names.instance).then(|| allowed.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::settings;

    fn names(names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| json!({ "name": name })).collect()
    }

    fn edited(
        references: &[&str],
        attached: &str,
        wanted: Option<&str>,
    ) -> Option<(Vec<Value>, Option<String>)> {
        let attached = Some(attached).filter(|text| !text.is_empty());
        edit(&names(references), attached, wanted, &[], &settings().names)
            .map(|edit| (edit.references, edit.attached))
    }

    #[test]
    fn our_reference_is_added_and_recorded_and_no_other_is_removed() {
        let own = || Some("test/ecr-pull".to_owned());
        assert_eq!(edited(&["theirs"], "", Some("ecr-pull")), Some((names(&["theirs", "ecr-pull"]), own())));
        assert_eq!(edited(&["theirs", "ecr-pull"], "test/ecr-pull", Some("ecr-pull")), None);
        assert_eq!(edited(&["theirs", "ecr-pull"], "test/ecr-pull", None), Some((names(&["theirs"]), None)));
        let other = (names(&["theirs", "other"]), Some("test/other".to_owned()));
        assert_eq!(edited(&["theirs", "ecr-pull"], "test/ecr-pull", Some("other")), Some(other));
    }

    #[test]
    fn a_reference_that_another_client_added_is_neither_recorded_nor_removed() {
        assert_eq!(edited(&["ecr-pull"], "", Some("ecr-pull")), None);
        assert_eq!(edited(&["ecr-pull"], "", None), None);
        assert_eq!(edited(&["ecr-pull"], "two/ecr-pull", None), None, "another instance's");
        let both = Some("two/ecr-pull".to_owned());
        assert_eq!(
            edited(&["ecr-pull", "other"], "two/ecr-pull,test/other", None),
            Some((names(&["ecr-pull"]), both))
        );
    }

    #[test]
    fn our_reference_to_a_former_name_that_is_kept_stays() {
        let former: Arc<str> = "ecr-pull".into();
        let (references, record) = (names(&["theirs", "ecr-pull"]), Some("test/ecr-pull"));
        let change = |kept: &[Arc<str>]| {
            edit(&references, record, Some("other"), kept, &settings().names).expect("a change")
        };
        let both = change(std::slice::from_ref(&former));
        assert_eq!(both.references, names(&["theirs", "ecr-pull", "other"]));
        assert_eq!(both.attached.as_deref(), Some("test/ecr-pull,test/other"));
        assert_eq!(change(&[]).references, names(&["theirs", "other"]));
        assert_eq!(
            edit(&both.references, both.attached.as_deref(), Some("other"), &[former], &settings().names),
            None
        );
    }

    #[test]
    fn a_record_that_is_repeated_is_kept_once() {
        let forged = "test/ecr-pull,".repeat(10_000);
        assert_eq!(attached_names(Some(&forged), &settings().names), [Arc::from("ecr-pull")]);
    }

    #[test]
    fn a_forged_record_removes_no_other_name() {
        assert_eq!(edited(&["registry-login"], "test/registry-login", None), None);
    }
}
