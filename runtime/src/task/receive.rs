//! What a task reads from: channels that carry what its node takes, or one of its two sides.

use crossbeam_channel::{Select, TryRecvError};
use strandline_state_api::Result;

use crate::batch::Sided;
use crate::chain::assembly::Assembly;
use crate::channel::{ChannelReader, EdgeId, Message, Pattern};

/// The reading end of a channel, whatever it carries: a virtual call for each batch.
pub(super) trait Receive<P>: Send {
    fn try_recv(&self) -> Result<Message<P>, TryRecvError>;

    /// Gives the memory of an empty batch back.
    fn recycle(&self, batch: P);

    /// Waits for this channel, too.
    fn watch<'a>(&'a self, select: &mut Select<'a>);
}

impl<P: Send> Receive<P> for ChannelReader<P> {
    fn try_recv(&self) -> Result<Message<P>, TryRecvError> {
        self.receiver.try_recv()
    }

    fn recycle(&self, batch: P) {
        self.recycle(batch);
    }

    fn watch<'a>(&'a self, select: &mut Select<'a>) {
        select.recv(&self.receiver);
    }
}

/// A channel of the keyed side.
struct KeyedSide<A>(ChannelReader<A>);

impl<A: Send, B> Receive<Sided<A, B>> for KeyedSide<A> {
    fn try_recv(&self) -> Result<Message<Sided<A, B>>, TryRecvError> {
        self.0.receiver.try_recv().map(|message| message.map(Sided::Keyed))
    }

    fn recycle(&self, batch: Sided<A, B>) {
        if let Sided::Keyed(batch) = batch {
            self.0.recycle(batch);
        }
    }

    fn watch<'a>(&'a self, select: &mut Select<'a>) {
        select.recv(&self.0.receiver);
    }
}

/// A channel of the broadcast side.
struct BroadcastSide<B>(ChannelReader<B>);

impl<A, B: Send> Receive<Sided<A, B>> for BroadcastSide<B> {
    fn try_recv(&self) -> Result<Message<Sided<A, B>>, TryRecvError> {
        self.0.receiver.try_recv().map(|message| message.map(Sided::Broadcast))
    }

    fn recycle(&self, batch: Sided<A, B>) {
        if let Sided::Broadcast(batch) = batch {
            self.0.recycle(batch);
        }
    }

    fn watch<'a>(&'a self, select: &mut Select<'a>) {
        select.recv(&self.0.receiver);
    }
}

/// The reading ends of a task.
pub(super) type Readers<P> = Vec<Box<dyn Receive<P>>>;

/// The reading ends of a task with one kind of input.
pub(super) fn one_side<P: Send + 'static>(
    assembly: &Assembly,
    edges: &[EdgeId],
    pattern: Pattern,
) -> Result<Readers<P>> {
    let mut readers: Readers<P> = Vec::new();
    for edge in edges {
        for reader in assembly.attempt.wiring.readers::<P>(*edge, pattern, assembly.subtask)? {
            readers.push(Box::new(reader));
        }
    }
    Ok(readers)
}

/// The reading ends of a task with a keyed and a broadcast side: each subtask reads from all subtasks of both.
pub(super) fn both_sides<A: Send + 'static, B: Send + 'static>(
    assembly: &Assembly,
    keyed: &[EdgeId],
    broadcast: &[EdgeId],
) -> Result<Readers<Sided<A, B>>> {
    let (wiring, subtask) = (&assembly.attempt.wiring, assembly.subtask);
    let mut readers: Readers<Sided<A, B>> = Vec::new();
    for edge in keyed {
        for reader in wiring.readers(*edge, Pattern::AllToAll, subtask)? {
            readers.push(Box::new(KeyedSide(reader)));
        }
    }
    for edge in broadcast {
        for reader in wiring.readers(*edge, Pattern::AllToAll, subtask)? {
            readers.push(Box::new(BroadcastSide(reader)));
        }
    }
    Ok(readers)
}
