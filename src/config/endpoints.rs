//! `endpoints`: VPC endpoints, and test servers.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, FieldPath};
use crate::core::aws::Region;
use crate::core::quote;
use crate::ecr::aws::{Endpoints, Service};

/// A custom endpoint of an AWS API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointConfig {
    /// The API that the endpoint serves.
    pub service: Service,
    /// The region that the endpoint serves, such as `eu-central-1`. Default: every region that is not named by another
    /// endpoint of the service.
    pub region: Option<String>,
    /// URL of the endpoint: `https://`, or `http://` for a loopback address.
    pub url: String,
}

pub(super) fn build(configs: &[EndpointConfig]) -> Result<Endpoints, ConfigError> {
    let mut endpoints = Endpoints::new();
    for (index, config) in configs.iter().enumerate() {
        let path = FieldPath::new("endpoints").index(index);
        if let Some(region) = &config.region {
            region.parse::<Region>().map_err(|error| path.field("region").invalid(error.to_string()))?;
        }
        if !is_safe_url(&config.url) {
            let problem = format!(
                "{}: expected https://HOST, or http:// with a loopback address, without user name and query",
                quote(&config.url)
            );
            return Err(path.field("url").invalid(problem));
        }
        if endpoints.insert((config.service, config.region.clone()), config.url.clone()).is_some() {
            let problem = "duplicate endpoint: list one endpoint for each service and region";
            return Err(path.field("region").invalid(problem));
        }
    }
    Ok(endpoints)
}

/// Tokens and credentials are sent to this URL, so plain HTTP is only allowed to a loopback address.
fn is_safe_url(text: &str) -> bool {
    let Ok(url) = text.parse::<http::Uri>() else { return false };
    let (Some(host), Some(authority)) = (url.host(), url.authority()) else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let is_scheme_safe = match url.scheme_str() {
        Some("https") => true,
        Some("http") => is_loopback,
        _ => false,
    };
    is_scheme_safe && !authority.as_str().contains('@') && url.query().is_none()
}
