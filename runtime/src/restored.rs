//! What was in flight when the restored checkpoint was taken: processed before anything else.

use std::collections::VecDeque;
use std::sync::Arc;

use strandline_checkpoint_storage::{InFlight, InFlightContent};
use strandline_state_api::{Result, Timestamp};

use crate::batch::AnyBatch;
use crate::record_format::{RecordFormat, no_codec};
use crate::valve::WatermarkValve;

/// What one subtask takes over. Its channels are those of the subtasks of before: watermarks in flight are
/// combined as they were there (Flink: `DemultiplexingRecordDeserializer`).
pub(crate) struct Restored {
    left: VecDeque<InFlight>,
    valve: WatermarkValve,
    format: Arc<dyn RecordFormat>,
}

/// What comes next.
pub(crate) enum NextRestored {
    /// Records, for the main side of an operator.
    Records(Box<dyn AnyBatch>),
    /// A watermark that is higher than those before.
    Watermark(Timestamp),
}

impl Restored {
    /// Takes over what was in flight; `None` where nothing was.
    ///
    /// # Errors
    /// `Incompatible` without a format for its records.
    pub(crate) fn take_over(
        in_flight: &[InFlight],
        format: Option<&Arc<dyn RecordFormat>>,
    ) -> Result<Option<Self>> {
        let Some(channels) = in_flight.iter().map(|in_flight| in_flight.channel as usize + 1).max() else {
            return Ok(None);
        };
        let format = Arc::clone(format.ok_or_else(no_codec)?);
        let left = in_flight.iter().cloned().collect();
        Ok(Some(Self { left, valve: WatermarkValve::new(channels), format }))
    }

    /// The next records or watermark; `None` when nothing is left.
    pub(crate) fn next(&mut self) -> Result<Option<NextRestored>> {
        while let Some(InFlight { channel, content }) = self.left.pop_front() {
            let channel = channel as usize;
            let passed = match content {
                InFlightContent::Records(records) => {
                    return self.format.decode(&records).map(|batch| Some(NextRestored::Records(batch)));
                }
                InFlightContent::Watermark(watermark) => self.valve.watermark(channel, watermark),
                InFlightContent::Idle => self.valve.idle(channel),
                InFlightContent::Opened => continue,
            };
            if let Some(watermark) = passed.watermark {
                return Ok(Some(NextRestored::Watermark(watermark)));
            }
        }
        Ok(None)
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The watermarks of its channels.
    pub(crate) fn valve(&self) -> &WatermarkValve {
        &self.valve
    }

    /// What is left.
    pub(crate) fn left(&self) -> impl Iterator<Item = &InFlight> {
        self.left.iter()
    }
}
