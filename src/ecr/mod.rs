//! Authorization tokens of Amazon ECR, fetched with the AWS SDK.

pub mod aws;
pub mod registry;
