//! AWS Signature Version 4, the receiving side: the SDK's own signer signs the request again, and the results
//! are compared. The age of a request is not checked.

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use hyper::body::Bytes;
use hyper::{HeaderMap, Request};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::state::Credentials;

/// The `Authorization` header of a request, before its signature is checked.
pub(super) struct Claim {
    pub(super) access_key: String,
    pub(super) region: String,
    pub(super) service: String,
    signed_headers: Vec<String>,
}

/// The value of a header, if it is present and text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

impl Claim {
    /// Parses `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
    pub(super) fn of(request: &Request<Bytes>) -> Option<Self> {
        let authorization = header(request.headers(), "authorization")?;
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=")?;
        let (scope, fields) = fields.split_once(", SignedHeaders=")?;
        let (signed_headers, _) = fields.split_once(", Signature=")?;
        let [access_key, _, region, service, "aws4_request"] = scope.split('/').collect::<Vec<_>>()[..]
        else {
            return None;
        };
        Some(Self {
            access_key: access_key.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
        })
    }

    /// Whether signing the request with these credentials results in the `Authorization` header that it has.
    pub(super) fn is_signed_with(&self, credentials: &Credentials, request: &Request<Bytes>) -> bool {
        self.matches(credentials, request).unwrap_or(false)
    }

    fn matches(&self, credentials: &Credentials, request: &Request<Bytes>) -> Option<bool> {
        let headers = request.headers();
        let time = DateTime::strptime("%Y%m%dT%H%M%SZ", header(headers, "x-amz-date")?).ok()?;
        let identity = credentials.to_sdk().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(TimeZone::UTC.to_timestamp(time).ok()?.into())
            .settings(SigningSettings::default());
        let params = params.build().ok()?.into();
        let signed =
            self.signed_headers.iter().filter_map(|name| Some((name.as_str(), header(headers, name)?)));
        // If `host` is not among the signed headers, the signer adds this one, and the signatures differ.
        let uri = format!("http://not-signed{}", request.uri().path());
        let body = SignableBody::Bytes(request.body());
        let signable = SignableRequest::new(request.method().as_str(), uri, signed, body).ok()?;
        let (instructions, _) = sign(signable, &params).ok()?.into_parts();
        let authorization = header(headers, "authorization")?;
        Some(instructions.headers().any(|header| header == ("authorization", authorization)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::state::Principal;

    /// `get-vanilla` of AWS's published Signature Version 4 test suite.
    const VANILLA: &str = "AWS4-HMAC-SHA256 \
        Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
        Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";

    fn is_accepted(authorization: &str, secret_key: &str, tamper: impl FnOnce(&mut Request<Bytes>)) -> bool {
        let request = Request::get("/")
            .header("host", "example.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z")
            .header("authorization", authorization);
        let mut request = request.body(Bytes::new()).expect("a request");
        tamper(&mut request);
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: secret_key.to_owned(),
            session_token: None,
            expires: None,
            principal: Principal::fixed(),
        };
        Claim::of(&request).expect("a claim").is_signed_with(&credentials, &request)
    }

    #[test]
    fn a_tampered_request_is_refused() {
        const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        assert!(is_accepted(VANILLA, SECRET, |_| ()));
        assert!(!is_accepted(VANILLA, "another secret", |_| ()));
        for (from, to) in
            [("us-east-1", "us-east-2"), ("20150830", "20150831"), ("host;", ""), ("bf31", "bf32")]
        {
            assert!(!is_accepted(&VANILLA.replace(from, to), SECRET, |_| ()), "{to}");
        }
        let tampering: [fn(&mut Request<Bytes>); 5] = [
            |request| *request.body_mut() = Bytes::from_static(b"x"),
            |request| *request.method_mut() = hyper::Method::POST,
            |request| *request.uri_mut() = hyper::Uri::from_static("/other"),
            |request| drop(request.headers_mut().remove("host")),
            |request| drop(request.headers_mut().insert("x-amz-date", "yesterday".parse().expect("a value"))),
        ];
        for (number, tamper) in tampering.into_iter().enumerate() {
            assert!(!is_accepted(VANILLA, SECRET, tamper), "{number}");
        }
    }
}
