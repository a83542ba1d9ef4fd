//! A job in a process of its own, which the demo can kill.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar};
use serde_json::Value;
use strandline_state_api::{Error, ErrorKind, Result};

use super::{PATIENCE, failed};

/// A running `strandline run job.toml`.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    spawned: Instant,
    /// The lines that it prints while it runs.
    lines: Receiver<String>,
    /// Reads the report at its end. That of a job with many checkpoints is longer than a pipe holds, so a
    /// thread has to read.
    report: Option<JoinHandle<Option<Value>>>,
}

/// A run as its events and its report describe it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// When it had restored its state, from the start of the process.
    pub(super) started: Option<Duration>,
    /// The checkpoint that it started from.
    pub(super) from: Option<u64>,
    /// Whether an earlier run had finished the job.
    pub(super) already_finished: bool,
    /// How many checkpoints it completed.
    pub(super) checkpoints: u64,
    /// The last of them.
    pub(super) last_checkpoint: Option<u64>,
    /// Orders that it read.
    pub(super) read: u64,
    /// How long it ran, by its own clock.
    pub(super) seconds: f64,
}

impl Seen {
    /// Orders per second, starting included.
    pub(super) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.read as f64 / self.seconds } else { 0.0 }
    }

    fn note(&mut self, event: &Value, now: Duration) {
        let number = |name: &str| event.get(name).and_then(Value::as_u64);
        match event.get("event").and_then(Value::as_str) {
            Some("started") => {
                self.started = Some(now);
                self.from = number("from");
            }
            Some("checkpoint") => {
                self.checkpoints += 1;
                self.last_checkpoint = number("id").or(self.last_checkpoint);
            }
            Some("progress") => {
                self.read = number("read").unwrap_or(self.read);
                self.seconds = event.get("seconds").and_then(Value::as_f64).unwrap_or(self.seconds);
            }
            _ => {}
        }
    }

    /// Takes over the report of the job.
    fn conclude(&mut self, report: &Value) {
        let number = |name: &str| report.get(name).and_then(Value::as_u64);
        let read = report.get("read").and_then(Value::as_object);
        self.read = read.map_or(self.read, |read| read.values().filter_map(Value::as_u64).sum());
        self.seconds = report.get("seconds").and_then(Value::as_f64).unwrap_or(self.seconds);
        self.already_finished = report.get("outcome").and_then(Value::as_str) == Some("already-finished");
        self.from = self.from.or_else(|| number("resumed_from"));
    }
}

/// When a run is killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kill {
    /// So long after the start of its process.
    After(Duration),
    /// When it has completed so many checkpoints, and so long after the last of them.
    AfterCheckpoints(u64, Duration),
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself, and well.
    Ended(Seen),
    /// By the demo.
    Killed(Seen),
}

impl End {
    /// The run.
    pub(super) fn seen(&self) -> &Seen {
        let (Self::Ended(seen) | Self::Killed(seen)) = self;
        seen
    }
}

impl Child {
    /// Starts the job file in `folder`.
    pub(super) fn start(folder: &Path, parallelism: u32, overrides: &[String]) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| failed("this program cannot be found", e))?;
        let mut command = Command::new(program);
        command.current_dir(folder).args(["run", "job.toml", "--progress=json", "--json"]);
        command.arg(format!("--parallelism={parallelism}"));
        command.args(overrides.iter().map(|text| format!("--set={text}")));
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawned = Instant::now();
        let mut process = command.spawn().map_err(|e| failed("the job cannot be started", e))?;
        let (sender, lines) = channel();
        if let Some(stderr) = process.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let report = process.stdout.take().map(|stdout| {
            std::thread::spawn(move || {
                let line = BufReader::new(stdout).lines().next()?.ok()?;
                serde_json::from_str(&line).ok()
            })
        });
        Ok(Self { process, spawned, lines, report })
    }

    /// Follows the job to its end, or kills it hard at the moment of `kill`.
    pub(super) fn watch(mut self, kill: Option<Kill>) -> Result<End> {
        let line = Line(ProgressBar::new_spinner());
        let mut seen = Seen::default();
        let (mut kill_after, wanted, delay) = match kill {
            None => (None, u64::MAX, Duration::ZERO),
            Some(Kill::After(after)) => (Some(after), u64::MAX, Duration::ZERO),
            Some(Kill::AfterCheckpoints(wanted, delay)) => (None, wanted, delay),
        };
        let mut messages = Vec::new();
        loop {
            let now = self.spawned.elapsed();
            if seen.checkpoints >= wanted {
                kill_after.get_or_insert(now + delay);
            }
            let left = kill_after.map(|after| after.saturating_sub(now));
            if left == Some(Duration::ZERO) {
                self.process.kill().map_err(|e| failed("the job cannot be killed", e))?;
                let status = self.process.wait().map_err(|e| failed("the job cannot be awaited", e))?;
                if !status.success() {
                    return Ok(End::Killed(seen));
                }
                // It ended by itself at the last moment.
                break;
            }
            match self.lines.recv_timeout(left.unwrap_or(PATIENCE).min(PATIENCE)) {
                Ok(line) => match serde_json::from_str::<Value>(&line) {
                    Ok(event) => seen.note(&event, self.spawned.elapsed()),
                    Err(_) => messages.push(line),
                },
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if left.is_some_and(|left| left < PATIENCE) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let message = format!("the job printed nothing for {} s", PATIENCE.as_secs());
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
            line.show(&seen);
        }
        let report = self.report.take().and_then(|reader| reader.join().ok().flatten());
        let status = self.process.wait().map_err(|e| failed("the job cannot be awaited", e))?;
        if !status.success() {
            let message = format!("the job failed with {status}");
            return Err(Error::new(ErrorKind::User, message).caused_by(messages.join("\n")));
        }
        if let Some(report) = report {
            seen.conclude(&report);
        }
        Ok(End::Ended(seen))
    }
}

/// Shows the progress of a run on a terminal until it ends.
struct Line(ProgressBar);

impl Line {
    fn show(&self, seen: &Seen) {
        let checkpoint = seen.last_checkpoint.map_or(String::new(), |id| format!(", checkpoint {id}"));
        self.0.set_message(format!("{} orders{checkpoint}", HumanCount(seen.read)));
        self.0.tick();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // No job outlives the demo, whatever failed. It may be dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_report_may_be_longer_than_a_pipe() {
        let mut command = Command::new("sh");
        command.args(["-c", r#"head -c 300000 /dev/zero | tr '\0' ' '; echo '{"read":{"orders":7}}'"#]);
        let End::Ended(seen) = Child::spawn(command).unwrap().watch(None).unwrap() else {
            panic!("it was killed");
        };
        assert_eq!(seen.read, 7);
    }
}
