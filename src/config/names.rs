//! `instance`, `secretNames`, `retiredSecretNames` and `serviceAccounts`: the names that the installation owns.

use std::collections::BTreeSet;

use super::{Config, ConfigError, FieldPath};
use crate::core::quote;
use crate::core::request::OwnedNames;

pub(super) fn build(config: &Config) -> Result<OwnedNames, ConfigError> {
    if !is_label(&config.instance) {
        let problem = format!("{}: {LABEL_EXPECTED}", quote(&config.instance));
        return Err(FieldPath::new("instance").invalid(problem));
    }
    let secret_names = FieldPath::new("secretNames");
    if config.secret_names.is_empty() {
        return Err(secret_names.invalid("empty: list at least one name"));
    }
    let mut seen = BTreeSet::new();
    check_secret_names(&secret_names, &config.secret_names, &mut seen)?;
    check_secret_names(&FieldPath::new("retiredSecretNames"), &config.retired_secret_names, &mut seen)?;
    Ok(OwnedNames {
        instance: config.instance.clone(),
        secret_names: config.secret_names.iter().map(|name| name.as_str().into()).collect(),
        retired_names: config.retired_secret_names.iter().map(|name| name.as_str().into()).collect(),
        service_accounts: config.service_accounts.enabled,
    })
}

fn check_secret_names<'a>(
    list: &FieldPath,
    names: &'a [String],
    seen: &mut BTreeSet<&'a str>,
) -> Result<(), ConfigError> {
    for (index, name) in names.iter().enumerate() {
        if !is_object_name(name) {
            let problem = format!(
                "{}: expected the name of a Secret: at most 253 characters of a-z, 0-9, - and ., beginning and ending \
                 with a letter or digit",
                quote(name)
            );
            return Err(list.index(index).invalid(problem));
        }
        if !seen.insert(name) {
            let problem =
                format!("duplicate name {}: list it once, in secretNames or retiredSecretNames", quote(name));
            return Err(list.index(index).invalid(problem));
        }
    }
    Ok(())
}

/// The requirements of [`is_label`], for messages.
pub(super) const LABEL_EXPECTED: &str =
    "expected at most 63 characters of a-z, 0-9, - and ., beginning and ending with a letter or digit";

/// A name that is also valid as the value of a label.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_dns_subdomain(text)
}

/// The name of an object
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>).
pub(super) fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && is_dns_subdomain(text)
}

fn is_dns_subdomain(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.split('.').all(|part| {
        let bytes = part.as_bytes();
        bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
            && bytes.first().is_some_and(|b| alphanumeric(*b))
            && bytes.last().is_some_and(|b| alphanumeric(*b))
    })
}
