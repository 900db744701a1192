//! Keys of `auths` in a Docker configuration. The kubelet matches more than the host of an image with them
//! (<https://kubernetes.io/docs/concepts/containers/images/#config-json>).

use std::iter::zip;

use super::registry::{PUBLIC_HOSTS, Registry, SUFFIXES};

/// Whether a client that looks up credentials by this key may use them for a registry of Amazon ECR. `None` if the text is
/// not a key.
///
/// The scheme, the port and the path do not count, and each label of the host may contain wildcards.
pub fn may_match_ecr(key: &str) -> Option<bool> {
    let lower = key.to_ascii_lowercase();
    let rest = ["https://", "http://"].iter().find_map(|scheme| lower.strip_prefix(scheme)).unwrap_or(&lower);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    if host.is_empty() || rest.contains(['@', '#', '%', '\\']) {
        return None;
    }
    let host = host.trim_end_matches('.');
    if !host.contains(['*', '?', '[']) {
        return Some(host.parse::<Registry>().is_ok());
    }
    let ends = SUFFIXES.iter().map(|(suffix, _)| *suffix).chain(PUBLIC_HOSTS);
    Some(
        { ends }
            .any(|end| zip(host.rsplit('.'), end.rsplit('.')).all(|(glob, label)| glob_matches(glob, label))),
    )
}

/// `*` matches any text, `?` any character, and a set of characters counts as matching whatever follows.
fn glob_matches(glob: &str, label: &str) -> bool {
    let mut rest = glob.chars();
    match rest.next() {
        None => label.is_empty(),
        Some('[') => true,
        Some('*') => {
            let rest = rest.as_str().trim_start_matches('*');
            label
                .char_indices()
                .map(|(start, _)| start)
                .chain([label.len()])
                .any(|start| glob_matches(rest, &label[start..]))
        }
        Some(c) => {
            label.strip_prefix(|l| c == '?' || c == l).is_some_and(|label| glob_matches(rest.as_str(), label))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_the_kubelet_matches_with_a_host_of_ecr_is_found() {
        const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
        let forms = [
            HOST.to_owned(),
            format!("{HOST}:443"),
            format!("{HOST}/team-a"),
            format!("https://{HOST}/v2/"),
            format!("http://{HOST}"),
            format!("HTTPS://{}", HOST.to_uppercase()),
            format!("{HOST}."),
            "*.dkr.ecr.*.amazonaws.com".to_owned(),
            "*.*.*.*.amazonaws.com".to_owned(),
            "*.*.*.*.*.*".to_owned(),
            "123456789012.dkr.ecr.eu-central-?.amazon*.c?m".to_owned(),
            "12*.dkr.ecr.eu-central-1.amazonaws.com:443/team-a".to_owned(),
            "*.dkr-ecr.*.on.aws".to_owned(),
            "*.dkr.ecr.cn-north-1.amazonaws.com.c[n]".to_owned(),
            "public.ecr.aws/team".to_owned(),
            "*.ecr.aws".to_owned(),
            "ecr-*.aws.com".to_owned(),
            "*".to_owned(),
        ];
        for key in forms {
            assert_eq!(may_match_ecr(&key), Some(true), "{key}");
        }
    }

    #[test]
    fn keys_of_other_registries_are_not() {
        for key in [
            "docker.io",
            "https://index.docker.io/v1/",
            "*.azurecr.io",
            "registry.example:5000/team",
            "*.dkr.ecr.eu-central-1.amazonaws.com.example",
            "amazonaws.com.evil.example",
            "quay.io",
            "*.aws.example",
            "localhost:5000",
        ] {
            assert_eq!(may_match_ecr(key), Some(false), "{key}");
        }
        for key in ["", "https://", "user@docker.io", ":443", "/path", "a#b", "a%2e", "a\\b"] {
            assert_eq!(may_match_ecr(key), None, "{key}");
        }
    }

    #[test]
    fn a_long_glob_is_matched_in_bounded_time() {
        let glob = format!("{}x.aws", "*".repeat(60));
        assert_eq!(may_match_ecr(&glob), Some(false));
    }
}
