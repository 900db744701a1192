//! `leaderElection`: the periods of the election, named as in client-go.

use std::time::Duration;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{ConfigError, check, invalid};
use crate::core::leader_election::{ElectionTiming, MAX_LEASE_DURATION};
use crate::core::quote;

/// The shortest time between two requests for the Lease, twice.
const MIN_RETRY: Duration = Duration::from_millis(200);

/// Periods of the leader election. After a crash of the leader, another replica is the leader within `leaseDuration` and
/// two `retryPeriod`s. Use the same values for all replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LeaderElectionConfig {
    /// How long other replicas wait after the last renewal of the Lease before one of them acquires it: whole seconds, at
    /// most `60s`. Default: `15s`.
    pub lease_duration: String,
    /// How long the leader writes after its last successful renewal. Less than `leaseDuration`. Default: `10s`.
    pub renew_deadline: String,
    /// How often the leader renews the Lease. At most `renewDeadline` divided by 1.2. Default: `2s`.
    pub retry_period: String,
}

impl Default for LeaderElectionConfig {
    fn default() -> Self {
        let ElectionTiming { lease_duration, renew_deadline, retry_period } = ElectionTiming::default();
        let [lease_duration, renew_deadline, retry_period] =
            [lease_duration, renew_deadline, retry_period].map(|period| format!("{}s", period.as_secs()));
        Self { lease_duration, renew_deadline, retry_period }
    }
}

impl LeaderElectionConfig {
    pub(super) fn build(&self) -> Result<ElectionTiming, ConfigError> {
        let lease_duration = period("leaseDuration", &self.lease_duration)?;
        let renew_deadline = period("renewDeadline", &self.renew_deadline)?;
        let retry_period = period("retryPeriod", &self.retry_period)?;
        let is_valid = lease_duration.subsec_nanos() == 0 && lease_duration <= MAX_LEASE_DURATION;
        check("leaderElection.leaseDuration", is_valid, || {
            format!("{}: expected whole seconds, at most 60s", quote(&self.lease_duration))
        })?;
        check("leaderElection.renewDeadline", renew_deadline < lease_duration, || {
            format!("{}: expected less than leaseDuration", quote(&self.renew_deadline))
        })?;
        // As in client-go: a renewal must be tried before the deadline.
        let is_valid = retry_period.mul_f64(1.2) <= renew_deadline && retry_period >= MIN_RETRY;
        check("leaderElection.retryPeriod", is_valid, || {
            format!("{}: expected 200ms to renewDeadline divided by 1.2", quote(&self.retry_period))
        })?;
        Ok(ElectionTiming { lease_duration, renew_deadline, retry_period })
    }
}

fn period(field: &str, text: &str) -> Result<Duration, ConfigError> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|parsed| Duration::try_from(parsed).ok());
    parsed.filter(|parsed| !parsed.is_zero()).ok_or_else(|| {
        invalid(
            format!("leaderElection.{field}"),
            format!("{}: expected a duration such as 15s", quote(text)),
        )
    })
}
