//! `endpoints`: private endpoints, and test servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid};
use crate::core::quote;
use crate::core::registry::Region;
use crate::ecr::aws::{Endpoints, Service};

/// An endpoint of an AWS API in place of the one that AWS documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointConfig {
    /// The API.
    pub service: ServiceConfig,
    /// The region that it is for; left out: every region that has none of its own here.
    pub region: Option<String>,
    /// Its URL: https://, or http:// to a loopback address.
    pub url: String,
}

/// An API that has endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ServiceConfig {
    /// Private ECR.
    Ecr,
    /// Public ECR.
    EcrPublic,
    /// STS.
    Sts,
}

/// Checks every endpoint.
pub(super) fn check(endpoints: &[EndpointConfig]) -> Result<Endpoints, ConfigError> {
    let mut checked = Endpoints::new();
    for (place, endpoint) in endpoints.iter().enumerate() {
        let field = |name: &str| format!("endpoints[{place}].{name}");
        let service = match endpoint.service {
            ServiceConfig::Ecr => Service::Ecr,
            ServiceConfig::EcrPublic => Service::EcrPublic,
            ServiceConfig::Sts => Service::Sts,
        };
        if let Some(region) = &endpoint.region {
            region.parse::<Region>().map_err(|error| invalid(field("region"), error.to_string()))?;
        }
        if !is_url(&endpoint.url) {
            let problem =
                format!("{}: expected https://HOST, or http:// to a loopback address", quote(&endpoint.url));
            return Err(invalid(field("url"), problem));
        }
        if checked.insert((service, endpoint.region.clone()), endpoint.url.clone()).is_some() {
            return Err(invalid(field("region"), "this API has an endpoint for it already"));
        }
    }
    Ok(checked)
}

/// Tokens travel to it: never in the open, unless it is this very machine.
fn is_url(text: &str) -> bool {
    let Ok(url) = text.parse::<http::Uri>() else { return false };
    let Some(host) = url.host() else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback =
        host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let open = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    !open
        && url.query().is_none()
        && (url.scheme_str() == Some("https") || (url.scheme_str() == Some("http") && loopback))
}
