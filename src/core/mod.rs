//! Every decision, as plain functions: no Kubernetes client, no tokio, no AWS, and time is an argument.
//!
//! ```text
//! annotations ─► Request ─┐
//! Observed ───────────────┼─► plan(…, now) ─► Plan ─► render
//! settings ─► grants ─────┘
//! ```

pub mod accounts;
pub mod annotations;
pub mod arn;
pub mod backoff;
pub mod facts;
pub mod grants;
pub mod identity;
pub mod lease;
pub mod opt_in;
pub mod pattern;
pub mod plan;
pub mod policy;
pub mod problem;
pub mod registry;
pub mod render;
pub mod request;
pub mod settings;
pub mod settle;
pub mod statics;
pub mod token;
pub mod tries;

#[cfg(test)]
mod tests;

use jiff::Timestamp;

/// Prefix of every annotation that the controller reads or writes.
pub const PREFIX: &str = "ecr-pull-secrets.dev/";

/// Field manager of every apply, and value of [`LABEL_MANAGED_BY`].
pub const MANAGER: &str = "ecr-pull-secrets";

/// Label that says who manages an object; see
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Label that says which installation manages an object.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";

/// The value of a Secret's `type` that the kubelet reads `imagePullSecrets` from.
pub const SECRET_TYPE: &str = "kubernetes.io/dockerconfigjson";

/// The one data key of a Secret of [`SECRET_TYPE`].
pub const SECRET_KEY: &str = ".dockerconfigjson";

/// A text from elsewhere as part of a message: one line of at most 400 characters, and no control characters.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

/// The time without its fraction of a second, as people and annotations have it.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Quotes a value that a stranger wrote, for a message: escaped, and cut to a bounded length.
pub fn quote(value: &str) -> String {
    const LONGEST: usize = 80;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &value[..end], value.len()),
        None => format!("{value:?}"),
    }
}
