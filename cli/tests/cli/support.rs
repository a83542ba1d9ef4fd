//! A folder with a job in it, and processes that run it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

/// Returns a new place whose name begins with `name` on the server that `STRANDLINE_TEST_S3` names.
#[cfg(feature = "s3")]
pub(crate) fn on_s3(name: &str) -> String {
    let uri = std::env::var("STRANDLINE_TEST_S3").unwrap();
    uri.replace("{}", &format!("{name}-{}", fastrand::u64(..)))
}

/// Scales the number of random cases by the variable STRANDLINE_CASES.
pub(crate) fn cases(base: u32) -> u32 {
    let times = std::env::var("STRANDLINE_CASES").ok().and_then(|times| times.parse::<u32>().ok());
    base * times.unwrap_or(1)
}

/// Counts the visits of each user in `sales.csv`: a job with state to look at.
pub(crate) const SALES: &str = r#"
name = "sales"
parallelism = 2
[checkpoint]
storage = "checkpoints"
interval = "1h"
[source]
type = "csv"
path = "sales.csv"
columns = ["shop", "user:int", "amount:int"]
[[step]]
id = "by-user"
key_by = "user"
aggregate = ["count as visits"]
[sink]
type = "discard"
"#;

/// A folder with the file `job.toml`.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new(job: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("job.toml", job);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.maker()(args)
    }

    /// What makes commands in this folder, for threads that outlive a borrow of it.
    pub(crate) fn maker(&self) -> impl Fn(&[&str]) -> Command + Send + 'static {
        let folder = self.0.path().to_owned();
        move |args| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
            command.current_dir(&folder).args(args).stdin(Stdio::null());
            command
        }
    }

    /// Runs `strandline` with these arguments to its end.
    pub(crate) fn strandline(&self, args: &[&str]) -> Ended {
        Ended(self.command(args).output().unwrap())
    }

    /// As [`strandline`](Self::strandline), with these bytes as standard input.
    pub(crate) fn piped(&self, args: &[&str], input: Vec<u8>) -> Ended {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        // A job that fails does not read all of it.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let ended = Ended(process.wait_with_output().unwrap());
        writer.join().unwrap();
        ended
    }

    /// Runs the job to its end and returns the JSON report. Panics where the job fails.
    pub(crate) fn run(&self, args: &[&str]) -> Value {
        let ended = self.strandline(&[&["run", "job.toml", "--json"], args].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        serde_json::from_str(ended.stdout().lines().last().unwrap()).unwrap()
    }

    /// Starts the job in the background.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let args = [&["run", "job.toml", "--json", "--progress=json"], args].concat();
        Running::start(self.command(&args))
    }

    /// All lines of the files in a folder of results, sorted. Panics where a file is not finished.
    pub(crate) fn results(&self, folder: &str) -> Vec<String> {
        let (lines, unfinished) = self.read(folder);
        assert!(unfinished.is_empty(), "{unfinished:?} were left behind");
        lines
    }

    /// All lines of the finished files in a folder of results, sorted.
    pub(crate) fn visible(&self, folder: &str) -> Vec<String> {
        self.read(folder).0
    }

    fn read(&self, folder: &str) -> (Vec<String>, Vec<String>) {
        let (mut lines, mut unfinished) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(self.path(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with("part-") {
                lines.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
            } else if name != ".part.owner" && !name.starts_with(".part.committing") {
                unfinished.push(name);
            }
        }
        lines.sort_unstable();
        (lines, unfinished)
    }
}

/// How a process ended.
pub(crate) struct Ended(Output);

impl Ended {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }
}

/// A job in the background; killed when dropped.
pub(crate) struct Running {
    process: Child,
    events: Box<dyn BufRead>,
}

impl Running {
    /// Starts a command that runs a job, with JSON as its report and its progress.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let events = BufReader::new(process.stderr.take().unwrap());
        Self { process, events: Box::new(events) }
    }

    /// The next event, `None` at the end of the process.
    pub(crate) fn event(&mut self) -> Option<Value> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.events.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Ok(event) = serde_json::from_str(&line) {
                return Some(event);
            }
        }
    }

    /// Waits for the first event that is like this.
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        std::iter::from_fn(|| self.event())
            .find(wanted)
            .unwrap_or_else(|| panic!("the job ended before {what}"))
    }

    /// Waits until `count` more checkpoints are complete; the number of the last one.
    pub(crate) fn wait_for_checkpoints(&mut self, count: usize) -> u64 {
        let last =
            (0..count).map(|_| self.wait_for("a checkpoint", |event| event["event"] == "checkpoint")).last();
        last.map_or(0, |event| event["id"].as_u64().unwrap())
    }

    /// SIGKILL at this moment.
    pub(crate) fn kill_at(self, moment: Instant) {
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        self.kill();
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGINT, as Ctrl-C sends it.
    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    /// SIGSTOP at this moment: the process does nothing until it [goes on](Self::go_on).
    pub(crate) fn stop_at(&self, moment: Instant) {
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end: exit code and report.
    pub(crate) fn end(mut self) -> (i32, Value) {
        // The report of a job with many checkpoints is longer than a pipe holds, so it is read beside the
        // events.
        let mut stdout = self.process.stdout.take().unwrap();
        let report = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        while self.event().is_some() {}
        let text = report.join().unwrap();
        let status = self.process.wait().unwrap();
        let report = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        (status.code().unwrap_or(-1), report)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Orders with times up to `LATENESS` out of order, and what they sum up to for each user and window.
pub(crate) struct Orders {
    pub(crate) csv: String,
    pub(crate) sums: Vec<String>,
}

/// How late an order may come, in milliseconds.
pub(crate) const LATENESS: i64 = 5_000;
/// The size of windows in milliseconds.
pub(crate) const WINDOW: i64 = 10_000;

impl Orders {
    pub(crate) fn new(count: i64, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut csv = String::from("time,user,amount\n");
        let mut sums: BTreeMap<(i64, i64), (u64, i64, i64)> = BTreeMap::new();
        for i in 0..count {
            let time = LATENESS + i * 7 - random.i64(0..LATENESS);
            let (user, amount) = (random.i64(0..40), random.i64(-20..200));
            csv += &format!("{time},u{user},{amount}\n");
            if amount > 0 {
                let sum = sums.entry((user, time - time.rem_euclid(WINDOW))).or_insert((0, 0, i64::MIN));
                *sum = (sum.0 + 1, sum.1 + amount, sum.2.max(amount));
            }
        }
        let line = |((user, start), (count, sum, max)): (&(i64, i64), &(u64, i64, i64))| {
            format!("u{user},{start},{},{count},{sum},{max}", start + WINDOW)
        };
        let mut sums: Vec<_> = sums.iter().map(line).collect();
        sums.sort_unstable();
        Self { csv, sums }
    }
}

/// Sums the orders in `orders.csv`.
pub(crate) const ORDERS_JOB: &str = r#"
name = "orders"
parallelism = 2
[checkpoint]
storage = "checkpoints"
interval = "50ms"
[source]
type = "csv"
path = "orders.csv"
split_size = "64 KiB"
columns = ["time:int", "user", "amount:int"]
event_time = "time"
watermark_delay = "5s"
[[step]]
filter = "amount > 0"
[[step]]
key_by = "user"
window = "10s"
aggregate = ["count", "sum(amount)", "max(amount)"]
[sink]
type = "csv"
path = "results"
"#;

/// Compares results; the panic lists only the differences.
#[track_caller]
pub(crate) fn assert_same(found: &[String], wanted: &[String], when: &str) {
    let without = |a: &[String], b: &[String]| {
        let b: HashSet<_> = b.iter().collect();
        a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>()
    };
    let (missing, surplus) = (without(wanted, found), without(found, wanted));
    let shown = |lines: &[String]| lines.iter().take(5).cloned().collect::<Vec<_>>().join("  ");
    assert!(
        found == wanted,
        "{when}: {} of {} results; {} missing: {}; {} surplus: {}",
        found.len(),
        wanted.len(),
        missing.len(),
        shown(&missing),
        surplus.len(),
        shown(&surplus)
    );
}
