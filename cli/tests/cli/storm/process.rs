//! A process of a storm. Its output is read at once, also while nobody asks for it.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Folder;

/// No job needs as long, on any machine: whoever does is stuck.
const STUCK: Duration = Duration::from_secs(900);
/// How many of the last lines of its standard error a failure shows.
const SHOWN: usize = 12;

/// A job in the background; killed when dropped.
pub(super) struct Process {
    child: Child,
    /// Sends a unit for each checkpoint, and closes with the process.
    checkpoints: Receiver<()>,
    readers: Option<(JoinHandle<String>, JoinHandle<Vec<String>>)>,
}

impl Process {
    pub(super) fn start(folder: &Folder, args: &[String]) -> Self {
        let mut command = folder.command(&["run", "job.toml", "--json", "--progress=json"]);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let report = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        });
        let (sender, checkpoints) = channel();
        let events = std::thread::spawn(move || {
            let mut last = Vec::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                match event["event"].as_str() {
                    Some("checkpoint") => drop(sender.send(())),
                    Some("progress") => {}
                    _ => last.push(line),
                }
                if last.len() > SHOWN {
                    last.remove(0);
                }
            }
            last
        });
        Self { child, checkpoints, readers: Some((report, events)) }
    }

    /// Waits until so many more checkpoints are complete.
    pub(super) fn wait_for_checkpoints(&self, count: usize) {
        for _ in 0..count {
            let completed = self.checkpoints.recv_timeout(STUCK);
            assert!(completed.is_ok(), "the job ended before a checkpoint, or is stuck: {completed:?}");
        }
    }

    /// Waits for a moment; returns at once, and true, when the process ends before.
    pub(super) fn ended_before(&self, moment: Instant) -> bool {
        loop {
            match self.checkpoints.recv_timeout(moment.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    /// SIGKILL, unless it has ended before: then how.
    pub(super) fn kill(mut self) -> Option<Ending> {
        if self.child.try_wait().unwrap().is_some() {
            return Some(self.end());
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        None
    }

    /// Sends a signal to one that has not been waited for.
    pub(super) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end. One that does not come to it is stuck.
    pub(super) fn end(mut self) -> Ending {
        let stuck = !self.ended_before(Instant::now() + STUCK);
        if stuck {
            self.child.kill().unwrap();
        }
        let status = self.child.wait().unwrap();
        let (report, events) = self.readers.take().unwrap();
        let (report, stderr) = (report.join().unwrap(), events.join().unwrap());
        let report = report.lines().last().and_then(|line| serde_json::from_str(line).ok());
        let code = if stuck { -2 } else { status.code().unwrap_or(-1) };
        Ending { code, report: report.unwrap_or_default(), stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process ended.
pub(super) struct Ending {
    /// Its exit code; -1 for one that was killed, -2 for one that was stuck.
    pub(super) code: i32,
    report: Value,
    stderr: Vec<String>,
}

impl Ending {
    pub(super) fn outcome(&self) -> Option<&str> {
        self.report["outcome"].as_str()
    }

    /// Whether another process had taken over.
    pub(super) fn is_fenced(&self) -> bool {
        let error = self.report["error"].as_str();
        self.code == 1 && error.is_some_and(|error| error.contains("has taken over this storage"))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, report, stderr } = self;
        let (outcome, error) = (&report["outcome"], &report["error"]);
        write!(
            f,
            "exit code {code}, outcome {outcome}, error {error}; the last lines:\n{}",
            stderr.join("\n")
        )
    }
}
