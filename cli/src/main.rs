//! `strandline`: runs streaming jobs that are described in files, and inspects their checkpoints.
//!
//! Exit codes: 0 when the job finished or was stopped gracefully, 1 when it failed, 2 for a mistake in the
//! command line or the job file, 130 when a second Ctrl-C cut it off.

/// Prints a line to the standard output as `println!` does, but does not panic when the reader has gone.
macro_rules! print_line {
    ($($arguments:tt)*) => {
        $crate::print(format_args!($($arguments)*))
    };
}

mod checkpoints;
mod cli;
mod demo;
mod jobfile;
mod plan;
mod progress;
mod report;
mod run;
mod schema;

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use strandline_state_api::Error;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use cli::{Cli, Command};
use jobfile::Mistakes;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A mistake in the command line; the text describes it and is ready to print.
    Usage(String),
    /// Mistakes in the job file.
    Mistakes(Mistakes),
    /// The job or the storage failed.
    Failed(Error),
    /// The command worked, and its answer is bad: it has printed that already.
    Shown,
    /// Cut off by a second Ctrl-C.
    Cancelled,
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::Mistakes(mistakes)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Prints a line to the standard output. That the reader has gone is no failure.
pub(crate) fn print(line: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints a line to the standard error.
pub(crate) fn print_error(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    let result = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Demo(args) => demo::demo(args),
        Command::Checkpoints(args) => checkpoints::checkpoints(args),
        Command::Schema { job } => schema::show(job),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            print_error(text.trim_end());
            ExitCode::from(2)
        }
        Err(Failure::Mistakes(mistakes)) => {
            print_error(mistakes.render(std::io::stderr().is_terminal()).trim_end());
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            print_error(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
        Err(Failure::Shown) => ExitCode::FAILURE,
        Err(Failure::Cancelled) => ExitCode::from(130),
    }
}

/// Logs to the standard error: errors, and warnings of sources and sinks; or the levels in STRANDLINE_LOG,
/// for example `info` or `strandline_runtime=debug`.
fn start_log() {
    let levels = std::env::var("STRANDLINE_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let levels = levels.unwrap_or_else(|| {
        Targets::new()
            .with_default(LevelFilter::ERROR)
            .with_target("strandline_connectors", LevelFilter::WARN)
    });
    let color = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(color).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(levels).init();
}
