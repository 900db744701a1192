//! `endpoints`: VPC endpoints, and test servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{ConfigError, check, parse};
use crate::core::aws::Region;
use crate::ecr::aws::{Endpoints, SAFE_URL, Service, is_safe_url, shown_endpoint};

/// A custom endpoint of an AWS API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointConfig {
    /// The API that the endpoint serves.
    pub service: Service,
    /// The region that the endpoint serves, such as `eu-central-1`. Default: every region that is not named by another
    /// endpoint of the service.
    pub region: Option<String>,
    /// URL of the endpoint: `https://`, or `http://` for a loopback or link-local address.
    pub url: String,
}

pub(super) fn build(configs: &[EndpointConfig]) -> Result<Endpoints, ConfigError> {
    let mut endpoints = Endpoints::new();
    for (index, EndpointConfig { service, region, url }) in configs.iter().enumerate() {
        let path = format!("endpoints[{index}]");
        if let Some(region) = region {
            parse::<Region>(format!("{path}.region"), region)?;
        }
        check(format!("{path}.url"), is_safe_url(url), || format!("{}: {SAFE_URL}", shown_endpoint(url)))?;
        let previous = endpoints.insert((*service, region.clone()), url.clone());
        let problem = "duplicate endpoint: list one endpoint for each service and region";
        check(format!("{path}.region"), previous.is_none(), || problem)?;
    }
    Ok(endpoints)
}
