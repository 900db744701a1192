//! The quotas of an AWS account in one region, and the calls that they allow.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecr_pull_secrets::simulation::controller::tokens::FetchResult;
use ecr_pull_secrets::simulation::core::grants::TokenRequest;
use ecr_pull_secrets::simulation::core::secret::{FetchedToken, TokenError, TokenErrorKind};
use jiff::Timestamp;

use super::LIFETIME;

/// A token bucket: so many calls at once, and after that so many in a second.
#[derive(Clone, Copy)]
pub struct Quota {
    pub burst: f64,
    pub per_second: f64,
}

impl Quota {
    /// Calls in a second, with the same number as the burst.
    pub const fn of(per_second: f64) -> Self {
        Self { burst: per_second, per_second }
    }
}

/// The default quota of `GetAuthorizationToken`.
pub const ECR: Quota = Quota::of(500.0);
/// The quota of STS for calls that are signed with credentials of the account: `AssumeRole`, `GetCallerIdentity` and others.
const STS: Quota = Quota::of(600.0);

/// A service with its quota, and the calls to it in each second.
pub struct Service {
    quota: Quota,
    left: f64,
    at: Duration,
    /// Calls, and those of them that were throttled.
    calls: BTreeMap<u64, (u64, u64)>,
}

impl Service {
    fn new(quota: Quota) -> Self {
        Self { quota, left: quota.burst, at: Duration::ZERO, calls: BTreeMap::new() }
    }

    /// Whether a call is allowed.
    fn call(&mut self, time: Duration) -> bool {
        let passed = time.saturating_sub(self.at).as_secs_f64();
        self.left = (self.left + passed * self.quota.per_second).min(self.quota.burst);
        self.at = time;
        let is_allowed = self.left >= 1.0;
        let (calls, throttled) = self.calls.entry(time.as_secs()).or_default();
        *calls += 1;
        if is_allowed {
            self.left -= 1.0;
        } else {
            *throttled += 1;
        }
        is_allowed
    }

    /// The calls of a part of the simulated time: all, the most in one second, and those that were throttled.
    pub fn during(&self, hours: &Range<u64>) -> (u64, u64, u64) {
        let seconds = self.calls.range(hours.start * 3_600..hours.end * 3_600);
        seconds.fold((0, 0, 0), |(all, peak, throttled), (_, (calls, refused))| {
            (all + calls, peak.max(*calls), throttled + refused)
        })
    }
}

pub struct Aws {
    pub ecr: Service,
    pub sts: Service,
    issued: u64,
}

impl Aws {
    pub fn new(ecr: Quota) -> Self {
        Self { ecr: Service::new(ecr), sts: Service::new(STS), issued: 0 }
    }

    /// A process logs as whom it calls AWS, which is one call of `GetCallerIdentity` that is not repeated.
    pub fn start_process(&mut self, time: Duration) {
        self.sts.call(time);
    }

    pub fn fetch(&mut self, request: &TokenRequest, time: Duration, wall: Timestamp) -> FetchResult {
        let is_allowed = request.session.is_none() || self.sts.call(time);
        if !is_allowed || !self.ecr.call(time) {
            return Err(TokenError::new(TokenErrorKind::Throttled, "over the quota"));
        }
        self.issued += 1;
        Ok(FetchedToken {
            authorization: STANDARD.encode(format!("AWS:{}", self.issued)).into(),
            expires_at: Some(wall + LIFETIME),
            server_time: Some(wall),
            proxy_endpoint: None,
        })
    }
}
