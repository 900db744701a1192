//! The validated configuration, with what the environment adds to it, and the configuration of the controller, which a command
//! without a file does not use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use tracing::warn;

use crate::config::{Config, ConfigError};
use crate::core::Jitter;
use crate::core::aws::Region;
use crate::core::settings::Settings;
use crate::kubernetes::client::Connection;

/// The key of the file in the `ConfigMap` of the chart.
const KEY: &str = "config.yaml";

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

/// The `ConfigMap` of the controller. With the default name of the release, it has the name of the default instance.
pub(super) struct Unused {
    pub namespace: String,
    pub name: String,
}

impl Unused {
    /// Reads the `ConfigMap` once. `None` in a pod, with a file, if the user may not read it, and if it has the defaults.
    pub(super) async fn find(file: Option<&Path>, connection: &Connection, client: &Client) -> Option<Self> {
        if file.is_some() || connection.is_in_cluster() {
            return None;
        }
        let defaults = Config::default();
        let name = defaults.instance.clone();
        let namespace = connection.namespace.clone().unwrap_or_else(|| name.clone());
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
        let text = api.get_opt(&name).await.ok()??.data?.remove(KEY)?;
        let is_default = Config::parse(&text).is_ok_and(|config| config == defaults);
        (!is_default).then_some(Self { namespace, name })
    }

    /// As [`Self::find`], and logs it.
    pub(super) async fn warn(file: Option<&Path>, connection: &Connection, client: &Client) {
        if let Some(unused) = Self::find(file, connection, client).await {
            warn!("{}: {}", unused.message(), unused.remedy());
        }
    }

    pub(super) fn message(&self) -> String {
        let Self { namespace, name } = self;
        format!(
            "without --config, this command uses the defaults, and the controller uses ConfigMap {namespace}/{name}"
        )
    }

    pub(super) fn remedy(&self) -> String {
        let Self { namespace, name } = self;
        format!(
            "kubectl get configmap -n {namespace} {name} -o 'jsonpath={{.data.config\\.yaml}}' > config.yaml, then pass \
             --config config.yaml"
        )
    }
}
