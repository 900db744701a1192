//! The controller as a program, on a real API server, with the rights of `deploy/rbac.yaml` and no others.
//!
//! Every test has a control plane of its own, so that they run in any order and in parallel, and every test ends with a
//! search for tokens in everything that the controller wrote: see [`harness::cluster_test`].

mod admission;
mod alerts;
mod attacks;
mod aws_faults;
mod bad_input;
mod budgets;
mod chart;
mod cleanup;
mod creation;
mod credential_sources;
mod failover;
mod harness;
mod incidents;
mod kubeconfigs;
mod metrics;
mod migration;
mod mutating_policy;
mod opt_in;
mod outage;
mod process;
mod renewals;
mod repairs;
mod restarts;
mod rights;
mod rotated_credentials;
mod secret_template;
mod service_accounts;
mod single_namespace;
mod six_registries;
mod static_registries;
mod sync;
mod tenants;
mod walkthrough;
