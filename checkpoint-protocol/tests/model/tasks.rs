//! What tasks do: emit, read, snapshot at barriers, end.

use strandline_checkpoint_protocol::{Alignment, Millis};
use strandline_state_api::CheckpointId;

use crate::outputs::Content;
use crate::world::{Item, Mail, SOURCES, Snap, Tasks, sink_id, source_id};

impl Tasks {
    pub(crate) fn emit(&mut self, source: usize) {
        self.sources[source].emitted += 1;
        self.channels[source].push_back(Item::Record);
    }

    /// A source has nothing more to emit.
    pub(crate) fn end(&mut self, source: usize) -> Mail {
        self.sources[source].ended = true;
        self.channels[source].push_back(Item::End);
        Mail::Finished(source_id(source, self.attempt), self.sources[source].last_barrier)
    }

    /// The coordinator has a source inject a barrier. One that comes late, after a newer, is passed over.
    pub(crate) fn trigger(&mut self, source: usize, checkpoint: CheckpointId) -> Option<Mail> {
        let state = &mut self.sources[source];
        if state.ended || state.last_barrier >= Some(checkpoint) {
            return None;
        }
        state.last_barrier = Some(checkpoint);
        self.channels[source].push_back(Item::Barrier(checkpoint));
        Some(Mail::Ack(source_id(source, self.attempt), checkpoint, Snap::Emitted(state.emitted)))
    }

    pub(crate) fn can_read(&self, channel: usize) -> bool {
        self.channels[channel].iter().any(|item| *item != Item::Record)
            && !self.sink.aligner.is_blocked(channel)
    }

    /// The sink reads a channel up to its next marker. (When it reads the records before that changes
    /// nothing.) At a barrier it closes the file of what it has received since the one before.
    pub(crate) fn read(&mut self, channel: usize, file: &mut Option<(CheckpointId, Content)>) -> Vec<Mail> {
        let sink = &mut self.sink;
        while let Some(Item::Record) = self.channels[channel].front() {
            self.channels[channel].pop_front();
            sink.received[channel] += 1;
        }
        let outcome = match self.channels[channel].pop_front() {
            None | Some(Item::Record) => return Vec::new(),
            Some(Item::Barrier(checkpoint)) => {
                let outcome = sink.aligner.barrier(Millis(0), channel, checkpoint);
                let may_ignore = sink.newest_read > Some(checkpoint)
                    || sink.told_aborted & (1 << checkpoint.0) != 0
                    || sink.last_barrier >= Some(checkpoint);
                self.is_deaf |= matches!(outcome, Alignment::Ignored(_)) && !may_ignore;
                sink.newest_read = sink.newest_read.max(Some(checkpoint));
                outcome
            }
            Some(Item::End) => sink.aligner.end_of_channel(Millis(0), channel),
        };
        let mut mail = Vec::new();
        let id = sink_id(self.attempt);
        let mut ended = outcome == Alignment::AllEnded;
        let superseded = match outcome {
            Alignment::Block { superseded, .. } | Alignment::Aborted { superseded, .. } => superseded,
            Alignment::Aligned(cut) => cut.superseded,
            _ => None,
        };
        mail.extend(superseded.map(|checkpoint| Mail::Decline { task: id, checkpoint, is_superseded: true }));
        if let Alignment::Aligned(cut) = outcome {
            if sink.is_writing && sink.written != sink.received {
                let content = std::array::from_fn(|source| (sink.written[source], sink.received[source]));
                *file = Some((cut.checkpoint, content));
                sink.written = sink.received;
                sink.pending |= 1 << cut.checkpoint.0;
            }
            mail.push(Mail::Ack(id, cut.checkpoint, Snap::Received(sink.received, sink.pending)));
            sink.last_barrier = Some(cut.checkpoint);
            ended = cut.all_ended;
        }
        if ended && !sink.ended {
            sink.ended = true;
            mail.push(Mail::Finished(id, sink.last_barrier));
        }
        mail
    }

    /// The sink is notified that a checkpoint never completes.
    pub(crate) fn aborted(&mut self, checkpoint: CheckpointId) -> Vec<Mail> {
        let id = sink_id(self.attempt);
        self.sink.told_aborted |= 1 << checkpoint.0;
        match self.sink.aligner.abort(checkpoint) {
            Alignment::Aborted { superseded: Some(older), .. } => {
                vec![Mail::Decline { task: id, checkpoint: older, is_superseded: true }]
            }
            _ => Vec::new(),
        }
    }

    /// Which source a task is, if it is one of these.
    pub(crate) fn source(&self, task: strandline_checkpoint_protocol::TaskId) -> Option<usize> {
        (0..SOURCES).find(|source| source_id(*source, self.attempt) == task)
    }
}
