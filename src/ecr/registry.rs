//! The HTTP API of registries (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md>), with the token of ECR
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html#registry_auth_http>).

use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

use super::aws::registry_connector;
use crate::core::aws::Registry;
use crate::core::one_line;
use crate::core::secret::Token;

/// The limit for one request, with its response.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY_LEN: usize = 256 * 1024;
/// The manifests that a kubelet accepts.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json, */*";

/// The response of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryResponse {
    pub status: u16,
    pub body: String,
}

/// Why a registry did not respond.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    #[error("the host is unknown: {0}")]
    UnknownHost(String),
    #[error("{0}")]
    Certificate(String),
    #[error("{0}")]
    Network(String),
    #[error("no response within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Requests paths of registries, through the proxy of the environment if there is one.
#[derive(Debug)]
pub struct RegistryClient(Connector);

impl RegistryClient {
    pub fn new() -> Self {
        Self(registry_connector())
    }

    /// `GET https://HOST/v2/PATH`. The token is sent to no host but one of ECR.
    pub async fn get(
        &self,
        registry: &Registry,
        path: &str,
        token: &Token,
    ) -> Result<RegistryResponse, RegistryError> {
        let request = request(registry, path, token)?;
        timeout(TIMEOUT, self.send(request)).await.unwrap_or(Err(RegistryError::Timeout))
    }

    async fn send(&self, request: HttpRequest) -> Result<RegistryResponse, RegistryError> {
        let response = self.0.call(request).await.map_err(|error| classify(error.is_timeout(), &error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY_LEN).collect().await;
        // The status tells the outcome without it.
        let body =
            body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        Ok(RegistryResponse { status, body })
    }
}

fn request(registry: &Registry, path: &str, token: &Token) -> Result<HttpRequest, RegistryError> {
    let invalid = || RegistryError::Network("the name of the repository is not valid".to_owned());
    let mut request = HttpRequest::empty();
    request.set_uri(format!("https://{registry}/v2/{path}")).map_err(|_| invalid())?;
    // Public ECR expects the same token as Bearer
    // (<https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html>).
    let scheme = if registry.region().is_some() { "Basic" } else { "Bearer" };
    let authorization = token.credential().authorization(scheme);
    let headers = request.headers_mut();
    headers.try_insert("authorization", authorization.to_string()).map_err(|_| invalid())?;
    headers.insert("accept", ACCEPT);
    Ok(request)
}

/// The connector reports each failure as text only.
fn classify(is_timeout: bool, error: &(dyn std::error::Error + 'static)) -> RegistryError {
    if is_timeout {
        return RegistryError::Timeout;
    }
    let causes = std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string);
    let text = one_line(&causes.collect::<Vec<_>>().join(": "));
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match () {
        () if has(&["dns error", "failed to lookup address"]) => RegistryError::UnknownHost(text),
        () if has(&["certificate", "invalid peer"]) => RegistryError::Certificate(text),
        () => RegistryError::Network(text),
    }
}
