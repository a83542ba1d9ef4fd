//! `strandline demo`: proves the main promise in a few seconds.
//!
//! It writes a day of orders, runs a job that sums them up, then runs the same job again, kills it hard in
//! mid-stream, resumes it, kills it again, changes its parallelism, and compares the results record by
//! record.

mod child;
mod compare;
mod kills;
mod orders;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount};
use strandline_state_api::{Error, ErrorKind, Result};

use crate::Failure;
use crate::cli::DemoArgs;
use child::{Child, End};

/// The job: sums for each user and minute, and how much each user has ordered until then.
const JOB: &str = r#"# The job of `strandline demo`: what each user ordered in each minute, and in all.
name = "orders"
parallelism = 2

[checkpoint]
storage = "checkpoints"
interval = "100ms"
retained = 3

[source]
type = "csv"
path = "orders"
columns = ["time:int", "user:int", "amount:int"]
event_time = "time"
watermark_delay = "5s"   # orders come up to 5 s late

[[step]]
filter = "amount > 0"

[[step]]
name = "minutes"
key_by = "user"
window = "1m"
aggregate = ["count as orders", "sum(amount) as total", "max(amount) as largest"]

[[step]]
name = "users"
key_by = "user"
aggregate = "sum(orders) as orders"

[[sink]]
name = "by-minute"
from = "minutes"
type = "csv"
path = "results/minutes"

[[sink]]
name = "by-user"
from = "users"
type = "csv"
path = "results/users"
"#;

/// The sinks, and the directories that they have in that of the results.
const SINKS: [(&str, &str); 2] = [("by-minute", "minutes"), ("by-user", "users")];

/// The parallelism of the undisturbed run.
const PARALLELISM: u32 = 2;

pub(crate) fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let work_dir = WorkDir::new(args)?;
    let folder = work_dir.path();
    print_line!(
        "strandline demo: {} orders, summed for each user and minute of event time",
        HumanCount(args.records)
    );
    print_line!("in {}\n", folder.display());
    let equal = prove(args, folder)?;
    print_line!("");
    if work_dir.is_kept() {
        print_line!("Kept: {}/job.toml with its input, results and checkpoints.", folder.display());
    } else {
        print_line!(
            "Removed its files; `--dir DIR` keeps them to look around, `--keep` leaves them in place."
        );
    }
    if equal { Ok(()) } else { Err(Failure::Shown) }
}

/// Runs the demo; returns whether the results are equal.
fn prove(args: &DemoArgs, folder: &Path) -> Result<bool> {
    let started = Instant::now();
    let input = orders::write(&folder.join("orders"), args.records)?;
    let (files, bytes) = (input.files, HumanBytes(input.bytes));
    step("input", &format!("{files} CSV files, {bytes}, orders up to 5 s out of order"), started);

    fs::write(folder.join("job.toml"), JOB).map_err(|e| failed("the job file cannot be written", e))?;
    let started = Instant::now();
    let paths = SINKS.map(|(sink, of)| format!("sink.{sink}.path=expected/{of}"));
    let without = "checkpoint.enabled=false".to_owned();
    let overrides = paths.into_iter().chain([without]).chain(state(args)).collect::<Vec<_>>();
    let reference = match Child::start(folder, PARALLELISM, &overrides)?.watch(None)? {
        End::Ended(seen) | End::Killed(seen) => seen,
    };
    let rate = HumanCount(reference.rate() as u64);
    step("undisturbed", &format!("parallelism {PARALLELISM}, {rate} orders/s"), started);

    print_line!("");
    let disturbed = kills::disturbed(args, folder, reference.started.unwrap_or_default())?;
    print_line!("");

    let started = Instant::now();
    let found =
        compare::compare(&folder.join("expected"), &folder.join("results"), &SINKS.map(|(_, of)| of))?;
    let results = HumanCount(found.expected);
    if found.is_equal() {
        step("compared", &format!("{results} results, the same in both, each exactly once"), started);
        print_line!("\nThe killed job gave the result of the undisturbed one:\n{disturbed}.");
    } else {
        step("compared", &format!("NOT EQUAL: {found}"), started);
    }
    Ok(found.is_equal())
}

/// The state backend of the command line, as overrides of the job file.
fn state(args: &DemoArgs) -> Vec<String> {
    match args.backend.as_str() {
        "memory" => Vec::new(),
        name => vec![format!("state.backend={name}"), "state.directory=state".into()],
    }
}

/// Prints a line: the step, its result, and how long it took.
fn step(what: &str, how: &str, started: Instant) {
    print_line!("  {what:<12} {how:<82} {:>6}", crate::report::seconds(started.elapsed()));
}

/// The directory of the demo.
#[derive(Debug)]
enum WorkDir {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl WorkDir {
    fn new(args: &DemoArgs) -> Result<Self, Failure> {
        let Some(path) = &args.dir else {
            let folder = tempfile::Builder::new().prefix("strandline-demo-").tempdir();
            let folder = folder.map_err(|e| failed("no temporary directory can be made", e))?;
            return Ok(if args.keep { Self::Kept(folder.keep()) } else { Self::Temporary(folder) });
        };
        fs::create_dir_all(path).map_err(|e| failed("the directory cannot be made", e))?;
        let mut entries = fs::read_dir(path).map_err(|e| failed("the directory cannot be read", e))?;
        if entries.next().is_some() {
            let text = format!("error: {} is not empty; choose a new directory\n", path.display());
            return Err(Failure::Usage(text));
        }
        let path = path.canonicalize().map_err(|e| failed("the directory cannot be read", e))?;
        Ok(Self::Kept(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }
}

/// How long a child may print nothing.
const PATIENCE: Duration = Duration::from_secs(60);

fn failed(message: &str, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unavailable, message).caused_by(e)
}
