//! What tasks do: emit, read, snapshot at barriers, end.

use strandline_checkpoint_protocol::Alignment;
use strandline_state_api::CheckpointId;

use crate::outputs::Content;
use crate::overtaking::Barriers;
use crate::world::{Item, Mail, Recorded, SOURCES, Snap, Tasks, sink_id, source_id};

/// The file that a sink closes at a barrier.
type Closed = Option<(CheckpointId, Content)>;

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
        let may_overtake = self.sink.barriers != Barriers::Aligned;
        self.channels[channel].iter().any(|item| may_overtake || *item != Item::Record)
            && !self.sink.aligner.is_blocked(channel)
    }

    /// The sink reads a channel up to its next marker: when it reads the records before that changes nothing,
    /// unless a barrier may overtake them. Then it reads one.
    pub(crate) fn read(&mut self, channel: usize, file: &mut Closed) -> Vec<Mail> {
        let mut mail = self.notice(file);
        if self.sink.aligner.is_blocked(channel) {
            return mail;
        }
        while let Some(Item::Record) = self.channels[channel].front() {
            self.pop(channel);
            self.sink.received[channel] += 1;
            if self.sink.barriers != Barriers::Aligned {
                return mail;
            }
        }
        let next = self.channels[channel].front().copied();
        let is_superseded = matches!(next, Some(Item::Barrier(checkpoint)) if self.is_superseded(checkpoint));
        let (now, sink) = (self.sink.now, &mut self.sink);
        let outcome = match next {
            None | Some(Item::Record) => return mail,
            Some(Item::Barrier(checkpoint)) => {
                let outcome = sink.aligner.barrier(now, channel, checkpoint);
                let may_ignore = is_superseded
                    || sink.newest_read > Some(checkpoint)
                    || sink.told_aborted & (1 << checkpoint.0) != 0
                    || sink.last_barrier >= Some(checkpoint);
                self.is_deaf |= matches!(outcome, Alignment::Ignored(_)) && !may_ignore;
                if sink.barriers == Barriers::Aligned {
                    sink.newest_read = sink.newest_read.max(Some(checkpoint));
                }
                outcome
            }
            Some(Item::End) => sink.aligner.end_of_channel(now, channel),
        };
        self.pop(channel);
        self.follow(outcome, file, &mut mail);
        mail
    }

    fn pop(&mut self, channel: usize) {
        self.channels[channel].pop_front();
        self.sink.noticed[channel] = self.sink.noticed[channel].saturating_sub(1);
    }

    /// Does what the aligner answers, and what follows from it.
    pub(crate) fn follow(&mut self, outcome: Alignment, file: &mut Closed, mail: &mut Vec<Mail>) {
        self.answer(outcome, file, mail);
        while let Some(outcome) = self.sink.aligner.poll(self.sink.now) {
            self.answer(outcome, file, mail);
        }
    }

    fn answer(&mut self, outcome: Alignment, file: &mut Closed, mail: &mut Vec<Mail>) {
        let id = sink_id(self.attempt);
        let mut ended = outcome == Alignment::AllEnded;
        let superseded = match outcome {
            Alignment::Block { superseded, .. } | Alignment::Aborted { superseded, .. } => superseded,
            Alignment::Aligned(cut) | Alignment::Overtaken(cut) => cut.superseded,
            Alignment::Superseded(checkpoint) => Some(checkpoint),
            _ => None,
        };
        if let Some(checkpoint) = superseded {
            self.sink.recordings.remove(&checkpoint);
            mail.push(Mail::Decline { task: id, checkpoint, is_superseded: true });
        }
        match outcome {
            Alignment::Aligned(cut) => {
                let at_cut = self.cut(cut.checkpoint, file);
                mail.push(Mail::Ack(id, cut.checkpoint, Snap::Received(at_cut)));
                ended = cut.all_ended;
            }
            Alignment::Overtaken(cut) => {
                let mut at_cut = self.cut(cut.checkpoint, file);
                at_cut.overtaken = std::array::from_fn(|channel| self.overtaken(cut.checkpoint, channel));
                self.sink.recordings.insert(cut.checkpoint, at_cut);
                ended = cut.all_ended;
            }
            Alignment::Recorded(checkpoint) => {
                let recorded = self.sink.recordings.remove(&checkpoint);
                mail.extend(recorded.map(|recorded| Mail::Ack(id, checkpoint, Snap::Received(recorded))));
            }
            _ => {}
        }
        if ended && !self.sink.ended {
            self.sink.ended = true;
            mail.push(Mail::Finished(id, self.sink.last_barrier));
        }
    }

    /// The sink snapshots: it closes the file of what it has received since the cut before.
    fn cut(&mut self, checkpoint: CheckpointId, file: &mut Closed) -> Recorded {
        let sink = &mut self.sink;
        if sink.is_writing && sink.written != sink.received {
            let content = std::array::from_fn(|source| (sink.written[source], sink.received[source]));
            *file = Some((checkpoint, content));
            sink.written = sink.received;
            sink.pending |= 1 << checkpoint.0;
        }
        sink.last_barrier = Some(checkpoint);
        Recorded { received: sink.received, overtaken: [0; SOURCES], pending: sink.pending }
    }

    /// The sink is notified that a checkpoint never completes.
    pub(crate) fn aborted(&mut self, checkpoint: CheckpointId, file: &mut Closed) -> Vec<Mail> {
        let mut mail = Vec::new();
        self.sink.told_aborted |= 1 << checkpoint.0;
        self.sink.recordings.remove(&checkpoint);
        let outcome = self.sink.aligner.abort(checkpoint);
        self.follow(outcome, file, &mut mail);
        mail
    }

    /// Which source a task is, if it is one of these.
    pub(crate) fn source(&self, task: strandline_checkpoint_protocol::TaskId) -> Option<usize> {
        (0..SOURCES).find(|source| source_id(*source, self.attempt) == task)
    }
}
