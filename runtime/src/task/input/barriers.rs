//! Barriers at a task with inputs: where they are read, and where they overtake what was not.

use std::time::{Duration, Instant};

use strandline_checkpoint_protocol::{Alignment, Millis};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::{FLUSH_AFTER, Input, InputTask};
use crate::barrier::Barrier;
use crate::chain::Signal;
use crate::channel::Message;
use crate::mailbox::Mailbox;
use crate::passing::PassingBarrier;

/// How many steps of snapshots are taken at least before a batch.
const ADVANCES: u32 = 8;

impl InputTask {
    fn millis(&self, at: Instant) -> Millis {
        let since = at.saturating_duration_since(self.epoch).as_millis();
        Millis(u64::try_from(since).unwrap_or(u64::MAX))
    }

    fn now(&self) -> Millis {
        self.millis(self.attempt.threads.now())
    }

    /// Notices what has arrived on all channels: reports barriers, and records what was overtaken.
    pub(super) fn notice(&mut self, mailbox: &Mailbox) -> Result<()> {
        if self.recorder.is_none() {
            return Ok(());
        }
        for input in 0..self.inputs.len() {
            self.inputs[input].edge.inbox.fetch();
            while let Some((at, barrier)) = self.notice_next(input) {
                if let Some(barrier) = barrier {
                    self.arrival(at, &barrier, mailbox)?;
                }
            }
        }
        if self.aligner.aligning().is_some() {
            self.follow(Alignment::Continue, mailbox)?;
        }
        if let Some(at) = self.overtake_at() {
            // Where the task waits for room in a channel it comes back then.
            self.urgency.raise(at);
        }
        Ok(())
    }

    /// Notices the next message of an input: records it where it was overtaken. Returns its channel, and the
    /// barrier that it is.
    fn notice_next(&mut self, input: usize) -> Option<(usize, Option<Barrier>)> {
        let Input { edge, first, format, .. } = self.inputs.get_mut(input)?;
        let (channel, message) = edge.inbox.next_arrival()?;
        let at = *first + channel;
        if let Message::Barrier(barrier) = message {
            return Some((at, Some(barrier.clone())));
        }
        if let Some(recorder) = &mut self.recorder {
            for checkpoint in self.aligner.recording(at) {
                recorder.add(checkpoint, at, message, format.as_ref());
            }
        }
        Some((at, None))
    }

    fn arrival(&mut self, at: usize, barrier: &Barrier, mailbox: &Mailbox) -> Result<()> {
        self.note(barrier);
        let overtake_at = barrier.overtake.map(|at| self.millis(at));
        let outcome = self.aligner.arrival(self.now(), at, barrier.checkpoint, overtake_at);
        self.follow(outcome, mailbox)
    }

    /// Moves the snapshots of overtaking barriers on for a while. What follows is a batch, which takes long
    /// where the job is under pressure: one step for each would hold up the checkpoint.
    pub(super) fn advance(&mut self) -> Result<()> {
        if !self.advances {
            return Ok(());
        }
        let began = self.attempt.threads.now();
        for step in 1.. {
            self.advances = false;
            self.inlet.signal(&mut Signal::Advance(&mut self.advances))?;
            let is_long = step >= ADVANCES && self.attempt.threads.since(began) >= FLUSH_AFTER;
            if !self.advances || is_long {
                break;
            }
        }
        Ok(())
    }

    /// A barrier was read.
    pub(super) fn barrier(&mut self, at: usize, barrier: &Barrier, mailbox: &Mailbox) -> Result<()> {
        self.note(barrier);
        let outcome = self.aligner.barrier(self.now(), at, barrier.checkpoint);
        self.follow(outcome, mailbox)
    }

    fn note(&mut self, barrier: &Barrier) {
        let arrived = self.attempt.threads.now();
        self.barriers.entry(barrier.checkpoint).or_insert_with(|| (barrier.clone(), arrived));
    }

    /// When the oldest checkpoint under way overtakes what it waits for.
    fn overtake_at(&self) -> Option<Instant> {
        self.aligner.next_deadline().map(|at| self.epoch + Duration::from_millis(at.0))
    }

    /// How long until then.
    pub(super) fn until_overtaking(&self) -> Option<Duration> {
        self.overtake_at().map(|at| at.saturating_duration_since(self.attempt.threads.now()))
    }

    /// Does what the aligner answers, and what follows from it.
    pub(super) fn follow(&mut self, outcome: Alignment, mailbox: &Mailbox) -> Result<()> {
        self.answer(outcome, mailbox)?;
        while let Some(outcome) = self.aligner.poll(self.now()) {
            self.answer(outcome, mailbox)?;
        }
        let Self { barriers, aligner, .. } = self;
        barriers.retain(|checkpoint, _| aligner.is_aligning(*checkpoint));
        Ok(())
    }

    fn answer(&mut self, outcome: Alignment, mailbox: &Mailbox) -> Result<()> {
        match outcome {
            Alignment::Aligned(cut) | Alignment::Overtaken(cut) => {
                self.superseded(cut.superseded, mailbox);
                let has_overtaken = matches!(outcome, Alignment::Overtaken(_));
                self.cut(cut.checkpoint, has_overtaken, mailbox)?;
            }
            Alignment::Recorded(checkpoint) => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.complete(checkpoint);
                }
            }
            Alignment::Block { superseded, .. } => self.superseded(superseded, mailbox),
            Alignment::Superseded(checkpoint) => self.superseded(Some(checkpoint), mailbox),
            Alignment::Aborted { checkpoint, superseded } => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.abandon(checkpoint);
                }
                self.superseded(superseded, mailbox);
            }
            Alignment::Ignored(_) | Alignment::Continue | Alignment::AllEnded => {}
        }
        Ok(())
    }

    fn superseded(&mut self, checkpoint: Option<CheckpointId>, mailbox: &Mailbox) {
        if let (Some(recorder), Some(checkpoint)) = (&mut self.recorder, checkpoint) {
            recorder.abandon(checkpoint);
        }
        mailbox.superseded(checkpoint);
    }

    /// The cut of a checkpoint: everything behind takes its snapshot, and what the barrier `overtakes` is
    /// encoded.
    fn cut(&mut self, checkpoint: CheckpointId, overtakes: bool, mailbox: &Mailbox) -> Result<()> {
        let Some((barrier, first)) = self.barriers.remove(&checkpoint) else {
            let message = "the cut of a checkpoint whose barrier has not come";
            return Err(Error::new(ErrorKind::Internal, message).with("checkpoint", checkpoint));
        };
        let alignment = self.attempt.threads.since(first);
        let events = mailbox.events.clone();
        let mut passing = PassingBarrier::new(barrier, first, alignment, mailbox.task, events);
        let ack = overtakes.then(|| passing.expect_snapshot());
        self.inlet.signal(&mut Signal::Barrier(&mut passing))?;
        passing.close();
        self.advances |= overtakes;
        let (Some(recorder), Some(ack)) = (&mut self.recorder, ack) else { return Ok(()) };
        recorder.begin(checkpoint, ack, &self.valve, self.restored.as_ref());
        for Input { edge, first, format, .. } in &self.inputs {
            for channel in 0..edge.channels() {
                let at = *first + channel;
                if !self.aligner.has_overtaken(checkpoint, at) {
                    continue;
                }
                let is_own =
                    |message: &&Message| matches!(message, Message::Barrier(b) if b.checkpoint == checkpoint);
                for message in edge.inbox.unread(channel).take_while(|message| !is_own(message)) {
                    recorder.add(checkpoint, at, message, format.as_ref());
                }
            }
        }
        Ok(())
    }
}
