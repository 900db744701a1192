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
//! 4. `Controller::dispatch` looks up the token in [`controller::tokens::TokenCache`], and [`core::plan::compose::compose`]
//!    decides the content of the Secret.
//! 5. [`runtime`] executes [`controller::Effect::Write`] with `kubernetes::cluster::Cluster::apply`.
//! 6. The outcome returns as [`controller::Input::ActionDone`]. The history and the index record it, and the next plan is
//!    `Idle` until the renewal is due.
//!
//! # Layout
//!
//! | module | what it holds | imports |
//! |---|---|---|
//! | [`core`] | decisions, as plain functions | nothing else of this crate |
//! | [`controller`] | the state machine without I/O | `core` |
//! | [`kubernetes`], [`ecr`], [`telemetry`] | one boundary each: the API server, AWS, logs and metrics | `core`, types of `controller` |
//! | [`runtime`] | the loop that executes effects | all of the above |
//! | [`config`], [`cli`] | the configuration file, the flags | `core` |
//! | [`commands`] | one file for each subcommand | everything |

mod cli;
mod clock;
pub mod commands;
pub mod config;
mod controller;
mod core;
mod ecr;
mod kubernetes;
mod runtime;
mod telemetry;
