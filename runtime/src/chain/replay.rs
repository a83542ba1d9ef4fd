//! Records in flight for an operator that has no channels now: it runs in the thread of what feeds it.

use std::sync::Arc;

use strandline_state_api::{OperatorId, Result};

use super::assembly::Assembly;
use super::{Node, Signal, Stage, Work};
use crate::batch::{AnyBatch, downcast};
use crate::record_format::RecordFormat;
use crate::restored::{NextRestored, Restored};

/// A [`Node`] that processes what was in flight before the first thing that comes to it.
struct Replay<P> {
    restored: Option<Restored>,
    next: Box<dyn Node<P>>,
}

/// Lets `next` process first what was in flight on its way to `operator`.
pub(crate) fn replay_first<P: AnyBatch>(
    assembly: &Assembly,
    operator: &OperatorId,
    format: Option<&Arc<dyn RecordFormat>>,
    next: Box<dyn Node<P>>,
) -> Result<Box<dyn Node<P>>> {
    let restored = Restored::take_over(assembly.in_flight(operator), format)
        .map_err(|error| error.with("operator", operator))?;
    Ok(match restored {
        None => next,
        restored => Box::new(Replay { restored, next }),
    })
}

impl<P: AnyBatch> Replay<P> {
    fn replay(&mut self) -> Result<()> {
        let Some(restored) = &mut self.restored else { return Ok(()) };
        while let Some(next) = restored.next()? {
            match next {
                NextRestored::Records(mut records) => self.next.collect(downcast(&mut *records)?)?,
                NextRestored::Watermark(watermark) => self.next.signal(&mut Signal::Watermark(watermark))?,
            }
        }
        self.restored = None;
        Ok(())
    }
}

impl<P: AnyBatch> Node<P> for Replay<P> {
    fn collect(&mut self, batch: &mut P) -> Result<()> {
        self.replay()?;
        self.next.collect(batch)
    }
}

impl<P: AnyBatch> Stage for Replay<P> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.replay()?;
        self.next.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.replay()?;
        self.next.work()
    }
}
