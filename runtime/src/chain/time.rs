//! Event time: where records get their timestamps and watermarks begin.

use std::sync::Arc;
use std::time::Duration;

use strandline_state_api::{Batch, OperatorId, Result, Timestamp};

use super::assembly::Assembly;
use super::{Collector, Node, Signal, Stage, Work};
use crate::config::Clock;
use crate::source::Watermarks;

/// Assigns timestamps and announces watermarks behind the greatest timestamp.
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
    watermarks: Watermarks,
    greatest: Option<Timestamp>,
    announced: Option<Timestamp>,
    idleness: Option<Idleness>,
}

/// When a stream without records becomes idle.
struct Idleness {
    timeout: Duration,
    clock: Arc<dyn Clock>,
    /// When the last record came, in processing time.
    active: Timestamp,
    idle: bool,
}

impl EventTime {
    /// Announces the watermark if it rose. After a restore it has, though no record came: others may wait for
    /// it.
    fn announce(&mut self, next: &mut dyn Stage) -> Result<()> {
        let watermark = self.greatest.map(|greatest| self.watermarks.behind(greatest));
        match watermark {
            Some(watermark) if self.announced < Some(watermark) => {
                self.announced = Some(watermark);
                next.signal(&mut Signal::Watermark(watermark))
            }
            _ => Ok(()),
        }
    }

    /// Announces that records have come again.
    fn wake(&mut self, next: &mut dyn Stage) -> Result<()> {
        let Some(idleness) = &mut self.idleness else { return Ok(()) };
        idleness.active = idleness.clock.now();
        if std::mem::take(&mut idleness.idle) {
            let before = self.announced.unwrap_or(Timestamp::MIN);
            next.signal(&mut Signal::Watermark(before))?;
        }
        Ok(())
    }

    /// Announces that no record has come for the idle timeout; returns when that will be, until then.
    fn doze(&mut self, next: &mut dyn Stage) -> Result<Option<Timestamp>> {
        let Some(idleness) = self.idleness.as_mut().filter(|idleness| !idleness.idle) else {
            return Ok(None);
        };
        let until = idleness.active + idleness.timeout;
        if idleness.clock.now() < until {
            return Ok(Some(until));
        }
        idleness.idle = true;
        next.signal(&mut Signal::Idle)?;
        Ok(None)
    }

    fn signal(&mut self, signal: &mut Signal<'_>, next: &mut dyn Stage) -> Result<()> {
        match signal {
            // The records set the time; only its end comes from elsewhere.
            Signal::Idle => return Ok(()),
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
        watermarks: Watermarks,
        time: TF,
        next: Collector<T>,
    ) -> Self {
        let owner = assembly.head().clone();
        let restored = assembly.restored_here(&owner);
        let greatest = restored.and_then(|restored| *restored.assigners.get(index as usize)?);
        let clock = &assembly.attempt.config.clock;
        let idleness = watermarks.idle_timeout().map(|timeout| Idleness {
            timeout,
            clock: Arc::clone(clock),
            active: clock.now(),
            idle: false,
        });
        let progress = EventTime { owner, index, watermarks, greatest, announced: None, idleness };
        Self { time, progress, next }
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
        self.progress.wake(&mut *self.next)?;
        self.progress.announce(&mut *self.next)
    }
}

impl<T: Send, TF: Send> Stage for TimestampAssigner<T, TF> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.progress.signal(signal, &mut *self.next)
    }

    fn work(&mut self) -> Result<Work> {
        self.progress.announce(&mut *self.next)?;
        let wake_at = self.progress.doze(&mut *self.next)?;
        Ok(Work { more: false, wake_at }.and(self.next.work()?))
    }
}

/// Takes a stream out of event time: nobody waits for it until it ends.
pub(crate) struct Timeless<T> {
    announced: bool,
    next: Collector<T>,
}

impl<T> Timeless<T> {
    pub(crate) fn new(next: Collector<T>) -> Self {
        Self { announced: false, next }
    }

    fn announce(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.announced, true) {
            return Ok(());
        }
        self.next.signal(&mut Signal::Idle)
    }
}

impl<T: Send> Node<Batch<T>> for Timeless<T> {
    fn collect(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.announce()?;
        self.next.collect(batch)
    }
}

impl<T: Send> Stage for Timeless<T> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.announce()?;
        match signal {
            Signal::Idle => Ok(()),
            Signal::Watermark(watermark) if *watermark < Timestamp::MAX => Ok(()),
            _ => self.next.signal(signal),
        }
    }

    fn work(&mut self) -> Result<Work> {
        self.announce()?;
        self.next.work()
    }
}
