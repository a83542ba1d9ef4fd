//! What travels from one subtask to another.

use std::fmt;
use std::sync::Arc;

use strandline_state_api::{CheckpointId, Codec, Error, ErrorKind, Result, SerdeCodec, Timestamp};

use super::wire::WireBarrier;
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

/// The first byte of an encoded parcel. Behind that of a batch is its watermark, and behind that are the records, if
/// there are any; behind that of a barrier the barrier.
mod tag {
    pub(super) const BATCH: u8 = 1;
    pub(super) const IDLE: u8 = 2;
    pub(super) const BARRIER: u8 = 3;
    pub(super) const END: u8 = 4;
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
        let mut bytes = Vec::new();
        match message {
            Message::Batch { records, watermark } => {
                bytes.push(tag::BATCH);
                bytes.extend_from_slice(&Timestamp::to_stored(*watermark).to_le_bytes());
                if let Some(records) = records.as_deref().filter(|records| !records.is_empty()) {
                    codec.ok_or_else(no_codec)?.0.pack(records, &mut bytes)?;
                }
            }
            Message::Idle => bytes.push(tag::IDLE),
            Message::Barrier(barrier) => {
                bytes.push(tag::BARRIER);
                SerdeCodec.encode(&WireBarrier::from(barrier), &mut bytes)?;
            }
            Message::End => bytes.push(tag::END),
        }
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
        let torn = || Error::corrupt("a parcel of another process cannot be read");
        match bytes.split_first().ok_or_else(torn)? {
            (&tag::BATCH, rest) => {
                let (watermark, records) = rest.split_first_chunk().ok_or_else(torn)?;
                let unpack = |records| format.ok_or_else(no_codec)?.unpack(records);
                let records = (!records.is_empty()).then(|| unpack(records)).transpose()?;
                let watermark = Timestamp::from_stored(i64::from_le_bytes(*watermark));
                Ok(Message::Batch { records, watermark })
            }
            (&tag::IDLE, []) => Ok(Message::Idle),
            (&tag::BARRIER, rest) => {
                SerdeCodec.decode(rest).map(|barrier: WireBarrier| Message::Barrier(barrier.into()))
            }
            (&tag::END, []) => Ok(Message::End),
            _ => Err(torn()),
        }
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
