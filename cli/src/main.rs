//! `strandline`: runs streaming jobs that are described in files, and looks after their checkpoints.
//!
//! Exit codes: 0 when the job finished or was stopped gracefully, 1 when it failed, 2 for a mistake in the command line or
//! the job file, 130 when a second Ctrl-C cut it off.

/// Prints a line to the standard output, as `println!` does, but does not panic when nobody listens any more.
macro_rules! say {
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
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use strandline_state_api::Error;

use cli::{Cli, Command};

/// Why a command did not do what it should.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the job file is wrong; the text says how, ready to be shown.
    Usage(String),
    /// The job or the storage failed.
    Failed(Error),
    /// It did what it should, and the answer is bad: already shown.
    Shown,
    /// Cut off by a second Ctrl-C.
    Cancelled,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Prints a line; when nobody listens any more, nobody needs to be told.
pub(crate) fn print(line: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The same for the standard error.
pub(crate) fn print_error(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("STRANDLINE_LOG");
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error")))
        .init();
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
        Err(Failure::Failed(error)) => {
            print_error(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
        Err(Failure::Shown) => ExitCode::FAILURE,
        Err(Failure::Cancelled) => ExitCode::from(130),
    }
}
