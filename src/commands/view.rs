//! The common parts of the commands that show namespaces.

use std::path::Path;
use std::sync::Arc;

use super::CommandError;
use super::setup::random;
use crate::cli::diagnosis::ViewArgs;
use crate::config::Config;
use crate::core::Jitter;
use crate::core::settings::Settings;
use crate::ecr::aws::configured_region;
use crate::kubernetes::client::Connection;

/// The settings of the controller, as far as they are known here. No request is sent to AWS.
pub async fn settings(view: &ViewArgs) -> Result<Arc<Settings>, CommandError> {
    let config = Config::load(view.config.as_deref())?;
    let token_file = std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE");
    let token_file = token_file.as_deref().map(Path::new);
    let settings = config.settings(configured_region().await?, token_file, Jitter::new(random()))?;
    Ok(Arc::new(settings))
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
