//! Event time: where records get their timestamps and watermarks begin.

use std::time::Duration;

use strandline_state_api::{Batch, OperatorId, Result, Timestamp};

use super::assembly::Assembly;
use super::{Collector, Node, Signal, Stage, Work};

/// Assigns timestamps and announces watermarks, `delay` behind the greatest timestamp.
pub(crate) struct TimestampAssigner<T, TF> {
    time: TF,
    progress: EventTime,
    next: Collector<T>,
}

/// How far the event time of an assigner is.
struct EventTime {
    /// The head of its chain, whose snapshot holds it.
    owner: OperatorId,
    /// Which assigner behind that head it is.
    index: u32,
    delay: Duration,
    greatest: Option<Timestamp>,
    announced: Option<Timestamp>,
}

impl EventTime {
    /// Announces the watermark if it rose. After a restore it has, though no record came: others may wait for
    /// it.
    fn announce(&mut self, next: &mut dyn Stage) -> Result<()> {
        let watermark = self.greatest.map(|greatest| (greatest - self.delay).plus_millis(-1));
        match watermark {
            Some(watermark) if self.announced < Some(watermark) => {
                self.announced = Some(watermark);
                next.signal(&mut Signal::Watermark(watermark))
            }
            _ => Ok(()),
        }
    }

    fn signal(&mut self, signal: &mut Signal<'_>, next: &mut dyn Stage) -> Result<()> {
        match signal {
            // The records set the time; only its end comes from elsewhere.
            Signal::Watermark(watermark) if *watermark < Timestamp::MAX => return Ok(()),
            Signal::Barrier(barrier) => {
                barrier.add_assigner(&self.owner, self.index, self.greatest);
                self.announce(next)?;
            }
            _ => {}
        }
        next.signal(signal)
    }
}

impl<T, TF> TimestampAssigner<T, TF> {
    pub(crate) fn new(
        assembly: &Assembly,
        index: u32,
        delay: Duration,
        time: TF,
        next: Collector<T>,
    ) -> Self {
        let owner = assembly.head().clone();
        let restored = assembly.restored_here(&owner);
        let greatest = restored.and_then(|restored| *restored.assigners.get(index as usize)?);
        Self { time, progress: EventTime { owner, index, delay, greatest, announced: None }, next }
    }
}

impl<T, TF, I> Node<Batch<T>> for TimestampAssigner<T, TF>
where
    T: Send,
    TF: Fn(&T) -> I + Send,
    I: Into<Option<Timestamp>>,
{
    fn collect(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let (records, mut timestamps) = std::mem::take(batch).into_columns();
        for (record, timestamp) in records.iter().zip(&mut timestamps) {
            *timestamp = (self.time)(record).into();
            self.progress.greatest = self.progress.greatest.max(*timestamp);
        }
        *batch = Batch::from_columns(records, timestamps);
        self.next.collect(batch)?;
        self.progress.announce(&mut *self.next)
    }
}

impl<T: Send, TF: Send> Stage for TimestampAssigner<T, TF> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.progress.signal(signal, &mut *self.next)
    }

    fn work(&mut self) -> Result<Work> {
        self.progress.announce(&mut *self.next)?;
        self.next.work()
    }
}
