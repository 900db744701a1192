//! The principal that calls AWS (<https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>).

use jiff::Timestamp;
use tokio::time::timeout;

use super::explain::explain;
use super::http::ReplyDate;
use super::{Apis, AwsEcr, REQUEST_TIMEOUT, Service};
use crate::core::secret::{TokenError, TokenErrorKind};

/// The principal, and AWS's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub arn: String,
    pub server_time: Option<Timestamp>,
}

impl AwsEcr {
    /// The principal of the controller's own credentials; `None` without a region.
    pub async fn caller(&self) -> Result<Option<Caller>, TokenError> {
        self.apis.caller().await
    }
}

impl Apis {
    /// It needs no permission, but STS may be unreachable in a closed network.
    pub(super) async fn caller(&self) -> Result<Option<Caller>, TokenError> {
        let Some(region) = &self.region else { return Ok(None) };
        let fips = self.config().use_fips() == Some(true);
        let config = self.service_config(Service::Sts, region.as_str(), fips, false).build();
        let date = ReplyDate::default();
        let config = aws_sdk_sts::config::Builder::from(&config).interceptor(date.clone()).build();
        let call = aws_sdk_sts::Client::from_conf(config).get_caller_identity();
        let reply = timeout(REQUEST_TIMEOUT, call.send()).await.map_err(|_| {
            TokenError::new(TokenErrorKind::Timeout, "STS did not respond in time: check the network")
        })?;
        let reply = reply.map_err(|error| explain(&error).at(date.get()))?;
        let arn = reply.arn.unwrap_or_else(|| "unknown".to_owned());
        Ok(Some(Caller { arn, server_time: date.get() }))
    }
}
