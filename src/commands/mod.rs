//! The subcommands, one file each, and what they share.

mod cleanup;
mod controller;
mod error;
mod output;
mod probe;
mod setup;
mod signals;
mod sync;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};

pub use self::error::CommandError;
use self::output::{print_error, print_line};
use crate::cli::{Cli, Command};
use crate::telemetry::logs;

/// The JSON schema of the configuration file, which `make generate` writes.
const SCHEMA: &str = include_str!("../../docs/config.schema.json");

/// Runs the program.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), CommandError> {
    logs::start(cli.global.log_format, &cli.global.log_level)?;
    match cli.command {
        Command::Controller(args) => block_on(&mut threads(), controller::run(args)),
        Command::Sync(args) => block_on(&mut threads(), sync::run(args)),
        Command::Cleanup(args) => block_on(&mut threads(), cleanup::run(args)),
        Command::Probe(args) => block_on(&mut Builder::new_current_thread(), probe::run(args)),
        Command::ConfigSchema => {
            print_line(SCHEMA.trim_end());
            Ok(())
        }
    }
}

fn threads() -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2);
    builder
}

fn block_on(
    builder: &mut Builder,
    command: impl Future<Output = Result<(), CommandError>>,
) -> Result<(), CommandError> {
    let runtime: Runtime = builder.enable_all().build().map_err(CommandError::Runtime)?;
    let result = runtime.block_on(command);
    // The exit does not wait for tasks that are blocked by a connection.
    runtime.shutdown_background();
    result
}
