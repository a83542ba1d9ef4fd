//! What tasks do: emit, read, snapshot at barriers, end.

use strandline_checkpoint_protocol::{Alignment, Millis};
use strandline_state_api::CheckpointId;

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
    /// nothing.)
    pub(crate) fn read(&mut self, channel: usize) -> Vec<Mail> {
        let sink = &mut self.sink;
        while let Some(Item::Record) = self.channels[channel].front() {
            self.channels[channel].pop_front();
            sink.received[channel] += 1;
        }
        let outcome = match self.channels[channel].pop_front() {
            None | Some(Item::Record) => return Vec::new(),
            Some(Item::Barrier(checkpoint)) => sink.aligner.barrier(Millis(0), channel, checkpoint),
            Some(Item::End) => sink.aligner.end_of_channel(Millis(0), channel),
        };
        let mut mail = Vec::new();
        let id = sink_id(self.attempt);
        let mut ended = outcome == Alignment::AllEnded;
        if let Alignment::Aligned(cut) = outcome {
            mail.push(Mail::Ack(id, cut.checkpoint, Snap::Received(sink.received)));
            sink.last_barrier = Some(cut.checkpoint);
            ended = cut.all_ended;
        }
        if ended && !sink.ended {
            sink.ended = true;
            mail.push(Mail::Finished(id, sink.last_barrier));
        }
        mail
    }

    /// Which source a task is, if it is one of these.
    pub(crate) fn source(&self, task: strandline_checkpoint_protocol::TaskId) -> Option<usize> {
        (0..SOURCES).find(|source| source_id(*source, self.attempt) == task)
    }
}
