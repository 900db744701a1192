//! Flags and their environment variables.

mod credentials;
pub mod diagnosis;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use http::Uri;
use jiff::SignedDuration;

use self::diagnosis::{CheckArgs, CompletionArgs, ExplainArgs, ManArgs, RenderArgs, StatusArgs};
use crate::telemetry::logs::LogFormat;

pub use self::credentials::{
    CredentialCommand, CredentialHelperArgs, CredentialProviderArgs, HelperAction, IdentityArgs, LoginArgs,
    LoginPasswordArgs, OutputFormat, RegistryArgs, TokenArgs,
};

/// The default of `--timeout` for the Lease: enough for the Lease of a crashed process to expire, and for two more
/// attempts.
const LEASE_TIMEOUT: &str = "19s";

/// Keeps Kubernetes image pull secrets for Amazon ECR valid.
///
/// The controller watches the annotation ecr-pull-secrets.dev/registries of namespaces. In each namespace that has it, the
/// controller creates a Secret of type kubernetes.io/dockerconfigjson, and renews the Secret before its token expires.
///
/// The AWS region, credentials and endpoints come from the standard variables and files of the AWS SDKs: `AWS_REGION`,
/// `AWS_PROFILE`, `AWS_ROLE_ARN` with `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ENDPOINT_URL` and so on.
#[derive(Debug, Parser)]
// The chart sets flags, and users add their own to its values: the last one wins.
#[command(version, max_term_width = 110, args_override_self = true)]
#[command(after_help = "Exit codes: 0 success, 1 failure, 2 invalid flags or configuration.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: GlobalArgs,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Log options")]
pub struct GlobalArgs {
    /// Format of the log on standard error.
    #[arg(long, global = true, value_enum, default_value = "text", env = "ECR_PULL_SECRETS_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Log level: error, warn, info, debug or trace; or a level per module, such as info,kube=debug. Tokens are not
    /// logged at any level.
    #[arg(long, global = true, value_name = "FILTER", default_value = "info")]
    #[arg(env = "ECR_PULL_SECRETS_LOG_LEVEL")]
    pub log_level: String,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller: create, renew and delete pull secrets until it is stopped.
    ///
    /// With leader election, several replicas can run: only the leader writes, and another replica takes over when it
    /// stops.
    #[command(
        after_help = "Exit codes: 0 after SIGTERM or SIGINT, 1 failure, 2 invalid flags or configuration."
    )]
    Controller(ControllerArgs),
    /// Bring the pull secrets of all namespaces up to date once, then exit.
    ///
    /// Prints each namespace that failed, and a summary. While it runs, it holds the Lease of the instance, so that it
    /// never writes at the same time as a controller.
    #[command(
        after_help = "Exit codes: 0 every namespace is up to date, 1 a namespace failed or the Lease is not available, \
                      2 invalid flags or configuration."
    )]
    Sync(SyncArgs),
    /// Delete everything that this instance created: its secrets, its references in service accounts, and its Lease.
    ///
    /// Without --yes it only prints what it would delete. Stop the controller first, because it would recreate the
    /// secrets; while a controller runs, the command fails.
    #[command(
        after_help = "Exit codes: 0 success, 1 an object was not deleted or the Lease is not available, \
                      2 invalid flags or configuration."
    )]
    Cleanup(CleanupArgs),
    /// Check whether the controller can work, and print the remedy for each check that fails.
    ///
    /// Checks the configuration, the cluster, the rights of the controller, and AWS. Requests at most 32 tokens, one for each
    /// identity and endpoint in use, and sends a request to one registry with each; not to every registry that an annotation
    /// names. Stores nothing.
    #[command(after_help = "Exit codes: 0 no check failed, 1 a check failed, 2 invalid flags.")]
    Check(CheckArgs),
    /// Show the state of the namespaces that opted in, trouble first.
    ///
    /// Reads the metadata of Namespaces and of the secrets of this instance, and no token. Without the right to list
    /// secrets, it shows what Namespaces and Events contain.
    #[command(
        after_help = "Exit codes: 0 success, 1 the cluster cannot be read, 2 invalid flags or configuration."
    )]
    Status(StatusArgs),
    /// Explain what a namespace gets: by which grant, with which session policy, and what is refused.
    ///
    /// Sends no request to AWS and writes nothing.
    #[command(
        after_help = "Exit codes: 0 success, 1 the namespace cannot be read, 2 invalid flags or configuration."
    )]
    Explain(ExplainArgs),
    /// Print the Secret that the controller would write for registries. Requests tokens from AWS, and writes nothing.
    ///
    /// Tokens are hidden unless --reveal is set. Entries of static registries are left out.
    #[command(
        after_help = "Exit codes: 0 success, 1 AWS returned no token, 2 invalid flags, registries or configuration."
    )]
    Render(RenderArgs),
    /// Request a URL of the controller until it returns status 200. Works in images without a shell.
    ///
    /// The controller serves /livez, /readyz and /metrics.
    #[command(
        after_help = "Exit codes: 0 status 200, 1 no response with status 200 in time, 2 invalid flags or URL."
    )]
    Probe(ProbeArgs),
    #[command(flatten)]
    Credentials(CredentialCommand),
    /// Print the completion script of a shell, such as `source <(ecr-pull-secrets completion bash)`.
    Completion(CompletionArgs),
    /// Write the man pages to a folder.
    #[command(hide = true)]
    Man(ManArgs),
    /// Print the JSON schema of the configuration file.
    #[command(hide = true)]
    ConfigSchema,
}

/// How to find the API server.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster options")]
pub struct KubeconfigArgs {
    /// Path of the kubeconfig file. Default: the service account of the pod, else $KUBECONFIG, else ~/.kube/config.
    #[arg(long = "kubeconfig", value_name = "FILE", env = "ECR_PULL_SECRETS_KUBECONFIG")]
    pub file: Option<PathBuf>,
    /// Context of the kubeconfig file. Default: the current context.
    #[arg(long, value_name = "NAME", env = "ECR_PULL_SECRETS_CONTEXT")]
    pub context: Option<String>,
}

/// Flags of the commands that connect to a cluster. Structs with a heading are flattened last, because the heading
/// applies to all flags after it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster options")]
pub struct ClusterArgs {
    /// Path of the configuration file (YAML). Without it, every field has its default.
    #[arg(long, value_name = "FILE", env = "ECR_PULL_SECRETS_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub kubeconfig: KubeconfigArgs,
    /// Namespace of the controller, which contains the Lease and the secrets of static registries. Default: in a pod its
    /// namespace, else the name of the instance.
    #[arg(long, value_name = "NAME", env = "ECR_PULL_SECRETS_NAMESPACE")]
    pub namespace: Option<String>,
    /// Identity of this process in the Lease and in audit logs. A random suffix is added. Default: the environment
    /// variable `POD_NAME`, else the host name.
    #[arg(long, value_name = "NAME", env = "ECR_PULL_SECRETS_LEADER_ELECTION_IDENTITY")]
    pub leader_election_identity: Option<String>,
}

impl ClusterArgs {
    /// The identity without its suffix; `None` if only the host name is left. `pod_name` is the variable `POD_NAME`.
    pub fn identity(&self, pod_name: Option<OsString>) -> Option<String> {
        let pod_name = pod_name.and_then(|name| name.into_string().ok());
        let set = self.leader_election_identity.clone().filter(|name| !name.is_empty());
        set.or(pod_name).filter(|name| !name.is_empty())
    }
}

/// Flags of the commands that apply the configuration.
#[derive(Clone, Debug, Args)]
pub struct RemovalArgs {
    /// Allow the configuration to remove exactly the set of secrets with this ID. If the configuration no longer grants,
    /// includes or names many secrets, none of them is deleted, and the log names their number and the ID.
    #[arg(long, value_name = "ID", env = "ECR_PULL_SECRETS_CONFIRM_REMOVALS")]
    pub confirm_removals: Option<Arc<str>>,
}

/// Flags of the commands that hold the Lease while they run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Lease options")]
pub struct LeaseArgs {
    /// How long to wait for the Lease while another process holds it, such as 30s or 1m; without a unit, in seconds.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = LEASE_TIMEOUT)]
    pub timeout: Duration,
    /// Run without the Lease, even if a controller is running or the Lease cannot be read.
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Debug, Args)]
pub struct ControllerArgs {
    /// Address and port of the HTTP server for /livez, /readyz and /metrics. The default includes every address of IPv4 and
    /// of IPv6, or of IPv4 only on a host without IPv6.
    #[arg(long, value_name = "ADDR", default_value = "[::]:8080", env = "ECR_PULL_SECRETS_LISTEN")]
    pub listen: SocketAddr,
    /// Write only while this process holds the Lease, so that several replicas can run. The Lease is in the
    /// controller's namespace and is named after the instance. Default: true in a pod without --kubeconfig and --context, else
    /// false.
    #[arg(long, value_name = "BOOL", env = "ECR_PULL_SECRETS_LEADER_ELECTION")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub leader_election: Option<bool>,
    #[command(flatten)]
    pub removals: RemovalArgs,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[derive(Clone, Debug, Args)]
pub struct SyncArgs {
    /// Delete the secrets of namespaces that no longer request them. Without this flag, the command only lists them.
    #[arg(long)]
    pub prune: bool,
    #[command(flatten)]
    pub removals: RemovalArgs,
    #[command(flatten)]
    pub lease: LeaseArgs,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[derive(Clone, Debug, Args)]
pub struct CleanupArgs {
    /// Delete the objects. Without this flag, the command only lists them.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub lease: LeaseArgs,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ProbeArgs {
    /// The URL, such as `http://127.0.0.1:8080/readyz`; only http is supported.
    #[arg(value_parser = parse_http_url)]
    pub url: Uri,
    /// How long to retry the request until it succeeds, such as 30s or 1m; without a unit, in seconds.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    pub timeout: Duration,
}

fn parse_http_url(text: &str) -> Result<Uri, String> {
    let url = text.parse().ok().filter(|url: &Uri| url.scheme_str() == Some("http") && url.host().is_some());
    url.ok_or_else(|| "expected http://HOST:PORT/PATH".to_owned())
}

/// Parses `30s` or `1m30s`, and a bare number as seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let duration = text.parse::<SignedDuration>().ok().and_then(|duration| duration.try_into().ok());
    duration.ok_or_else(|| "expected a duration, such as 30s or 1m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::core::leader_election::ElectionTiming;

    const CLUSTER: [(&str, &str); 5] = [
        ("--config=a.yaml", "ECR_PULL_SECRETS_CONFIG"),
        ("--kubeconfig=b", "ECR_PULL_SECRETS_KUBECONFIG"),
        ("--context=c", "ECR_PULL_SECRETS_CONTEXT"),
        ("--namespace=d", "ECR_PULL_SECRETS_NAMESPACE"),
        ("--leader-election-identity=e", "ECR_PULL_SECRETS_LEADER_ELECTION_IDENTITY"),
    ];
    const GLOBAL: [(&str, &str); 2] = [
        ("--log-format=json", "ECR_PULL_SECRETS_LOG_FORMAT"),
        ("--log-level=debug", "ECR_PULL_SECRETS_LOG_LEVEL"),
    ];
    const CONFIRM: (&str, &str) = ("--confirm-removals=0123456789ab", "ECR_PULL_SECRETS_CONFIRM_REMOVALS");

    /// Parses each flag, and checks its environment variable (empty: it has none).
    fn assert_flags(command: &str, positional: &[&str], flags: &[(&str, &str)]) {
        let all = || flags.iter().chain(&GLOBAL);
        let args = ["ecr-pull-secrets", command].into_iter().chain(all().map(|(flag, _)| *flag));
        let parsed = Cli::try_parse_from(args.chain(positional.iter().copied()));
        parsed.unwrap_or_else(|error| panic!("{command}: {error}"));
        let mut cli = Cli::command();
        cli.build();
        let command = cli.find_subcommand(command).expect("the command exists");
        for (flag, variable) in all() {
            let name = flag.trim_start_matches("--").split('=').next();
            let found = command.get_arguments().find(|arg| arg.get_long() == name);
            let found = found.and_then(|arg| arg.get_env()).and_then(|env| env.to_str()).unwrap_or_default();
            assert_eq!(found, *variable, "{flag}");
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_parses_its_flags_and_environment_variables() {
        let lease = [("--timeout=30s", ""), ("--force", "")];
        let controller = [
            CONFIRM,
            ("--listen=127.0.0.1:1", "ECR_PULL_SECRETS_LISTEN"),
            ("--leader-election=false", "ECR_PULL_SECRETS_LEADER_ELECTION"),
        ];
        assert_flags("controller", &[], &[&CLUSTER[..], &controller].concat());
        assert_flags("sync", &[], &[&CLUSTER[..], &lease, &[CONFIRM, ("--prune", "")]].concat());
        assert_flags("cleanup", &[], &[&CLUSTER[..], &lease, &[("--yes", "")]].concat());
        let view = [CLUSTER[0], CLUSTER[1], CLUSTER[2]];
        let status =
            [("--all-namespaces", ""), ("--selector=a=b", ""), ("--output=wide", ""), ("--watch", "")];
        assert_flags("status", &[], &[&view[..], &status].concat());
        let explain = [("--filename=a.yaml", ""), ("--output=yaml", ""), ("--namespace=a", "")];
        assert_flags("explain", &[], &[&view[..], &explain].concat());
        let render = [CLUSTER[0], ("--namespace=a", ""), ("--secret-name=b", ""), ("--role=c", "")];
        let reveal = [("--repositories=d", ""), ("--reveal", ""), ("--output=json", "")];
        assert_flags("render", &["default"], &[&render[..], &reveal].concat());
        assert_flags("completion", &["zsh"], &[]);
        let config = ("--config=a.yaml", "ECR_PULL_SECRETS_CONFIG");
        let identity = [config, ("--identity=a", ""), ("--namespace=b", "ECR_PULL_SECRETS_TOKEN_NAMESPACE")];
        assert_flags(
            "token",
            &[],
            &[&identity[..], &[("--region=eu-west-1", ""), ("--output=json", "")]].concat(),
        );
        assert_flags("login-password", &[], &[&identity[..], &[("--registry=public.ecr.aws", "")]].concat());
        let file = ("--auth-file=c", "REGISTRY_AUTH_FILE");
        assert_flags("login", &["public.ecr.aws"], &[&identity[..], &[file]].concat());
        assert_flags("credential-helper", &["get"], &identity);
        assert_flags("credential-provider", &[], &[config, ("--require-role", "")]);
        let check = [("--pre", ""), ("--output=short", ""), ("--wait=1m", ""), ("--repository=a/b:1", "")];
        let of = ("--controller-namespace=a", "ECR_PULL_SECRETS_NAMESPACE");
        assert_flags("check", &[], &[&view[..], &check, &[of, ("--service-account=b", "")]].concat());
        assert_flags("probe", &["http://127.0.0.1:8080/readyz"], &[("--timeout=1m", "")]);
    }

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        for (text, expected) in [("30s", 30), ("1m", 60), ("1m30s", 90), ("2h", 7200), ("120", 120), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(expected)), "{text}");
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "s", "-30s", "1 fortnight", "-1"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
        let timing = ElectionTiming::default();
        assert_eq!(parse_duration(LEASE_TIMEOUT), Ok(timing.lease_duration + 2 * timing.retry_period));
    }

    #[test]
    fn the_identity_is_the_flag_or_else_the_name_of_the_pod() {
        let identity = |args: &[&str], pod: Option<&str>| {
            let args = ["ecr-pull-secrets", "cleanup"].iter().chain(args);
            let Ok(Cli { command: Command::Cleanup(args), .. }) = Cli::try_parse_from(args) else {
                panic!("the arguments are not parsed");
            };
            args.cluster.identity(pod.map(OsString::from))
        };
        assert_eq!(identity(&["--leader-election-identity=a"], Some("b")).as_deref(), Some("a"));
        assert_eq!(identity(&[], Some("b")).as_deref(), Some("b"));
        assert_eq!(identity(&["--leader-election-identity="], Some("")), None);
        assert_eq!(identity(&[], None), None);
    }
}
