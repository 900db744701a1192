//! Every decision, as plain functions. Time and randomness are arguments.
//!
//! ```text
//! annotations ─► Request ─┐
//! Observed ───────────────┼─► plan(…, now) ─► WritePlan ─► compose(…, tokens, now) ─► SecretDraft
//! Settings ─► grants ─────┘
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`aws`] | registry hosts, regions, partitions, role ARNs |
//! | [`request`] | the request in a namespace's annotations, and the applied state of its Secret |
//! | [`grants`] | identities, patterns, session policies: which namespace gets which token |
//! | [`secret`] | tokens, static entries, the Docker configuration, the applied manifest |
//! | [`leader_election`] | when to read, acquire and renew the Lease |
//! | [`settings`] | the validated configuration |
//! | [`plan`] | the next step in a namespace, and the content of a Secret |
//!
//! A module imports only from modules above it in this table. Nothing here imports tokio, a Kubernetes client or the AWS
//! SDK (except `kube::core`, which has types only), or reads a clock; the tests in `tests/layers` fail if it does.

pub mod allowance;
pub mod aws;
mod digest;
mod event_reason;
pub mod grants;
mod jitter;
pub mod leader_election;
mod now;
mod object_version;
pub mod plan;
pub mod planted;
pub mod rare;
mod redaction;
pub mod request;
pub mod secret;
pub mod settings;
mod text;
pub mod turns;
mod uid;

#[cfg(any(test, feature = "simulation"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use self::event_reason::EventReason;
pub use self::jitter::Jitter;
pub use self::now::Now;
pub use self::object_version::ObjectVersion;
pub use self::redaction::without_principals;
pub use self::text::{counted, one_line, quote, whole_seconds};
pub use self::uid::Uid;

/// Prefix of every annotation that the controller reads or writes.
pub const PREFIX: &str = "ecr-pull-secrets.dev/";

/// Field manager of every apply, and value of [`LABEL_MANAGED_BY`].
pub const MANAGER: &str = "ecr-pull-secrets";

/// Label that names the tool that manages an object; see
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Label of a Secret that names the installation that manages it. `app.kubernetes.io/instance` would be wrong: Argo CD
/// deletes objects with that label that are not in its repository.
pub const LABEL_INSTANCE: &str = "ecr-pull-secrets.dev/instance";

/// The `type` of a Secret that the kubelet reads through `imagePullSecrets`.
pub const SECRET_TYPE: &str = "kubernetes.io/dockerconfigjson";

/// The one data key of a Secret of [`SECRET_TYPE`].
pub const SECRET_KEY: &str = ".dockerconfigjson";
