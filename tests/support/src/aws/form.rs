//! The fields of a request to STS.

use std::collections::HashMap;

/// The fields of an `application/x-www-form-urlencoded` body. Those of a JSON body are never read.
#[derive(Debug)]
pub(super) struct Form(HashMap<String, String>);

impl Form {
    pub(super) fn read(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that is present and not empty.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Keys and values of the session tags, in the order of their numbers.
    pub(super) fn tags(&self) -> Vec<(String, String)> {
        let member = |number: usize, field| self.get(&format!("Tags.member.{number}.{field}"));
        (1..)
            .map_while(|number| Some((member(number, "Key")?, member(number, "Value").unwrap_or_default())))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}
