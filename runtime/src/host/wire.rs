//! Commands and events as they cross processes.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strandline_checkpoint_protocol::{CheckpointKind, DeclineReason, TaskId};
use strandline_checkpoint_storage::OperatorSnapshot;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{AbortNotice, CheckpointId, Error, ErrorKind, OperatorId};

use crate::barrier::{Barrier, OperatorPart};
use crate::mailbox::{Control, TaskEvent};
use crate::metrics::Counted;
use crate::summary::TaskSummary;
use crate::sync::{cancelled, is_cancelled};

/// A command of the coordinator to a subtask.
#[derive(Clone)]
pub struct Command(pub(crate) Control);

/// What a subtask reports to the coordinator.
///
/// As bytes it loses what only the process of the subtask can use: the measurements of its backend.
pub struct Event(pub(crate) TaskEvent);

/// What the subtasks of a process have counted: records that were read, taken by sinks, late, and so on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts(pub(crate) Counted);

impl Event {
    /// Whether the coordinator counts on what was counted before: at a barrier, and at the end of a subtask.
    pub fn completes_counts(&self) -> bool {
        matches!(self.0, TaskEvent::Ack { .. } | TaskEvent::Exited(..))
    }
}

impl Command {
    /// Returns the checkpoint at whose barrier the source cuts itself.
    pub fn triggers(&self) -> Option<CheckpointId> {
        match &self.0 {
            Control::Trigger(barrier) => Some(barrier.checkpoint),
            Control::Complete(_)
            | Control::Aborted(_)
            | Control::DropLive(_)
            | Control::LookUp(_)
            | Control::Finish => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireBarrier {
    checkpoint: CheckpointId,
    kind: u8,
    stop: bool,
}

const KINDS: [SnapshotKind; 3] = [SnapshotKind::Incremental, SnapshotKind::Full, SnapshotKind::Savepoint];

impl From<&Barrier> for WireBarrier {
    fn from(barrier: &Barrier) -> Self {
        let Barrier { checkpoint, kind, stop, .. } = *barrier;
        Self { checkpoint, kind: place(&KINDS, &kind), stop }
    }
}

impl From<WireBarrier> for Barrier {
    /// Delays are counted from the arrival: clocks of processes differ.
    fn from(barrier: WireBarrier) -> Self {
        let WireBarrier { checkpoint, kind, stop } = barrier;
        let kind = KINDS.get(usize::from(kind)).copied().unwrap_or(SnapshotKind::Full);
        Self { checkpoint, kind, stop, triggered: Instant::now(), overtake: None, live: None }
    }
}

#[derive(Serialize, Deserialize)]
enum WireCommand {
    Trigger(WireBarrier),
    Complete(CheckpointId),
    Aborted { checkpoint: CheckpointId, kind: CheckpointKind, cause: WireError },
    Finish,
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = match &self.0 {
            Control::Trigger(barrier) => WireCommand::Trigger(barrier.into()),
            Control::Complete(checkpoint) => WireCommand::Complete(*checkpoint),
            Control::Aborted(notice) => {
                let AbortNotice { checkpoint, kind, cause, .. } = &**notice;
                WireCommand::Aborted { checkpoint: *checkpoint, kind: *kind, cause: cause.into() }
            }
            Control::Finish => WireCommand::Finish,
            Control::DropLive(_) | Control::LookUp(_) => {
                return Err(serde::ser::Error::custom(
                    "live state is read in the process of the coordinator",
                ));
            }
        };
        wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match WireCommand::deserialize(deserializer)? {
            WireCommand::Trigger(barrier) => Control::Trigger(barrier.into()),
            WireCommand::Complete(checkpoint) => Control::Complete(checkpoint),
            WireCommand::Aborted { checkpoint, kind, cause } => {
                Control::Aborted(Arc::new(AbortNotice::new(checkpoint, kind, cause.into())))
            }
            WireCommand::Finish => Control::Finish,
        }))
    }
}

#[derive(Serialize, Deserialize)]
enum WireEvent {
    Opened,
    Ack { task: TaskId, checkpoint: CheckpointId, parts: Vec<OperatorSnapshot> },
    Decline { task: TaskId, checkpoint: CheckpointId, reason: u8, error: Option<WireError> },
    Backlog(TaskId, bool),
    Drained(TaskId),
    Exited(TaskId, Result<WireSummary, WireError>),
    Failed(WireError),
}

/// The summaries of the sinks of a task, encoded.
type WireSummary = Vec<(OperatorId, Vec<u8>)>;

const REASONS: [DeclineReason; 5] = [
    DeclineReason::SnapshotFailed,
    DeclineReason::NotReady,
    DeclineReason::Closing,
    DeclineReason::Superseded,
    DeclineReason::Cancelled,
];

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = match &self.0 {
            TaskEvent::Opened => WireEvent::Opened,
            TaskEvent::Ack { task, checkpoint, parts } => {
                let parts = parts.iter().map(stored).collect();
                WireEvent::Ack { task: *task, checkpoint: *checkpoint, parts }
            }
            TaskEvent::Decline { task, checkpoint, reason, error } => WireEvent::Decline {
                task: *task,
                checkpoint: *checkpoint,
                reason: place(&REASONS, reason),
                error: error.as_ref().map(WireError::from),
            },
            TaskEvent::Backlog(task, backlog) => WireEvent::Backlog(*task, *backlog),
            TaskEvent::Drained(task) => WireEvent::Drained(*task),
            TaskEvent::Exited(task, result) => {
                WireEvent::Exited(*task, result.as_ref().map(TaskSummary::encoded).map_err(WireError::from))
            }
            TaskEvent::Failed(error) => WireEvent::Failed(error.into()),
        };
        wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match WireEvent::deserialize(deserializer)? {
            WireEvent::Opened => TaskEvent::Opened,
            WireEvent::Ack { task, checkpoint, parts } => {
                let parts = parts.into_iter().filter_map(handed_in).collect();
                TaskEvent::Ack { task, checkpoint, parts }
            }
            WireEvent::Decline { task, checkpoint, reason, error } => {
                let reason = REASONS.get(usize::from(reason)).copied();
                let reason = reason.unwrap_or(DeclineReason::SnapshotFailed);
                TaskEvent::Decline { task, checkpoint, reason, error: error.map(Error::from) }
            }
            WireEvent::Backlog(task, backlog) => TaskEvent::Backlog(task, backlog),
            WireEvent::Drained(task) => TaskEvent::Drained(task),
            WireEvent::Exited(task, ended) => {
                TaskEvent::Exited(task, ended.map(TaskSummary::of_encoded).map_err(Error::from))
            }
            WireEvent::Failed(error) => TaskEvent::Failed(error.into()),
        }))
    }
}

fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter().position(|other| other == one).unwrap_or(0) as u8
}

/// A part as a manifest would hold it, alone.
fn stored(part: &OperatorPart) -> OperatorSnapshot {
    let types = (*part.snapshot.types).clone();
    OperatorSnapshot {
        id: part.operator.clone(),
        parallelism: 1,
        subtasks: vec![part.snapshot.clone()],
        types,
    }
}

fn handed_in(stored: OperatorSnapshot) -> Option<OperatorPart> {
    let OperatorSnapshot { id: operator, mut subtasks, types, .. } = stored;
    let mut snapshot = subtasks.pop()?;
    snapshot.types = Arc::new(types);
    Some(OperatorPart { operator, snapshot, statistics: Vec::new() })
}

/// An error without the values of its causes.
#[derive(Serialize, Deserialize)]
struct WireError {
    kind: u8,
    message: String,
    context: Vec<(u8, String)>,
    causes: Option<String>,
    is_cancelled: bool,
}

const ERROR_KINDS: [ErrorKind; 9] = [
    ErrorKind::Invalid,
    ErrorKind::Incompatible,
    ErrorKind::Corrupt,
    ErrorKind::NotFound,
    ErrorKind::Unavailable,
    ErrorKind::Fenced,
    ErrorKind::Unsupported,
    ErrorKind::User,
    ErrorKind::Internal,
];

/// The places of errors that keep their names.
const PLACES: [&str; 17] = [
    "operator",
    "subtask",
    "checkpoint",
    "key",
    "event time",
    "records",
    "since checkpoint",
    "file",
    "line",
    "byte",
    "state",
    "operator state",
    "segment",
    "column",
    "path",
    "directory",
    "input",
];

impl From<&Error> for WireError {
    fn from(error: &Error) -> Self {
        let context =
            (0..).zip(PLACES).filter_map(|(place, name)| Some((place, error.context(name)?.to_owned())));
        let causes = std::error::Error::source(error).map(ToString::to_string);
        Self {
            kind: place(&ERROR_KINDS, &error.kind()),
            message: error.message().to_owned(),
            context: context.collect(),
            causes,
            is_cancelled: is_cancelled(error),
        }
    }
}

impl From<WireError> for Error {
    fn from(wire: WireError) -> Self {
        if wire.is_cancelled {
            return cancelled();
        }
        let kind = ERROR_KINDS.get(usize::from(wire.kind)).copied().unwrap_or(ErrorKind::Internal);
        let mut error = Self::new(kind, wire.message);
        for (place, value) in wire.context {
            if let Some(name) = PLACES.get(usize::from(place)) {
                error = error.with(name, value);
            }
        }
        match wire.causes {
            Some(causes) => error.caused_by(causes),
            None => error,
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
