//! The names that AWS uses: registry hosts, regions, accounts, roles.

mod region;
mod registry;
mod role_arn;

pub use self::region::{AccountId, NameError, Partition, Region};
pub use self::registry::{Endpoint, Registry};
pub use self::role_arn::RoleArn;
