//! The step that makes any number of records of each.

use strandline_state_api::{Batch, Result, Timestamp};

use super::assembly::Assembly;
use super::{Collector, Node, Signal, Stage, Work};
use crate::metrics::Tally;

/// The way out of a [`flat_map`](crate::Stream::flat_map).
#[derive(Debug)]
pub struct Emitter<'a, U> {
    output: &'a mut Batch<U>,
    timestamp: Option<Timestamp>,
    left_out: &'a mut usize,
}

impl<U> Emitter<'_, U> {
    /// Emits a record with the event time of the one that came in.
    #[inline]
    pub fn emit(&mut self, record: U) {
        self.output.push(record, self.timestamp);
    }

    /// Returns the event time of the record that came in, where it has one.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// Counts a result that the step leaves out, such as one that no column holds. The
    /// [report](crate::JobReport::left_out_by_operator) has the count, in which a result that is computed again
    /// after a failure counts once.
    pub fn count_left_out(&mut self) {
        *self.left_out += 1;
    }
}

/// A function of records in its place in the chain.
pub(crate) struct FlatMap<F, B> {
    f: F,
    output: Batch<B>,
    left_out: Tally,
    next: Collector<B>,
}

impl<F, B> FlatMap<F, B> {
    pub(crate) fn new(f: F, assembly: &Assembly, next: Collector<B>) -> Self {
        let left_out = assembly.attempt.metrics.left_out(assembly.head());
        Self { f, output: Batch::new(), left_out, next }
    }
}

impl<A: Send, B: Send, F> Node<Batch<A>> for FlatMap<F, B>
where
    F: FnMut(A, &mut Emitter<'_, B>) -> Result<()> + Send,
{
    fn collect(&mut self, batch: &mut Batch<A>) -> Result<()> {
        let mut left_out = 0;
        for (record, timestamp) in batch.drain() {
            let mut out = Emitter { output: &mut self.output, timestamp, left_out: &mut left_out };
            (self.f)(record, &mut out)?;
        }
        if left_out > 0 {
            self.left_out.add(left_out);
        }
        if self.output.is_empty() { Ok(()) } else { self.next.collect(&mut self.output) }
    }
}

impl<F: Send, B: Send> Stage for FlatMap<F, B> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        if let Signal::Barrier(passing) = signal {
            passing.cut(&self.left_out);
        }
        self.next.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.next.work()
    }
}
