//! What stream state is.
mod error;
mod hash;
mod id;
mod key_group;
mod snapshot;

pub use error::{Error, ErrorKind, Result};
pub use hash::KeyHash;
pub use id::{CheckpointId, OperatorId};
pub use key_group::{KeyGroup, KeyGroupRange, subtask_of};
pub use snapshot::{
    KeyedSnapshot, Progress, SegmentName, SegmentRef, SegmentStore, SnapshotKind, SnapshotPart, SnapshotSource,
    SnapshotWriter,
};
