//! Records of an exchange as bytes: what is in flight goes into a checkpoint, and what another process reads crosses
//! the network.

mod packed;

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use strandline_checkpoint_storage::{InFlightRecord, InFlightRecords};
use strandline_state_api::{Batch, Codec, Error, ErrorKind, KeyGroup, Result, StateKey};

use crate::batch::{AnyBatch, KeyedBatch, downcast_ref};

/// Turns the batches of one exchange into bytes and back.
pub(crate) trait RecordFormat: Send + Sync {
    /// Encodes the records of a batch; returns how many there are.
    fn encode(&self, batch: &dyn AnyBatch) -> Result<(InFlightRecords, u64)>;

    /// Decodes the batch that is in flight on its way to one subtask.
    ///
    /// # Errors
    /// `Incompatible` when other codecs encoded it, `Corrupt` when it cannot be read.
    fn decode(&self, records: &InFlightRecords) -> Result<Box<dyn AnyBatch>>;

    /// Appends a batch as another process of the same job reads it: shorter than what a checkpoint holds.
    fn pack(&self, batch: &dyn AnyBatch, out: &mut Vec<u8>) -> Result<()>;

    /// Reads a whole batch that [`pack`](Self::pack) has appended.
    ///
    /// # Errors
    /// `Incompatible` when other codecs encoded it, `Corrupt` when it cannot be read.
    fn unpack(&self, packed: &[u8]) -> Result<Box<dyn AnyBatch>>;
}

impl fmt::Debug for dyn RecordFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordFormat")
    }
}

/// Records with keys: a [`StateKey`] encodes itself, a codec the value.
pub(crate) struct KeyedFormat<K, V> {
    codec: Arc<dyn Codec<V>>,
    /// The names of the codecs of key and value, which take long to find out.
    name: OnceLock<String>,
    keys: PhantomData<fn(K)>,
}

impl<K: StateKey, V: Send + 'static> KeyedFormat<K, V> {
    pub(crate) fn new(codec: impl Codec<V>) -> Self {
        Self { codec: Arc::new(codec), name: OnceLock::new(), keys: PhantomData }
    }

    fn name(&self) -> &str {
        self.name.get_or_init(|| format!("{} {}", K::codec(), self.codec.id()))
    }
}

impl<K: StateKey, V: Send + 'static> RecordFormat for KeyedFormat<K, V> {
    fn encode(&self, batch: &dyn AnyBatch) -> Result<(InFlightRecords, u64)> {
        let KeyedBatch { keys, hashes, values, timestamps } = downcast_ref::<KeyedBatch<K, V>>(batch)?;
        let mut records = InFlightRecords::new(self.name());
        for (((key, hash), value), index) in keys.iter().zip(hashes).zip(values).zip(0..) {
            let encode_key = |out: &mut Vec<u8>| {
                key.encode(out);
                Ok(())
            };
            let encode_value = |out: &mut Vec<u8>| self.codec.encode(value, out);
            records.push(Some(KeyGroup::of(*hash)), timestamps.of(index), encode_key, encode_value)?;
        }
        Ok((records, keys.len() as u64))
    }

    fn decode(&self, records: &InFlightRecords) -> Result<Box<dyn AnyBatch>> {
        check_codec(records, self.name())?;
        let mut batch = KeyedBatch::<K, V>::default();
        for record in records.records() {
            let InFlightRecord { timestamp, key, value, .. } = record?;
            let key = K::decode(key)?;
            let hash = key.key_hash();
            batch.push(key, hash, self.codec.decode(value)?, timestamp);
        }
        Ok(Box::new(batch))
    }

    fn pack(&self, batch: &dyn AnyBatch, out: &mut Vec<u8>) -> Result<()> {
        let KeyedBatch { keys, values, timestamps, .. } = downcast_ref::<KeyedBatch<K, V>>(batch)?;
        packed::begin(self.name(), keys.len(), timestamps.column(), out);
        for (key, value) in keys.iter().zip(values) {
            packed::push(out, |out| {
                key.encode(out);
                Ok(())
            })?;
            packed::push(out, |out| self.codec.encode(value, out))?;
        }
        Ok(())
    }

    fn unpack(&self, packed: &[u8]) -> Result<Box<dyn AnyBatch>> {
        let mut unpacked = packed::Unpacked::open(self.name(), packed)?;
        let mut batch = KeyedBatch::<K, V>::default();
        while let Some(timestamp) = unpacked.next()? {
            let key = K::decode(unpacked.part()?)?;
            let hash = key.key_hash();
            batch.push(key, hash, self.codec.decode(unpacked.part()?)?, timestamp);
        }
        Ok(Box::new(batch))
    }
}

/// Records without keys.
pub(crate) struct PlainFormat<T> {
    codec: Arc<dyn Codec<T>>,
    name: OnceLock<String>,
}

impl<T: Send + 'static> PlainFormat<T> {
    pub(crate) fn new(codec: impl Codec<T>) -> Self {
        Self { codec: Arc::new(codec), name: OnceLock::new() }
    }

    fn name(&self) -> &str {
        self.name.get_or_init(|| self.codec.id())
    }
}

impl<T: Send + 'static> RecordFormat for PlainFormat<T> {
    fn encode(&self, batch: &dyn AnyBatch) -> Result<(InFlightRecords, u64)> {
        let batch = downcast_ref::<Batch<T>>(batch)?;
        let mut records = InFlightRecords::new(self.name());
        for (value, timestamp) in batch.iter() {
            records.push(None, timestamp, |_| Ok(()), |out| self.codec.encode(value, out))?;
        }
        Ok((records, batch.len() as u64))
    }

    fn decode(&self, records: &InFlightRecords) -> Result<Box<dyn AnyBatch>> {
        check_codec(records, self.name())?;
        let mut batch = Batch::new();
        for record in records.records() {
            let InFlightRecord { timestamp, value, .. } = record?;
            batch.push(self.codec.decode(value)?, timestamp);
        }
        Ok(Box::new(batch))
    }

    fn pack(&self, batch: &dyn AnyBatch, out: &mut Vec<u8>) -> Result<()> {
        let batch = downcast_ref::<Batch<T>>(batch)?;
        packed::begin(self.name(), batch.len(), batch.timestamps(), out);
        batch.iter().try_for_each(|(value, _)| packed::push(out, |out| self.codec.encode(value, out)))
    }

    fn unpack(&self, packed: &[u8]) -> Result<Box<dyn AnyBatch>> {
        let mut unpacked = packed::Unpacked::open(self.name(), packed)?;
        let mut batch = Batch::new();
        while let Some(timestamp) = unpacked.next()? {
            batch.push(self.codec.decode(unpacked.part()?)?, timestamp);
        }
        Ok(Box::new(batch))
    }
}

fn check_codec(records: &InFlightRecords, own: &str) -> Result<()> {
    if records.codec() == own {
        return Ok(());
    }
    let message = format!(
        "the checkpoint holds records in flight that \"{}\" encoded, and the exchange reads \"{own}\": start \
         from a savepoint, which holds none, or with the types and codecs of before",
        records.codec()
    );
    Err(Error::new(ErrorKind::Incompatible, message))
}

/// The error for records in flight that nothing can read.
pub(crate) fn no_codec() -> Error {
    let message = "the checkpoint holds records in flight on their way to the operator, and their stream has no \
                   codec to read them: give it one with `codec`, or start from a savepoint, which holds none";
    Error::new(ErrorKind::Incompatible, message)
}

#[cfg(test)]
mod tests {
    use strandline_state_api::{SerdeCodec, Timestamp};

    use super::*;

    #[test]
    fn batches_come_back_as_they_were() {
        let mut batch = KeyedBatch::<String, u32>::default();
        let key = |n: u32| (format!("key {n}"), n);
        let times = |n: u32| Timestamp::from_stored(if n == 3 { i64::MIN } else { n.into() });
        batch.extend((0..9).map(|n| (n, times(n))), &mut |n| key(n));
        let format = KeyedFormat::<String, u32>::new(SerdeCodec);
        let (records, count) = format.encode(&batch).unwrap();
        assert_eq!(count, 9);
        let decoded = format.decode(&records).unwrap();
        let decoded = downcast_ref::<KeyedBatch<String, u32>>(&*decoded).unwrap();
        assert_eq!((&decoded.keys, &decoded.hashes), (&batch.keys, &batch.hashes));
        assert_eq!((&decoded.values, &decoded.timestamps), (&batch.values, &batch.timestamps));
        let error = KeyedFormat::<String, i32>::new(SerdeCodec).decode(&records).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        let mut packed = Vec::new();
        format.pack(&batch, &mut packed).unwrap();
        let unpacked = format.unpack(&packed).unwrap();
        let unpacked = downcast_ref::<KeyedBatch<String, u32>>(&*unpacked).unwrap();
        assert_eq!((&unpacked.keys, &unpacked.hashes), (&batch.keys, &batch.hashes));
        assert_eq!((&unpacked.values, &unpacked.timestamps), (&batch.values, &batch.timestamps));
        let error = KeyedFormat::<String, i32>::new(SerdeCodec).unpack(&packed).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        for cut in 0..packed.len() {
            assert_eq!(format.unpack(&packed[..cut]).err().unwrap().kind(), ErrorKind::Corrupt, "{cut}");
        }

        let mut batch = Batch::new();
        batch.push("a".to_owned(), None);
        batch.push(String::new(), Some(Timestamp::EPOCH));
        let format = PlainFormat::<String>::new(SerdeCodec);
        let (records, count) = format.encode(&batch).unwrap();
        let decoded = format.decode(&records).unwrap();
        let decoded = downcast_ref::<Batch<String>>(&*decoded).unwrap();
        let pairs = |batch: &Batch<String>| -> Vec<_> { batch.iter().map(|(v, t)| (v.clone(), t)).collect() };
        assert_eq!((count, pairs(decoded)), (2, pairs(&batch)));
    }

    #[test]
    fn packed_batches_may_have_long_parts_and_no_times() {
        for with_time in [false, true] {
            let mut batch = Batch::new();
            for length in [0, 1, 254, 255, 256, 70_000] {
                batch.push("x".repeat(length), with_time.then_some(Timestamp::from_millis(length as i64)));
            }
            let format = PlainFormat::<String>::new(SerdeCodec);
            let mut packed = Vec::new();
            format.pack(&batch, &mut packed).unwrap();
            let unpacked = format.unpack(&packed).unwrap();
            let unpacked = downcast_ref::<Batch<String>>(&*unpacked).unwrap();
            assert!(unpacked.iter().eq(batch.iter()));
        }
    }
}
