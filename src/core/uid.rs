//! The UID of an object of the API server.

use std::fmt;
use std::str::FromStr as _;

use uuid::Uuid;

/// A UID, which is never parsed: two are the same object if they are equal
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#uids>). Nearly all are UUIDs in canonical form,
/// which take 16 bytes and no allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Uid(Form);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    Uuid(Uuid),
    Other(Box<str>),
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        // Other forms of a UUID would not be displayed as they were read.
        let canonical = |uuid: &Uuid| uuid.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text;
        let uuid = Uuid::from_str(text).ok().filter(canonical);
        Self(uuid.map_or_else(|| Form::Other(text.into()), Form::Uuid))
    }
}

impl From<String> for Uid {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

impl Default for Uid {
    fn default() -> Self {
        Self::from("")
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Uuid(uuid) => write!(f, "{}", uuid.as_hyphenated()),
            Form::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_displayed_as_it_was_read() {
        let canonical = "0b5a6f3e-9f0c-4c3e-8d57-6a1f2f3c4d5e";
        let upper = canonical.to_uppercase();
        let (simple, braced) = (canonical.replace('-', ""), format!("{{{canonical}}}"));
        for text in [canonical, &upper, &simple, &braced, "uid-1", ""] {
            let uid = Uid::from(text);
            assert_eq!(uid.to_string(), text);
            assert_eq!(matches!(uid.0, Form::Uuid(_)), text == canonical, "{text}");
            assert!(uid == Uid::from(text) && (text == upper || uid != Uid::from(&*upper)), "{text}");
        }
    }
}
