//! `ecr-pull-secrets completion` and `man`, and the name of the program as a plugin of kubectl.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::CommandError;
use crate::cli::Cli;
use crate::cli::diagnosis::{CompletionArgs, ManArgs};

/// The name of the file that kubectl runs for `kubectl ecr-pull-secrets`: each dash of the command is an underscore
/// (<https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/#naming-a-plugin>).
const PLUGIN: &str = "kubectl-ecr_pull_secrets";
const PLUGIN_COMMAND: &str = "kubectl ecr-pull-secrets";

/// Parses the arguments, of which the first is the program. Help and errors show the command by which a user runs it.
pub(super) fn parse(arguments: Vec<OsString>) -> Cli {
    let program = arguments.first().cloned().unwrap_or_default();
    let matches = command(&program).get_matches_from(arguments);
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn command(program: &OsStr) -> clap::Command {
    let command = Cli::command();
    let is_plugin = Path::new(program).file_name() == Some(OsStr::new(PLUGIN));
    if is_plugin { command.bin_name(PLUGIN_COMMAND) } else { command }
}

pub(super) fn print(args: &CompletionArgs) {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut script);
    super::print_line(String::from_utf8_lossy(&script).trim_end());
}

/// Writes a page for the program and one for each subcommand.
pub(super) fn write_man_pages(args: &ManArgs) -> Result<(), CommandError> {
    let written = clap_mangen::generate_to(Cli::command(), &args.folder);
    written.map_err(|error| format!("cannot write to {}: {error}", args.folder.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_shows_the_command_by_which_the_program_runs() {
        for (program, expected) in [
            ("/usr/bin/ecr-pull-secrets", "Usage: ecr-pull-secrets [OPTIONS] <COMMAND>"),
            ("/krew/bin/kubectl-ecr_pull_secrets", "Usage: kubectl ecr-pull-secrets [OPTIONS] <COMMAND>"),
        ] {
            let mut command = command(OsStr::new(program));
            assert!(command.render_help().to_string().contains(expected), "{program}");
        }
    }
}
