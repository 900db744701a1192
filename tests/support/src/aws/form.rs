//! The fields of a request of STS.

use std::collections::HashMap;

/// The fields of an `application/x-www-form-urlencoded` body; JSON gives fields that nobody asks for.
#[derive(Debug)]
pub(super) struct Form(HashMap<String, String>);

impl Form {
    pub(super) fn read(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), decode(value))).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that is there and not empty.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Keys and values of the session's tags, in the order of their numbers.
    pub(super) fn tags(&self) -> Vec<(String, String)> {
        let member = |number: usize, field| self.get(&format!("Tags.member.{number}.{field}"));
        (1..)
            .map_while(|number| Some((member(number, "Key")?, member(number, "Value").unwrap_or_default())))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, code.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
