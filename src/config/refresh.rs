//! `refresh`: when tokens and Secrets are renewed, and how fast.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, FieldPath};
use crate::core::secret::RefreshPolicy;

/// Renewal of tokens and secrets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Refresh {
    /// The fraction of a token's lifetime after which the controller fetches a new token. From 0.1 to 0.8, default 0.5:
    /// 6 hours for a token of 12 hours.
    #[schemars(range(min = 0.1, max = 0.8))]
    pub at: f64,
    /// The additional fraction of the lifetime over which the controller spreads the renewal of the secrets that hold
    /// the token. From 0 to 0.15, default 0.1.
    #[schemars(range(min = 0.0, max = 0.15))]
    pub jitter: f64,
    /// The maximum number of secret renewals per second. Creations and repairs are not limited. From 1 to 1000, default
    /// 50.
    #[schemars(range(min = 1, max = 1000))]
    pub writes_per_second: u32,
    /// The maximum number of token requests to AWS per second. From 1 to 1000, default 50.
    #[schemars(range(min = 1, max = 1000))]
    pub tokens_per_second: u32,
}

impl Default for Refresh {
    fn default() -> Self {
        Self { at: 0.5, jitter: 0.1, writes_per_second: 50, tokens_per_second: 50 }
    }
}

impl Refresh {
    pub(super) fn build(self) -> Result<RefreshPolicy, ConfigError> {
        let Self { at, jitter, writes_per_second, tokens_per_second } = self;
        let invalid = |field: &str, problem: String| FieldPath::new("refresh").field(field).invalid(problem);
        if !(0.1..=0.8).contains(&at) {
            return Err(invalid("at", format!("{at}: expected 0.1 to 0.8")));
        }
        if !(0.0..=0.15).contains(&jitter) {
            return Err(invalid("jitter", format!("{jitter}: expected 0 to 0.15")));
        }
        for (field, rate) in [("writesPerSecond", writes_per_second), ("tokensPerSecond", tokens_per_second)]
        {
            if !(1..=1000).contains(&rate) {
                return Err(invalid(field, format!("{rate}: expected 1 to 1000")));
            }
        }
        Ok(RefreshPolicy { at, jitter })
    }
}
