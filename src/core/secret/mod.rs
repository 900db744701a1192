//! The content of a pull secret: tokens of ECR, entries of other registries, and the Docker configuration that holds them.

mod credential;
mod docker_config;
mod fetch;
pub mod static_registries;
mod template;
mod token;

#[cfg(feature = "simulation")]
pub use self::docker_config::NO_OBJECTS_VERSION;
pub use self::docker_config::{DockerConfig, DraftEntry, Manifest};
pub use self::fetch::{FetchedToken, TokenError, TokenErrorKind, TokenSource, server_time};
pub use self::static_registries::{StaticGrant, StaticSource, StaticSources};
pub use self::template::SecretTemplate;
pub use self::token::{RefreshPolicy, Token, after_fraction, default_host};
