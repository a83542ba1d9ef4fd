#![doc = include_str!("../README.md")]

mod block;
mod build;
mod cursor;
mod decode;
mod entry;
mod expiry;
mod fingerprint;
mod fold;
mod heap;
mod index;
mod layout;
mod limit;
pub mod list;
mod memory;
mod merge;
mod reader;
mod segment_kind;
mod table;
pub mod timer_key;
mod varint;
pub mod whole;
mod writer;

pub use block::{Block, Entries};
pub use cursor::SegmentCursor;
pub use entry::{EntryRef, Op, fingerprint};
pub use expiry::{ExpiryFilter, Kept, unexpired};
pub use fingerprint::{Fingerprint, snapshot_fingerprint};
pub use fold::{FoldOptions, Folded, fold, fold_filtered, fold_into};
pub use index::{BlockInfo, SegmentIndex};
pub use layout::{FORMAT_VERSION, MAX_BLOCK_BYTES, MAX_ENTRY_BYTES, MAX_INDEX_BYTES};
pub use limit::{check_entry_size, too_large};
pub use memory::MemorySegments;
pub use merge::Merge;
pub use reader::SegmentReader;
pub use segment_kind::SegmentKind;
pub use writer::{Compression, FinishedSegment, SegmentWriter, WriterOptions};
