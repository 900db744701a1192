//! Flags of the commands that fetch a token and need no cluster.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::core::aws::{Region, Registry};

#[derive(Debug, Subcommand)]
pub enum CredentialCommand {
    /// Print an authorization token for the HTTP API of a registry.
    ///
    /// The text output is the value for the header "Authorization: Basic". A token is valid for 12 hours and for every
    /// registry of the region that its principal can access.
    #[command(after_help = "Example:\n  \
        HOST=123456789012.dkr.ecr.eu-central-1.amazonaws.com\n  \
        TOKEN=$(ecr-pull-secrets token --registry $HOST)\n  \
        curl -H \"Authorization: Basic $TOKEN\" https://$HOST/v2/team-a/app/tags/list\n\n\
        Exit codes: 0 success, 1 failure, 2 invalid flags or configuration.")]
    Token(TokenArgs),
    /// Print a password for "docker login" and the like, and nothing else.
    ///
    /// The user name is AWS.
    #[command(after_help = "Example (also podman, skopeo, buildah, crane and helm registry):\n  \
        HOST=123456789012.dkr.ecr.eu-central-1.amazonaws.com\n  \
        ecr-pull-secrets login-password --registry $HOST | docker login --username AWS --password-stdin $HOST\n\n\
        Exit codes: 0 success, 1 failure, 2 invalid flags or configuration.")]
    LoginPassword(LoginPasswordArgs),
    /// Write tokens of registries into the Docker configuration, for clients without a credential helper.
    ///
    /// The file is `$REGISTRY_AUTH_FILE`, else config.json in `$DOCKER_CONFIG`, else ~/.docker/config.json. The command
    /// changes the entries of these hosts only, and replaces the file as a whole. If a host fails, the file keeps its
    /// content. The tokens expire after 12 hours.
    #[command(after_help = "Exit codes: 0 success, 1 failure, 2 invalid flags or configuration.")]
    Login(LoginArgs),
    /// Serve Docker and other clients as their credential helper: fetch a token when a client needs it.
    ///
    /// A client that is configured with "credHelpers" calls docker-credential-ecr-pull-secrets, which is this command under
    /// another name: a link is enough. The configuration chooses the identity of each registry.
    #[command(after_help = "Example:\n  \
        ln -s $(command -v ecr-pull-secrets) ~/.local/bin/docker-credential-ecr-pull-secrets\n\
        In ~/.docker/config.json:\n  \
        {\"credHelpers\": {\"123456789012.dkr.ecr.eu-central-1.amazonaws.com\": \"ecr-pull-secrets\"}}\n\n\
        Exit codes: 0 success, 1 failure or not found, 2 invalid flags or configuration. The message is on standard error, \
        and on standard output as the protocol requires.")]
    CredentialHelper(CredentialHelperArgs),
    /// Serve the kubelet as its credential provider: read a request from standard input, and print the response.
    ///
    /// A pod whose service account names a role pulls with that role. Another pod pulls with the first identity of the
    /// configuration that is granted to its namespace, else with the identity of the node.
    #[command(
        after_help = "Exit codes: 0 success, 1 failure, 2 invalid flags or configuration. The kubelet logs the \
                            message."
    )]
    CredentialProvider(CredentialProviderArgs),
}

/// The configuration file of the commands without a cluster.
#[derive(Clone, Debug, Args)]
pub struct UserConfigArgs {
    /// Path of the configuration file (YAML). Default: ecr-pull-secrets/config.yaml in `$XDG_CONFIG_HOME` or in ~/.config, if
    /// it exists.
    #[arg(long, value_name = "FILE", env = "ECR_PULL_SECRETS_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Which identity fetches the token.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Identity options")]
pub struct IdentityArgs {
    /// Name of the identity. Default: the first identity of the configuration whose registries include the host, else the
    /// default identity.
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// The namespace that replaces {namespace} in the repositories of the identity.
    #[arg(long, value_name = "NAME", env = "ECR_PULL_SECRETS_TOKEN_NAMESPACE")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub config: UserConfigArgs,
}

/// The registry of a token.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub struct RegistryArgs {
    /// Host of the registry, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com or public.ecr.aws.
    #[arg(long, value_name = "HOST", value_parser = parse_registry)]
    pub registry: Option<Registry>,
    /// The region, if any registry of the region will do. Default: the region of the environment.
    #[arg(long, value_name = "REGION", value_parser = parse_region)]
    pub region: Option<Region>,
}

#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Output format: the token only, or JSON with authorizationToken, expiresAt and proxyEndpoint.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    #[command(flatten)]
    pub identity: IdentityArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Args)]
pub struct LoginPasswordArgs {
    #[command(flatten)]
    pub registry: RegistryArgs,
    #[command(flatten)]
    pub identity: IdentityArgs,
}

#[derive(Clone, Debug, Args)]
pub struct LoginArgs {
    /// Hosts of the registries.
    #[arg(required = true, value_name = "HOST", value_parser = parse_registry)]
    pub registries: Vec<Registry>,
    /// The file to write.
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    pub auth_file: Option<PathBuf>,
    #[command(flatten)]
    pub identity: IdentityArgs,
}

#[derive(Clone, Debug, Args)]
pub struct CredentialHelperArgs {
    /// The action of Docker's protocol that the client requests
    #[arg(value_enum)]
    pub action: HelperAction,
    #[command(flatten)]
    pub identity: IdentityArgs,
}

/// An action of the protocol
/// (<https://docs.docker.com/reference/cli/docker/login/#credential-helper-protocol>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HelperAction {
    /// Read a host from standard input, and print its credential.
    Get,
    /// Read a credential from standard input, and discard it: the helper fetches tokens itself.
    Store,
    /// Read a host from standard input, and remove the tokens of its region from the cache.
    Erase,
    /// Print the hosts that the configuration names.
    List,
}

#[derive(Clone, Debug, Args)]
pub struct CredentialProviderArgs {
    /// Refuse pods that neither have a role nor an identity of their namespace. Default: they pull with the identity of the
    /// node.
    #[arg(long)]
    pub require_role: bool,
    #[command(flatten)]
    pub config: UserConfigArgs,
}

/// Parses a host, or a URL of it.
fn parse_registry(text: &str) -> Result<Registry, String> {
    Registry::from_url(text).map_err(|error| error.to_string())
}

fn parse_region(text: &str) -> Result<Region, String> {
    text.parse().map_err(|error: crate::core::aws::NameError| error.to_string())
}
