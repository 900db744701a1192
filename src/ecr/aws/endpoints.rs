//! Endpoints of the AWS APIs: AWS's own, those of the environment, and those of the configuration.

use std::collections::HashMap;
use std::env;
use std::net::IpAddr;

use aws_config::SdkConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EnvironmentError;
use crate::core::quote;

/// The prefix of the variables that set endpoints.
const VARIABLES: &str = "AWS_ENDPOINT_URL";
/// The addresses in EC2 from which containers and instances get credentials, over IPv6.
const CREDENTIALS: [&str; 2] = ["fd00:ec2::254", "fd00:ec2::23"];
/// The requirements of [`is_safe_url`], for messages.
pub const SAFE_URL: &str = "expected https://HOST, or http:// with a loopback or link-local address, without user name and \
                            query";

/// An AWS API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Service {
    /// The API of private ECR.
    Ecr,
    /// The API of public ECR.
    EcrPublic,
    /// The API of STS.
    Sts,
}

impl Service {
    /// The environment variable that sets its endpoint
    /// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>).
    fn variable(self) -> &'static str {
        match self {
            Self::Ecr => "AWS_ENDPOINT_URL_ECR",
            Self::EcrPublic => "AWS_ENDPOINT_URL_ECR_PUBLIC",
            Self::Sts => "AWS_ENDPOINT_URL_STS",
        }
    }
}

/// The configured URLs: for a service in one region, or (`None`) in every region that is not listed.
pub type Endpoints = HashMap<(Service, Option<String>), String>;

/// The configured URL of a service in a region.
pub(super) fn configured(endpoints: &Endpoints, service: Service, region: &str) -> Option<String> {
    let find = |region: Option<String>| endpoints.get(&(service, region));
    find(Some(region.to_owned())).or_else(|| find(None)).cloned()
}

/// Whether the environment or the AWS profile sets the endpoint of a service.
pub(super) fn is_set_by_environment(service: Service, config: &SdkConfig) -> bool {
    config.endpoint_url().is_some() || std::env::var_os(service.variable()).is_some()
}

/// Whether tokens and credentials may be sent to this URL. Plain HTTP must not leave the node.
pub fn is_safe_url(text: &str) -> bool {
    let Ok(url) = text.parse::<http::Uri>() else { return false };
    let (Some(host), Some(authority)) = (url.host(), url.authority()) else { return false };
    let is_safe = match url.scheme_str() {
        Some("https") => true,
        Some("http") => is_local(host),
        _ => false,
    };
    is_safe && !authority.as_str().contains('@') && url.query().is_none()
}

/// An endpoint for a message. The text before an `@` or after a `?` may be a credential.
pub fn shown(url: &str) -> String {
    if !url.contains(['@', '?']) {
        return quote(url);
    }
    let parsed = url.parse::<http::Uri>().ok();
    let host = parsed.as_ref().and_then(http::Uri::host);
    let of_host = host.map_or_else(String::new, |host| format!(" of host {}", quote(host)));
    format!("a URL{of_host} with a user name or a query")
}

/// Whether a host is this machine, or a service of the node that provides credentials. The host is not resolved.
pub(super) fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_local = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            let is_known = CREDENTIALS.iter().any(|known| known.parse() == Ok(address));
            address.is_loopback() || address.is_unicast_link_local() || is_known
        }
    };
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(is_local)
}

/// Checks the endpoints that the environment sets.
pub(super) fn check_environment() -> Result<(), EnvironmentError> {
    for (name, url) in env::vars_os() {
        let name = name.to_string_lossy();
        let url = url.to_string_lossy();
        if name.starts_with(VARIABLES) && !url.is_empty() && !is_safe_url(&url) {
            return Err(EnvironmentError::Endpoint { name: name.into_owned(), url: shown(&url) });
        }
    }
    Ok(())
}

/// Checks the endpoint that the AWS profile sets.
pub(super) fn check_profile(config: &SdkConfig) -> Result<(), EnvironmentError> {
    match config.endpoint_url().filter(|url| !is_safe_url(url)) {
        Some(url) => Err(EnvironmentError::Endpoint {
            name: "endpoint_url of the AWS profile".to_owned(),
            url: shown(url),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_does_not_leave_the_node() {
        for url in [
            "https://vpce.example/x",
            "http://127.0.0.1:4566",
            "http://[::1]:4566",
            "http://localhost:1",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]",
            "http://[fe80::1]:80",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(is_safe_url(url), "{url}");
        }
        for url in [
            "",
            "http://ecr.example",
            "http://10.0.0.1:80",
            "http://169.253.1.1",
            "http://[fd00:ec2::255]",
            "http://localhost.evil.example",
            "http://127.0.0.1@evil.example",
            "http://169.254.169.254.evil.example",
            "https://a:b@ecr.example",
            "https://ecr.example/?x=y",
            "ftp://127.0.0.1",
            "ecr.example",
        ] {
            assert!(!is_safe_url(url), "{url}");
        }
    }

    /// An URL that is refused because of a password must not show it.
    #[test]
    fn a_message_shows_no_credential() {
        for url in
            ["https://svc:hunter2@ecr.example", "https://ecr.example/?token=hunter2", "https://a b:hunter2@c"]
        {
            assert!(!is_safe_url(url));
            let shown = shown(url);
            assert!(!shown.contains("hunter2") && shown.starts_with("a URL"), "{shown}");
        }
        assert_eq!(shown("http://ecr.example"), "\"http://ecr.example\"");
    }
}
