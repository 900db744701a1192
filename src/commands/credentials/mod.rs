//! The commands that fetch a token and need no cluster. They share the configuration and the rules of the controller.
//!
//! Each runs on one thread, without a Kubernetes client: a client of images starts them for every pull.

mod auth_file;
mod cache;
mod fetch;
mod helper;
mod lock;
mod login;
mod provider;
mod token;

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::Path;

use tokio::runtime::Builder;

use super::CommandError;
use crate::cli::{CredentialCommand, GlobalArgs};
use crate::telemetry::logs;

/// The name by which Docker and other clients call the credential helper.
const HELPER: &str = "docker-credential-ecr-pull-secrets";
/// The filter of the log, if the default is not changed. The SDK logs failed sources of credentials, which the error names
/// too.
const QUIET: &str = "warn,aws_config=error";
const DEFAULT_FILTER: &str = "info";
/// The largest input. A request of the kubelet contains a token and annotations.
const MAX_INPUT: u64 = 1024 * 1024;

/// The arguments of the program. Under the name of the helper, they begin with its command.
pub(super) fn with_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let is_helper =
        arguments.first().and_then(|path| Path::new(path).file_stem()).is_some_and(|name| name == HELPER);
    let is_flag = arguments.get(1).is_some_and(|argument| argument.as_encoded_bytes().starts_with(b"-"));
    if is_helper && !is_flag {
        arguments.insert(1, "credential-helper".into());
    }
    arguments
}

pub(super) fn run(command: CredentialCommand, global: &GlobalArgs) -> Result<(), CommandError> {
    let filter = if global.log_level == DEFAULT_FILTER { QUIET } else { &global.log_level };
    logs::start(global.log_format, filter)?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    let result = match command {
        CredentialCommand::Token(args) => runtime.block_on(token::print_token(args)),
        CredentialCommand::LoginPassword(args) => runtime.block_on(token::print_password(args)),
        CredentialCommand::Login(args) => runtime.block_on(login::run(args)),
        CredentialCommand::CredentialHelper(args) => runtime.block_on(helper::run(args)),
        CredentialCommand::CredentialProvider(args) => runtime.block_on(provider::run(args)),
    };
    // The exit does not wait for a name that is still resolved.
    runtime.shutdown_background();
    result
}

/// Prints the result. A reader that is gone did not get it, so the command fails.
fn print_result(text: &str) -> Result<(), CommandError> {
    let mut output = std::io::stdout();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.write_all(b"\n"));
    let written = written.and_then(|()| output.flush());
    written.map_err(|error| {
        format!("cannot write to standard output: {error}; check the command that reads it").into()
    })
}

/// A condition that does not prevent the result.
fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

/// Reads standard input to its end.
fn read_input() -> Result<zeroize::Zeroizing<String>, CommandError> {
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = std::io::stdin().take(MAX_INPUT).read_to_string(&mut text);
    read.map_err(|error| format!("cannot read standard input: {error}"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_helper_is_its_command() {
        let parse = |arguments: &[&str]| with_command(arguments.iter().map(OsString::from).collect());
        let helper = "/usr/bin/docker-credential-ecr-pull-secrets";
        assert_eq!(parse(&[helper, "get"]), [helper, "credential-helper", "get"]);
        assert_eq!(parse(&[helper]), [helper, "credential-helper"]);
        assert_eq!(parse(&[helper, "--version"]), [helper, "--version"]);
        assert_eq!(parse(&["ecr-pull-secrets", "get"]), ["ecr-pull-secrets", "get"]);
        assert_eq!(parse(&[]), Vec::<OsString>::new());
    }
}
