//! The names that AWS uses (registry hosts, regions, accounts, roles), and its clock.

mod clock;
mod docker_key;
mod region;
mod registry;
mod role_arn;

pub use self::clock::{AwsClock, skew};
pub use self::docker_key::may_match_ecr;
pub use self::region::{AccountId, NameError, Partition, Region};
pub use self::registry::{Endpoint, Registry};
pub use self::role_arn::RoleArn;
