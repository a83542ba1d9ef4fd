//! The task of an operator that other tasks feed: channels, alignment, watermarks.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Select, TryRecvError};
use strandline_checkpoint_protocol::{Aligner, Alignment, Millis};
use strandline_state_api::{CheckpointId, Result, Timestamp};

use super::{FLUSH_AFTER, Task, close, complete, set_processing_time, until_timer};
use crate::barrier::Barrier;
use crate::batch::Side;
use crate::chain::assembly::{Assembly, Attempt};
use crate::chain::{Inlet, Signal, Work};
use crate::channel::{ChannelReader, EdgeId, Message, Pattern};
use crate::mailbox::{Control, Mailbox, TaskEvent};
use crate::passing::PassingBarrier;
use crate::summary::TaskSummary;
use crate::sync::cancelled;

/// Builds what takes the batches.
pub(crate) type BuildInlet<'a> = &'a dyn Fn(&mut Assembly) -> Result<Box<dyn Inlet>>;

/// One subtask with inputs.
pub(crate) struct InputTask {
    channels: Vec<InputChannel>,
    inlet: Box<dyn Inlet>,
    aligner: Aligner,
    /// The barrier that is being aligned, and when its first copy arrived.
    first_barrier: Option<(CheckpointId, Instant)>,
    /// The least watermark of the channels that have not ended.
    watermark: Option<Timestamp>,
    /// Where to look for input next.
    cursor: usize,
    epoch: Instant,
    attempt: Arc<Attempt>,
}

struct InputChannel {
    reader: ChannelReader,
    side: Side,
    watermark: Option<Timestamp>,
    ended: bool,
    /// Its writer has left, because the job is over or has failed: the coordinator knows which.
    gone: bool,
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
        let mut channels = Vec::new();
        for InputEdge { edge, pattern, side } in edges.iter().copied() {
            for reader in assembly.attempt.wiring.readers(edge, pattern, assembly.subtask)? {
                channels.push(InputChannel { reader, side, watermark: None, ended: false, gone: false });
            }
        }
        Ok(Box::new(Self {
            aligner: Aligner::new(channels.len()),
            channels,
            inlet: inlet(assembly)?,
            first_barrier: None,
            watermark: None,
            cursor: 0,
            epoch: Instant::now(),
            attempt: Arc::clone(&assembly.attempt),
        }))
    }

    /// The next message of a channel that may be read, in turns.
    fn next_message(&mut self) -> Option<(usize, Message)> {
        let channels = self.channels.len();
        for step in 0..channels {
            let at = (self.cursor + step) % channels;
            let channel = &mut self.channels[at];
            if channel.gone || self.aligner.is_blocked(at) {
                continue;
            }
            match channel.reader.receiver.try_recv() {
                Ok(message) => {
                    self.cursor = (at + 1) % channels;
                    return Some((at, message));
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => channel.gone = true,
            }
        }
        None
    }

    fn take(&mut self, at: usize, message: Message, mailbox: &Mailbox) -> Result<()> {
        let channel = &mut self.channels[at];
        match message {
            Message::Batch { records, watermark } => {
                if let Some(mut records) = records {
                    if !records.is_empty() {
                        self.inlet.collect_any(channel.side, &mut *records)?;
                    }
                    channel.reader.recycle(records);
                }
                if watermark > channel.watermark {
                    channel.watermark = watermark;
                    self.combine_watermarks()?;
                }
            }
            Message::Barrier(barrier) => self.barrier(at, barrier, mailbox)?,
            Message::End => {
                channel.ended = true;
                self.combine_watermarks()?;
                if self.channels.iter().all(|channel| channel.ended) {
                    self.inlet.signal(&mut Signal::End)?;
                    mailbox.send(TaskEvent::Drained(mailbox.task));
                }
            }
        }
        Ok(())
    }

    /// The watermark is the least of all channels that have not ended; it never falls.
    fn combine_watermarks(&mut self) -> Result<()> {
        let open = self.channels.iter().filter(|channel| !channel.ended);
        let least = open.map(|channel| channel.watermark).min().unwrap_or(Some(Timestamp::MAX));
        match least {
            Some(watermark) if least > self.watermark => {
                self.watermark = least;
                self.inlet.signal(&mut Signal::Watermark(watermark))
            }
            _ => Ok(()),
        }
    }

    fn barrier(&mut self, at: usize, barrier: Barrier, mailbox: &Mailbox) -> Result<()> {
        let checkpoint = barrier.checkpoint;
        let now = Millis(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX));
        let arrived = Instant::now();
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
                let mut passing = PassingBarrier::new(barrier, first, mailbox.task, mailbox.events.clone());
                self.inlet.signal(&mut Signal::Barrier(&mut passing))?;
                passing.close();
            }
            // A barrier of a checkpoint that was aborted meanwhile.
            Alignment::Aborted { superseded, .. } => mailbox.superseded(superseded),
            Alignment::Ignored(_) | Alignment::Continue | Alignment::AllEnded => {}
        }
        Ok(())
    }

    /// Follows a command of the coordinator; returns whether the job is over.
    fn handle_control(&mut self, control: Control, mailbox: &Mailbox) -> Result<bool> {
        match control {
            Control::Complete(checkpoint) => complete(&mut *self.inlet, checkpoint)?,
            Control::Aborted(checkpoint) => {
                if let Alignment::Aborted { superseded, .. } = self.aligner.abort(checkpoint) {
                    mailbox.superseded(superseded);
                }
                self.inlet.signal(&mut Signal::Aborted(checkpoint))?;
            }
            Control::Finish => return Ok(true),
            Control::Trigger(_) => {}
        }
        Ok(false)
    }

    /// Waits until there is input or a command of the coordinator, or a processing timer is due.
    fn wait(&mut self, work: Work, mailbox: &Mailbox) -> Result<()> {
        let mut select = Select::new();
        select.recv(&mailbox.control);
        for (at, channel) in self.channels.iter().enumerate() {
            if !channel.gone && !self.aligner.is_blocked(at) {
                select.recv(&channel.reader.receiver);
            }
        }
        match until_timer(work, &self.attempt) {
            None => {
                select.ready();
            }
            Some(wait) if select.ready_timeout(wait).is_err() => {
                set_processing_time(&mut *self.inlet, &self.attempt)?;
            }
            Some(_) => {}
        }
        Ok(())
    }
}

impl Task for InputTask {
    fn run(&mut self, mailbox: &Mailbox) -> Result<TaskSummary> {
        let mut flushed = Instant::now();
        loop {
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
            if let Some((at, message)) = self.next_message() {
                self.take(at, message, mailbox)?;
                if flushed.elapsed() >= FLUSH_AFTER {
                    self.inlet.work()?;
                    flushed = Instant::now();
                }
                continue;
            }
            let work = self.inlet.work()?;
            flushed = Instant::now();
            if !work.more {
                self.wait(work, mailbox)?;
            }
        }
    }
}
