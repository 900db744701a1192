//! The program. Its code is in the library.

use std::process::ExitCode;

/// Separates allocations by their size, so that what lives long does not keep the space between (decision 19).
/// `.cargo/config.toml` has its settings.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ecr_pull_secrets::commands::main()
}
