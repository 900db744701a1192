//! Where programs in a cluster get their AWS credentials from, if nobody gives them a key pair.
//!
//! ```no_run
//! # async fn example() {
//! use std::time::Duration;
//! use testing::aws::Stub;
//! use testing::credentials::ContainerEndpoint;
//!
//! let aws = Stub::start().await;
//! let agent = ContainerEndpoint::start(&aws, Duration::from_mins(15)).await;
//! // … start a program with `agent.env()` …
//! agent.rotate_token();
//! # }
//! ```
//!
//! Everything that these servers hand out, and the tokens with which one asks them, is among
//! [`Stub::secrets`](crate::aws::Stub::secrets). The credentials are as those of
//! [`Stub::issue`](crate::aws::Stub::issue).

mod container;
mod instance;
#[cfg(test)]
mod tests;

use hyper::Response;

pub use container::ContainerEndpoint;
pub use instance::InstanceMetadata;

use crate::server::response;

const TEXT: (&str, &str) = ("content-type", "text/plain");
const JSON: (&str, &str) = ("content-type", "application/json");

/// A refusal, with the reason for those who look.
fn refusal(status: u16, reason: &str) -> Response<String> {
    response(status, TEXT, reason)
}
