//! The names that AWS uses: registry hosts, regions, accounts, roles.

pub mod region;
pub mod registry;
pub mod role_arn;
