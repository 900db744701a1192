//! Endpoints of the AWS APIs: AWS's own, those of the environment, and those of the configuration.

use std::collections::HashMap;

use aws_config::SdkConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
