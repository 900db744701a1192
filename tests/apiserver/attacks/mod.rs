//! Actors that take more than their share, or pretend to be others, while the rest of the cluster uses the controller.
//!
//! Each test runs its attacker until the end, and [`bystanders`] measures what the other tenants notice of it. The
//! names of tests end with the number of the attack in the security review.
//!
//! | module | the attacker |
//! |---|---|
//! | [`tokens`] | names more tokens than a namespace needs, or tokens that it is not granted |
//! | [`writes`] | makes the API server hang in its namespaces |
//! | [`revocation`] | forges Secrets, so that revocations wait |
//! | [`events`] | changes invalid values all the time |
//! | [`memory`] | creates many and large objects |
//! | [`network`] | occupies the controller's port, or is a proxy between it and AWS |
//! | [`stolen_credential`] | has the controller's service account token |

mod bystanders;
mod events;
mod memory;
mod network;
mod revocation;
mod stolen_credential;
mod tokens;
mod writes;
