//! Keeps image pull secrets for Amazon ECR valid in every namespace that opts in.
//!
//! # Data flow
//!
//! ```text
//!                kubernetes::watch ─► Change ─┐                 ┌─► Write, Delete, … ─► kubernetes ─► API server
//! kubernetes::leader_election ─► Leadership ──┼─► controller ───┼─► FetchToken ───────► ecr ────────► AWS
//!                   outcomes, tokens, time ───┘  (plans with    └─► Tell ─────────────► telemetry, Events
//!                        ▲                       core, no I/O)            │
//!                        └────────────────── runtime ◄───────────────────┘
//! ```
//!
//! # Follow one namespace
//!
//! 1. A user annotates it. [`kubernetes::observe::namespace`] turns the watch event into a record with the parsed annotations
//!    ([`core::request::annotations::parse`]).
//! 2. [`controller::Controller::handle`] takes it as [`controller::Input::Changed`] and puts it into the index.
//! 3. `Controller::reconcile` gathers the facts and calls [`core::plan::plan`]: the Secret is `Missing`, so the step is a write.
//!    `Controller::file` queues it.
//! 4. `Controller::dispatch` looks up the token in [`controller::tokens::TokenCache`], and [`core::plan::compose`]
//!    decides the content of the Secret.
//! 5. [`runtime`] executes the write of [`controller::Effect::Act`] with `kubernetes::cluster::Cluster::apply`.
//! 6. The outcome returns as [`controller::Input::ActionDone`]. The history and the index record it, and the next plan is
//!    `Idle` until the renewal is due.
//!
//! # When a request fails
//!
//! [`kubernetes::errors::classify`] turns a response such as 409 into a [`controller::error::RequestError`].
//! `Controller::record_failure` decides what follows: `core::plan::RetryState` when to retry, `report_write_failure` which Event
//! the namespace gets. After a conflict, which shows that the index is not up to date, `Controller::read_secret` reads the
//! Secret, and the next attempt follows at once; no user has to act.
//!
//! # When the leadership ends
//!
//! `Controller::follow_leadership` compares [`core::leader_election::Leadership`] with the time at each input. Without it, the
//! controller drops its queue and its histories, and keeps the index and the tokens.
//!
//! # Layout
//!
//! | module | what it holds | imports |
//! |---|---|---|
//! | [`core`] | decisions, as plain functions | nothing else of this crate |
//! | [`controller`] | the state machine without I/O | `core` |
//! | [`kubernetes`], [`telemetry`] | the API server; logs, metrics and probes | `core`, types of `controller` |
//! | [`ecr`] | AWS | `core` |
//! | [`runtime`] | the loop that executes effects | all of the above but `ecr`, which implements its port |
//! | [`config`] | the configuration file | `core`, `ecr` |
//! | [`cli`] | the flags | types of `telemetry` |
//! | [`commands`] | one file or folder for each subcommand; `commands::credentials`: those that need no cluster | everything |

// `make lint` documents private items, too.
#![allow(rustdoc::private_intra_doc_links)]

mod cli;
mod clock;
pub mod commands;
pub mod config;
mod controller;
mod core;
mod ecr;
mod kubernetes;
mod runtime;
#[cfg(feature = "simulation")]
pub mod simulation;
mod telemetry;
