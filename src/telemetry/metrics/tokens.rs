//! The expiry of each token in use. The map is replaced as a whole: a series whose token is no longer used would report an
//! expiry until the next start.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::controller::tell::TokenExpiries;

#[derive(Clone, Debug, Default)]
pub(super) struct TokenExpirations(Arc<Mutex<TokenExpiries>>);

impl TokenExpirations {
    pub fn set(&self, tokens: TokenExpiries) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tokens;
    }
}

impl Collector for TokenExpirations {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut family = encoder.encode_descriptor(
            "token_expiration_timestamp_seconds",
            "Earliest expiry of the tokens in use, as a Unix timestamp",
            None,
            MetricType::Gauge,
        )?;
        for ((identity, endpoint), expires_at) in &tokens {
            let labels = [("identity", identity.as_str().to_owned()), ("endpoint", endpoint.label())];
            ConstGauge::new(expires_at.as_second()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
