//! The common parts of the commands that show namespaces.

use std::sync::Arc;

use super::setup::random;
use super::{CommandError, configuration};
use crate::cli::diagnosis::ViewArgs;
use crate::config::Config;
use crate::core::settings::Settings;
use crate::ecr::aws::configured_region;
use crate::kubernetes::client::Connection;

/// The settings of the controller, as far as they are known here. No request is sent to AWS.
pub async fn settings(view: &ViewArgs) -> Result<Arc<Settings>, CommandError> {
    let config = Config::load(view.config.as_deref())?;
    Ok(configuration::settings(&config, configured_region().await?, random())?)
}

/// The connection, whose user agent names the command.
pub fn connection(view: &ViewArgs, command: &str) -> Connection {
    Connection {
        kubeconfig: view.kubeconfig.clone(),
        context: view.context.clone(),
        namespace: None,
        identity: Some(command.to_owned()),
        is_shared: true,
    }
}
