//! Names of AWS: registry hosts, regions, accounts, roles.

pub mod region;
pub mod registry;
pub mod role_arn;
