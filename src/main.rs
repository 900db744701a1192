//! The program. Its code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ecr_pull_secrets::commands::main()
}
