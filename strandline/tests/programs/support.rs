//! Programs in processes of their own, and the storages that they use.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::{counting, words};

/// What begins a line of a program for its test; the test harness around it prints others.
const MARK: &str = "program: ";

/// A running program; killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts the program of this name in `dir`, with its checkpoints in `storage`.
    pub(crate) fn start(name: &str, dir: &Path, storage: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "support::program", "--ignored", "--nocapture"]).current_dir(dir);
        command.env("STRANDLINE_PROGRAM", name).env("STRANDLINE_STORAGE", storage);
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it prints for its test; `None` at its end.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix(MARK).map(str::to_owned))
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn end(mut self) {
        while self.line().is_some() {}
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints a line for the test. A test that has gone does not matter.
pub(crate) fn tell(line: impl std::fmt::Display) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{MARK}{line}").and_then(|()| out.flush());
}

/// The body of a child process.
#[test]
#[ignore = "the body of the processes that other tests start"]
fn program() {
    let storage = std::env::var("STRANDLINE_STORAGE").unwrap_or_default();
    match std::env::var("STRANDLINE_PROGRAM").unwrap_or_default().as_str() {
        "counting" => counting::program(&storage).unwrap(),
        "words" => words::program(&storage).unwrap(),
        _ => {}
    }
}

/// A new prefix on the server that `make s3` starts.
#[cfg(feature = "s3")]
pub(crate) fn s3_storage(dir: &Path) -> String {
    let name = format!("{}-{}", dir.file_name().unwrap().display(), std::process::id());
    std::env::var("STRANDLINE_TEST_S3").unwrap().replace("{}", &name)
}
