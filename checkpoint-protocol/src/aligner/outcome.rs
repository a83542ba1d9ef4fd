//! What an aligner answers.

use std::time::Duration;

use strandline_state_api::CheckpointId;

use crate::Millis;

/// What a task has to do about what came in on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Alignment {
    /// Do not read this channel until a later answer unblocks it. If an alignment was superseded, read the
    /// other blocked channels again and decline that checkpoint.
    Block {
        /// The checkpoint that is being aligned.
        checkpoint: CheckpointId,
        /// The older one that this ended.
        superseded: Option<CheckpointId>,
    },
    /// The cut is here: forward the barrier, take the snapshot, read all channels again.
    Aligned(Aligned),
    /// The cut is here, before records that were not read: forward the barrier, so that it overtakes records
    /// in its turn, take the snapshot, read all channels again. Of each channel that was
    /// [overtaken](super::Aligner::has_overtaken), what has arrived before the barrier of the checkpoint is
    /// part of it, and what arrives [later](super::Aligner::recording) until that comes.
    Overtaken(Aligned),
    /// The barrier has arrived on every channel: what this checkpoint has overtaken is complete.
    Recorded(CheckpointId),
    /// This checkpoint will not complete here: a channel has the barrier of a newer one and not its own.
    /// Drop what was recorded for it, decline it, and read all channels again that are not
    /// [blocked](super::Aligner::is_blocked).
    Superseded(CheckpointId),
    /// The checkpoint will not complete here: read all channels again that are not
    /// [blocked](super::Aligner::is_blocked), forward the cancellation, decline it. Decline the superseded one
    /// as well.
    Aborted {
        /// The checkpoint that was cancelled.
        checkpoint: CheckpointId,
        /// The older one whose alignment was under way and ended too.
        superseded: Option<CheckpointId>,
    },
    /// Nothing to do: the channels go on as they are.
    Continue,
    /// Every channel has ended, with no alignment under way: the task has come to the end of its input.
    AllEnded,
    /// Nothing to do: go on reading this channel.
    Ignored(IgnoredBecause),
}

/// A completed alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aligned {
    /// The checkpoint to take a snapshot for.
    pub checkpoint: CheckpointId,
    /// An older one whose alignment this ended: decline it.
    pub superseded: Option<CheckpointId>,
    /// When the first barrier came.
    pub started_at: Millis,
    /// How long it took from the first barrier to the cut, during which channels may have been blocked.
    pub duration: Duration,
    /// Whether every channel has ended, so that the task has come to the end of its input after this
    /// snapshot.
    pub all_ended: bool,
}

/// Why an input changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IgnoredBecause {
    /// It speaks of a checkpoint that was aligned or aborted before, or is older than the one being aligned.
    Stale,
    /// This channel had delivered that barrier, or had ended, before.
    Repeated,
    /// There is no such channel: a bug in the caller.
    NoSuchChannel,
}
