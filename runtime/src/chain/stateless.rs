//! Steps without state.

use strandline_state_api::{Output, Result};

use super::{Collector, Node, Signal, Work};

/// What a stateless step does with a batch: takes all of the first, adds to the second.
pub(crate) trait Step<A, B>: Send {
    /// Leaves `input` empty.
    fn apply(&mut self, input: &mut Output<A>, output: &mut Output<B>) -> Result<()>;
}

impl<A, B, F> Step<A, B> for F
where
    F: FnMut(&mut Output<A>, &mut Output<B>) -> Result<()> + Send,
{
    fn apply(&mut self, input: &mut Output<A>, output: &mut Output<B>) -> Result<()> {
        self(input, output)
    }
}

/// A [`Step`] in its place in the chain.
pub(crate) struct Stateless<S, B> {
    step: S,
    output: Output<B>,
    next: Collector<B>,
}

impl<S, B> Stateless<S, B> {
    pub(crate) fn new(step: S, next: Collector<B>) -> Self {
        Self { step, output: Output::new(), next }
    }
}

impl<A, B: Send, S: Step<A, B>> Node<Output<A>> for Stateless<S, B> {
    fn collect(&mut self, batch: &mut Output<A>) -> Result<()> {
        self.step.apply(batch, &mut self.output)?;
        batch.clear();
        if self.output.is_empty() { Ok(()) } else { self.next.collect(&mut self.output) }
    }

    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.next.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.next.work()
    }
}

/// Gives every record to two chains.
pub(crate) struct Tee<T> {
    copy: Output<T>,
    first: Collector<T>,
    second: Collector<T>,
}

impl<T> Tee<T> {
    pub(crate) fn new(first: Collector<T>, second: Collector<T>) -> Self {
        Self { copy: Output::new(), first, second }
    }
}

impl<T: Clone + Send> Node<Output<T>> for Tee<T> {
    fn collect(&mut self, batch: &mut Output<T>) -> Result<()> {
        self.copy.clear();
        self.copy.records.extend_from_slice(&batch.records);
        self.copy.timestamps.extend_from_slice(&batch.timestamps);
        self.first.collect(&mut self.copy)?;
        self.second.collect(batch)
    }

    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.first.signal(signal)?;
        self.second.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        Ok(self.first.work()?.and(self.second.work()?))
    }
}

/// The end of a stream that nobody consumes.
pub(crate) struct Discard;

impl<T> Node<Output<T>> for Discard {
    fn collect(&mut self, batch: &mut Output<T>) -> Result<()> {
        batch.clear();
        Ok(())
    }

    fn signal(&mut self, _: &mut Signal<'_>) -> Result<()> {
        Ok(())
    }

    fn work(&mut self) -> Result<Work> {
        Ok(Work::default())
    }
}
