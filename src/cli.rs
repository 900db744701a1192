//! Flags and their environment variables.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cluster::client::Connection;
use crate::telemetry::logs::LogFormat;

/// Keeps Kubernetes image pull secrets for Amazon ECR valid.
///
/// Annotate a namespace with ecr-pull-secrets.dev/registries, and a secret of type
/// kubernetes.io/dockerconfigjson is there and stays valid. AWS is set up by the SDK's own variables and files:
/// `AWS_REGION`, `AWS_PROFILE`, `AWS_ROLE_ARN` with `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ENDPOINT_URL`, …
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 110,
    after_help = "Exit codes: 0 done, 1 failed at work, 2 wrong usage or configuration."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub struct GlobalArgs {
    /// Form of the log on standard error.
    #[arg(long, global = true, value_enum, default_value = "text", env = "ECR_PULL_SECRETS_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or target=level,… No level shows a token.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "info",
        env = "ECR_PULL_SECRETS_LOG_LEVEL"
    )]
    pub log_level: String,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run for ever: watch annotated namespaces, and keep their secrets valid.
    Controller(ControllerArgs),
    /// One pass over all namespaces, then exit: 0 if everything is as it should be, 1 with a list of what is not.
    Sync(SyncArgs),
    /// Remove all that this instance made: its secrets, its references in service accounts, its Lease. Says what it would
    /// do; --yes does it. Stop the controller first, which would make it all again.
    Cleanup(CleanupArgs),
    /// Ask a page of a controller, such as <http://127.0.0.1:8080/readyz>: 0 if it says 200. For images without a shell.
    Probe(ProbeArgs),
    /// Print the JSON schema of the configuration file.
    #[command(hide = true)]
    ConfigSchema,
}

/// Which cluster, and how.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// Configuration file (YAML); without one the defaults hold.
    #[arg(long, value_name = "FILE", env = "ECR_PULL_SECRETS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Kubeconfig file; without one the service account inside a cluster, else $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE", env = "ECR_PULL_SECRETS_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; without one its current context.
    #[arg(long, value_name = "NAME", env = "ECR_PULL_SECRETS_CONTEXT")]
    pub context: Option<String>,
    /// The controller's own namespace, for the secrets of static registries; without one that of its service account,
    /// or of the context.
    #[arg(long, value_name = "NAME", env = "ECR_PULL_SECRETS_NAMESPACE")]
    pub namespace: Option<String>,
    /// Confirm that the configuration may take secrets away from many namespaces at once. Without it, a start whose
    /// configuration no longer grants more than 10 secrets and more than a tenth of all deletes none of those.
    #[arg(long, env = "ECR_PULL_SECRETS_CONFIRM_REMOVALS")]
    pub confirm_removals: bool,
}

impl ClusterArgs {
    /// The connection that they name.
    pub fn connection(&self) -> Connection {
        let (kubeconfig, context) = (self.kubeconfig.clone(), self.context.clone());
        Connection { kubeconfig, context, namespace: self.namespace.clone(), holder: None }
    }
}

/// Flags of `controller`.
#[derive(Clone, Debug, Args)]
pub struct ControllerArgs {
    /// Which cluster, and how.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080", env = "ECR_PULL_SECRETS_LISTEN")]
    pub listen: SocketAddr,
    /// Whether only the holder of a Lease writes, so that more than one controller may run. The Lease is named like the
    /// instance, and is in the controller's own namespace. Without this flag: true inside a cluster, else false.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        env = "ECR_PULL_SECRETS_LEADER_ELECTION"
    )]
    pub leader_election: Option<bool>,
    /// Name of this process in the Lease; in a pod, the pod's name. A random part is added.
    #[arg(long, value_name = "NAME", default_value = "ecr-pull-secrets", env = "POD_NAME")]
    pub holder: String,
}

/// Flags of `sync`.
#[derive(Clone, Debug, Args)]
pub struct SyncArgs {
    /// Which cluster, and how.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Delete secrets of namespaces that no longer ask for them; without it they are only counted.
    #[arg(long)]
    pub prune: bool,
    /// Write although a controller holds the Lease of this instance, or although nobody can tell.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `probe`.
#[derive(Clone, Debug, Args)]
pub struct ProbeArgs {
    /// The page, by `http`.
    #[arg(value_name = "URL")]
    pub url: http::Uri,
    /// How long to go on asking, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub wait: u64,
}

/// Flags of `cleanup`.
#[derive(Clone, Debug, Args)]
pub struct CleanupArgs {
    /// Which cluster, and how.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Do it.
    #[arg(long)]
    pub yes: bool,
    /// How long a controller that is about to end is waited for, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub wait: u64,
    /// Do it although a controller holds the Lease of this instance, or although nobody can tell.
    #[arg(long)]
    pub force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }
}
