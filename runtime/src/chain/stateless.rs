//! Steps without state.

use strandline_state_api::{Batch, Result};

use super::{Collector, Node, Signal, Stage, Work};

/// What a stateless step does with a batch: takes all of the first, adds to the second.
pub(crate) trait Transform<A, B>: Send {
    /// Leaves `input` empty.
    fn apply(&mut self, input: &mut Batch<A>, output: &mut Batch<B>) -> Result<()>;
}

impl<A, B, F> Transform<A, B> for F
where
    F: FnMut(&mut Batch<A>, &mut Batch<B>) -> Result<()> + Send,
{
    fn apply(&mut self, input: &mut Batch<A>, output: &mut Batch<B>) -> Result<()> {
        self(input, output)
    }
}

/// Moves the records of `input`, as `map` changes them, behind those of `output`: each column in one go.
pub(crate) fn map_records<A, B>(
    input: &mut Batch<A>,
    output: &mut Batch<B>,
    map: impl FnMut(A) -> B,
) -> Result<()> {
    let (mut from, mut from_times) = std::mem::take(input).into_columns();
    let (mut to, mut to_times) = std::mem::take(output).into_columns();
    to.extend(from.drain(..).map(map));
    to_times.append(&mut from_times);
    *input = Batch::from_columns(from, from_times);
    *output = Batch::from_columns(to, to_times);
    Ok(())
}

/// A [`Transform`] in its place in the chain.
pub(crate) struct Stateless<S, B> {
    transform: S,
    output: Batch<B>,
    next: Collector<B>,
}

impl<S, B> Stateless<S, B> {
    pub(crate) fn new(transform: S, next: Collector<B>) -> Self {
        Self { transform, output: Batch::new(), next }
    }
}

impl<A, B: Send, S: Transform<A, B>> Node<Batch<A>> for Stateless<S, B> {
    fn collect(&mut self, batch: &mut Batch<A>) -> Result<()> {
        self.transform.apply(batch, &mut self.output)?;
        batch.clear();
        if self.output.is_empty() { Ok(()) } else { self.next.collect(&mut self.output) }
    }
}

impl<S: Send, B: Send> Stage for Stateless<S, B> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.next.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.next.work()
    }
}

/// Copies every record into two chains.
pub(crate) struct Tee<T> {
    copy: Batch<T>,
    first: Collector<T>,
    second: Collector<T>,
}

impl<T> Tee<T> {
    pub(crate) fn new(first: Collector<T>, second: Collector<T>) -> Self {
        Self { copy: Batch::new(), first, second }
    }
}

/// Adds a copy of each record of `batch` to `copy`: each column in one go.
pub(crate) fn copy_records<T: Clone>(batch: &Batch<T>, copy: &mut Batch<T>) {
    let (mut records, mut timestamps) = std::mem::take(copy).into_columns();
    records.extend_from_slice(batch.records());
    timestamps.extend_from_slice(batch.timestamps());
    *copy = Batch::from_columns(records, timestamps);
}

impl<T: Clone + Send> Node<Batch<T>> for Tee<T> {
    fn collect(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.copy.clear();
        copy_records(batch, &mut self.copy);
        self.first.collect(&mut self.copy)?;
        self.second.collect(batch)
    }
}

impl<T: Send> Stage for Tee<T> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.first.signal(signal)?;
        self.second.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        Ok(self.first.work()?.and(self.second.work()?))
    }
}

/// Sends each record into one of two chains.
pub(crate) struct Partition<F, A, B> {
    split: F,
    outputs: (Batch<A>, Batch<B>),
    first: Collector<A>,
    second: Collector<B>,
}

impl<F, A, B> Partition<F, A, B> {
    pub(crate) fn new(split: F, first: Collector<A>, second: Collector<B>) -> Self {
        Self { split, outputs: (Batch::new(), Batch::new()), first, second }
    }
}

impl<T, A, B, F> Node<Batch<T>> for Partition<F, A, B>
where
    T: Send,
    A: Send,
    B: Send,
    F: FnMut(T) -> Result<A, B> + Send,
{
    fn collect(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let (first, second) = &mut self.outputs;
        for (record, timestamp) in batch.drain() {
            match (self.split)(record) {
                Ok(record) => first.push(record, timestamp),
                Err(record) => second.push(record, timestamp),
            }
        }
        if !first.is_empty() {
            self.first.collect(first)?;
        }
        if second.is_empty() { Ok(()) } else { self.second.collect(second) }
    }
}

impl<F: Send, A: Send, B: Send> Stage for Partition<F, A, B> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.first.signal(signal)?;
        self.second.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        Ok(self.first.work()?.and(self.second.work()?))
    }
}

/// The end of a stream that nothing consumes.
pub(crate) struct Discard;

impl<T> Node<Batch<T>> for Discard {
    fn collect(&mut self, batch: &mut Batch<T>) -> Result<()> {
        batch.clear();
        Ok(())
    }
}

impl Stage for Discard {
    fn signal(&mut self, _: &mut Signal<'_>) -> Result<()> {
        Ok(())
    }

    fn work(&mut self) -> Result<Work> {
        Ok(Work::default())
    }
}
