//! Barrier alignment: how a task with several inputs finds the one point that a checkpoint cuts through all
//! of them.
//!
//! A channel that has delivered the barrier is not read until every other has delivered it too, so the
//! snapshot holds the effect of exactly what came before the barrier (Chandy and Lamport's snapshot, as in
//! Carbone et al., *Lightweight Asynchronous Snapshots for Distributed Dataflows*; Flink:
//! `SingleCheckpointBarrierHandler`, aligned).

mod channel_set;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use strandline_state_api::CheckpointId;

use self::channel_set::ChannelSet;
use crate::Millis;

/// The aligner of one task: its inputs are what arrives on which channel, its answers are what to do.
///
/// Channels are numbered from 0. A task without inputs needs none. Nothing is allocated up to 64 channels,
/// and a task with one channel is answered [`Aligned`](Alignment::Aligned) at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aligner {
    channels: usize,
    /// Channels that have delivered the current barrier: blocked.
    delivered: ChannelSet,
    ended: ChannelSet,
    current: Option<Current>,
    /// Nothing up to this one is looked at any more: it was aligned or cancelled here, or a barrier behind it
    /// has come in on a channel, which delivers its own no more.
    settled: Option<CheckpointId>,
    /// Newer ones that were aborted.
    aborted: BTreeSet<CheckpointId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Current {
    checkpoint: CheckpointId,
    started_at: Millis,
}

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
    /// The checkpoint will not complete here: read all channels again that are not
    /// [blocked](Aligner::is_blocked), forward the cancellation, decline it. Decline the superseded one as
    /// well.
    Aborted {
        /// The checkpoint that was cancelled.
        checkpoint: CheckpointId,
        /// The older one whose alignment was under way and ended too.
        superseded: Option<CheckpointId>,
    },
    /// Nothing to do: this channel has ended, others go on.
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
    /// How long it took from the first barrier to the last, during which channels were blocked.
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

impl Aligner {
    /// An aligner for a task with `channels` inputs.
    pub fn new(channels: usize) -> Self {
        Self {
            channels,
            delivered: ChannelSet::new(channels),
            ended: ChannelSet::new(channels),
            current: None,
            settled: None,
            aborted: BTreeSet::new(),
        }
    }

    /// The barrier of `checkpoint` came in on `channel`.
    pub fn barrier(&mut self, now: Millis, channel: usize, checkpoint: CheckpointId) -> Alignment {
        if channel >= self.channels {
            return Alignment::Ignored(IgnoredBecause::NoSuchChannel);
        }
        if self.is_settled(checkpoint) {
            return Alignment::Ignored(IgnoredBecause::Stale);
        }
        if self.ended.contains(channel) {
            return Alignment::Ignored(IgnoredBecause::Repeated);
        }
        let superseded = self.supersede(checkpoint);
        if self.aborted.contains(&checkpoint) {
            self.settle(checkpoint);
            return match superseded {
                None => Alignment::Ignored(IgnoredBecause::Stale),
                superseded => Alignment::Aborted { checkpoint, superseded },
            };
        }
        self.current.get_or_insert(Current { checkpoint, started_at: now });
        if !self.delivered.insert(channel) {
            return Alignment::Ignored(IgnoredBecause::Repeated);
        }
        self.try_complete(now, superseded).unwrap_or(Alignment::Block { checkpoint, superseded })
    }

    /// A cancellation marker of `checkpoint` came in on `channel`, in the place of its barrier: no barrier of
    /// an older checkpoint follows on that channel.
    pub fn cancellation(&mut self, channel: usize, checkpoint: CheckpointId) -> Alignment {
        if channel >= self.channels {
            return Alignment::Ignored(IgnoredBecause::NoSuchChannel);
        }
        if self.is_settled(checkpoint) {
            return Alignment::Ignored(IgnoredBecause::Stale);
        }
        let superseded = self.supersede(checkpoint);
        let is_news = !self.aborted.contains(&checkpoint) || superseded.is_some();
        self.settle(checkpoint);
        if is_news {
            Alignment::Aborted { checkpoint, superseded }
        } else {
            Alignment::Ignored(IgnoredBecause::Stale)
        }
    }

    /// The coordinator aborted `checkpoint`: this one, and no other. Older ones that are under way go on,
    /// whether or not their barriers have come in.
    pub fn abort(&mut self, checkpoint: CheckpointId) -> Alignment {
        if self.is_settled(checkpoint) || !self.aborted.insert(checkpoint) {
            return Alignment::Ignored(IgnoredBecause::Stale);
        }
        if self.aligning() == Some(checkpoint) {
            self.release();
        }
        Alignment::Aborted { checkpoint, superseded: None }
    }

    /// `channel` has ended: all that it will ever deliver is here. It counts as having delivered every later
    /// barrier.
    pub fn end_of_channel(&mut self, now: Millis, channel: usize) -> Alignment {
        if channel >= self.channels {
            return Alignment::Ignored(IgnoredBecause::NoSuchChannel);
        }
        if !self.ended.insert(channel) {
            return Alignment::Ignored(IgnoredBecause::Repeated);
        }
        let other = if self.all_ended() { Alignment::AllEnded } else { Alignment::Continue };
        self.try_complete(now, None).unwrap_or(other)
    }

    /// Whether `channel` must not be read now.
    pub fn is_blocked(&self, channel: usize) -> bool {
        channel < self.channels && self.delivered.contains(channel)
    }

    /// The checkpoint being aligned.
    pub fn aligning(&self) -> Option<CheckpointId> {
        self.current.map(|current| current.checkpoint)
    }

    /// Whether every channel has ended.
    pub fn all_ended(&self) -> bool {
        self.ended.union_len(&self.ended) == self.channels
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.settled.is_some_and(|settled| checkpoint <= settled)
    }

    /// A marker of `checkpoint` came in, behind which its channel has no barrier of an older one. Returns the
    /// one whose alignment that ends.
    fn supersede(&mut self, checkpoint: CheckpointId) -> Option<CheckpointId> {
        let superseded = self.aligning().filter(|current| *current < checkpoint);
        if superseded.is_some() {
            self.release();
        }
        let older = checkpoint.0.checked_sub(1).map(CheckpointId);
        self.settled = self.settled.max(older);
        self.aborted.retain(|aborted| *aborted >= checkpoint);
        superseded
    }

    /// Nothing up to `checkpoint` is looked at any more.
    fn settle(&mut self, checkpoint: CheckpointId) {
        self.settled = self.settled.max(Some(checkpoint));
        self.aborted.retain(|aborted| *aborted > checkpoint);
        self.release();
    }

    fn release(&mut self) {
        self.current = None;
        self.delivered.clear();
    }

    fn try_complete(&mut self, now: Millis, superseded: Option<CheckpointId>) -> Option<Alignment> {
        let Current { checkpoint, started_at } = self.current?;
        if self.delivered.union_len(&self.ended) < self.channels {
            return None;
        }
        self.settle(checkpoint);
        let (duration, all_ended) = (now.since(started_at), self.all_ended());
        Some(Alignment::Aligned(Aligned { checkpoint, superseded, started_at, duration, all_ended }))
    }
}
