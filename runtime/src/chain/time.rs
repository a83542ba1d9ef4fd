//! Event time: where records get their timestamps and watermarks begin.

use strandline_state_api::{OperatorId, Output, Result};

use super::assembly::Assembly;
use super::{Collector, Node, Signal, Work};

/// Assigns timestamps and announces watermarks, `delay` behind the greatest timestamp.
pub(crate) struct TimestampAssigner<T, TF> {
    /// The head of its chain, in whose state it keeps how far it came.
    owner: OperatorId,
    /// Which assigner behind that head it is.
    place: u32,
    delay: i64,
    time: TF,
    greatest: i64,
    announced: i64,
    next: Collector<T>,
}

impl<T, TF> TimestampAssigner<T, TF> {
    pub(crate) fn new(assembly: &Assembly, place: u32, delay: i64, time: TF, next: Collector<T>) -> Self {
        let owner = assembly.head().clone();
        let greatest = assembly
            .restored_here(&owner)
            .and_then(|restored| restored.assigners.get(place as usize).copied())
            .unwrap_or(i64::MIN);
        Self { owner, place, delay: delay.max(0), time, greatest, announced: i64::MIN, next }
    }
}

impl<T, TF> TimestampAssigner<T, TF> {
    /// Tells the watermark if it rose. After a restore it has, though no record came: others may wait for it.
    fn announce(&mut self) -> Result<()> {
        let watermark = self.greatest.saturating_sub(self.delay).saturating_sub(1);
        if watermark <= self.announced {
            return Ok(());
        }
        self.announced = watermark;
        self.next.signal(&mut Signal::Watermark(watermark))
    }
}

impl<T: Send, TF: Fn(&T) -> i64 + Send> Node<Output<T>> for TimestampAssigner<T, TF> {
    fn collect(&mut self, batch: &mut Output<T>) -> Result<()> {
        for (record, timestamp) in batch.records.iter().zip(&mut batch.timestamps) {
            *timestamp = (self.time)(record);
            self.greatest = self.greatest.max(*timestamp);
        }
        self.next.collect(batch)?;
        self.announce()
    }

    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        match signal {
            // Time is what the records say; only its end comes from elsewhere.
            Signal::Watermark(watermark) if *watermark < i64::MAX => return Ok(()),
            Signal::Barrier(cut) => {
                cut.assigner(&self.owner, self.place, self.greatest);
                self.announce()?;
            }
            _ => {}
        }
        self.next.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.announce()?;
        self.next.work()
    }
}
