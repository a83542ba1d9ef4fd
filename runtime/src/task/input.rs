//! The task of an operator that other tasks feed: channels, alignment, watermarks.

mod barriers;
pub(crate) mod hosted;
mod recorder;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Select, TryRecvError};
use strandline_checkpoint_protocol::Aligner;
use strandline_state_api::{CheckpointId, OperatorId, Result};

use self::recorder::Recorder;
use super::{FLUSH_AFTER, Head, Task, close, complete, set_processing_time, until_timer};
use crate::barrier::Barrier;
use crate::batch::Side;
use crate::chain::assembly::{Assembly, Attempt};
use crate::chain::{Inlet, Signal, Work};
use crate::channel::{EdgeId, EdgeReader, Message, Pattern};
use crate::config::Unaligned;
use crate::mailbox::{Control, Mailbox, TaskEvent};
use crate::record_format::RecordFormat;
use crate::restored::{NextRestored, Restored};
use crate::summary::TaskSummary;
use crate::sync::cancelled;
use crate::threads::{Threads, any, receivable};
use crate::urgency::Urgency;
use crate::valve::{Passed, WatermarkValve};

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
    /// The barriers that have come in and whose cut is not here yet, and when the first copy of each arrived.
    barriers: BTreeMap<CheckpointId, (Barrier, Instant)>,
    /// `None` where barriers never overtake records.
    recorder: Option<Recorder>,
    /// What was in flight in the restored checkpoint; goes before everything in the channels.
    restored: Option<Restored>,
    urgency: Arc<Urgency>,
    /// Snapshots of overtaking barriers are under way: they move on before the next record, which may take
    /// long.
    advances: bool,
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
    format: Option<Arc<dyn RecordFormat>>,
}

/// An exchange that a task reads from.
#[derive(Clone, Debug)]
pub(crate) struct InputEdge {
    pub(crate) edge: EdgeId,
    pub(crate) pattern: Pattern,
    pub(crate) side: Side,
    /// The bytes of its records, where their stream has a codec.
    pub(crate) format: Option<Arc<dyn RecordFormat>>,
}

/// The inputs of one subtask, and all that lies behind them.
pub(crate) struct OpenedInputs {
    pub(super) operator: OperatorId,
    pub(super) edges: Vec<InputEdge>,
    pub(super) inlet: Box<dyn Inlet>,
    pub(super) restored: Option<Restored>,
}

impl OpenedInputs {
    /// Builds what takes the batches of `edges`. All of them are aligned together, and time is the least of
    /// all.
    pub(crate) fn build(assembly: &mut Assembly, edges: &[InputEdge], inlet: BuildInlet<'_>) -> Result<Head> {
        let (operator, subtask) = (assembly.head().clone(), assembly.subtask);
        let main = edges.iter().find(|edge| edge.side == Side::Main).and_then(|edge| edge.format.as_ref());
        let restored = Restored::take_over(assembly.in_flight(&operator), main)
            .map_err(|error| error.with("operator", &operator).with("subtask", subtask))?;
        let (edges, inlet) = (edges.to_vec(), inlet(assembly)?);
        Ok(Head::Inputs(Box::new(Self { operator, edges, inlet, restored })))
    }
}

impl InputTask {
    /// A task that reads from the channels of its inputs.
    pub(crate) fn new(assembly: &Assembly, opened: OpenedInputs) -> Result<Self> {
        let OpenedInputs { operator, edges, inlet, restored } = opened;
        let subtask = assembly.subtask;
        let may_overtake = assembly.attempt.config.unaligned() != Unaligned::Off;
        let (mut inputs, mut channels, mut overtakable) = (Vec::new(), 0, Vec::new());
        for InputEdge { edge, pattern, side, format } in edges {
            let wiring = &assembly.attempt.wiring;
            let edge = wiring.readers(edge, pattern, subtask, &assembly.urgency, may_overtake)?;
            let first = channels;
            channels += edge.channels();
            // Copies of a broadcast record that some subtasks had taken and others not would differ.
            if side == Side::Main && format.is_some() {
                overtakable.extend(first..channels);
            }
            inputs.push(Input { edge, side, first, format });
        }
        let mut aligner = Aligner::new(channels);
        if may_overtake {
            overtakable.into_iter().for_each(|channel| aligner.let_overtake(channel));
        }
        Ok(Self {
            aligner,
            valve: WatermarkValve::new(channels),
            ended: vec![false; channels],
            open: channels,
            inputs,
            inlet,
            barriers: BTreeMap::new(),
            recorder: may_overtake.then(|| Recorder::new(operator, subtask)),
            restored,
            urgency: Arc::clone(&assembly.urgency),
            advances: false,
            cursor: 0,
            epoch: assembly.attempt.threads.now(),
            attempt: Arc::clone(&assembly.attempt),
        })
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
            Message::Barrier(barrier) => self.barrier(at, &barrier, mailbox)?,
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

    /// Processes a piece of what was in flight in the restored checkpoint.
    fn replay(&mut self) -> Result<()> {
        let Some(restored) = &mut self.restored else { return Ok(()) };
        let next = restored.next()?;
        if restored.is_empty() {
            self.restored = None;
        }
        match next {
            Some(NextRestored::Records(mut records)) => self.inlet.collect_any(Side::Main, &mut *records),
            Some(NextRestored::Watermark(watermark)) => self.inlet.signal(&mut Signal::Watermark(watermark)),
            None => Ok(()),
        }
    }

    /// Follows a command of the coordinator; returns whether the job is over.
    fn handle_control(&mut self, control: Control, mailbox: &Mailbox) -> Result<bool> {
        match control {
            Control::Complete(checkpoint) => complete(&mut *self.inlet, checkpoint)?,
            Control::Aborted(aborted) => {
                let outcome = self.aligner.abort(aborted.checkpoint);
                self.follow(outcome, mailbox)?;
                self.inlet.signal(&mut Signal::Aborted(&aborted))?;
            }
            Control::DropLive(checkpoint) => {
                let outcome = self.aligner.abort(checkpoint);
                self.follow(outcome, mailbox)?;
                self.inlet.signal(&mut Signal::DropLive(checkpoint))?;
            }
            Control::LookUp(look_up) => self.inlet.signal(&mut Signal::LookUp(&look_up))?,
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
        let timer = until_timer(work, &self.attempt).into_iter().chain(self.until_overtaking()).min();
        if !self.is_ready(timer, mailbox) {
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
            self.urgency.calm();
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
            self.notice(mailbox)?;
            self.advance()?;
            let message = match self.restored {
                Some(_) => None,
                None => self.next_message(),
            };
            if self.restored.is_some() || message.is_some() {
                match message {
                    Some((input, channel, message)) => self.take(input, channel, message, mailbox)?,
                    None => self.replay()?,
                }
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
