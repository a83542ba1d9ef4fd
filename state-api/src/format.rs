//! The portable snapshot format: one documented file format, ordered by key group, that every backend writes and reads.
//!
//! A *segment* is an immutable file of entries in one total order: key group, state, key, namespace, map key. It ends
//! with an index of its blocks, so a restore reads only the blocks of its own key groups, whatever subtask wrote them.
//! A *base* holds what is; a *delta* also holds what was deleted, appended and cleared since the parts before it. The
//! bytes are specified in `docs/format.md`, well enough to write a reader in another language. (Flink: the canonical
//! savepoint format, `FullSnapshotAsyncWriter`, which knows no index, no deltas and no checksums.)
//!
//! | to do this | use |
//! | --- | --- |
//! | write a segment | [`SegmentWriter`] |
//! | read the entries of some key groups of one segment | [`SegmentReader::read`], [`SegmentCursor`] |
//! | read a whole chain of parts, newest wins | [`Merge`] |
//! | turn a chain of parts into new, fewer segments | [`fold`] |
//! | compare what snapshots hold, whole or by key groups | [`snapshot_fingerprint`] |
//! | encode timers and lists | [`timer_key`], [`list`] |
//! | test without a store | [`MemorySegments`] |
//!
//! Encoding and decoding are plain CPU work; only what calls a [`SegmentStore`](crate::SegmentStore) is async. Run
//! [`fold`] and large reads where CPU work does not hold up an event loop.
//!
//! # Trust
//! Nothing that is read is believed before it is checked: magic, version, checksums of the index and of every block,
//! each length before anything is allocated, the order of the entries, their key groups, counts and a fingerprint. A
//! newer version is [`Incompatible`](crate::ErrorKind::Incompatible), anything else wrong is
//! [`Corrupt`](crate::ErrorKind::Corrupt) with the segment and the block. The fingerprint of a block is known only at
//! its end, so the receiver of entries must discard them when the read fails later.
//!
//! # Example
//! ```
//! use strandline_state_api::format::{EntryRef, MemorySegments, Op, SegmentKind, SegmentReader};
//! use strandline_state_api::format::{SegmentWriter, StateKind, StateMeta, WriterOptions};
//! use strandline_state_api::{KeyGroupRange, KeyHash, KeyGroup, Result, SegmentStore};
//!
//! async fn save_and_load(store: &MemorySegments) -> Result<Vec<u8>> {
//!     let states = vec![StateMeta::new("count", StateKind::Value)];
//!     let mut writer = SegmentWriter::new(states, SegmentKind::Base, WriterOptions::default())?;
//!     let group = KeyGroup::of(KeyHash::of_encoded(b"ada"));
//!     writer.push(EntryRef { value: b"7", ..EntryRef::new(group, 0, Op::Put, b"ada") })?;
//!     let segment = store.put(writer.finish()?.bytes).await?;
//!
//!     let reader = SegmentReader::open(store, &segment).await?;
//!     let mut value = Vec::new();
//!     reader.read(KeyGroupRange::ALL, |entry| {
//!         value.extend_from_slice(entry.value);
//!         Ok(())
//!     }).await?;
//!     Ok(value)
//! }
//! # let mut future = std::pin::pin!(async {
//! #     assert_eq!(save_and_load(&MemorySegments::new()).await.unwrap(), b"7");
//! # });
//! # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
//! # assert!(std::future::Future::poll(future.as_mut(), &mut context).is_ready());
//! ```

mod block;
mod build;
mod cursor;
mod decode;
mod entry;
mod fingerprint;
mod fold;
mod heap;
mod index;
mod layout;
pub mod list;
mod memory;
mod merge;
mod reader;
mod state;
mod table;
pub mod timer_key;
mod varint;
mod writer;

pub use block::{Block, Entries};
pub use cursor::SegmentCursor;
pub use entry::{EntryRef, Op, fingerprint};
pub use fingerprint::{Fingerprint, snapshot_fingerprint};
pub use fold::{FoldOptions, Folded, fold, fold_into, fold_trimmed};
pub use index::{BlockInfo, SegmentIndex};
pub use layout::{FORMAT_VERSION, MAX_BLOCK_BYTES, MAX_ENTRY_BYTES, MAX_INDEX_BYTES};
pub use memory::MemorySegments;
pub use merge::Merge;
pub use reader::SegmentReader;
pub use state::{SegmentKind, StateKind, StateMeta};
pub use writer::{Compression, FinishedSegment, SegmentWriter, WriterOptions};
