//! The task of an operator that other tasks feed: channels, alignment, watermarks.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Select, TryRecvError};
use strandline_checkpoint_protocol::{Aligner, Alignment, Millis};
use strandline_state_api::{CheckpointId, Result};

use super::Task;
use super::receive::{Receive, both_sides, one_side};
use super::source::{FLUSH_AFTER, until};
use crate::batch::{Payload, Sided};
use crate::chain::assembly::{Assembly, Attempt};
use crate::chain::{Node, Signal, Work};
use crate::channel::{Barrier, EdgeId, Message, Pattern};
use crate::cut::Cut;
use crate::mailbox::{Closing, Control, Mailbox, TaskEvent};
use crate::sync::cancelled;

/// Builds what takes the batches.
pub(crate) type BuildNode<P> = dyn Fn(&mut Assembly) -> Result<Box<dyn Node<P>>>;

/// One subtask with inputs.
pub(crate) struct InputTask<P> {
    channels: Vec<Channel<P>>,
    node: Box<dyn Node<P>>,
    aligner: Aligner,
    /// The barrier that is being aligned, and when the first of it came.
    first_barrier: Option<(CheckpointId, Instant)>,
    /// The least watermark of the channels that have not ended.
    watermark: i64,
    /// Where to look for input next.
    cursor: usize,
    epoch: Instant,
    attempt: Arc<Attempt>,
}

struct Channel<P> {
    reader: Box<dyn Receive<P>>,
    watermark: i64,
    ended: bool,
    /// Its writer has left, because the job is over or has failed: the coordinator will say which.
    gone: bool,
}

impl<A: Payload, B: Payload> InputTask<Sided<A, B>> {
    /// A task with a keyed and a broadcast side. Both are aligned together, and time is the least of both.
    pub(crate) fn build_sided(
        assembly: &mut Assembly,
        keyed: &[EdgeId],
        broadcast: &[EdgeId],
        node: &BuildNode<Sided<A, B>>,
    ) -> Result<Box<dyn Task>> {
        let readers = both_sides(assembly, keyed, broadcast)?;
        Ok(Box::new(Self::new(assembly, readers, node)?))
    }
}

impl<P: Payload> InputTask<P> {
    pub(crate) fn build(
        assembly: &mut Assembly,
        inputs: &[EdgeId],
        pattern: Pattern,
        node: &BuildNode<P>,
    ) -> Result<Box<dyn Task>> {
        let readers = one_side(assembly, inputs, pattern)?;
        Ok(Box::new(Self::new(assembly, readers, node)?))
    }

    fn new(assembly: &mut Assembly, readers: Vec<Box<dyn Receive<P>>>, node: &BuildNode<P>) -> Result<Self> {
        let channel = |reader| Channel { reader, watermark: i64::MIN, ended: false, gone: false };
        let channels: Vec<_> = readers.into_iter().map(channel).collect();
        Ok(Self {
            aligner: Aligner::new(channels.len()),
            channels,
            node: node(assembly)?,
            first_barrier: None,
            watermark: i64::MIN,
            cursor: 0,
            epoch: Instant::now(),
            attempt: Arc::clone(&assembly.attempt),
        })
    }

    /// The next message of a channel that may be read, in turns.
    fn next_message(&mut self) -> Option<(usize, Message<P>)> {
        let channels = self.channels.len();
        for step in 0..channels {
            let at = (self.cursor + step) % channels;
            let channel = &mut self.channels[at];
            if channel.gone || self.aligner.is_blocked(at) {
                continue;
            }
            match channel.reader.try_recv() {
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

    fn take(&mut self, at: usize, message: Message<P>, mailbox: &Mailbox) -> Result<()> {
        match message {
            Message::Batch { mut records, watermark } => {
                if !records.is_empty() {
                    self.node.collect(&mut records)?;
                }
                self.channels[at].reader.recycle(records);
                if let Some(watermark) = watermark {
                    let channel = &mut self.channels[at];
                    channel.watermark = channel.watermark.max(watermark);
                    self.combine_watermarks()?;
                }
            }
            Message::Barrier(barrier) => self.barrier(at, barrier, mailbox)?,
            Message::End => {
                self.channels[at].ended = true;
                self.combine_watermarks()?;
                if self.channels.iter().all(|channel| channel.ended) {
                    self.node.signal(&mut Signal::End)?;
                    mailbox.tell(TaskEvent::Drained(mailbox.task));
                }
            }
        }
        Ok(())
    }

    /// The watermark is the least of all channels that have not ended; it never falls.
    fn combine_watermarks(&mut self) -> Result<()> {
        let open = self.channels.iter().filter(|channel| !channel.ended);
        let least = open.map(|channel| channel.watermark).min().unwrap_or(i64::MAX);
        if least > self.watermark {
            self.watermark = least;
            self.node.signal(&mut Signal::Watermark(least))?;
        }
        Ok(())
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
                let mut cut = Cut::new(barrier, first, mailbox.task, mailbox.events.clone());
                self.node.signal(&mut Signal::Barrier(&mut cut))?;
                cut.close();
            }
            // A barrier of a checkpoint that was aborted meanwhile.
            Alignment::Ignored(_) | Alignment::Aborted { .. } | Alignment::Continue | Alignment::AllEnded => {
            }
        }
        Ok(())
    }

    /// Does what the coordinator says; `true` when the job is over.
    fn obey(&mut self, control: Control, mailbox: &Mailbox) -> Result<bool> {
        match control {
            Control::Complete(checkpoint) => self.node.signal(&mut Signal::Complete(checkpoint))?,
            Control::Aborted(checkpoint) => {
                if let Alignment::Aborted { superseded, .. } = self.aligner.abort(checkpoint) {
                    mailbox.superseded(superseded);
                }
            }
            Control::Finish => return Ok(true),
            Control::Trigger(_) => {}
        }
        Ok(false)
    }

    /// Waits until there is input, a word of the coordinator, or a processing timer is due.
    fn wait(&mut self, work: Work, mailbox: &Mailbox) -> Result<()> {
        let mut select = Select::new();
        select.recv(&mailbox.control);
        for (at, channel) in self.channels.iter().enumerate() {
            if !channel.gone && !self.aligner.is_blocked(at) {
                channel.reader.watch(&mut select);
            }
        }
        match until(work, &self.attempt) {
            None => {
                select.ready();
            }
            Some(wait) if select.ready_timeout(wait).is_err() => {
                let now = self.attempt.config.clock.now_ms();
                self.node.signal(&mut Signal::ProcessingTime(now))?;
            }
            Some(_) => {}
        }
        Ok(())
    }
}

impl<P: Payload> Task for InputTask<P> {
    fn run(&mut self, mailbox: &Mailbox) -> Result<Closing> {
        let mut flushed = Instant::now();
        loop {
            match mailbox.control.try_recv() {
                Ok(control) => {
                    if self.obey(control, mailbox)? {
                        let mut closing = Closing::default();
                        self.node.signal(&mut Signal::Close(&mut closing))?;
                        return Ok(closing);
                    }
                    continue;
                }
                Err(TryRecvError::Disconnected) => return Err(cancelled()),
                Err(TryRecvError::Empty) => {}
            }
            if let Some((at, message)) = self.next_message() {
                self.take(at, message, mailbox)?;
                if flushed.elapsed() >= FLUSH_AFTER {
                    self.node.work()?;
                    flushed = Instant::now();
                }
                continue;
            }
            let work = self.node.work()?;
            flushed = Instant::now();
            if !work.more {
                self.wait(work, mailbox)?;
            }
        }
    }
}
