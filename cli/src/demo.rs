//! `strandline demo`: proves the main promise in a few seconds.
//!
//! It writes a day of orders, runs a job that sums them up, then runs the same job again, kills it hard in
//! mid-stream, resumes it, kills it again, changes its parallelism, and compares the results record by
//! record.

mod child;
mod compare;
mod orders;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount};
use strandline_state_api::{Error, ErrorKind, Result};

use crate::Failure;
use crate::cli::DemoArgs;
use child::{Child, End};

/// The job: sums for each user and minute.
const JOB: &str = r#"# The job of `strandline demo`: what each user ordered in each minute.
name = "orders"
parallelism = 2

[checkpoint]
storage = "checkpoints"
interval = "100ms"
retained = 3

[source]
type = "csv"
path = "orders"
columns = ["time:int", "user", "amount:int"]
event_time = "time"
watermark_delay = "5s"   # orders come up to 5 s late

[[step]]
filter = "amount > 0"

[[step]]
key_by = "user"
window = "1m"
aggregate = ["count as orders", "sum(amount) as total", "max(amount) as largest"]

[sink]
type = "csv"
path = "results"
"#;

/// A kill comes within the start of a run and this time, three intervals of checkpoints: so some runs die
/// before their first checkpoint.
const KILLED_WITHIN: Duration = Duration::from_millis(300);

/// The parallelism of each run in turn.
const PARALLELISM: [u32; 4] = [2, 2, 3, 1];

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
    let overrides = ["sink.path=expected", "checkpoint.enabled=false"].map(String::from);
    let overrides = overrides.into_iter().chain(state(args)).collect::<Vec<_>>();
    let reference = match Child::start(folder, PARALLELISM[0], &overrides)?.watch(None)? {
        End::Ended(seen) | End::Killed(seen) => seen,
    };
    let rate = HumanCount(reference.rate() as u64);
    step("undisturbed", &format!("parallelism {}, {rate} orders/s", PARALLELISM[0]), started);

    print_line!("");
    let start_up = reference.started.unwrap_or_default();
    let attempts = disturbed(args, folder, start_up)?;
    print_line!("");

    let started = Instant::now();
    let found = compare::compare(&folder.join("expected"), &folder.join("results"))?;
    let results = HumanCount(found.expected);
    if found.is_equal() {
        step("compared", &format!("{results} results, the same in both, each exactly once"), started);
        print_line!(
            "\nThe killed job gave the result of the undisturbed one: {} kills, {} changes of parallelism, \
             {} checkpoints.",
            attempts.kills,
            attempts.rescales,
            attempts.checkpoints
        );
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

/// The runs that were killed, summed up.
#[derive(Debug, Default)]
struct Attempts {
    kills: u32,
    rescales: u32,
    checkpoints: u64,
}

/// Runs the job, kills it `args.kills` times, each at any moment of its start and of the time after it, and
/// lets the last run finish. `start_up` is how long the start of the undisturbed run took.
fn disturbed(args: &DemoArgs, folder: &Path, mut start_up: Duration) -> Result<Attempts> {
    let mut random = fastrand::Rng::with_seed(args.records);
    // So slow that the input lasts for all kills, however fast the machine is and however little each run
    // completes.
    let seconds = ((start_up + KILLED_WITHIN) * args.kills * 2).max(Duration::from_secs(5)).as_secs_f64();
    let rate = (args.records as f64 / seconds).max(1.0) as u64;
    let slow = format!("source.rate={rate}");
    let mut attempts = Attempts::default();
    let mut before = PARALLELISM[0];
    for run in 1u32.. {
        let last = attempts.kills == args.kills;
        let parallelism = PARALLELISM[(run as usize - 1) % PARALLELISM.len()];
        attempts.rescales += u32::from(parallelism != before);
        before = parallelism;
        let started = Instant::now();
        let overrides: Vec<_> = state(args).into_iter().chain((!last).then(|| slow.clone())).collect();
        let child = Child::start(folder, parallelism, &overrides)?;
        let kill_after = (start_up + KILLED_WITHIN).mul_f64(random.f64());
        let end = child.watch((!last).then_some(kill_after))?;
        // A start that restores takes longer, and the machine may have become slower; without this no run
        // would get far.
        start_up = start_up.max(end.seen().started.unwrap_or(kill_after));
        step(&format!("run {run}"), &format!("parallelism {parallelism}{}", describe(&end)), started);
        attempts.checkpoints += end.seen().checkpoints;
        match end {
            End::Ended(_) => break,
            End::Killed(_) => attempts.kills += 1,
        }
    }
    Ok(attempts)
}

/// Describes a run for a person.
fn describe(end: &End) -> String {
    let seen = end.seen();
    if seen.already_finished {
        return match seen.from {
            Some(id) => format!(": had finished before, with checkpoint {id}"),
            None => ": had finished before".to_owned(),
        };
    }
    let from = match (seen.started, seen.from) {
        (None, _) => String::new(),
        (Some(_), Some(id)) => format!(", from checkpoint {id}"),
        (Some(_), None) => ", from the beginning".to_owned(),
    };
    let read = HumanCount(seen.read);
    let end = match (end, seen.started, seen.last_checkpoint) {
        (End::Ended(_), ..) => format!("read {read} more orders and finished"),
        (End::Killed(_), None, _) => "killed before it had started".to_owned(),
        (End::Killed(_), _, Some(id)) => format!("killed after {read} orders and checkpoint {id}"),
        (End::Killed(_), _, None) => format!("killed after {read} orders"),
    };
    format!("{from}: {end}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use child::Seen;

    #[test]
    fn a_run_is_described_as_it_went() {
        let started = Some(Duration::ZERO);
        let run = |seen: Seen| (describe(&End::Killed(seen.clone())), describe(&End::Ended(seen)));
        let early = run(Seen::default()).0;
        assert_eq!(early, ": killed before it had started");
        let (killed, ended) = run(Seen { started, read: 1_000, ..Seen::default() });
        assert_eq!(killed, ", from the beginning: killed after 1,000 orders");
        assert_eq!(ended, ", from the beginning: read 1,000 more orders and finished");
        let resumed = Seen { started, from: Some(3), last_checkpoint: Some(5), read: 7, ..Seen::default() };
        let (killed, ended) = run(resumed);
        assert_eq!(killed, ", from checkpoint 3: killed after 7 orders and checkpoint 5");
        assert_eq!(ended, ", from checkpoint 3: read 7 more orders and finished");
        let finished = Seen { already_finished: true, from: Some(9), ..Seen::default() };
        assert_eq!(run(finished).1, ": had finished before, with checkpoint 9");
    }
}
