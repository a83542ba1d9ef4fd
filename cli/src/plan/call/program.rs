//! A program that answers calls on its standard input with lines on its standard output.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use strandline_connectors::{
    BadRecord, Column, ColumnType, Decode as _, JsonLines, JsonRows, Row, RowKey, Value, WriteRecords as _,
};
use strandline_operators::calls::{Call, Replier};
use strandline_state_api::{Batch, Error, ErrorKind, Result};

use crate::jobfile::{ERROR, NUMBER, Program};

/// The longest line that is taken for a reply, in bytes.
const LONGEST: u64 = 16 << 20;

/// How many calls may have no reply, beside those in flight: calls that were not answered in time.
const FORGOTTEN: usize = 10_000;

/// What goes to the program and what comes back.
#[derive(Debug)]
pub(super) struct Protocol {
    program: Program,
    /// The number of a call, then what is sent.
    sent: JsonRows,
    /// The number and the error of a reply.
    head: JsonLines,
    reply: JsonLines,
}

impl Protocol {
    pub(super) fn new(program: &Program) -> Self {
        let names = program.sent.iter().map(|(_, column)| column.name.as_str());
        let head =
            vec![Column::new(NUMBER, ColumnType::UInt), Column::new(ERROR, ColumnType::Text).nullable()];
        Self {
            sent: JsonRows::new([NUMBER].into_iter().chain(names)),
            head: JsonLines::new(head),
            reply: JsonLines::new(program.reply.clone()),
            program: program.clone(),
        }
    }

    fn line(&self, call: u64, row: &Row) -> Result<Vec<u8>> {
        let sent = self.program.sent.iter().map(|(index, _)| row.get(*index).clone());
        let row: Row = [Value::UInt(call)].into_iter().chain(sent).collect();
        let mut line = Vec::new();
        match self.sent.write(&row, &mut line) {
            Ok(()) => Ok(line),
            Err(why) => Err(Error::new(ErrorKind::User, why)),
        }
    }

    /// The number of a call and its reply.
    ///
    /// # Errors
    /// What is wrong with a line that belongs to no call.
    fn parse(&self, line: &[u8]) -> Result<(u64, Result<Row>), BadRecord> {
        let head = one(&self.head, line)?;
        let call = head.get(0).as_uint().ok_or_else(|| BadRecord::new("a call has a number"))?;
        let reply = match head.get(1).as_text() {
            Some(error) => {
                Err(self.error(ErrorKind::User, "the program could not answer").with("reply", error))
            }
            None => one(&self.reply, line).map_err(|bad| self.no_reply(&bad, line)),
        };
        Ok((call, reply))
    }

    fn no_reply(&self, bad: &BadRecord, line: &[u8]) -> Error {
        let begin = String::from_utf8_lossy(&line[..line.len().min(200)]).trim_end().to_owned();
        let error = self.error(ErrorKind::User, "the program wrote a line that is no reply");
        let error = error.with("line", begin).with("reason", bad.reason());
        match bad.column() {
            Some(column) => error.with("column", column),
            None => error,
        }
    }

    fn error(&self, kind: ErrorKind, message: &str) -> Error {
        Error::new(kind, message).with("program", self.program.path.display())
    }
}

/// The row of a line; a blank line has none.
fn one(format: &JsonLines, line: &[u8]) -> Result<Row, BadRecord> {
    let mut rows = Batch::new();
    format.clone().decode(line, &mut rows)?;
    rows.into_iter().next().map(|(row, _)| row).ok_or_else(|| BadRecord::new("the line is blank"))
}

/// Calls of one subtask. The program starts with the first, and again with the first after it has ended.
pub(super) struct Asking {
    protocol: Arc<Protocol>,
    running: Option<Running>,
}

/// A program that runs. It ends when this is dropped, as its standard input does.
struct Running {
    lines: Sender<Vec<u8>>,
    shared: Arc<Shared>,
    next: u64,
}

/// What the threads of a program share.
struct Shared {
    protocol: Arc<Protocol>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    repliers: BTreeMap<u64, Replier<Row>>,
    /// `None` once it has ended.
    child: Option<Child>,
    /// What it wrote last to standard error.
    complaint: String,
}

impl Asking {
    pub(super) fn new(protocol: Arc<Protocol>) -> Self {
        Self { protocol, running: None }
    }
}

impl Clone for Asking {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.protocol))
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asking").field(&self.protocol.program).finish()
    }
}

impl Call<RowKey, Row, Row> for Asking {
    fn start(&mut self, _: &RowKey, row: &Row, replier: Replier<Row>) {
        if self.running.as_ref().is_none_or(Running::has_ended) {
            match Running::start(&self.protocol) {
                Ok(running) => self.running = Some(running),
                Err(error) => return replier.reply(Err(error)),
            }
        }
        let Some(running) = &mut self.running else { return };
        let call = running.next;
        running.next += 1;
        match self.protocol.line(call, row) {
            Ok(line) => running.ask(call, line, replier),
            Err(error) => replier.reply(Err(error)),
        }
    }
}

impl Running {
    fn start(protocol: &Arc<Protocol>) -> Result<Self> {
        let Program { path, arguments, folder, .. } = &protocol.program;
        let mut command = Command::new(path);
        command.args(arguments);
        if !folder.as_os_str().is_empty() {
            command.current_dir(folder);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error: std::io::Error| {
            let error =
                protocol.error(ErrorKind::Invalid, "the program cannot be started").with("reason", error);
            error.with("folder", folder.display())
        };
        let mut child = command.spawn().map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(protocol.error(ErrorKind::Internal, "the program has no pipes"));
        };
        let waiting = Waiting { child: Some(child), ..Waiting::default() };
        let shared = Arc::new(Shared { protocol: Arc::clone(protocol), waiting: Mutex::new(waiting) });
        let (lines, asked) = channel();
        let spawned = thread::Builder::new()
            .name("call-in".to_owned())
            .spawn(move || write(stdin, &asked))
            .and_then(|_| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name("call-err".to_owned()).spawn(move || shared.listen(stderr))
            })
            .and_then(|complaints| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name("call-out".to_owned()).spawn(move || {
                    shared.read(stdout);
                    // What it wrote last is part of the error.
                    let _ = complaints.join();
                    shared.end();
                })
            });
        if let Err(error) = spawned {
            shared.kill();
            return Err(failed(error));
        }
        Ok(Self { lines, shared, next: 0 })
    }

    fn has_ended(&self) -> bool {
        self.shared.lock().child.is_none()
    }

    fn ask(&self, call: u64, line: Vec<u8>, replier: Replier<Row>) {
        let mut waiting = self.shared.lock();
        if waiting.child.is_none() {
            drop(waiting);
            let error = self.shared.protocol.error(ErrorKind::Unavailable, "the program has ended");
            return replier.reply(Err(error));
        }
        waiting.repliers.insert(call, replier);
        if waiting.repliers.len() > FORGOTTEN {
            waiting.repliers.pop_first();
        }
        drop(waiting);
        // Where the program reads no more, it ends, and all that wait hear of it.
        let _ = self.lines.send(line);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody waits for the replies any more, and a program that hangs does not end with its input.
        if !self.shared.lock().repliers.is_empty() {
            self.shared.kill();
        }
    }
}

fn write(mut stdin: ChildStdin, lines: &Receiver<Vec<u8>>) {
    while let Ok(mut line) = lines.recv() {
        for more in lines.try_iter() {
            line.extend(more);
        }
        if stdin.write_all(&line).is_err() {
            return;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        if let Some(child) = &mut self.lock().child {
            // One that has ended needs no signal.
            let _ = child.kill();
        }
    }

    /// Passes on replies until the program ends, or writes what is none.
    fn read(&self, stdout: ChildStdout) {
        let mut stdout = BufReader::new(stdout);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut stdout).take(LONGEST).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => match self.protocol.parse(&line) {
                    Ok((call, reply)) => {
                        let replier = self.lock().repliers.remove(&call);
                        if let Some(replier) = replier {
                            replier.reply(reply);
                        }
                    }
                    Err(bad) => {
                        let error = self.protocol.no_reply(&bad, &line).to_string();
                        self.lock().complaint = error;
                        return self.kill();
                    }
                },
            }
        }
    }

    /// Remembers the last line of standard error.
    fn listen(&self, stderr: ChildStderr) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            tracing::warn!(program = %self.protocol.program.path.display(), "{line}");
            self.lock().complaint = line;
        }
    }

    /// Fails the calls that have no reply: the program has ended.
    fn end(&self) {
        let (child, repliers, complaint) = {
            let mut waiting = self.lock();
            let complaint = std::mem::take(&mut waiting.complaint);
            (waiting.child.take(), std::mem::take(&mut waiting.repliers), complaint)
        };
        let status = child.map(|mut child| {
            // One that replies no more and does not end holds up nobody.
            if !repliers.is_empty() {
                let _ = child.kill();
            }
            child.wait()
        });
        for replier in repliers.into_values() {
            let mut error =
                self.protocol.error(ErrorKind::Unavailable, "the program ended before it replied");
            if let Some(Ok(status)) = &status {
                error = error.with("status", status);
            }
            if !complaint.is_empty() {
                error = error.with("it wrote", &complaint);
            }
            replier.reply(Err(error));
        }
    }
}
