//! An operator or a sink in the hands of a host, which brings its input and cuts it at checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::{InputEdge, OpenedInputs};
use crate::barrier::Barrier;
use crate::batch::Side;
use crate::chain::assembly::{Assembly, Attempt};
use crate::chain::{Inlet, Signal};
use crate::channel::outbox::UsedBatches;
use crate::channel::{EdgeId, Message, Pattern};
use crate::mailbox::{Control, Mailbox, TaskEvent};
use crate::passing::PassingBarrier;
use crate::record_format::RecordFormat;
use crate::restored::{NextRestored, Restored};
use crate::summary::TaskSummary;
use crate::task::{Turn, close, complete, set_processing_time, until_timer};
use crate::valve::{Passed, WatermarkValve};

/// One subtask with inputs, without a thread and without channels.
pub(crate) struct HostedInputs {
    /// Each with the number of its first channel among those of all.
    edges: Vec<(InputEdge, usize)>,
    inlet: Box<dyn Inlet>,
    restored: Option<Restored>,
    valve: WatermarkValve,
    ended: Vec<bool>,
    open: usize,
    /// Barriers that came in and that the host has not cut at, and when the first copy of each did.
    barriers: BTreeMap<CheckpointId, (Barrier, Instant)>,
    /// Checkpoints that will never be complete and whose cut has not come.
    aborted: BTreeSet<CheckpointId>,
    used: UsedBatches,
    attempt: Arc<Attempt>,
}

impl HostedInputs {
    /// Takes over inputs that were built.
    pub(crate) fn start(assembly: &Assembly, opened: OpenedInputs, used: &UsedBatches) -> Self {
        let OpenedInputs { edges: opened, inlet, restored, .. } = opened;
        let (mut edges, mut channels) = (Vec::new(), 0);
        for edge in opened {
            let first = channels;
            channels += match edge.pattern {
                Pattern::AllToAll => assembly.parallelism() as usize,
                Pattern::OneToOne => 1,
            };
            edges.push((edge, first));
        }
        Self {
            edges,
            inlet,
            restored,
            valve: WatermarkValve::new(channels),
            ended: vec![false; channels],
            open: channels,
            barriers: BTreeMap::new(),
            aborted: BTreeSet::new(),
            used: used.clone(),
            attempt: Arc::clone(&assembly.attempt),
        }
    }

    /// How records of an edge become bytes.
    pub(crate) fn format(&self, edge: EdgeId) -> Option<&Arc<dyn RecordFormat>> {
        self.edges.iter().find(|(input, _)| input.edge == edge)?.0.format.as_ref()
    }

    /// Takes what subtask `from` has sent over `edge`.
    pub(crate) fn take(
        &mut self,
        edge: EdgeId,
        from: u32,
        message: Message,
        mailbox: &Mailbox,
    ) -> Result<()> {
        self.replay()?;
        let Some((input, first)) = self.edges.iter().find(|(input, _)| input.edge == edge) else {
            return Err(Error::new(
                ErrorKind::Internal,
                "a host brought a message of an edge that does not end here",
            ));
        };
        let at = match input.pattern {
            Pattern::AllToAll => first + from as usize,
            Pattern::OneToOne => *first,
        };
        match message {
            Message::Batch { records, watermark } => {
                if let Some(mut records) = records {
                    if !records.is_empty() {
                        self.inlet.collect_any(input.side, &mut *records)?;
                    }
                    self.used.keep(edge, records);
                }
                if let Some(watermark) = watermark {
                    let passed = self.valve.watermark(at, watermark);
                    self.pass_time(passed)?;
                }
            }
            Message::Idle => {
                let passed = self.valve.idle(at);
                self.pass_time(passed)?;
            }
            Message::Barrier(barrier) => {
                let now = self.attempt.threads.now();
                self.barriers.entry(barrier.checkpoint).or_insert((barrier, now));
            }
            Message::End => {
                let ended = self.ended.get_mut(at).is_some_and(|ended| !std::mem::replace(ended, true));
                self.open -= usize::from(ended);
                if ended && self.open == 0 {
                    self.inlet.signal(&mut Signal::End)?;
                    mailbox.send(TaskEvent::Drained(mailbox.task));
                }
            }
        }
        Ok(())
    }

    /// Everything before the barrier of `checkpoint` has come in, on all channels.
    pub(crate) fn cut(&mut self, checkpoint: CheckpointId, mailbox: &Mailbox) -> Result<()> {
        self.replay()?;
        let known = self.barriers.remove(&checkpoint);
        // Where no barrier came, the checkpoint was aborted before it had passed what feeds the operator.
        let Some((barrier, first)) = known.filter(|_| !self.aborted.remove(&checkpoint)) else {
            return Ok(());
        };
        let alignment = self.attempt.threads.since(first);
        let mut passing =
            PassingBarrier::new(barrier, first, alignment, mailbox.task, mailbox.events.clone());
        self.inlet.signal(&mut Signal::Barrier(&mut passing))?;
        passing.close();
        Ok(())
    }

    /// Follows a command of the coordinator; returns the summaries of its sinks when the job is over.
    pub(crate) fn control(&mut self, control: Control) -> Result<Option<TaskSummary>> {
        match control {
            Control::Complete(checkpoint) => complete(&mut *self.inlet, checkpoint)?,
            Control::Aborted(aborted) => {
                self.aborted.insert(aborted.checkpoint);
                self.inlet.signal(&mut Signal::Aborted(&aborted))?;
            }
            Control::Finish => return close(&mut *self.inlet).map(Some),
            Control::Trigger(_) | Control::DropLive(_) | Control::LookUp(_) => {}
        }
        Ok(None)
    }

    /// Forgets aborted checkpoints whose cut is behind.
    pub(crate) fn forget_aborted(&mut self, before: CheckpointId) {
        self.aborted.retain(|checkpoint| *checkpoint >= before);
    }

    /// Does what waits beside records.
    pub(crate) fn turn(&mut self) -> Result<Turn> {
        self.replay()?;
        set_processing_time(&mut *self.inlet, &self.attempt)?;
        let work = self.inlet.work()?;
        if work.more {
            return Ok(Turn::Again);
        }
        Ok(until_timer(work, &self.attempt).map_or(Turn::Resting, Turn::After))
    }

    fn pass_time(&mut self, passed: Passed) -> Result<()> {
        if let Some(watermark) = passed.watermark {
            self.inlet.signal(&mut Signal::Watermark(watermark))?;
        }
        if passed.idle { self.inlet.signal(&mut Signal::Idle) } else { Ok(()) }
    }

    /// Processes what was in flight in the restored checkpoint.
    fn replay(&mut self) -> Result<()> {
        let Some(mut restored) = self.restored.take() else { return Ok(()) };
        while let Some(next) = restored.next()? {
            match next {
                NextRestored::Records(mut records) => self.inlet.collect_any(Side::Main, &mut *records)?,
                NextRestored::Watermark(watermark) => self.inlet.signal(&mut Signal::Watermark(watermark))?,
            }
        }
        Ok(())
    }
}
