//! A job in a process of its own, which can be killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use indicatif::{HumanCount, ProgressBar};
use serde_json::Value;
use strandline_state_api::{Error, ErrorKind, Result};

use super::{PATIENCE, failed};

/// A running `strandline run job.toml`.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    lines: Receiver<String>,
}

/// What was seen of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The checkpoint that it started from.
    pub(super) from: Option<u64>,
    /// How many checkpoints it completed.
    pub(super) checkpoints: u64,
    /// The last of them.
    pub(super) last_checkpoint: Option<u64>,
    /// Orders that it read.
    pub(super) read: u64,
    seconds: f64,
}

impl Seen {
    /// Orders per second, starting included.
    pub(super) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.read as f64 / self.seconds } else { 0.0 }
    }

    fn note(&mut self, event: &Value) {
        let number = |name: &str| event.get(name).and_then(Value::as_u64);
        match event.get("event").and_then(Value::as_str) {
            Some("started") => self.from = number("from"),
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
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself, and well.
    Ended(Seen),
    /// By us.
    Killed(Seen),
}

impl Child {
    /// Starts the job file in `folder`.
    pub(super) fn start(folder: &Path, parallelism: u32, overrides: &[String]) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| failed("this program cannot be found", e))?;
        let mut command = Command::new(program);
        command.current_dir(folder).args(["run", "job.toml", "--progress=json", "--json"]);
        command.arg(format!("--parallelism={parallelism}"));
        command.args(overrides.iter().map(|text| format!("--set={text}")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
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
        Ok(Self { process, lines })
    }

    /// Follows the job to its end, or kills it hard as soon as `enough` says so.
    pub(super) fn watch(mut self, enough: impl Fn(&Seen) -> bool) -> Result<End> {
        let line = Line(ProgressBar::new_spinner());
        let mut seen = Seen::default();
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => match serde_json::from_str::<Value>(&line) {
                    Ok(event) => seen.note(&event),
                    Err(_) => said.push(line),
                },
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let message = format!("the job gave no sign of life for {} s", PATIENCE.as_secs());
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
            line.show(&seen);
            if enough(&seen) {
                self.process.kill().map_err(|e| failed("the job cannot be killed", e))?;
                let status = self.process.wait().map_err(|e| failed("the job cannot be awaited", e))?;
                // It may have ended by itself in the last moment.
                return Ok(if status.success() { End::Ended(seen) } else { End::Killed(seen) });
            }
        }
        let report = self.process.stdout.take().and_then(|out| {
            let line = BufReader::new(out).lines().next()?.ok()?;
            serde_json::from_str::<Value>(&line).ok()
        });
        let status = self.process.wait().map_err(|e| failed("the job cannot be awaited", e))?;
        if !status.success() {
            let said = said.join("\n");
            return Err(Error::new(ErrorKind::User, format!("the job failed with {status}")).caused_by(said));
        }
        if let Some(report) = report {
            let read = report.get("read").and_then(Value::as_object);
            seen.read = read.map_or(seen.read, |read| read.values().filter_map(Value::as_u64).sum());
            seen.seconds = report.get("seconds").and_then(Value::as_f64).unwrap_or(seen.seconds);
        }
        Ok(End::Ended(seen))
    }
}

/// Shows on a terminal how a run comes along, and goes when it ends.
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
        // Whatever went wrong, no job stays behind. It may be dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
