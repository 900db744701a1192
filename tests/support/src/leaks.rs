//! The search for tokens and keys in output.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Asserts that a text contains none of these secrets, plain or in base64.
pub fn assert_none(said: &str, secrets: &[String]) {
    assert_eq!(find(said, secrets), None, "a token or key is in the output, behind what is shown here");
}

/// The text before the first secret that a text contains, plain or in base64.
fn find<'a>(said: &'a str, secrets: &[String]) -> Option<&'a str> {
    let place = |secret: &String| {
        let encoded = STANDARD.encode(secret);
        // The last characters of base64 depend on what follows.
        let encoded = &encoded[..encoded.len().saturating_sub(4)];
        said.find(secret.as_str()).or_else(|| said.find(encoded).filter(|_| encoded.len() > 8))
    };
    let at = secrets.iter().find_map(place)?;
    let from = said[..at].char_indices().rev().nth(200).map_or(0, |(place, _)| place);
    Some(&said[from..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_a_secret_plain_and_in_base64() {
        let secrets = ["hunter2hunter2".to_owned()];
        assert_eq!(find("nothing to see", &secrets), None);
        assert_eq!(find("here: hunter2hunter2!", &secrets), Some("here: "));
        let encoded = format!("here: {}", STANDARD.encode("hunter2hunter2, and more"));
        assert_eq!(find(&encoded, &secrets), Some("here: "));
    }
}
