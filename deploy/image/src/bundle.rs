//! The certificates that the image trusts.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;
use x509_parser::parse_x509_certificate;

/// What stands at the head of the bundle. The licence asks that its text can be had with the data.
const HEAD: &str = "\
# The roots that Mozilla trusts for TLS servers, from the crate webpki-root-certs.
# Licence: CDLA-Permissive-2.0, https://cdla.dev/permissive-2-0/
";

/// Characters of base64 in a line of PEM (RFC 7468).
const LINE: usize = 64;

/// All roots as PEM, sorted by subject, each under a comment with its subject.
pub fn ca_bundle() -> String {
    let mut roots: Vec<(String, &[u8])> =
        TLS_SERVER_ROOT_CERTS.iter().map(|der| (subject(der), der.as_ref())).collect();
    roots.sort();
    let mut bundle = HEAD.to_owned();
    for (subject, der) in roots {
        write!(bundle, "\n# {subject}\n-----BEGIN CERTIFICATE-----\n").expect("a string takes text");
        let encoded = STANDARD.encode(der);
        for at in (0..encoded.len()).step_by(LINE) {
            bundle.push_str(&encoded[at..encoded.len().min(at + LINE)]);
            bundle.push('\n');
        }
        bundle.push_str("-----END CERTIFICATE-----\n");
    }
    bundle
}

/// The subject on one line. The list is compiled in, so what cannot be parsed is a bug of that crate.
fn subject(der: &[u8]) -> String {
    let (_, certificate) = parse_x509_certificate(der).expect("a root of the list is a certificate");
    certificate.subject().to_string().replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_root_is_there_once_and_under_its_subject() {
        let bundle = ca_bundle();
        let begins = bundle.matches("-----BEGIN CERTIFICATE-----\n").count();
        assert_eq!(begins, TLS_SERVER_ROOT_CERTS.len());
        let mut subject = "";
        let mut encoded = String::new();
        let mut seen = HashSet::new();
        for line in bundle.lines() {
            assert!(line.starts_with('#') || line.len() <= LINE, "{line}");
            match line {
                "-----BEGIN CERTIFICATE-----" => encoded.clear(),
                "-----END CERTIFICATE-----" => {
                    let der = STANDARD.decode(&encoded).expect("base64");
                    assert_eq!(super::subject(&der), subject);
                    assert!(seen.insert(der), "{subject} stands there twice");
                }
                _ => match line.strip_prefix("# ") {
                    Some(comment) => subject = comment,
                    None => encoded.push_str(line),
                },
            }
        }
        assert!(TLS_SERVER_ROOT_CERTS.iter().all(|der| seen.contains(der.as_ref())));
    }

    #[test]
    fn the_roots_of_amazon_are_in_it() {
        let bundle = ca_bundle();
        for number in 1..=4 {
            let name = format!("CN=Amazon Root CA {number}\n");
            assert!(bundle.contains(&name), "{name} is missing");
        }
    }

    #[test]
    fn it_is_plain_text_in_a_fixed_order() {
        let bundle = ca_bundle();
        assert_eq!(bundle, ca_bundle());
        let subjects: Vec<&str> = bundle.lines().filter(|line| line.starts_with('#')).skip(2).collect();
        assert!(subjects.is_sorted());
    }
}
