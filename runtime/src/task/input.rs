//! The task of an operator that other tasks feed: channels, alignment, watermarks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Select, TryRecvError};
use strandline_checkpoint_protocol::{Aligner, Alignment, Millis};
use strandline_state_api::{CheckpointId, Result};

use super::valve::{Passed, WatermarkValve};
use super::{FLUSH_AFTER, Task, close, complete, set_processing_time, until_timer};
use crate::barrier::Barrier;
use crate::batch::Side;
use crate::chain::assembly::{Assembly, Attempt};
use crate::chain::{Inlet, Signal, Work};
use crate::channel::{EdgeId, EdgeReader, Message, Pattern};
use crate::mailbox::{Control, Mailbox, TaskEvent};
use crate::passing::PassingBarrier;
use crate::summary::TaskSummary;
use crate::sync::cancelled;
use crate::threads::{Threads, any, receivable};

/// Builds what takes the batches.
pub(crate) type BuildInlet<'a> = &'a dyn Fn(&mut Assembly) -> Result<Box<dyn Inlet>>;

/// One subtask with inputs.
pub(crate) struct InputTask {
    inputs: Vec<Input>,
    /// Which of the channels of all inputs have ended, and how many have not.
    ended: Vec<bool>,
    open: usize,
    inlet: Box<dyn Inlet>,
    aligner: Aligner,
    /// The barrier that is being aligned, and when its first copy arrived.
    first_barrier: Option<(CheckpointId, Instant)>,
    valve: WatermarkValve,
    /// Where to look for input next.
    cursor: usize,
    epoch: Instant,
    attempt: Arc<Attempt>,
}

/// The channels of one edge.
struct Input {
    edge: EdgeReader,
    side: Side,
    /// The number of the first of them among the channels of all inputs.
    first: usize,
}

/// An exchange that a task reads from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InputEdge {
    pub(crate) edge: EdgeId,
    pub(crate) pattern: Pattern,
    pub(crate) side: Side,
}

impl InputTask {
    /// Builds a task that reads from `edges`. All of them are aligned together, and time is the least of all.
    pub(crate) fn build(
        assembly: &mut Assembly,
        edges: &[InputEdge],
        inlet: BuildInlet<'_>,
    ) -> Result<Box<dyn Task>> {
        let (mut inputs, mut channels) = (Vec::new(), 0);
        for InputEdge { edge, pattern, side } in edges.iter().copied() {
            let edge = assembly.attempt.wiring.readers(edge, pattern, assembly.subtask)?;
            let first = channels;
            channels += edge.channels();
            inputs.push(Input { edge, side, first });
        }
        Ok(Box::new(Self {
            aligner: Aligner::new(channels),
            valve: WatermarkValve::new(channels),
            ended: vec![false; channels],
            open: channels,
            inputs,
            inlet: inlet(assembly)?,
            first_barrier: None,
            cursor: 0,
            epoch: assembly.attempt.threads.now(),
            attempt: Arc::clone(&assembly.attempt),
        }))
    }

    /// The next message of a channel that may be read, from the inputs in turns: the input, the number of the
    /// channel in it, and the message.
    fn next_message(&mut self) -> Option<(usize, usize, Message)> {
        let Self { inputs, aligner, cursor, .. } = self;
        let count = inputs.len();
        for step in 0..count {
            let at = (*cursor + step) % count;
            let Some(Input { edge, first, .. }) = inputs.get_mut(at) else { continue };
            if let Some((channel, message)) = edge.inbox.next(|channel| aligner.is_blocked(*first + channel))
            {
                *cursor = (at + 1) % count;
                return Some((at, channel, message));
            }
        }
        None
    }

    fn take(&mut self, from: usize, channel: usize, message: Message, mailbox: &Mailbox) -> Result<()> {
        let input = &self.inputs[from];
        let at = input.first + channel;
        match message {
            Message::Batch { records, watermark } => {
                if let Some(mut records) = records {
                    if !records.is_empty() {
                        self.inlet.collect_any(input.side, &mut *records)?;
                    }
                    input.edge.recycle(channel, records);
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
            Message::Barrier(barrier) => self.barrier(at, barrier, mailbox)?,
            Message::End => {
                if !std::mem::replace(&mut self.ended[at], true) {
                    self.open -= 1;
                }
                if self.open == 0 {
                    self.inlet.signal(&mut Signal::End)?;
                    mailbox.send(TaskEvent::Drained(mailbox.task));
                }
            }
        }
        Ok(())
    }

    fn pass_time(&mut self, passed: Passed) -> Result<()> {
        if let Some(watermark) = passed.watermark {
            self.inlet.signal(&mut Signal::Watermark(watermark))?;
        }
        if passed.idle { self.inlet.signal(&mut Signal::Idle) } else { Ok(()) }
    }

    fn barrier(&mut self, at: usize, barrier: Barrier, mailbox: &Mailbox) -> Result<()> {
        let checkpoint = barrier.checkpoint;
        let arrived = self.attempt.threads.now();
        let now = arrived.saturating_duration_since(self.epoch).as_millis();
        let now = Millis(u64::try_from(now).unwrap_or(u64::MAX));
        let first = match self.first_barrier {
            Some((of, first)) if of == checkpoint => first,
            _ => arrived,
        };
        match self.aligner.barrier(now, at, checkpoint) {
            Alignment::Block { superseded, .. } => {
                self.first_barrier = Some((checkpoint, first));
                mailbox.superseded(superseded);
            }
            Alignment::Aligned(aligned) => {
                self.first_barrier = None;
                mailbox.superseded(aligned.superseded);
                let alignment = arrived.saturating_duration_since(first);
                let mut passing =
                    PassingBarrier::new(barrier, first, alignment, mailbox.task, mailbox.events.clone());
                self.inlet.signal(&mut Signal::Barrier(&mut passing))?;
                passing.close();
            }
            // A barrier of a checkpoint that was aborted meanwhile.
            Alignment::Aborted { superseded, .. } => mailbox.superseded(superseded),
            // No barrier overtakes records here.
            Alignment::Overtaken(_) | Alignment::Recorded(_) | Alignment::Superseded(_) => {}
            Alignment::Ignored(_) | Alignment::Continue | Alignment::AllEnded => {}
        }
        Ok(())
    }

    /// Follows a command of the coordinator; returns whether the job is over.
    fn handle_control(&mut self, control: Control, mailbox: &Mailbox) -> Result<bool> {
        match control {
            Control::Complete(checkpoint) => complete(&mut *self.inlet, checkpoint)?,
            Control::Aborted(aborted) => {
                if let Alignment::Aborted { superseded, .. } = self.aligner.abort(aborted.checkpoint) {
                    mailbox.superseded(superseded);
                }
                self.inlet.signal(&mut Signal::Aborted(&aborted))?;
            }
            Control::Finish => return Ok(true),
            Control::Trigger(_) => {}
        }
        Ok(false)
    }

    /// Waits until there is input or a command of the coordinator, or for so long; returns false in the
    /// latter case.
    fn is_ready(&self, timer: Option<Duration>, mailbox: &Mailbox) -> bool {
        if let Threads::Stepped(scheduler) = &self.attempt.threads {
            let inputs = self.inputs.iter().map(|input| input.edge.inbox.ready());
            let ready = any(inputs.chain([receivable(&mailbox.control)]).collect());
            let deadline = timer.map(|timer| scheduler.now() + timer);
            scheduler.wait(ready, deadline);
            return deadline.is_none_or(|deadline| scheduler.now() < deadline);
        }
        let mut select = Select::new();
        select.recv(&mailbox.control);
        for input in &self.inputs {
            select.recv(input.edge.inbox.woken());
        }
        match timer {
            None => {
                select.ready();
                true
            }
            Some(timer) => select.ready_timeout(timer).is_ok(),
        }
    }

    /// Waits until there is input or a command of the coordinator, or a processing timer is due.
    fn wait(&mut self, work: Work, mailbox: &Mailbox) -> Result<()> {
        if !self.is_ready(until_timer(work, &self.attempt), mailbox) {
            set_processing_time(&mut *self.inlet, &self.attempt)?;
        }
        for input in &self.inputs {
            // The messages are looked for next.
            let _ = input.edge.inbox.woken().try_recv();
        }
        Ok(())
    }
}

impl Task for InputTask {
    fn run(&mut self, mailbox: &Mailbox) -> Result<TaskSummary> {
        let threads = self.attempt.threads.clone();
        let mut flushed = threads.now();
        loop {
            threads.pass();
            match mailbox.control.try_recv() {
                Ok(control) => {
                    if self.handle_control(control, mailbox)? {
                        return close(&mut *self.inlet);
                    }
                    continue;
                }
                Err(TryRecvError::Disconnected) => return Err(cancelled()),
                Err(TryRecvError::Empty) => {}
            }
            if let Some((input, channel, message)) = self.next_message() {
                self.take(input, channel, message, mailbox)?;
                if threads.since(flushed) >= FLUSH_AFTER {
                    self.inlet.work()?;
                    flushed = threads.now();
                }
                continue;
            }
            let work = self.inlet.work()?;
            flushed = threads.now();
            if !work.more {
                self.wait(work, mailbox)?;
            }
        }
    }
}
