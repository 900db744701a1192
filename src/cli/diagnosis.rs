//! Flags of the commands that diagnose.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::{KubeconfigArgs, parse_duration};

/// Flags of the commands that show namespaces. In these, `--namespace` selects a namespace to show, as in kubectl.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster options")]
pub struct ViewArgs {
    /// Path of the controller's configuration file (YAML). Without it, results that depend on the configuration are left
    /// out.
    #[arg(long, value_name = "FILE", env = "ECR_PULL_SECRETS_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub kubeconfig: KubeconfigArgs,
    /// The namespace to show. Default: the namespace of the context.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Show all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Show the namespaces with these labels, such as team=a,tier!=test.
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        conflicts_with = "namespace",
        requires = "all_namespaces"
    )]
    pub selector: Option<String>,
    /// Output format. Default: a table.
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub output: Option<StatusFormat>,
    /// Print the rows, and then each row that changes, until the command is interrupted.
    #[arg(short, long)]
    pub watch: bool,
    /// Also read the Events, for the last problem of each namespace. Default: for a single namespace.
    #[arg(long)]
    pub events: bool,
    #[command(flatten)]
    pub view: ViewArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// A table with every registry.
    Wide,
    Json,
    Yaml,
    /// Only names.
    Name,
}

#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// A YAML file with the Namespace, or - for standard input. Default: the Namespace in the cluster.
    #[arg(short, long, value_name = "FILE")]
    pub filename: Option<PathBuf>,
    /// Output format. Default: text.
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub output: Option<DocumentFormat>,
    #[command(flatten)]
    pub view: ViewArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DocumentFormat {
    Json,
    Yaml,
}

#[derive(Clone, Debug, Args)]
pub struct RenderArgs {
    /// Registries, as in the annotation registries: hosts, account IDs, public.ecr.aws or default.
    #[arg(value_name = "REGISTRY", required = true)]
    pub registries: Vec<String>,
    /// The namespace of the secret, whose grants apply.
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Name of the secret. Default: the first allowed name.
    #[arg(long, value_name = "NAME")]
    pub secret_name: Option<String>,
    /// Identities to choose from, by name or role ARN. Default: all identities that are granted to the namespace.
    #[arg(long, value_name = "LIST")]
    pub role: Option<String>,
    /// Repository patterns that restrict the tokens further.
    #[arg(long, value_name = "LIST")]
    pub repositories: Option<String>,
    /// Print the tokens. Until they expire, anyone who has them can pull, and push if the identity allows it.
    #[arg(long)]
    pub reveal: bool,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "yaml")]
    pub output: DocumentFormat,
    /// Path of the controller's configuration file (YAML). Without it, every field has its default.
    #[arg(long, value_name = "FILE", env = "ECR_PULL_SECRETS_CONFIG")]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct CompletionArgs {
    /// Name of the shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// The folder to write the pages to. It must exist.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Check whether the controller can be installed. Without this flag, the controller is expected to run.
    #[arg(long)]
    pub pre: bool,
    /// Output format. Default: each check, by category. short: only failures and warnings.
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub output: Option<CheckFormat>,
    /// Repeat the checks until none fails, for at most this time, such as 30s. Without a value: 5m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "5m")]
    pub wait: Option<Duration>,
    /// A repository, as NAME or NAME:TAG, whose tags and manifest are requested from each registry.
    #[arg(long, value_name = "NAME")]
    pub repository: Option<String>,
    /// Path of the controller's configuration file (YAML). Without it, every field has its default.
    #[arg(long, value_name = "FILE", env = "ECR_PULL_SECRETS_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub kubeconfig: KubeconfigArgs,
    /// Namespace of the controller, which contains its Lease. Default: in a pod its namespace, else the name of the
    /// instance.
    #[arg(long, value_name = "NAME", env = "ECR_PULL_SECRETS_NAMESPACE", help_heading = "Cluster options")]
    pub controller_namespace: Option<String>,
    /// Service account of the controller, whose rights are reviewed unless a service account runs the command. Default: the
    /// name of the instance.
    #[arg(long, value_name = "NAME", help_heading = "Cluster options")]
    pub service_account: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    Json,
    /// Only failures and warnings.
    Short,
}
