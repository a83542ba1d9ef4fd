//! What travels from one subtask to another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strandline_checkpoint_storage::{InFlight, InFlightContent};
use strandline_state_api::{CheckpointId, Codec, Error, ErrorKind, Result, SerdeCodec, Timestamp};

use super::wire::WireBarrier;
use crate::batch::AnyBatch;
use crate::channel::{self, EdgeId, Message};
use crate::record_format::RecordFormat;

/// A message of a subtask: records and how far event time is, or a mark between them.
pub struct Parcel(Content);

enum Content {
    Message(Message),
    /// As another process sent it.
    Encoded(Vec<u8>),
}

/// How the records of one edge become bytes.
#[derive(Clone, Debug)]
pub struct EdgeCodec(pub(crate) Arc<dyn RecordFormat>);

/// What a subtask sends, and where.
#[derive(Debug)]
pub struct Outgoing {
    /// The number of the edge.
    pub edge: u32,
    /// The number of the subtask that it is for.
    pub target: u32,
    /// What it sends.
    pub parcel: Parcel,
}

#[derive(Serialize, Deserialize)]
enum Encoded {
    Batch { records: Option<Vec<u8>>, watermark: Option<Timestamp> },
    Idle,
    Barrier(WireBarrier),
    End,
}

impl Parcel {
    /// The parcel as bytes, by the codec of its edge.
    ///
    /// # Errors
    /// That of the codec; `Unsupported` where records have none.
    pub fn to_bytes(&self, codec: Option<&EdgeCodec>) -> Result<Vec<u8>> {
        let message = match &self.0 {
            Content::Encoded(bytes) => return Ok(bytes.clone()),
            Content::Message(message) => message,
        };
        let encoded = match message {
            Message::Batch { records, watermark } => {
                let encode = |records: &dyn AnyBatch| -> Result<Vec<u8>> {
                    let codec = codec.ok_or_else(no_codec)?;
                    let (records, _) = codec.0.encode(records)?;
                    Ok(InFlight { channel: 0, content: InFlightContent::Records(records) }.encode())
                };
                let records = records.as_deref().filter(|records| !records.is_empty());
                Encoded::Batch { records: records.map(encode).transpose()?, watermark: *watermark }
            }
            Message::Idle => Encoded::Idle,
            Message::Barrier(barrier) => Encoded::Barrier(barrier.into()),
            Message::End => Encoded::End,
        };
        let mut bytes = Vec::new();
        SerdeCodec.encode(&encoded, &mut bytes)?;
        Ok(bytes)
    }

    /// A parcel that [`to_bytes`](Self::to_bytes) encoded. Its subtask decodes it.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Content::Encoded(bytes))
    }

    /// Returns the bytes of a parcel that [`from_bytes`](Self::from_bytes) made.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Content::Encoded(bytes) => Some(bytes),
            Content::Message(_) => None,
        }
    }

    /// The message.
    pub(crate) fn open(self, format: Option<&Arc<dyn RecordFormat>>) -> Result<Message> {
        let bytes = match self.0 {
            Content::Message(message) => return Ok(message),
            Content::Encoded(bytes) => bytes,
        };
        let encoded: Encoded = SerdeCodec.decode(&bytes)?;
        Ok(match encoded {
            Encoded::Batch { records, watermark } => {
                let decode = |records: Vec<u8>| match InFlight::decode(&records)?.content {
                    InFlightContent::Records(records) => format.ok_or_else(no_codec)?.decode(&records),
                    _ => Err(Error::corrupt("a parcel holds something else than records")),
                };
                Message::Batch { records: records.map(decode).transpose()?, watermark }
            }
            Encoded::Idle => Message::Idle,
            Encoded::Barrier(barrier) => Message::Barrier(barrier.into()),
            Encoded::End => Message::End,
        })
    }

    /// The checkpoint whose barrier it is.
    pub fn barrier(&self) -> Option<CheckpointId> {
        match &self.0 {
            Content::Message(Message::Barrier(barrier)) => Some(barrier.checkpoint),
            _ => None,
        }
    }
}

impl From<channel::outbox::Outgoing> for Outgoing {
    fn from(outgoing: channel::outbox::Outgoing) -> Self {
        let channel::outbox::Outgoing { edge: EdgeId(edge), target, message } = outgoing;
        Self { edge, target, parcel: Parcel(Content::Message(message)) }
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Content::Message(Message::Batch { records, watermark }) => {
                write!(f, "records: {}, watermark {watermark:?}", records.is_some())
            }
            Content::Message(Message::Idle) => f.write_str("idle"),
            Content::Message(Message::Barrier(barrier)) => write!(f, "barrier {}", barrier.checkpoint),
            Content::Message(Message::End) => f.write_str("end"),
            Content::Encoded(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

fn no_codec() -> Error {
    let message = "records cross processes, and their stream has no codec: give it one with `codec`";
    Error::new(ErrorKind::Unsupported, message)
}
