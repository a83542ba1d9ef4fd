//! Checkpoints on their way through one task: those that wait for their cut, and those that record what they
//! have overtaken.

use strandline_state_api::CheckpointId;

use super::channel_set::ChannelSet;
use super::{Aligned, Aligner, Alignment};
use crate::Millis;

/// A checkpoint whose cut is not here yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub(super) checkpoint: CheckpointId,
    pub(super) started_at: Millis,
    /// From when on its barrier may overtake records.
    pub(super) overtake_at: Option<Millis>,
    /// Channels on which its barrier has arrived, whether or not it was read.
    pub(super) arrived: ChannelSet,
}

/// A checkpoint whose cut has overtaken records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Recording {
    pub(super) checkpoint: CheckpointId,
    /// Channels that had delivered the barrier before the cut: nothing in them was overtaken.
    pub(super) delivered: ChannelSet,
    /// Channels on which the barrier has arrived: nothing that arrives there now belongs to the checkpoint.
    pub(super) arrived: ChannelSet,
}

impl Recording {
    /// Whether the barrier has arrived on all channels that will have one.
    pub(super) fn is_complete(&self, channels: usize, ended: &ChannelSet, ending: &ChannelSet) -> bool {
        (0..channels).all(|channel| [&self.arrived, ended, ending].iter().any(|set| set.contains(channel)))
    }
}

impl Aligner {
    /// Whether `checkpoint` is looked at no more.
    pub(super) fn is_over(&self, checkpoint: CheckpointId) -> bool {
        let is_settled = self.settled.is_some_and(|settled| checkpoint <= settled);
        is_settled && !self.is_aligning(checkpoint)
    }

    pub(super) fn recording_mut(&mut self, checkpoint: CheckpointId) -> Option<&mut Recording> {
        self.recordings.iter_mut().find(|recording| recording.checkpoint == checkpoint)
    }

    /// The entry of a checkpoint that waits, in the order of checkpoints.
    pub(super) fn wait_for(
        &mut self,
        now: Millis,
        checkpoint: CheckpointId,
        overtake_at: Option<Millis>,
    ) -> &mut Waiting {
        let index = self.waiting.partition_point(|waiting| waiting.checkpoint < checkpoint);
        if self.waiting.get(index).is_none_or(|waiting| waiting.checkpoint != checkpoint) {
            let arrived = ChannelSet::new(self.channels);
            let waiting = Waiting { checkpoint, started_at: now, overtake_at, arrived };
            self.waiting.insert(index, waiting);
        }
        let waiting = &mut self.waiting[index];
        waiting.overtake_at = match (waiting.overtake_at, overtake_at) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
        waiting
    }

    /// A marker of `checkpoint` came in on `channel`, behind which that has no barrier of an older one. Ends
    /// the older ones whose barrier has not arrived there, and all that wait where the marker `was_read`;
    /// returns the oldest whose alignment was under way.
    pub(super) fn supersede(
        &mut self,
        channel: usize,
        checkpoint: CheckpointId,
        was_read: bool,
    ) -> Option<CheckpointId> {
        let Self { waiting, recordings, superseded, delivered, .. } = self;
        let oldest = waiting.front().map(|waiting| waiting.checkpoint);
        let mut ended = Vec::new();
        waiting.retain(|waiting| {
            let lacks = was_read || !waiting.arrived.contains(channel);
            let is_ended = waiting.checkpoint < checkpoint && lacks;
            ended.extend(is_ended.then_some(waiting.checkpoint));
            !is_ended
        });
        if waiting.front().map(|waiting| waiting.checkpoint) != oldest {
            delivered.clear();
        }
        recordings.retain(|recording| {
            let is_ended = recording.checkpoint < checkpoint && !recording.arrived.contains(channel);
            superseded.extend(is_ended.then_some(recording.checkpoint));
            !is_ended
        });
        let mut ended = ended.into_iter();
        let first = ended.next();
        superseded.extend(ended);
        if let Some(older) = checkpoint.0.checked_sub(1) {
            self.settle(CheckpointId(older));
        }
        first
    }

    /// Nothing up to `checkpoint` is looked at any more, but for what waits or is recorded.
    pub(super) fn settle(&mut self, checkpoint: CheckpointId) {
        self.settled = self.settled.max(Some(checkpoint));
        self.aborted.retain(|aborted| *aborted > checkpoint);
    }

    /// Forgets a checkpoint that waits.
    pub(super) fn stop_waiting(&mut self, checkpoint: CheckpointId) {
        if self.aligning() == Some(checkpoint) {
            self.delivered.clear();
        }
        self.waiting.retain(|waiting| waiting.checkpoint != checkpoint);
    }

    /// Forgets a checkpoint that is recorded; returns whether it was.
    pub(super) fn stop_recording(&mut self, checkpoint: CheckpointId) -> bool {
        let before = self.recordings.len();
        self.recordings.retain(|recording| recording.checkpoint != checkpoint);
        self.recordings.len() < before
    }

    /// Whether every channel that has neither ended nor delivered the barrier may be overtaken.
    pub(super) fn may_overtake_the_rest(&self) -> bool {
        (0..self.channels).all(|channel| {
            self.delivered.contains(channel)
                || self.ended.contains(channel)
                || self.overtakable.contains(channel)
        })
    }

    /// The cut of the oldest checkpoint that waits, if it is here.
    pub(super) fn try_cut(&mut self, now: Millis, superseded: Option<CheckpointId>) -> Option<Alignment> {
        self.waiting.front()?;
        let is_aligned = self.delivered.union_len(&self.ended) == self.channels;
        let overtakes = self.next_deadline().is_some_and(|at| at <= now);
        if !is_aligned && !overtakes {
            return None;
        }
        let Waiting { checkpoint, started_at, arrived, .. } = self.waiting.pop_front()?;
        self.settle(checkpoint);
        let (duration, all_ended) = (now.since(started_at), self.all_ended());
        let cut = Aligned { checkpoint, superseded, started_at, duration, all_ended };
        if is_aligned {
            self.delivered.clear();
            return Some(Alignment::Aligned(cut));
        }
        let delivered = std::mem::replace(&mut self.delivered, ChannelSet::new(self.channels));
        self.recordings.push(Recording { checkpoint, delivered, arrived });
        Some(Alignment::Overtaken(cut))
    }
}
