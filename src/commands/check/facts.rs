//! The facts that the checks judge. Everything is gathered first, so that each judgement is a plain function.

use jiff::Timestamp;

use crate::commands::configuration::Unused;
use crate::commands::status::Row;
use crate::core::Now;
use crate::core::aws::{Region, Registry};
use crate::core::grants::{Assignment, CredentialSource};
use crate::core::plan::Refusal;
use crate::core::secret::TokenError;
use crate::ecr::registry::{RegistryError, RegistryResponse};

/// A fact that could not be gathered, with the reason.
pub type Gathered<T> = Result<T, String>;

/// All facts. A part is `None` if it was not gathered, because an earlier one failed or with `--pre`.
pub struct Facts {
    pub now: Now,
    /// Whether the controller is not installed yet.
    pub pre: bool,
    pub configuration: Gathered<ConfigurationFacts>,
    pub region: Gathered<Option<Region>>,
    pub cluster: Option<Gathered<ClusterFacts>>,
    pub aws: Option<AwsFacts>,
}

/// The parts of the configuration that are valid and risky, or depend on others.
pub struct ConfigurationFacts {
    /// The path of the file; `None` for the defaults.
    pub file: Option<String>,
    pub instance: String,
    pub secret_names: Vec<String>,
    /// Whether every namespace that opts in gets tokens with the controller's whole scope.
    pub shares_controller: bool,
    pub has_identities: bool,
    /// The identities that no namespace may use.
    pub unused_identities: Vec<String>,
}

pub struct ClusterFacts {
    pub version: Gathered<Version>,
    /// The API server's clock, and ours when it responded.
    pub clock: Option<Clocks>,
    /// The namespace of the controller.
    pub namespace: String,
    /// `None` outside single-namespace mode.
    pub single: Option<SingleNamespaceMode>,
    pub subject: Subject,
    /// The controller's configuration, if this command has no file and it differs from the defaults.
    pub unused_configuration: Option<Unused>,
    pub rights: Gathered<Vec<RightFact>>,
    pub policy: Option<PolicyFacts>,
    pub lease: Option<Gathered<Option<LeaseFacts>>>,
    pub namespaces: Option<Gathered<NamespacesFacts>>,
    /// `None` without a rule under `adopt`.
    pub adoption: Option<Gathered<AdoptionFacts>>,
}

/// The scope of the controller with `namespaces.only`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleNamespaceMode {
    pub namespaces: Vec<String>,
    /// Whether the controller changes service accounts.
    pub writes_service_accounts: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub text: String,
}

/// A server's clock, and the local one at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    pub server: Timestamp,
    pub local: Timestamp,
}

/// Whose rights are reviewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Those of the user of this program.
    Own { user: String },
    /// Those of the controller's service account, by another user.
    ServiceAccount { user: String, exists: bool },
}

impl Subject {
    pub fn user(&self) -> &str {
        match self {
            Self::Own { user } | Self::ServiceAccount { user, .. } => user,
        }
    }

    pub fn is_service_account(&self) -> bool {
        self.user().starts_with("system:serviceaccount:")
    }
}

/// A right on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    pub verb: &'static str,
    pub group: &'static str,
    pub resource: &'static str,
    pub name: Option<String>,
    pub namespace: Option<String>,
    /// Whether the controller needs it. Others must be denied.
    pub needed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RightFact {
    pub right: Right,
    pub allowed: bool,
}

/// Whether an admission policy restricts the controller.
pub enum PolicyFacts {
    /// The policies for secrets that match the controller's user.
    Objects(Vec<PolicyObject>),
    /// The controller may not read policies, so a write that they must deny was sent as a dry run.
    DryRun(DryRun),
    Unreadable(String),
}

pub struct PolicyObject {
    pub name: String,
    /// `Fail` or `Ignore`.
    pub failure_policy: String,
    /// The actions of each binding.
    pub bindings: Vec<Vec<String>>,
    /// The allowed secret names that its expressions do not contain.
    pub missing_names: Vec<String>,
}

pub enum DryRun {
    Denied,
    Accepted,
    /// Another error came first.
    Undetermined(String),
}

pub struct LeaseFacts {
    pub holder: Option<String>,
    pub renewed_at: Option<Timestamp>,
    pub duration_seconds: i32,
}

pub struct NamespacesFacts {
    pub rows: Vec<Row>,
    /// The namespaces of `namespaces.only` that do not exist.
    pub absent: Vec<String>,
    /// Those that RBAC does not allow to read.
    pub unread: Vec<String>,
    /// Why the secrets could not be read.
    pub secrets_denied: Option<String>,
}

/// The Secrets of other tools that a rule under `adopt` describes.
pub struct AdoptionFacts {
    pub secrets: Vec<ForeignSecret>,
    /// How many more match.
    pub more: usize,
}

#[derive(Clone)]
pub struct ForeignSecret {
    pub namespace: String,
    pub name: String,
    /// The entries of the write with which the controller adopts it; `None` if the namespace requests no Secret of this name.
    pub assignments: Option<Vec<Assignment>>,
    /// The keys of the static entries of that write.
    pub static_hosts: Vec<String>,
    /// Why it is not adopted.
    pub refusal: Option<Refusal>,
    pub content: Gathered<ForeignContent>,
}

/// The content of a Secret, without values.
#[derive(Clone)]
pub struct ForeignContent {
    /// The field managers.
    pub managers: Vec<String>,
    /// The keys of its entries.
    pub registries: Vec<String>,
    /// The other data keys.
    pub keys: Vec<DataKey>,
}

#[derive(Clone)]
pub struct DataKey {
    pub name: String,
    /// Whether an apply of the controller removes it.
    pub is_removed: bool,
}

pub struct AwsFacts {
    /// The ARN; `None` without a region.
    pub caller: Result<Option<String>, TokenError>,
    /// AWS's clock.
    pub clock: Option<Clocks>,
    pub tokens: Vec<TokenFact>,
    pub registries: Vec<RegistryFact>,
    /// The identities and registries that no token was requested for, and why.
    pub untested: Vec<String>,
}

/// A request for a token.
pub struct TokenFact {
    pub identity: String,
    pub endpoint: String,
    /// The role and the credentials that it is assumed with; `None` for the controller's own.
    pub role: Option<(String, CredentialSource)>,
    /// The expiry of the token.
    pub result: Result<Timestamp, TokenError>,
}

/// The path of a request to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryPath {
    /// `/v2/`.
    Base,
    Tags(String),
    Manifest(String, String),
}

pub struct RegistryFact {
    pub registry: Registry,
    pub identity: String,
    pub path: RegistryPath,
    pub result: Result<RegistryResponse, RegistryError>,
}
