//! AWS Signature Version 4, the receiving side.
//!
//! After "Create a signed AWS API request" of the IAM User Guide. Not checked is how old a request is.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use sha2::{Digest as _, Sha256};

/// What a request's `Authorization` header claims, before anything is believed of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) access_key: String,
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
    signed_headers: Vec<String>,
    signature: String,
}

/// A request as far as its signature covers it.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// A header's value, if it is there and text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

impl Claim {
    /// Reads `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
    pub(super) fn parse(authorization: &str) -> Option<Self> {
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let field = |name: &str| fields.split(',').find_map(|field| field.trim().strip_prefix(name));
        let scope: Vec<&str> = field("Credential=")?.split('/').collect();
        let [access_key, date, region, service, "aws4_request"] = scope[..] else { return None };
        Some(Self {
            access_key: access_key.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: field("SignedHeaders=")?.split(';').map(str::to_owned).collect(),
            signature: field("Signature=")?.to_owned(),
        })
    }

    /// Whether the signature covers this header.
    pub(super) fn covers(&self, header: &str) -> bool {
        self.signed_headers.iter().any(|signed| signed == header)
    }

    /// Checks that the request was signed with this secret key; the error says what differs.
    pub(super) fn verify(&self, request: &Request<'_>, secret_key: &str) -> Result<(), String> {
        for required in ["host", "x-amz-date"] {
            if !self.covers(required) {
                return Err(format!("'{required}' must be a signed header."));
            }
        }
        let time = header(request.headers, "x-amz-date").ok_or("'X-Amz-Date' must be present.")?;
        if time.get(..8) != Some(self.date.as_str()) {
            return Err(format!("Date in Credential scope does not match {time}."));
        }
        if self.signature == self.sign(request, time, secret_key) {
            Ok(())
        } else {
            Err("The request signature we calculated does not match the signature you provided. Check your \
                 AWS Secret Access Key and signing method."
                .to_owned())
        }
    }

    fn sign(&self, request: &Request<'_>, time: &str, secret_key: &str) -> String {
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let canonical = hex(&Sha256::digest(self.canonical_request(request)));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{canonical}");
        let steps = [&self.date, &self.region, &self.service, "aws4_request", &text];
        let key = format!("AWS4{secret_key}").into_bytes();
        hex(&steps.iter().fold(key, |key, step| hmac(&key, step)))
    }

    /// The stub's endpoints have no query, and paths in which nothing needs encoding.
    fn canonical_request(&self, request: &Request<'_>) -> String {
        let mut text = format!("{}\n{}\n\n", request.method, request.path);
        for name in &self.signed_headers {
            let value = header(request.headers, name).unwrap_or_default();
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            writeln!(text, "{name}:{value}").expect("a String takes text");
        }
        let payload = hex(&Sha256::digest(request.body));
        write!(text, "\n{}\n{payload}", self.signed_headers.join(";")).expect("a String takes text");
        text
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes text");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get-vanilla` of AWS's published Signature Version 4 test suite.
    const VANILLA: &str = "AWS4-HMAC-SHA256 \
        Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
        Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("host", "example.amazonaws.com".parse().expect("a value"));
        headers.insert("x-amz-date", "20150830T123600Z".parse().expect("a value"));
        headers
    }

    fn verify(authorization: &str, method: &str, body: &[u8], secret: &str) -> Result<(), String> {
        let headers = headers();
        let request = Request { method, path: "/", headers: &headers, body };
        Claim::parse(authorization).expect("a claim").verify(&request, secret)
    }

    #[test]
    fn the_published_example_is_accepted_and_nothing_near_it() {
        assert_eq!(verify(VANILLA, "GET", b"", SECRET), Ok(()));
        let wrong =
            |result: Result<(), String>| assert!(result.expect_err("refused").contains("does not match"));
        wrong(verify(VANILLA, "GET", b"", "another secret"));
        wrong(verify(VANILLA, "POST", b"", SECRET));
        wrong(verify(VANILLA, "GET", b"x", SECRET));
        wrong(verify(&VANILLA.replace("us-east-1", "us-east-2"), "GET", b"", SECRET));
        wrong(verify(&VANILLA.replace("20150830", "20150831"), "GET", b"", SECRET));
        let unsigned = VANILLA.replace("host;", "");
        assert!(verify(&unsigned, "GET", b"", SECRET).expect_err("refused").contains("'host'"));
    }

    #[test]
    fn what_is_no_signature_is_no_claim() {
        for text in
            ["", "Basic QVdTOng=", "AWS4-HMAC-SHA256 Credential=a/b/c", &VANILLA.replace("Signature", "S")]
        {
            assert_eq!(Claim::parse(text), None, "{text}");
        }
    }
}
