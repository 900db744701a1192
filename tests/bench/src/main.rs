//! `make bench`: measures the program on a real API server. See docs/performance.md.
//!
//! | module | what it does |
//! |---|---|
//! | `world` | control plane, AWS, namespaces, controllers |
//! | `program` | one controller: processor time and memory from `/proc` |
//! | `requests`, `audit` | the minimal client; the audit log |
//! | `measure` | the phases of a run |
//! | `figures`, `stats` | the figures of a run, which are stored as JSON |
//! | `report` | docs/performance.md and its plots, from stored figures |

mod audit;
mod figures;
mod measure;
mod program;
mod report;
mod requests;
mod stats;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use figures::Speed;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures the program and stores the figures.
    Measure(Run),
    /// Measures the rates and the latency alone, and stores them.
    Speed(Run),
    /// Writes the figures of a folder into a document, and plots next to them.
    Report {
        #[arg(long)]
        figures: PathBuf,
        #[arg(long)]
        document: PathBuf,
        /// Writes nothing, and fails if something would change.
        #[arg(long)]
        check: bool,
    },
    /// Compares the ratios of two files of `measure` or `speed`. Fails if one differs by more than 15 percent.
    Compare { first: PathBuf, second: PathBuf },
}

#[derive(clap::Args)]
struct Run {
    /// The program as deploy/image/build builds it.
    #[arg(long)]
    program: PathBuf,
    #[arg(long, default_value_t = 2_000)]
    namespaces: usize,
    /// How often the rates are measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The commit of the program.
    #[arg(long)]
    commit: String,
    /// The command that a reader of the report can repeat.
    #[arg(long)]
    command: String,
    /// Where the figures are stored.
    #[arg(long)]
    figures: PathBuf,
}

impl Run {
    fn options(&self) -> measure::Options<'_> {
        measure::Options {
            program: &self.program,
            namespaces: self.namespaces,
            rounds: self.rounds,
            commit: &self.commit,
            command: &self.command,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Measure(run) => {
            store(&run.figures, &measure::run(&run.options()).await);
            ExitCode::SUCCESS
        }
        Command::Speed(run) => {
            store(&run.figures, &measure::speed(&run.options()).await);
            ExitCode::SUCCESS
        }
        Command::Report { figures, document, check } => {
            let is_current = report::write(&figures, &document, check);
            if is_current { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Command::Compare { first, second } => {
            let is_close = report::compare(&read::<Speed>(&first), &read(&second));
            if is_close { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn store(path: &Path, figures: &impl Serialize) {
    let text = serde_json::to_string_pretty(figures).expect("figures are JSON");
    std::fs::write(path, text + "\n").expect("the figures are written");
}

fn read<T: DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
