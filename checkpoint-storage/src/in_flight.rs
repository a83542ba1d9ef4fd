//! What a barrier has overtaken on its way into an operator: records and watermarks that were sent and not
//! read, part of the checkpoint in the order of their channel (Flink: channel state).
//!
//! A record names its key group, so any host distributes records over another parallelism without reading
//! them. A subtask stores one element for each message, in [`SubtaskSnapshot::in_flight`]; all numbers
//! little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | 0: a channel without a watermark; 1: a watermark; 2: idle; 3: records |
//! | 4 | the channel, by its number within the subtask |
//! | 8 | of a watermark: milliseconds |
//! | 4 + … | of records: the name of their codecs, with its length before it |
//! | … | of records: each with its key group (2 bytes, 65,535 without keys), time (8 bytes), key and value (each with its length in 4 bytes before it) |
//!
//! The first element of a channel shows what it had delivered before: the channel itself, its watermark or
//! that it was idle. So the combined watermark of a restore is that of before.
//!
//! [`SubtaskSnapshot::in_flight`]: crate::SubtaskSnapshot::in_flight

use strandline_state_api::{Error, KeyGroup, KeyGroupRange, Result, Timestamp};

const OPENED: u8 = 0;
const WATERMARK: u8 = 1;
const IDLE: u8 = 2;
const RECORDS: u8 = 3;
/// Stands for the key group of a record without a key.
const NO_GROUP: u16 = u16::MAX;

/// One thing that was in flight in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The channel, by its number among those of a subtask.
    pub channel: u32,
    /// What it was.
    pub content: InFlightContent,
}

/// What was in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InFlightContent {
    /// Nothing: there is such a channel, and it has had no watermark.
    Opened,
    /// A watermark.
    Watermark(Timestamp),
    /// Nobody waited for the watermarks of the channel from here on.
    Idle,
    /// A batch of records.
    Records(InFlightRecords),
}

/// A batch of encoded records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightRecords {
    /// The names of the codecs of key and value.
    codec: String,
    encoded: Vec<u8>,
}

/// One encoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightRecord<'a> {
    /// The key group of its key; `None` for a record without a key.
    pub group: Option<KeyGroup>,
    /// Its event time.
    pub timestamp: Option<Timestamp>,
    /// Its encoded key; empty without one.
    pub key: &'a [u8],
    /// Its encoded value.
    pub value: &'a [u8],
}

impl InFlightRecords {
    /// A batch without records, whose keys and values are encoded by `codec`.
    pub fn new(codec: impl Into<String>) -> Self {
        Self { codec: codec.into(), encoded: Vec::new() }
    }

    /// The names of the codecs of key and value.
    pub fn codec(&self) -> &str {
        &self.codec
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Adds a record. `key` and `value` append their encodings; nothing is added where one fails.
    ///
    /// # Errors
    /// That of an encoding; [`Invalid`](strandline_state_api::ErrorKind::Invalid) for one of 4 GiB.
    pub fn push(
        &mut self,
        group: Option<KeyGroup>,
        timestamp: Option<Timestamp>,
        key: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let before = self.encoded.len();
        self.encoded.extend_from_slice(&group.map_or(NO_GROUP, KeyGroup::index).to_le_bytes());
        self.encoded.extend_from_slice(&Timestamp::to_stored(timestamp).to_le_bytes());
        let added = self.push_sized(key).and_then(|()| self.push_sized(value));
        if added.is_err() {
            self.encoded.truncate(before);
        }
        added
    }

    fn push_sized(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let at = self.encoded.len();
        self.encoded.extend_from_slice(&[0; 4]);
        encode(&mut self.encoded)?;
        let len = self.encoded.len().saturating_sub(at + 4);
        let len = u32::try_from(len)
            .map_err(|_| Error::invalid(format!("a record in flight has {len} bytes, 4 GiB is the limit")))?;
        if let Some(slot) = self.encoded.get_mut(at..at + 4) {
            slot.copy_from_slice(&len.to_le_bytes());
        }
        Ok(())
    }

    /// The records in their order; an error ends them.
    pub fn records(&self) -> impl Iterator<Item = Result<InFlightRecord<'_>>> {
        let mut rest = self.encoded.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let record = take_record(&mut rest).ok_or_else(torn);
            if record.is_err() {
                rest = &[];
            }
            Some(record)
        })
    }

    /// The records whose key is in `range`; records without a key are in every range.
    fn clip(&self, range: KeyGroupRange) -> Result<Self> {
        let mut clipped = Self::new(self.codec.clone());
        for record in self.records() {
            let InFlightRecord { group, timestamp, key, value } = record?;
            if group.is_none_or(|group| range.contains(group)) {
                let append = |bytes: &[u8], out: &mut Vec<u8>| {
                    out.extend_from_slice(bytes);
                    Ok(())
                };
                clipped.push(group, timestamp, |out| append(key, out), |out| append(value, out))?;
            }
        }
        Ok(clipped)
    }
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Option<InFlightRecord<'a>> {
    let group = u16::from_le_bytes(take(rest)?);
    let group = if group == NO_GROUP { None } else { Some(KeyGroup::new(group)?) };
    let timestamp = Timestamp::from_stored(i64::from_le_bytes(take(rest)?));
    Some(InFlightRecord { group, timestamp, key: take_sized(rest)?, value: take_sized(rest)? })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*taken)
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
    let (taken, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(taken)
}

fn torn() -> Error {
    Error::corrupt("what was in flight in a channel cannot be read")
}

impl InFlight {
    /// Something that was in flight in `channel`.
    pub fn new(channel: u32, content: InFlightContent) -> Self {
        Self { channel, content }
    }

    /// The element that a checkpoint stores.
    pub fn encode(&self) -> Vec<u8> {
        let records = match &self.content {
            InFlightContent::Records(records) => records.codec.len() + records.encoded.len(),
            _ => 0,
        };
        let mut out = Vec::with_capacity(16 + records);
        let mut begin = |kind: u8| {
            out.push(kind);
            out.extend_from_slice(&self.channel.to_le_bytes());
        };
        match &self.content {
            InFlightContent::Opened => begin(OPENED),
            InFlightContent::Watermark(watermark) => {
                begin(WATERMARK);
                out.extend_from_slice(&watermark.as_millis().to_le_bytes());
            }
            InFlightContent::Idle => begin(IDLE),
            InFlightContent::Records(records) => {
                begin(RECORDS);
                // Names of codecs are short: a name that is not cannot be read back, and is found out then.
                let len = u32::try_from(records.codec.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(records.codec.as_bytes());
                out.extend_from_slice(&records.encoded);
            }
        }
        out
    }

    /// The inverse of [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when the bytes are no such element.
    pub fn decode(element: &[u8]) -> Result<Self> {
        let mut rest = element;
        let decoded = decode(&mut rest).filter(|_| rest.is_empty()).ok_or_else(torn)?;
        if let InFlightContent::Records(records) = &decoded.content {
            records.records().try_for_each(|record| record.map(drop))?;
        }
        Ok(decoded)
    }
}

fn decode(rest: &mut &[u8]) -> Option<InFlight> {
    let [kind] = take(rest)?;
    let channel = u32::from_le_bytes(take(rest)?);
    let content = match kind {
        OPENED => InFlightContent::Opened,
        WATERMARK => InFlightContent::Watermark(Timestamp::from_stored(i64::from_le_bytes(take(rest)?))?),
        IDLE => InFlightContent::Idle,
        RECORDS => {
            let codec = std::str::from_utf8(take_sized(rest)?).ok()?.to_owned();
            let encoded = std::mem::take(rest).to_vec();
            InFlightContent::Records(InFlightRecords { codec, encoded })
        }
        _ => return None,
    };
    Some(InFlight { channel, content })
}

/// What one old subtask had in flight, as a new one takes it over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlightShare<'a> {
    pub(crate) elements: &'a [Vec<u8>],
    /// The key groups that both have; `None` for an operator without keys.
    pub(crate) range: Option<KeyGroupRange>,
    /// The watermark of the old subtask.
    pub(crate) watermark: Option<Timestamp>,
}

/// Joins what several old subtasks had in flight, each with channels of its own, in their order. Empty where
/// no record is among it: then the watermark of the new subtask is that of its snapshot.
pub(crate) fn join<'a>(shares: impl Iterator<Item = InFlightShare<'a>>) -> Result<Vec<InFlight>> {
    let (mut joined, mut first, mut has_records) = (Vec::new(), 0, false);
    for InFlightShare { elements, range, watermark } in shares {
        let mut channels = 0;
        if elements.is_empty() {
            // All of its channels together were as far as this.
            let content = watermark.map_or(InFlightContent::Opened, InFlightContent::Watermark);
            joined.push(InFlight::new(first, content));
            channels = 1;
        }
        for element in elements {
            let InFlight { channel, mut content } = InFlight::decode(element)?;
            channels = channels.max(channel.saturating_add(1));
            if let InFlightContent::Records(records) = &mut content {
                if let Some(range) = range {
                    *records = records.clip(range)?;
                }
                if records.is_empty() {
                    continue;
                }
                has_records = true;
            }
            joined.push(InFlight::new(first + channel, content));
        }
        first = first.saturating_add(channels);
    }
    if !has_records {
        joined.clear();
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strandline_state_api::{ErrorKind, StateKey};

    use super::*;

    fn records(keys: &[u64]) -> InFlightRecords {
        let mut records = InFlightRecords::new("u64+bytes");
        for key in keys {
            let group = KeyGroup::of(key.key_hash());
            let value = |out: &mut Vec<u8>| {
                out.extend_from_slice(&[7; 3]);
                Ok(())
            };
            let encode = |out: &mut Vec<u8>| {
                key.encode(out);
                Ok(())
            };
            records.push(Some(group), Some(Timestamp::from_millis(*key as i64)), encode, value).unwrap();
        }
        records
    }

    fn keys(in_flight: &[InFlight]) -> Vec<u64> {
        let records = in_flight.iter().filter_map(|in_flight| match &in_flight.content {
            InFlightContent::Records(records) => Some(records),
            _ => None,
        });
        let keys = records.flat_map(|records| records.records().map(|record| record.unwrap().key.to_vec()));
        keys.map(|key| u64::decode(&key).unwrap()).collect()
    }

    /// Part of the format.
    #[test]
    fn an_element_looks_like_this() {
        let mut records = InFlightRecords::new("c");
        let append = |byte: u8| {
            move |out: &mut Vec<u8>| {
                out.push(byte);
                Ok(())
            }
        };
        records.push(KeyGroup::new(0x0102), Timestamp::from_stored(3), append(4), append(5)).unwrap();
        records.push(None, None, |_| Ok(()), append(6)).unwrap();
        let element = InFlight::new(9, InFlightContent::Records(records)).encode();
        let first = [2, 1, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 1, 0, 0, 0, 5];
        let second = [255, 255, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 0, 1, 0, 0, 0, 6];
        let head = [3, 9, 0, 0, 0, 1, 0, 0, 0, b'c'];
        assert_eq!(element, [&head[..], &first, &second].concat());
        for content in [
            InFlightContent::Opened,
            InFlightContent::Idle,
            InFlightContent::Watermark(Timestamp::from_millis(-5)),
        ] {
            let in_flight = InFlight::new(7, content);
            assert_eq!(InFlight::decode(&in_flight.encode()).unwrap(), in_flight);
        }
    }

    #[test]
    fn a_record_that_cannot_be_encoded_leaves_nothing() {
        let mut records = records(&[1]);
        let before = records.clone();
        let fail = |out: &mut Vec<u8>| {
            out.push(1);
            Err(Error::invalid("on purpose"))
        };
        assert!(records.push(None, None, |_| Ok(()), fail).is_err());
        assert_eq!(records, before);
    }

    proptest! {
        /// Each record reaches the one new subtask that owns its key, in the order of its channel; torn
        /// elements are refused.
        #[test]
        fn records_go_where_their_keys_go(
            batches in proptest::collection::vec((0u32..3, proptest::collection::vec(any::<u64>(), 0..20)), 1..8),
            parallelism in 1u32..6,
            cut in any::<proptest::sample::Index>(),
        ) {
            let elements: Vec<_> = batches
                .iter()
                .map(|(channel, keys)| InFlight::new(*channel, InFlightContent::Records(records(keys))).encode())
                .collect();
            let all: Vec<u64> = batches.iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
            for subtask in 0..parallelism {
                let range = KeyGroupRange::of_subtask(subtask, parallelism);
                let share = InFlightShare { elements: &elements, range: Some(range), watermark: None };
                let expected: Vec<_> =
                    all.iter().copied().filter(|key| range.contains(KeyGroup::of(key.key_hash()))).collect();
                prop_assert_eq!(keys(&join([share].into_iter()).unwrap()), expected);
            }
            let element = &elements[cut.index(elements.len())];
            let torn = &element[..cut.index(element.len())];
            if let Ok(shorter) = InFlight::decode(torn) {
                prop_assert_eq!(shorter.encode(), torn, "a cut between two records shows nowhere");
            }
        }
    }

    #[test]
    fn subtasks_have_channels_of_their_own_and_count_where_nothing_was_in_flight() {
        let watermark = |millis| InFlightContent::Watermark(Timestamp::from_millis(millis));
        let batch = || InFlightContent::Records(records(&[1, 2]));
        let elements: Vec<_> = [(0, watermark(5)), (1, InFlightContent::Opened), (1, batch())]
            .map(|(channel, content)| InFlight::new(channel, content).encode())
            .into();
        let share = |elements| InFlightShare { elements, range: None, watermark: Timestamp::from_stored(8) };
        let joined = join([share(&elements), share(&[]), share(&elements)].into_iter()).unwrap();
        let channels: Vec<_> = joined.iter().map(|in_flight| in_flight.channel).collect();
        assert_eq!(channels, [0, 1, 1, 2, 3, 4, 4]);
        assert_eq!(joined[3].content, watermark(8));
        assert!(join([share(&elements[..2])].into_iter()).unwrap().is_empty(), "no record is in flight");
        let torn = [vec![9, 0, 0, 0, 0]];
        assert_eq!(join([share(&torn)].into_iter()).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
