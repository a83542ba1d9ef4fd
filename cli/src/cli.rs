//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use strandline_runtime::{JobConfig, StartFrom};
use strandline_state_api::{CheckpointId, OperatorId};
use strandline_state_reader::At;

use crate::manual;

/// Streaming jobs that survive.
///
/// Exit codes: 0 finished or stopped gracefully, 1 failed, 2 a mistake in the command line or the job file,
/// 130 cut off by a second Ctrl-C, 141 the reader of the output has gone.
#[derive(Debug, Parser)]
#[command(name = "strandline", version, after_long_help = manual::environment())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a job; resumes it from its newest checkpoint if there is one.
    Run(RunArgs),
    /// Kills a job hard in mid-stream a few times, and shows that its results are still exact.
    Demo(DemoArgs),
    /// Inspects the checkpoints of a job.
    Checkpoints(CheckpointsArgs),
    /// Shows the state in a checkpoint: which states there are, and their entries.
    State(StateArgs),
    /// Queries the state in checkpoints in SQL: states, timers and operator states as tables, and what
    /// describes checkpoints.
    #[cfg_attr(not(feature = "sql"), doc = "NOT BUILT IN: this program was built without `--features sql`.")]
    Sql(SqlArgs),
    /// Checks a job without running it: lists all mistakes of its file, and opens its input, its checkpoint
    /// storage and its output. Changes nothing.
    Check(CheckArgs),
    /// Prints the operators and states of a job as JSON, for `checkpoints compat`; or the keys of all job
    /// files.
    Schema(SchemaArgs),
    /// Prints the completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Writes manual pages.
    Man {
        /// The directory for them; it is created where it is missing.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

impl Command {
    /// Whether whoever started it reads JSON.
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Self::Run(args) => args.json,
            Self::Check(args) => args.json,
            Self::Checkpoints(args) => args.json,
            Self::State(_) | Self::Sql(_) => false,
            Self::Demo(_) | Self::Schema(_) | Self::Completions { .. } | Self::Man { .. } => false,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// The job file.
    #[arg(value_name = "JOB.toml")]
    pub(crate) job: PathBuf,
    /// As for `run`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// As for `run`.
    #[arg(long, value_name = "NAME")]
    pub(crate) adopt: Option<String>,
    /// Prints one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[group(id = "what", required = true, multiple = false)]
pub(crate) struct SchemaArgs {
    /// The job file.
    #[arg(value_name = "JOB.toml", group = "what")]
    pub(crate) job: Option<PathBuf>,
    /// Prints the JSON Schema of job files, for editors.
    #[arg(long, group = "what")]
    pub(crate) editor: bool,
    /// Prints all sections and keys of job files as Markdown.
    #[arg(long, group = "what")]
    pub(crate) reference: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The job file.
    #[arg(value_name = "JOB.toml")]
    pub(crate) job: PathBuf,
    /// Where to start: `latest` (an error when there is no checkpoint), the number of a checkpoint, or `none`
    /// for a new job. Without this: the newest checkpoint that verifies, or a new job when there is none.
    #[arg(long, value_name = "latest|ID|none")]
    pub(crate) from: Option<From>,
    /// Overrides the parallelism of the job file; any number restores any checkpoint.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(JobConfig::MAX_PARALLELISM))
    )]
    pub(crate) parallelism: Option<u32>,
    /// Runs the job on timely dataflow, in N processes of this machine: this one, and others that it starts, and
    /// starts again where they die. The parallelism is the number of their workers.
    #[cfg_attr(
        not(feature = "timely"),
        doc = "NOT BUILT IN: this program was built without `--features timely`."
    )]
    #[arg(long, value_name = "N", conflicts_with_all = ["parallelism", "serve"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=128))]
    pub(crate) processes: Option<u32>,
    /// How many workers each process has; 1 without this.
    #[arg(long, value_name = "N", requires = "processes")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=128))]
    pub(crate) workers: Option<u32>,
    /// Runs the job on timely dataflow, on the hosts in this file: the same command is started on each of them, with
    /// its own `--host`. All of them open the same input, output and checkpoint storage.
    #[cfg_attr(
        not(feature = "timely"),
        doc = "NOT BUILT IN: this program was built without `--features timely`."
    )]
    #[arg(long, value_name = "HOSTS.toml", conflicts_with_all = ["parallelism", "processes", "serve"])]
    pub(crate) hosts: Option<PathBuf>,
    /// Which of the hosts this is. The first one in the file coordinates, shows the progress and stops the job.
    #[arg(long, value_name = "NAME", requires = "hosts")]
    pub(crate) host: Option<String>,
    /// Prints one JSON object about the run to the standard output at its end; also where the job file has
    /// mistakes.
    #[arg(long)]
    pub(crate) json: bool,
    /// Overrides a value of the job file, for example `--set checkpoint.interval=1s`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Starts although the checkpoint has this and the job does not: an operator, whose state is dropped, or
    /// `operator/state`, which is kept as it is. May be given several times.
    #[arg(long = "allow-orphan", value_name = "NAME")]
    pub(crate) allow_orphans: Vec<String>,
    /// Restores into the operator NEW what the checkpoint has under the id OLD. May be given several times.
    #[arg(long = "renamed", value_name = "OLD=NEW", value_parser = rename)]
    pub(crate) renamed: Vec<(OperatorId, OperatorId)>,
    /// Takes over the checkpoints and the results of the job NAME: of a job that had another name before, or
    /// of this one where its checkpoint storage was moved. Without this, what belongs to another job is
    /// refused.
    #[arg(long, value_name = "NAME")]
    pub(crate) adopt: Option<String>,
    /// Serves the state of the running job at this address, for `strandline sql http://ADDRESS`. Port 0 chooses one.
    /// Any address but a loopback one needs a token, in the variable STRANDLINE_TOKEN.
    #[cfg_attr(not(feature = "sql"), doc = "NOT BUILT IN: this program was built without `--features sql`.")]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) serve: Option<SocketAddr>,
    /// How to show progress on the standard error.
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto)]
    pub(crate) progress: ProgressMode,
}

fn rename(text: &str) -> Result<(OperatorId, OperatorId), String> {
    let (old, new) = text.split_once('=').ok_or("expected OLD=NEW")?;
    let id = |id: &str| OperatorId::new(id).map_err(|error| error.to_string());
    Ok((id(old)?, id(new)?))
}

/// How to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A line that changes on a terminal, plain lines elsewhere.
    Auto,
    /// A plain line every few seconds.
    Plain,
    /// Each event as a JSON object on a line of its own.
    Json,
    /// Only problems.
    None,
}

/// Where a run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct From(pub(crate) StartFrom);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self(StartFrom::Latest)),
            "none" => Ok(Self(StartFrom::Fresh)),
            id => match id.parse() {
                Ok(id) => Ok(Self(StartFrom::Checkpoint(CheckpointId(id)))),
                Err(_) => Err("expected `latest`, the number of a checkpoint, or `none`".into()),
            },
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// How many records to make.
    #[arg(long, value_name = "N", default_value_t = 3_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1_000..))]
    pub(crate) records: u64,
    /// How often to kill the job.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) kills: u32,
    /// The state backend: `memory`, or `rocksdb` where this program was built with it.
    #[arg(long, value_name = "NAME", default_value = "memory")]
    pub(crate) backend: String,
    /// Works in this directory (which must be new or empty) and keeps it. Without this: in a temporary one.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Keeps the temporary directory.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CheckpointsArgs {
    /// Prints one JSON object.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: CheckpointsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointsCommand {
    /// Lists the checkpoints that exist, oldest first, and what each grew from. One marked with `*` is no
    /// past of the newest: a job starts from it only when its number is given.
    List(StorageArgs),
    /// Reads a whole checkpoint and compares every file with its hash.
    Verify {
        #[command(flatten)]
        storage: StorageArgs,
        /// Which checkpoint; all of them unless given.
        id: Option<u64>,
    },
    /// Lists what a new version of the job would do with every operator and state of a checkpoint, and fails
    /// when it would refuse the checkpoint.
    Compat {
        #[command(flatten)]
        storage: StorageArgs,
        /// The new version: a job file, or the schema of a program in JSON (`Pipeline::schema`).
        #[arg(value_name = "SCHEMA")]
        schema: PathBuf,
        /// Which checkpoint; the newest unless given.
        #[arg(long, value_name = "ID")]
        id: Option<u64>,
        /// As for `run`.
        #[arg(long = "allow-orphan", value_name = "NAME")]
        allow_orphans: Vec<String>,
        /// As for `run`.
        #[arg(long = "renamed", value_name = "OLD=NEW", value_parser = rename)]
        renamed: Vec<(OperatorId, OperatorId)>,
    },
    /// Removes a savepoint, also of a running job. The next sweep deletes its files.
    Remove {
        #[command(flatten)]
        storage: StorageArgs,
        /// The savepoint.
        id: u64,
    },
    /// Deletes the files that no retained checkpoint needs.
    Sweep {
        #[command(flatten)]
        storage: StorageArgs,
        /// Only lists what it would delete.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    pub(crate) command: StateCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Lists the keyed states, timers and operator states of a checkpoint, with their types and sizes.
    Ls {
        #[command(flatten)]
        from: CheckpointArgs,
        /// How to print them.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Prints the entries of one key. Reads only the blocks that may hold it.
    Get {
        #[command(flatten)]
        from: CheckpointArgs,
        /// The state: `operator/state`, or a name that only one has.
        #[arg(value_name = "OPERATOR/STATE")]
        state: String,
        /// The key, as `scan` prints it; several columns as JSON, for example `["a",7]`.
        #[arg(value_name = "KEY", allow_hyphen_values = true)]
        key: String,
        /// How to print them.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Prints the entries of a state, in the order of their key groups and keys.
    Scan {
        #[command(flatten)]
        from: CheckpointArgs,
        /// As for `get`; also the name of an operator state.
        #[arg(value_name = "OPERATOR/STATE")]
        state: String,
        /// Ends after so many rows.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Prints keys without values, which are not even decoded.
        #[arg(long)]
        keys: bool,
        /// How to print them.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
}

#[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "nothing reads them without the feature"))]
#[derive(Args, Debug)]
pub(crate) struct SqlArgs {
    /// The storage of the checkpoints, a path or `file:///…`; a job file, whose storage it is then; or the URL of a
    /// running job, whose state is looked at live: http://ADDRESS:PORT.
    #[arg(value_name = "STORAGE|JOB.toml|URL")]
    pub(crate) from: String,
    /// The statements, with `;` between them. Without this and `--file`: a prompt on a terminal, and
    /// elsewhere the statements of the standard input.
    #[arg(value_name = "QUERY", conflicts_with = "file")]
    pub(crate) query: Option<String>,
    /// Reads the statements from a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Which checkpoint the tables are of: the newest without this.
    #[arg(long, value_name = "latest|ID", value_parser = checkpoint)]
    pub(crate) checkpoint: Option<At>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = SqlFormat::Table)]
    pub(crate) format: SqlFormat,
}

/// How the results of queries are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SqlFormat {
    /// Columns for people.
    Table,
    /// CSV with a header.
    Csv,
    /// A JSON object on a line of its own for each row.
    Json,
    /// A stream of Arrow's IPC format.
    Arrow,
    /// A Parquet file, of the one statement that has rows.
    Parquet,
}

#[derive(Args, Debug)]
pub(crate) struct CheckpointArgs {
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Which checkpoint.
    #[arg(long, value_name = "latest|ID", default_value = "latest", value_parser = checkpoint)]
    pub(crate) checkpoint: At,
}

fn checkpoint(text: &str) -> Result<At, String> {
    text.parse().map_err(|_| "expected `latest` or the number of a checkpoint".to_owned())
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// CSV with a header.
    Csv,
    /// A JSON object on a line of its own for each row.
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct StorageArgs {
    /// The storage of the checkpoints: a path or `file:///…`.
    #[arg(value_name = "STORAGE")]
    pub(crate) uri: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn starting_points_are_understood() {
        let parse = |text: &str| text.parse::<From>().map(|from| from.0);
        assert_eq!(parse("latest"), Ok(StartFrom::Latest));
        assert_eq!(parse("17"), Ok(StartFrom::Checkpoint(CheckpointId(17))));
        assert_eq!(parse("none"), Ok(StartFrom::Fresh));
        assert!(parse("newest").is_err());
    }
}
