//! The content of a pull secret: tokens of ECR, entries of other registries, and the Docker configuration that holds them.

pub mod docker_config;
pub mod fetch;
pub mod static_registries;
pub mod token;
