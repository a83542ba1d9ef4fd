//! The requests that a reader makes to the store, and its behaviour when the store fails.

use std::ops::Range;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use proptest::prelude::*;
use strandline_snapshot_format::{
    Compression, EntryRef, FoldOptions, MemorySegments, Merge, Op, SegmentKind, SegmentReader, SegmentWriter,
    WriterOptions, fold,
};
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::snapshot::{SegmentRef, SegmentStore, SnapshotPart};
use strandline_state_api::{Error, ErrorKind, KeyGroup, KeyGroupRange, Result};

use crate::common::{cases, now, read};

/// How a store fails to answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Fail,
    Wait,
    Short,
}

/// A store that records its reads, and fails once on demand.
struct Watched {
    inner: MemorySegments,
    reads: Mutex<Vec<(u64, u64)>>,
    trouble: Mutex<Trouble>,
}

impl Watched {
    fn new() -> Self {
        Self { inner: MemorySegments::new(), reads: Mutex::default(), trouble: Mutex::new(Trouble::None) }
    }

    fn reads(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }

    fn trouble(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }
}

#[async_trait]
impl SegmentStore for Watched {
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        self.inner.put(bytes).await
    }

    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>> {
        self.reads.lock().unwrap().push((range.start, range.end));
        let trouble = std::mem::replace(&mut *self.trouble.lock().unwrap(), Trouble::None);
        let mut bytes = self.inner.read(segment, range).await?;
        match trouble {
            Trouble::None => {}
            Trouble::Fail => return Err(Error::new(ErrorKind::Unavailable, "the store is away")),
            Trouble::Wait => std::future::pending().await,
            Trouble::Short => drop(bytes.pop()),
        }
        Ok(bytes)
    }
}

/// Stores `count` entries of about 100 bytes in as many groups, in blocks of `block_bytes`.
fn stored(store: &Watched, count: u16, block_bytes: usize) -> SegmentRef {
    let options = WriterOptions { compression: Compression::None, block_bytes };
    let states = vec![StateMeta::new("n", StateKind::Value)];
    let mut writer = SegmentWriter::new(states, SegmentKind::Base, options).unwrap();
    for group in 0..count {
        let group = KeyGroup::new(group).unwrap();
        writer.push(EntryRef { value: &[7; 90], ..EntryRef::new(group, 0, Op::Put, b"somewhere") }).unwrap();
    }
    now(store.put(writer.finish().unwrap().bytes)).unwrap()
}

#[test]
fn a_small_segment_takes_one_request() {
    let store = Watched::new();
    let segment = stored(&store, 300, 4_000);
    assert_eq!(read(&store, &segment, KeyGroupRange::ALL).unwrap().len(), 300);
    assert_eq!(store.reads(), vec![(0, segment.len)]);
}

#[test]
fn an_index_that_is_larger_than_the_first_read_takes_another() {
    let store = Watched::new();
    let segment = stored(&store, 4_000, 100);
    now(SegmentReader::open(&store, &segment)).unwrap();
    let reads = store.reads();
    assert_eq!(reads[0], (segment.len - (64 << 10), segment.len));
    assert!(reads.len() == 2 && reads[1].1 == segment.len && reads[1].0 > 0, "{reads:?}");
}

#[test]
fn requests_are_few_and_bounded() {
    let store = Watched::new();
    let options = WriterOptions { compression: Compression::None, block_bytes: 64 << 10 };
    let mut writer =
        SegmentWriter::new(vec![StateMeta::new("n", StateKind::Value)], SegmentKind::Base, options).unwrap();
    for group in 0..130 {
        let group = KeyGroup::new(group).unwrap();
        // The segment has 13 MB, with a single entry of 6 MB among them.
        let value = vec![group.index() as u8; if group.index() == 70 { 6 << 20 } else { 60_000 }];
        writer.push(EntryRef { value: &value, ..EntryRef::new(group, 0, Op::Put, b"k") }).unwrap();
    }
    let segment = now(store.put(writer.finish().unwrap().bytes)).unwrap();
    let reader = now(SegmentReader::open(&store, &segment)).unwrap();
    store.reads();
    let mut count = 0;
    now(reader.read(KeyGroupRange::ALL, |entry| {
        count += 1;
        assert!(entry.value.iter().all(|byte| *byte == entry.group.index() as u8));
        Ok(())
    }))
    .unwrap();
    let reads = store.reads();
    assert!(count == 130 && reads.len() <= 5, "{reads:?}");
    assert_eq!(reads.iter().filter(|(start, end)| end - start > 4 << 20).count(), 1, "{reads:?}");
    assert!(reads.windows(2).all(|pair| pair[0].1 == pair[1].0), "{reads:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(40)))]

    #[test]
    fn a_range_reads_only_its_blocks(a in 0u32..3_000, len in 0u32..3_000) {
        let store = Watched::new();
        let segment = stored(&store, 2_500, 1_000);
        let reader = now(SegmentReader::open(&store, &segment)).unwrap();
        prop_assert_eq!(store.reads(), vec![(segment.len - (64 << 10), segment.len)]);
        let range = KeyGroupRange::new(a, a + len);
        let mut groups = Vec::new();
        now(reader.read(range, |entry| {
            groups.push(u32::from(entry.group.index()));
            Ok(())
        })).unwrap();
        prop_assert_eq!(groups, (range.start()..range.end().min(2_500)).collect::<Vec<_>>());

        // One request reads from the first block that has a group of the range to the last one.
        let has = |block: &&strandline_snapshot_format::BlockInfo| {
            let groups = KeyGroupRange::new(block.first.index().into(), u32::from(block.last.index()) + 1);
            !range.intersect(groups).is_empty()
        };
        let needed: Vec<_> = reader.index().blocks().iter().filter(has).collect();
        let expected = needed.first().zip(needed.last()).map(|(first, last)| {
            let start = if first.offset == 12 { 0 } else { first.offset };
            (start, last.offset + u64::from(last.stored_len))
        });
        prop_assert_eq!(store.reads(), expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_cursor_goes_on_after_the_store_failed_or_the_caller_gave_up() {
    let store = Watched::new();
    let segment = stored(&store, 2_000, 1_000);
    let reader = now(SegmentReader::open(&store, &segment)).unwrap();
    let mut cursor = reader.cursor(KeyGroupRange::ALL);
    store.trouble(Trouble::Fail);
    assert_eq!(now(cursor.next()).unwrap_err().kind(), ErrorKind::Unavailable);
    store.trouble(Trouble::Wait);
    assert!(pin!(cursor.next()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    for group in 0..2_000 {
        assert_eq!(now(cursor.next()).unwrap().unwrap().group.index(), group);
    }
    assert!(now(cursor.next()).unwrap().is_none());
    assert!(now(cursor.next()).unwrap().is_none() && cursor.entry().is_none());
}

#[test]
fn a_merge_that_failed_or_was_cancelled_never_ends_as_if_complete() {
    let store = Watched::new();
    let segment = stored(&store, 2_000, 1_000);
    let parts = vec![SnapshotPart::portable(segment, KeyGroupRange::ALL); 2];
    for trouble in [Trouble::Fail, Trouble::Wait] {
        let mut merge = now(Merge::open(&store, &parts, SegmentKind::Base, KeyGroupRange::ALL)).unwrap();
        store.trouble(trouble);
        match pin!(merge.next()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => {}
            Poll::Ready(result) => assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable),
        }
        assert_eq!(now(merge.next()).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn a_short_answer_of_the_store_is_refused() {
    let store = Watched::new();
    let segment = stored(&store, 2_000, 1_000);
    store.trouble(Trouble::Short);
    assert_eq!(now(SegmentReader::open(&store, &segment)).unwrap_err().kind(), ErrorKind::Corrupt);
    let reader = now(SegmentReader::open(&store, &segment)).unwrap();
    store.trouble(Trouble::Short);
    assert_eq!(now(reader.read(KeyGroupRange::ALL, |_| Ok(()))).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_missing_segment_and_one_of_another_length_fail_differently() {
    let store = Watched::new();
    let segment = stored(&store, 10, 1_000);
    let longer = SegmentRef { len: segment.len + 1, ..segment.clone() };
    assert_eq!(read(&store, &longer, KeyGroupRange::ALL).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(store.inner.remove(&segment.name));
    assert_eq!(read(&store, &segment, KeyGroupRange::ALL).unwrap_err().kind(), ErrorKind::NotFound);
}

/// A merge reads parts that lie side by side, as after scaling in, one after the other.
#[test]
fn a_merge_opens_parts_when_their_groups_come() {
    let store = Watched::new();
    let segment = stored(&store, 2_000, 1_000);
    let part = |start, end| SnapshotPart::portable(segment.clone(), KeyGroupRange::new(start, end));
    let parts: Vec<_> = (0..10).rev().map(|n| part(200 * n, 200 * (n + 1))).collect();
    let mut merge = now(Merge::open(&store, &parts, SegmentKind::Base, KeyGroupRange::ALL)).unwrap();
    store.reads();
    for group in 0..2_000 {
        assert_eq!(now(merge.next()).unwrap().unwrap().group.index(), group);
        assert!(store.reads().len() <= 1);
    }
    assert!(now(merge.next()).unwrap().is_none());
}

#[test]
fn a_cursor_over_damage_stays_damaged() {
    let store = Watched::new();
    let segment = stored(&store, 2_000, 1_000);
    let mut bytes = store.inner.get(&segment.name).unwrap().to_vec();
    bytes[100_000] ^= 1;
    store.inner.replace(segment.name.clone(), &bytes);
    let reader = now(SegmentReader::open(&store, &segment)).unwrap();
    let mut cursor = reader.cursor(KeyGroupRange::ALL);
    let first = loop {
        match now(cursor.next()) {
            Ok(entry) => assert!(entry.is_some(), "the damage was not met"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(cursor.entry().is_none());
    let again = now(cursor.next()).unwrap_err();
    assert_eq!((again.kind(), again.to_string()), (ErrorKind::Corrupt, first));
}

/// A host commits snapshots on other threads than the one that processes records.
#[test]
fn everything_can_be_sent_to_another_thread() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let store = Watched::new();
    let segment = stored(&store, 10, 1_000);
    let reader = send(now(send(SegmentReader::open(&store, &segment))).unwrap());
    now(send(reader.read(KeyGroupRange::ALL, |_| Ok(())))).unwrap();
    let parts = [SnapshotPart::portable(segment.clone(), KeyGroupRange::ALL)];
    let mut merge =
        send(now(send(Merge::open(&store, &parts, SegmentKind::Base, KeyGroupRange::ALL))).unwrap());
    assert!(now(send(merge.next())).unwrap().is_some());
    let options = FoldOptions::default();
    let folded = now(send(fold(&parts, &store, SegmentKind::Base, KeyGroupRange::ALL, &options))).unwrap();
    assert_eq!(folded.entries, 10);
    send(SegmentWriter::new(Vec::new(), SegmentKind::Base, WriterOptions::default()).unwrap());
}
