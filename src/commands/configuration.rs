//! The validated configuration, with what the environment adds to it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, ConfigError};
use crate::core::Jitter;
use crate::core::aws::Region;
use crate::core::settings::Settings;

/// The value of `AWS_WEB_IDENTITY_TOKEN_FILE`.
pub(super) fn web_identity_token_file() -> Option<PathBuf> {
    std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE").map(PathBuf::from)
}

/// The settings of the controller in this region. `random` is the seed of its jitter.
pub(super) fn settings(
    config: &Config,
    region: Option<Region>,
    random: u64,
) -> Result<Arc<Settings>, ConfigError> {
    let token_file = web_identity_token_file();
    Ok(Arc::new(config.settings(region, token_file.as_deref(), Jitter::new(random))?))
}
