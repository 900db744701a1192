//! The common parts of the commands that show namespaces.

use std::sync::Arc;

use super::setup::random;
use super::{CommandError, configuration};
use crate::cli::diagnosis::ViewArgs;
use crate::config::Config;
use crate::controller::index::NamespaceState;
use crate::core::plan::{Facts, KnownAccounts};
use crate::core::request::ParsedAnnotations;
use crate::core::secret::StaticSources;
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
        kubeconfig: view.kubeconfig.file.clone(),
        context: view.kubeconfig.context.clone(),
        namespace: None,
        identity: Some(command.to_owned()),
        is_shared: true,
    }
}

/// The facts of a plan that is only shown: its service accounts are not read, and it is not held.
pub fn facts<'a>(
    namespace: &'a str,
    parsed: Option<&'a ParsedAnnotations>,
    terminating: bool,
    state: &'a NamespaceState,
    static_sources: &'a StaticSources,
) -> Facts<'a> {
    Facts {
        namespace,
        parsed,
        terminating,
        held: false,
        keeps_all: false,
        is_single_pass: false,
        secrets: &state.secrets,
        service_accounts: &[],
        known_accounts: KnownAccounts::All,
        static_sources,
        history: &state.history,
    }
}
