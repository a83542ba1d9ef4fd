//! What barriers have overtaken in the channels of a task, on its way into the checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use strandline_checkpoint_storage::{InFlight, InFlightContent};
use strandline_state_api::{CheckpointId, OperatorId, Result, Timestamp};

use crate::channel::Message;
use crate::passing::{Ack, Overtaken};
use crate::record_format::{RecordFormat, no_codec};
use crate::restored::Restored;
use crate::sync::located;
use crate::valve::WatermarkValve;

/// Encodes what barriers overtake on the way into one subtask.
pub(super) struct Recorder {
    operator: OperatorId,
    subtask: u32,
    recordings: BTreeMap<CheckpointId, Recording>,
}

/// A checkpoint that waits for its barrier to arrive on all channels.
struct Recording {
    ack: Arc<Ack>,
    overtaken: Overtaken,
}

impl Recording {
    fn add(&mut self, in_flight: &InFlight) {
        self.overtaken.elements.push(in_flight.encode());
    }

    /// Adds what the first element of a channel shows.
    fn begin_channels(&mut self, valve: &WatermarkValve, first: usize) {
        for at in 0..valve.channels() {
            let channel = number(first + at);
            let (watermark, idle) = valve.channel(at);
            let content = watermark.map_or(InFlightContent::Opened, InFlightContent::Watermark);
            self.add(&InFlight::new(channel, content));
            if idle {
                self.add(&InFlight::new(channel, InFlightContent::Idle));
            }
        }
    }

    /// Adds a message of a channel. Where a channel is at its end its writer shows that again after a restore.
    fn add_message(
        &mut self,
        channel: usize,
        message: &Message,
        format: Option<&Arc<dyn RecordFormat>>,
    ) -> Result<()> {
        let channel = number(channel);
        match message {
            Message::Batch { records, watermark } => {
                if let Some(records) = records.as_ref().filter(|records| !records.is_empty()) {
                    let (records, count) = format.ok_or_else(no_codec)?.encode(&**records)?;
                    self.overtaken.records += count;
                    self.add(&InFlight::new(channel, InFlightContent::Records(records)));
                }
                if let Some(watermark) = watermark.filter(|watermark| *watermark < Timestamp::MAX) {
                    self.add(&InFlight::new(channel, InFlightContent::Watermark(watermark)));
                }
            }
            Message::Idle => self.add(&InFlight::new(channel, InFlightContent::Idle)),
            Message::Barrier(_) | Message::End => {}
        }
        Ok(())
    }
}

fn number(channel: usize) -> u32 {
    u32::try_from(channel).unwrap_or(u32::MAX)
}

impl Recorder {
    pub(super) fn new(operator: OperatorId, subtask: u32) -> Self {
        Self { operator, subtask, recordings: BTreeMap::new() }
    }

    /// Begins at the cut: with what the channels had delivered, and what is left of a restore.
    pub(super) fn begin(
        &mut self,
        checkpoint: CheckpointId,
        ack: Arc<Ack>,
        valve: &WatermarkValve,
        restored: Option<&Restored>,
    ) {
        let mut recording = Recording { ack, overtaken: Overtaken::default() };
        recording.begin_channels(valve, 0);
        if let Some(restored) = restored {
            recording.begin_channels(restored.valve(), valve.channels());
            for InFlight { channel, content } in restored.left() {
                if let InFlightContent::Records(records) = content {
                    recording.overtaken.records += records.records().count() as u64;
                }
                let channel = channel.saturating_add(number(valve.channels()));
                recording.add(&InFlight::new(channel, content.clone()));
            }
        }
        self.recordings.insert(checkpoint, recording);
    }

    /// Adds a message that was overtaken. Where it cannot be encoded, the checkpoint fails.
    pub(super) fn add(
        &mut self,
        checkpoint: CheckpointId,
        channel: usize,
        message: &Message,
        format: Option<&Arc<dyn RecordFormat>>,
    ) {
        let Some(recording) = self.recordings.get_mut(&checkpoint) else { return };
        if let Err(error) = recording.add_message(channel, message, format) {
            recording.ack.fail(located(error, &self.operator, self.subtask));
            self.recordings.remove(&checkpoint);
        }
    }

    /// Hands in what was overtaken: the barrier has arrived on all channels.
    pub(super) fn complete(&mut self, checkpoint: CheckpointId) {
        let Some(Recording { ack, mut overtaken }) = self.recordings.remove(&checkpoint) else { return };
        if overtaken.records == 0 {
            // Watermarks alone come again from upstream.
            overtaken.elements.clear();
        }
        ack.complete_overtaken(&self.operator, overtaken);
    }

    /// Drops what was overtaken: the checkpoint will not be complete.
    pub(super) fn abandon(&mut self, checkpoint: CheckpointId) {
        if let Some(recording) = self.recordings.remove(&checkpoint) {
            recording.ack.abandon();
        }
    }
}
