//! Barrier alignment: how a task with several inputs finds the one point that a checkpoint cuts through all
//! of them.
//!
//! A channel that has delivered the barrier is not read until every other has delivered it too, so the
//! snapshot holds the effect of exactly what came before the barrier (Chandy and Lamport's snapshot, as in
//! Carbone et al., *Lightweight Asynchronous Snapshots for Distributed Dataflows*; Flink:
//! `SingleCheckpointBarrierHandler`).
//!
//! Where channels hold more than the task can take soon, a barrier may *overtake* it: the cut is where the
//! task stands when the barrier arrives at the end of a channel, and what it overtook becomes part of the
//! checkpoint (Flink: unaligned checkpoints). One rule covers both: the cut is here once each channel has
//! delivered the barrier, has ended, or may be overtaken. In an aligned checkpoint no channel may be.
//!
//! Cuts come in the order of their checkpoints. So a barrier that may overtake records does not overtake the
//! barrier of an older checkpoint that is being aligned.

mod channel_set;
mod outcome;
#[cfg(test)]
mod tests;
mod under_way;

use std::collections::{BTreeSet, VecDeque};

use strandline_state_api::CheckpointId;

use self::channel_set::ChannelSet;
pub use self::outcome::{Aligned, Alignment, IgnoredBecause};
use self::under_way::{Recording, Waiting};
use crate::Millis;

/// The aligner of one task: its inputs are what arrives on which channel, its answers are what to do.
///
/// Channels are numbered from 0. A task without inputs needs none. Without barriers under way nothing is
/// allocated up to 64 channels, and a task with one channel is answered [`Aligned`](Alignment::Aligned) at
/// once.
///
/// A host that only aligns reports the barriers that it reads ([`barrier`](Self::barrier)). One whose
/// barriers may overtake records also reports barriers that arrive behind records that it has not read
/// ([`arrival`](Self::arrival)), in the order of their channel, and then asks [`poll`](Self::poll) until that
/// returns `None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aligner {
    channels: usize,
    /// Channels whose records barriers may overtake.
    overtakable: ChannelSet,
    /// Channels that have delivered the barrier of the oldest checkpoint that waits: blocked.
    delivered: ChannelSet,
    ended: ChannelSet,
    /// Channels whose end has arrived behind records that were not read: no barrier follows.
    ending: ChannelSet,
    /// Checkpoints whose cut is not here yet, the oldest first.
    waiting: VecDeque<Waiting>,
    /// Checkpoints whose cut has overtaken records, until their barrier has arrived on every channel.
    recordings: Vec<Recording>,
    /// Checkpoints that were superseded, for [`poll`](Self::poll).
    superseded: VecDeque<CheckpointId>,
    /// Nothing up to this one is looked at any more, but for what waits or is recorded: it was aligned or
    /// cancelled here, or a barrier behind it has come in on a channel, which delivers its own no more.
    settled: Option<CheckpointId>,
    /// Newer ones that were aborted.
    aborted: BTreeSet<CheckpointId>,
}

impl Aligner {
    /// An aligner for a task with `channels` inputs, whose records no barrier overtakes.
    pub fn new(channels: usize) -> Self {
        Self {
            channels,
            overtakable: ChannelSet::new(channels),
            delivered: ChannelSet::new(channels),
            ended: ChannelSet::new(channels),
            ending: ChannelSet::new(channels),
            waiting: VecDeque::new(),
            recordings: Vec::new(),
            superseded: VecDeque::new(),
            settled: None,
            aborted: BTreeSet::new(),
        }
    }

    /// Lets barriers overtake the records of a channel. Where every reader gets a copy of each record,
    /// barriers must not: the copies that readers have taken would differ at the cut.
    ///
    /// A channel that does not exist is passed over.
    pub fn let_overtake(&mut self, channel: usize) {
        if channel < self.channels {
            self.overtakable.insert(channel);
        }
    }

    /// The barrier of `checkpoint` has arrived on `channel`, behind records that were not read. From
    /// `overtake_at` on it may overtake them; with `None` it never does.
    ///
    /// Barriers arrive in the order in which the channel delivers them later. What they bring about may be
    /// more than one answer: ask [`poll`](Self::poll) for the others.
    pub fn arrival(
        &mut self,
        now: Millis,
        channel: usize,
        checkpoint: CheckpointId,
        overtake_at: Option<Millis>,
    ) -> Alignment {
        if channel >= self.channels {
            return Alignment::Ignored(IgnoredBecause::NoSuchChannel);
        }
        if self.ended.contains(channel) || self.ending.contains(channel) {
            return Alignment::Ignored(IgnoredBecause::Repeated);
        }
        let superseded = self.supersede(channel, checkpoint, false);
        self.superseded.extend(superseded);
        if let Some(recording) = self.recording_mut(checkpoint) {
            let is_new = recording.arrived.insert(channel);
            return if is_new { Alignment::Continue } else { Alignment::Ignored(IgnoredBecause::Repeated) };
        }
        if self.aborted.contains(&checkpoint) {
            self.settle(checkpoint);
        }
        if self.is_over(checkpoint) {
            return Alignment::Ignored(IgnoredBecause::Stale);
        }
        if !self.wait_for(now, checkpoint, overtake_at).arrived.insert(channel) {
            return Alignment::Ignored(IgnoredBecause::Repeated);
        }
        self.try_cut(now, None).unwrap_or(Alignment::Continue)
    }

    /// The barrier of `checkpoint` was read from `channel`.
    pub fn barrier(&mut self, now: Millis, channel: usize, checkpoint: CheckpointId) -> Alignment {
        if channel >= self.channels {
            return Alignment::Ignored(IgnoredBecause::NoSuchChannel);
        }
        if let Some(recording) = self.recording_mut(checkpoint) {
            // Its cut is behind the task. A host that reports no arrivals learns only now that nothing more
            // is to be recorded.
            let is_new = recording.arrived.insert(channel);
            return if is_new { Alignment::Continue } else { Alignment::Ignored(IgnoredBecause::Stale) };
        }
        if self.is_over(checkpoint) {
            return Alignment::Ignored(IgnoredBecause::Stale);
        }
        if self.ended.contains(channel) {
            return Alignment::Ignored(IgnoredBecause::Repeated);
        }
        let superseded = self.supersede(channel, checkpoint, true);
        if self.aborted.contains(&checkpoint) {
            self.settle(checkpoint);
            return match superseded {
                None => Alignment::Ignored(IgnoredBecause::Stale),
                superseded => Alignment::Aborted { checkpoint, superseded },
            };
        }
        self.wait_for(now, checkpoint, None).arrived.insert(channel);
        if !self.delivered.insert(channel) {
            return Alignment::Ignored(IgnoredBecause::Repeated);
        }
        self.try_cut(now, superseded).unwrap_or(Alignment::Block { checkpoint, superseded })
    }

    /// A cancellation marker of `checkpoint` was read from `channel`, in the place of its barrier: no barrier
    /// of an older checkpoint follows on that channel.
    pub fn cancellation(&mut self, channel: usize, checkpoint: CheckpointId) -> Alignment {
        if channel >= self.channels {
            return Alignment::Ignored(IgnoredBecause::NoSuchChannel);
        }
        let was_recorded = self.stop_recording(checkpoint);
        if self.is_over(checkpoint) && !was_recorded {
            return Alignment::Ignored(IgnoredBecause::Stale);
        }
        let superseded = self.supersede(channel, checkpoint, true);
        self.stop_waiting(checkpoint);
        let is_news = !self.aborted.contains(&checkpoint) || superseded.is_some();
        self.settle(checkpoint);
        if is_news {
            Alignment::Aborted { checkpoint, superseded }
        } else {
            Alignment::Ignored(IgnoredBecause::Stale)
        }
    }

    /// The coordinator aborted `checkpoint`: this one, and no other. Older ones that are under way go on,
    /// whether or not their barriers have come in; a newer one may have waited for this one
    /// ([`poll`](Self::poll)).
    pub fn abort(&mut self, checkpoint: CheckpointId) -> Alignment {
        let aborted = Alignment::Aborted { checkpoint, superseded: None };
        if self.stop_recording(checkpoint) {
            return aborted;
        }
        if self.is_over(checkpoint) || !self.aborted.insert(checkpoint) {
            return Alignment::Ignored(IgnoredBecause::Stale);
        }
        self.stop_waiting(checkpoint);
        aborted
    }

    /// The end of `channel` has arrived behind records that were not read: no barrier will.
    pub fn end_arrival(&mut self, channel: usize) -> Alignment {
        if channel >= self.channels {
            return Alignment::Ignored(IgnoredBecause::NoSuchChannel);
        }
        if self.ended.contains(channel) || !self.ending.insert(channel) {
            return Alignment::Ignored(IgnoredBecause::Repeated);
        }
        Alignment::Continue
    }

    /// `channel` has ended: all that it will ever deliver was read. It counts as having delivered every later
    /// barrier.
    pub fn end_of_channel(&mut self, now: Millis, channel: usize) -> Alignment {
        if channel >= self.channels {
            return Alignment::Ignored(IgnoredBecause::NoSuchChannel);
        }
        if !self.ended.insert(channel) {
            return Alignment::Ignored(IgnoredBecause::Repeated);
        }
        let other = if self.all_ended() { Alignment::AllEnded } else { Alignment::Continue };
        self.try_cut(now, None).unwrap_or(other)
    }

    /// What else follows from the inputs so far, or from the time. Ask after each input, and when the
    /// [deadline](Self::next_deadline) has come, until there is nothing.
    pub fn poll(&mut self, now: Millis) -> Option<Alignment> {
        if let Some(superseded) = self.superseded.pop_front() {
            return Some(Alignment::Superseded(superseded));
        }
        let Self { recordings, ended, ending, channels, .. } = self;
        if let Some(index) = recordings.iter().position(|r| r.is_complete(*channels, ended, ending)) {
            return Some(Alignment::Recorded(recordings.remove(index).checkpoint));
        }
        self.try_cut(now, None)
    }

    /// When the oldest checkpoint that is being aligned overtakes what it still waits for.
    pub fn next_deadline(&self) -> Option<Millis> {
        let oldest = self.waiting.front()?;
        if self.may_overtake_the_rest() { oldest.overtake_at } else { None }
    }

    /// Whether `channel` must not be read now.
    pub fn is_blocked(&self, channel: usize) -> bool {
        channel < self.channels && self.delivered.contains(channel)
    }

    /// Whether the cut of `checkpoint` has overtaken what had arrived on `channel` before its barrier and was
    /// not read. Holds from [`Overtaken`](Alignment::Overtaken) to [`Recorded`](Alignment::Recorded).
    pub fn has_overtaken(&self, checkpoint: CheckpointId, channel: usize) -> bool {
        let recording = self.recordings.iter().find(|recording| recording.checkpoint == checkpoint);
        channel < self.channels && recording.is_some_and(|recording| !recording.delivered.contains(channel))
    }

    /// The checkpoints that what arrives on `channel` now belongs to, although their cut is behind the task.
    pub fn recording(&self, channel: usize) -> impl Iterator<Item = CheckpointId> {
        let is_open =
            channel < self.channels && !self.ended.contains(channel) && !self.ending.contains(channel);
        let recordings = self.recordings.iter();
        let open = recordings.filter(move |recording| is_open && !recording.arrived.contains(channel));
        open.map(|recording| recording.checkpoint)
    }

    /// The oldest checkpoint that is being aligned.
    pub fn aligning(&self) -> Option<CheckpointId> {
        self.waiting.front().map(|oldest| oldest.checkpoint)
    }

    /// Whether `checkpoint` is under way, and its cut is not here yet.
    pub fn is_aligning(&self, checkpoint: CheckpointId) -> bool {
        self.waiting.iter().any(|waiting| waiting.checkpoint == checkpoint)
    }

    /// Whether every channel has ended.
    pub fn all_ended(&self) -> bool {
        self.ended.len() == self.channels
    }
}
