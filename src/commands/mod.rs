//! The subcommands, one file each, and what they share.

mod check;
mod cleanup;
mod completion;
mod configuration;
mod controller;
mod credentials;
mod document;
pub(crate) mod explain;
mod probe;
mod render;
mod setup;
mod status;
mod sync;
mod table;
mod view;

use std::error::Error;
use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use tokio::runtime::Builder;

use crate::cli::{Cli, Command};
use crate::config::ConfigError;
use crate::core::grants::ChoiceError;
use crate::ecr::aws::EnvironmentError;
use crate::kubernetes::client::ConnectError;
use crate::telemetry::listener::BindError;
use crate::telemetry::logs::{self, LogError};

/// Why a command failed. Only the exit code depends on the type.
type CommandError = Box<dyn Error + Send + Sync>;

/// The JSON schema of the configuration file, which `make generate` writes.
const SCHEMA: &str = include_str!("../../docs/config.schema.json");

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = credentials::with_command(std::env::args_os().collect());
    let Err(error) = run(completion::parse(arguments)) else { return ExitCode::SUCCESS };
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(exit_code(&*error))
}

/// 2 for invalid flags or configuration, 1 for any other failure.
fn exit_code(error: &(dyn Error + Send + Sync + 'static)) -> u8 {
    let is_configuration = error.is::<LogError>()
        || error.is::<ChoiceError>()
        || error.is::<ConfigError>()
        || error.is::<EnvironmentError>()
        || error.is::<render::InvalidRequest>();
    if is_configuration || error.is::<BindError>() || error.is::<ConnectError>() { 2 } else { 1 }
}

fn run(cli: Cli) -> Result<(), CommandError> {
    let cli = match cli.command {
        Command::Credentials(command) => return credentials::run(command, &cli.global),
        _ => cli,
    };
    logs::start(cli.global.log_format, &cli.global.log_level)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    let result = match cli.command {
        Command::Controller(args) => runtime.block_on(controller::run(args)),
        Command::Sync(args) => runtime.block_on(sync::run(args)),
        Command::Cleanup(args) => runtime.block_on(cleanup::run(args)),
        Command::Check(args) => runtime.block_on(check::run(args)),
        Command::Status(args) => runtime.block_on(status::run(args)),
        Command::Explain(args) => runtime.block_on(explain::run(args)),
        Command::Render(args) => runtime.block_on(render::run(args)),
        Command::Completion(args) => {
            completion::print(&args);
            Ok(())
        }
        Command::Man(args) => completion::write_man_pages(&args),
        Command::Probe(args) => runtime.block_on(probe::run(args)),
        Command::Credentials(_) => Ok(()),
        Command::ConfigSchema => {
            print_line(SCHEMA.trim_end());
            Ok(())
        }
    };
    // The exit does not wait for tasks that are blocked by a connection.
    runtime.shutdown_background();
    result
}

/// The flags of all commands: for the reference in `docs/flags.md`, and for the tests of the commands in documents.
pub fn flags() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Prints a line to standard output. A command completes its work even if the reader has closed the pipe
/// (`cleanup --yes | head -1`).
fn print_line(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
