//! Service accounts: which of their `imagePullSecrets` are ours to add and to remove. What others put there is theirs.

use std::sync::Arc;

use serde_json::{Value, json};

use super::settings::Settings;

/// Annotation of a service account, without the prefix: which references are ours, as `INSTANCE/NAME` with commas
/// between them.
pub const ATTACHED: &str = "attached";

/// Stands for every service account of the namespace.
pub const ALL: &str = "*";

/// What is known of a service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its resource version.
    pub resource_version: u64,
    /// The allowed names that it refers to.
    pub references: Vec<Arc<str>>,
    /// Those of them that are recorded as ours.
    pub attached: Vec<Arc<str>>,
}

impl Account {
    /// Whether it is not as it should be, when it is to refer to the Secret `wanted`, or to none of ours.
    pub fn differs(&self, wanted: Option<&str>) -> bool {
        let missing = wanted.is_some_and(|name| !self.references.iter().any(|known| **known == *name));
        missing || self.attached.iter().any(|name| Some(&**name) != wanted)
    }
}

/// A change of a service account.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Its whole `imagePullSecrets`, which is an atomic list.
    pub references: Vec<Value>,
    /// The annotation [`ATTACHED`]; `None`: it has none.
    pub attached: Option<String>,
}

/// What to change about a service account that is to refer to the Secret `wanted`, or to none of ours. A reference that
/// is there without being recorded as ours stays for ever.
pub fn edit(
    references: &[Value],
    attached: Option<&str>,
    wanted: Option<&str>,
    settings: &Settings,
) -> Option<Edit> {
    let mut all = references.to_vec();
    let records: Vec<&str> = items(attached).collect();
    let (mut kept, mut ours) = (vec![], vec![]);
    for record in &records {
        match own(record, settings) {
            Some(name) if Some(&*name) != wanted => all.retain(|reference| reference["name"] != *name),
            Some(name) => ours.push(name),
            None => kept.push((*record).to_owned()),
        }
    }
    if let Some(name) = wanted.filter(|name| !all.iter().any(|reference| reference["name"] == **name)) {
        all.push(json!({ "name": name }));
        ours = vec![name.into()];
    }
    kept.extend(ours.first().map(|name| format!("{}/{name}", settings.instance)));
    let same = all == references && kept == records;
    (!same).then(|| Edit { references: all, attached: (!kept.is_empty()).then(|| kept.join(",")) })
}

/// The names that the annotation records as this instance's, as far as the configuration allows them.
pub fn recorded(attached: Option<&str>, settings: &Settings) -> Vec<Arc<str>> {
    items(attached).filter_map(|record| own(record, settings)).collect()
}

fn items(attached: Option<&str>) -> impl Iterator<Item = &str> {
    attached.unwrap_or_default().split(',').map(str::trim).filter(|record| !record.is_empty())
}

/// The annotation is anybody's who may edit service accounts: no other name than an allowed one is ever removed.
fn own(record: &str, settings: &Settings) -> Option<Arc<str>> {
    let (instance, name) = record.split_once('/')?;
    let allowed = settings.all_names().find(|allowed| ***allowed == *name)?;
    (instance == settings.instance).then(|| allowed.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::annotations::tests::settings;

    fn names(names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| json!({ "name": name })).collect()
    }

    fn edited(
        references: &[&str],
        attached: &str,
        wanted: Option<&str>,
    ) -> Option<(Vec<Value>, Option<String>)> {
        let attached = Some(attached).filter(|text| !text.is_empty());
        edit(&names(references), attached, wanted, &settings()).map(|edit| (edit.references, edit.attached))
    }

    #[test]
    fn ours_is_added_recorded_and_only_ours_removed() {
        let own = || Some("test/ecr-pull".to_owned());
        assert_eq!(edited(&["theirs"], "", Some("ecr-pull")), Some((names(&["theirs", "ecr-pull"]), own())));
        assert_eq!(edited(&["theirs", "ecr-pull"], "test/ecr-pull", Some("ecr-pull")), None);
        assert_eq!(edited(&["theirs", "ecr-pull"], "test/ecr-pull", None), Some((names(&["theirs"]), None)));
        let other = (names(&["theirs", "other"]), Some("test/other".to_owned()));
        assert_eq!(edited(&["theirs", "ecr-pull"], "test/ecr-pull", Some("other")), Some(other));
    }

    #[test]
    fn a_reference_that_somebody_else_made_is_neither_recorded_nor_removed() {
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
    fn a_forged_record_removes_no_other_name() {
        assert_eq!(edited(&["registry-login"], "test/registry-login", None), None);
    }
}
