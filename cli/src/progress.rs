//! Shows the progress of a job on the standard error.

mod speed;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use strandline_runtime::{AbortReason, CheckpointReport, JobEvent, JobProgress, Observer};
use strandline_state_api::schema::RestorePlan;
use strandline_state_api::{Error, ErrorKind};

use crate::cli::ProgressMode;
use crate::plan::Counters;
use crate::{advice, print_error, report};
use speed::Speed;

/// The time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(3);

/// Prints the events of a job, for a person or a program.
#[derive(Debug)]
pub(crate) struct Progress {
    job: String,
    style: Style,
    counters: OnceLock<Counters>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Style {
    Bar(ProgressBar),
    Plain,
    Json,
    Quiet,
}

#[derive(Debug)]
struct State {
    speed: Speed,
    line_at: Instant,
    /// What would become of the checkpoint that was to be restored last.
    plan: Option<RestorePlan>,
    checkpoint: Option<CheckpointReport>,
    /// How many late records of each group were reported.
    late: BTreeMap<String, u64>,
    late_at: Option<Instant>,
}

/// The least time between two warnings of late records.
const LATE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    pub(crate) fn new(mode: ProgressMode, job: &str) -> Self {
        let style = match mode {
            ProgressMode::Auto if std::io::stderr().is_terminal() => Style::Bar(bar()),
            ProgressMode::Auto | ProgressMode::Plain => Style::Plain,
            ProgressMode::Json => Style::Json,
            ProgressMode::None => Style::Quiet,
        };
        let state = State {
            speed: Speed::default(),
            line_at: Instant::now(),
            plan: None,
            checkpoint: None,
            late: BTreeMap::new(),
            late_at: None,
        };
        Self { job: job.to_owned(), style, counters: OnceLock::new(), state: Mutex::new(state) }
    }

    /// Warns of what these count while the job runs.
    pub(crate) fn watch(&self, counters: &Counters) {
        let _ = self.counters.set(counters.clone());
    }

    /// Removes the changing line.
    pub(crate) fn finish(&self) {
        if let Style::Bar(bar) = &self.style {
            bar.finish_and_clear();
        }
    }

    /// Prints the last line; also in the quiet style where it asks for something to be done.
    pub(crate) fn end(&self, summary: &str, asks: bool) {
        if matches!(self.style, Style::Quiet) {
            self.state().late_at = None;
            self.warn_late();
        }
        if asks { self.warn(summary) } else { self.note(summary) }
    }

    /// Reports where the state of the job is served.
    #[cfg(feature = "sql")]
    pub(crate) fn serving(&self, address: std::net::SocketAddr) {
        let url = format!("http://{address}");
        match self.style {
            Style::Json => print_error(json!({ "event": "serving", "url": url })),
            _ => self.note(&format!("the state is served at {url}")),
        }
    }

    /// Why the job failed, with advice for the author of a job file.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let refused = self.state().plan.take().map(|plan| advice::check_restore(&plan));
        match refused {
            Some(Err(refusal)) if error.kind() == ErrorKind::Incompatible => refusal,
            _ => error,
        }
    }

    /// Prints a line for a person; programs have their own report.
    pub(crate) fn note(&self, text: &str) {
        match &self.style {
            Style::Bar(bar) => bar.suspend(|| print_error(format_args!("{}: {text}", self.job))),
            Style::Plain => self.print_with_time(text),
            Style::Json | Style::Quiet => {}
        }
    }

    /// Reports that a process of the job has ended and is started again.
    #[cfg(feature = "timely")]
    pub(crate) fn process_ended(&self, process: u32, status: &str, pause: Duration) {
        match self.style {
            Style::Json => {
                print_error(json!({ "event": "process-ended", "process": process, "status": status }));
            }
            _ => self.warn(&format!(
                "process {process} has ended ({status}) and is started again in {}",
                report::seconds(pause)
            )),
        }
    }

    /// Prints a problem, which shows in the quiet style too.
    pub(crate) fn warn(&self, text: &str) {
        match self.style {
            Style::Quiet => self.print_with_time(text),
            _ => self.note(text),
        }
    }

    /// Prints a line that somebody may read much later.
    fn print_with_time(&self, text: impl Display) {
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        print_error(format_args!("{now} {}: {text}", self.job));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, now: JobProgress) {
        let mut state = self.state();
        state.speed.observe(now);
        match &self.style {
            Style::Bar(bar) => bar.set_message(format!("{}: {}", self.job, state.line())),
            Style::Plain if state.line_at.elapsed() >= PLAIN_EVERY => {
                state.line_at = Instant::now();
                self.print_with_time(state.line());
            }
            Style::Plain | Style::Json | Style::Quiet => {}
        }
    }

    /// Warns of groups that have dropped more late records since the last warning.
    fn warn_late(&self) {
        let Some(counters) = self.counters.get() else { return };
        let mut state = self.state();
        if state.late_at.is_some_and(|at| at.elapsed() < LATE_EVERY) {
            return;
        }
        let known = |group: &str| state.late.get(group).copied().unwrap_or(0);
        let more: Vec<_> = counters.late_by_group().filter(|(group, late)| *late > known(group)).collect();
        for (group, late) in &more {
            state.late.insert((*group).to_owned(), *late);
            state.late_at = Some(Instant::now());
        }
        drop(state);
        for (group, late) in more {
            let (late, fate) = (HumanCount(late), counters.fate_of_late(group));
            self.warn(&format!(
                "{late} records came to {group} after their window had closed and were {fate}; a longer \
                 `watermark_delay` waits for them"
            ));
        }
    }

    fn print(&self, event: &JobEvent) {
        match event {
            JobEvent::Started { from, attempt } => {
                let from = from.map_or("from the beginning".into(), |id| format!("from checkpoint {id}"));
                let again = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
                self.note(&format!("started {from}{again}"));
            }
            JobEvent::Skipped { checkpoint, reason } => {
                self.warn(&format!("checkpoint {checkpoint} cannot be used: {reason}"));
            }
            JobEvent::RestorePlanned { checkpoint, plan } => {
                let plan = advice::of_job_file(plan.clone());
                self.note(&format!("what becomes of checkpoint {checkpoint}:\n{plan}"));
            }
            JobEvent::Progress(counts) => {
                self.count(*counts);
                self.warn_late();
            }
            JobEvent::CheckpointCompleted(report) => self.state().checkpoint = Some(report.clone()),
            JobEvent::CheckpointAborted(aborted)
                if matches!(
                    aborted.reason,
                    AbortReason::Suspended | AbortReason::Ended | AbortReason::Subsumed(_)
                ) =>
            {
                self.note(&format!("checkpoint {} was aborted: {aborted}", aborted.checkpoint));
            }
            JobEvent::CheckpointAborted(aborted) => {
                self.warn(&format!("checkpoint {} was aborted: {aborted}", aborted.checkpoint));
            }
            JobEvent::Restarting { error, restart, delay } => {
                let delay = report::seconds(*delay);
                self.warn(&format!("failed: {error}"));
                self.warn(&format!("restart {restart} in {delay}"));
            }
            JobEvent::Cleaned { error: Some(error), .. } => {
                self.warn(&format!("old checkpoints could not be removed: {error}"));
            }
            _ => {}
        }
    }
}

impl Observer for Progress {
    fn event(&self, event: &JobEvent) {
        if let JobEvent::RestorePlanned { plan, .. } = event {
            self.state().plan = Some(plan.clone());
        }
        match self.style {
            Style::Json => {
                if let Some(value) = json_event(event) {
                    print_error(value);
                }
            }
            _ => self.print(event),
        }
    }
}

impl State {
    fn line(&self) -> String {
        let state_entries = self.speed.now().state_entries;
        let mut line = self.speed.to_string();
        if state_entries > 0 {
            line += &format!(", state {} entries", HumanCount(state_entries));
        }
        if let Some(CheckpointReport { checkpoint, duration, written_bytes, .. }) = &self.checkpoint {
            let written = HumanBytes(*written_bytes);
            line += &format!(", checkpoint {checkpoint} ({} ms, {written})", duration.as_millis());
        }
        line
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// An event for programs; `None` for those that only a person wants.
fn json_event(event: &JobEvent) -> Option<Value> {
    Some(match event {
        JobEvent::Started { attempt, from } => {
            json!({ "event": "started", "attempt": attempt, "from": from.map(|id| id.0) })
        }
        JobEvent::Skipped { checkpoint, reason } => {
            json!({ "event": "skipped", "id": checkpoint.0, "reason": reason })
        }
        JobEvent::RestorePlanned { checkpoint, plan } => {
            json!({ "event": "plan", "id": checkpoint.0, "plan": report::plan(&advice::of_job_file(plan.clone())) })
        }
        JobEvent::Progress(now) => json!({
            "event": "progress",
            "seconds": now.elapsed.as_secs_f64(),
            "read": now.read,
            "read_again": now.read_again,
            "input_done": now.input.map(|input| input.done),
            "input_total": now.input.map(|input| input.total),
            "watermark_ms": now.watermark.map(|watermark| watermark.as_millis()),
            "done": now.done,
            "emitted": now.emitted,
            "state_entries": now.state_entries,
        }),
        JobEvent::LateRecords { operator, records } => {
            json!({ "event": "late", "operator": operator, "records": records })
        }
        JobEvent::CheckpointCompleted(report) => {
            let mut value = report::checkpoint(report);
            if let Some(members) = value.as_object_mut() {
                members.insert("event".into(), "checkpoint".into());
            }
            value
        }
        JobEvent::CheckpointAborted(aborted) => {
            let (id, kind) = (aborted.checkpoint.0, aborted.kind.name());
            json!({ "event": "aborted", "id": id, "kind": kind, "reason": aborted.to_string() })
        }
        JobEvent::Restarting { error, restart, delay } => {
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            json!({ "event": "restarting", "error": error.to_string(), "restart": restart, "delay_ms": delay_ms })
        }
        JobEvent::Cleaned { removed, error } => {
            let error = error.as_ref().map(ToString::to_string);
            json!({ "event": "cleaned", "removed": removed, "error": error })
        }
        _ => return None,
    })
}
