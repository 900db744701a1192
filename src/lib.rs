//! Keeps image pull secrets for Amazon ECR valid in every namespace that asks for one.
//!
//! # Layout
//!
//! ```text
//! cluster::watch ─► core::annotations ─► Request ─┐
//!                   cluster::observe ──► Observed ─┼─► core::plan ─► ecr::cache ─► core::render ─► cluster::write
//! config ─────────► core::identity ──► grants ────┘   pure, time is an argument         all I/O is there
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | [`core`] | every decision, as plain functions |
//! | [`ecr`] | tokens: the mint port, AWS behind it, the shared cache |
//! | [`cluster`] | Kubernetes: watches, the compact index, writes, Events |
//! | [`controller`] | the loop: gather, plan, act |
//! | [`commands`] | one file a subcommand |
//! | [`telemetry`] | logs, metrics, probes |
//! | [`config`], [`cli`] | the configuration file, the flags |

pub mod cli;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod controller;
pub mod core;
pub mod ecr;
pub mod telemetry;
