//! The program `strandline` as a library, of which nothing but [`main`] is public. A library is compiled beside the code of the
//! crates beneath it, a program only after them: the first build is shorter for it.

/// Prints a line to the standard output as `println!` does, but does not panic when the reader has gone.
macro_rules! print_line {
    ($($arguments:tt)*) => {
        $crate::print(format_args!($($arguments)*))
    };
}

mod advice;
mod check;
mod checkpoints;
mod cli;
#[cfg(feature = "timely")]
mod cluster;
#[cfg(not(feature = "timely"))]
#[path = "cluster/absent.rs"]
mod cluster;
mod demo;
mod jobfile;
mod manual;
mod plan;
mod progress;
mod reference;
mod report;
mod run;
mod schema;
#[cfg(feature = "sql")]
mod serve;
#[cfg(feature = "sql")]
mod sql;
mod state;
mod table;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use strandline_state_api::Error;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use cli::{Cli, Command};
use jobfile::Mistakes;
use terminal::{print, print_bytes, print_error};

#[cfg(not(feature = "sql"))]
pub(crate) const NO_SQL: &str = "error: this program was built without SQL: build it with `--features sql`; `strandline state` \
                      shows state without it";

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A mistake in the command line; the text describes it and is ready to print.
    Usage(String),
    /// Mistakes in the job file.
    Mistakes(Mistakes),
    /// The job or the storage failed.
    Failed(Error),
    /// As [`Failed`](Self::Failed), and whoever reads JSON has it.
    Reported(Error),
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

/// Runs the command that the arguments of the process name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    if matches!(cli.command, Command::Demo(_)) {
        terminal::go_on_without_a_reader();
    }
    let result = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Demo(args) => demo::demo(args),
        Command::Check(args) => check::check(args),
        Command::Checkpoints(args) => checkpoints::checkpoints(args),
        Command::State(args) => state::state(args),
        #[cfg(feature = "sql")]
        Command::Sql(args) => sql::sql(args),
        #[cfg(not(feature = "sql"))]
        Command::Sql(_) => Err(Failure::Usage(NO_SQL.to_owned())),
        Command::Schema(args) => schema::show(args),
        Command::Completions { shell } => {
            manual::completions(*shell);
            Ok(())
        }
        Command::Man { directory } => manual::pages(directory).map_err(Failure::from),
    };
    if terminal::is_reader_gone() {
        return ExitCode::from(terminal::READER_GONE);
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&failure, cli.command.is_json()),
    }
}

/// Reports a failure: for a person to the standard error, and as JSON to the standard output if asked for.
fn failed(failure: &Failure, json: bool) -> ExitCode {
    let (text, value, code) = match failure {
        Failure::Usage(text) => (text.trim_end().to_owned(), report::refused(text), ExitCode::from(2)),
        Failure::Mistakes(mistakes) => {
            let text = mistakes.render(terminal::has_colors());
            (text.trim_end().to_owned(), mistakes.json(), ExitCode::from(2))
        }
        // Whoever read the results has seen enough.
        Failure::Failed(error) | Failure::Reported(error) if is_broken_pipe(error) => {
            return ExitCode::from(terminal::READER_GONE);
        }
        Failure::Reported(error) => {
            print_error(advice::with_help(error));
            return ExitCode::FAILURE;
        }
        Failure::Failed(error) => (advice::with_help(error), report::failure(error), ExitCode::FAILURE),
        Failure::Shown => return ExitCode::FAILURE,
        Failure::Cancelled => return ExitCode::from(130),
    };
    print_error(text);
    if json {
        print(value);
    }
    code
}

/// Whether nobody reads the standard output any more, to which a job printed its results.
fn is_broken_pipe(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        match error.downcast_ref::<std::io::Error>() {
            Some(error) => return error.kind() == std::io::ErrorKind::BrokenPipe,
            None => cause = error.source(),
        }
    }
    false
}

/// Logs to the standard error: errors, and warnings of sources and sinks; or the levels in STRANDLINE_LOG or
/// RUST_LOG, for example `info` or `strandline_runtime=debug`.
fn start_log() {
    let variable = |name: &'static str| {
        let levels = std::env::var(name).ok().filter(|levels| !levels.is_empty())?;
        match levels.parse::<Targets>() {
            Ok(levels) => Some(levels),
            Err(e) => {
                print_error(format_args!("warning: {name}={levels:?} is ignored: {e}"));
                None
            }
        }
    };
    let levels = variable("STRANDLINE_LOG").or_else(|| variable("RUST_LOG")).unwrap_or_else(|| {
        Targets::new()
            .with_default(LevelFilter::ERROR)
            .with_target("strandline_connectors", LevelFilter::WARN)
    });
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(terminal::has_colors()).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(levels).init();
}
