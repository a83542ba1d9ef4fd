#![doc = include_str!("../README.md")]

mod assignment;
mod backend;
mod codec;
mod descriptor;
mod error;
mod hash;
mod id;
mod key;
mod key_group;
mod operator;
mod operator_state;
mod scope;
mod snapshot;
mod window;

pub mod format;
pub mod harness;

pub use assignment::{
    KeyedAssignment, assign_keyed, assign_operator_state, broadcast_source, split_list, union_list,
};
pub use backend::{
    BackendFactory, BackendScope, CheckpointedBackend, FiredTimer, KeyedBackend, RestoreSnapshot, Restored,
    encoded_range,
};
pub use codec::{Codec, SerdeCodec};
pub use descriptor::{
    ListDescriptor, ListState, MapDescriptor, MapState, TimeDomain, TimerDescriptor, TimerService,
    ValueDescriptor, ValueState,
};
pub use error::{Error, ErrorKind, Result};
pub use hash::KeyHash;
pub use id::{CheckpointId, OperatorId};
pub use key::{Keyed, StateKey, push_escaped, split_escaped};
pub use key_group::{KeyGroup, KeyGroupRange, subtask_of};
pub use operator::{Context, DueTimer, KeyedProcess, NO_TIMESTAMP, Open, Operator, Output, Steps};
pub use operator_state::{
    OperatorListDescriptor, OperatorListState, OperatorStateEntry, OperatorStateStore, Redistribution,
};
pub use scope::{KeyScope, ListAccess, MapAccess, TimerAccess, ValueAccess};
pub use snapshot::{
    KeyedSnapshot, PartFormat, Progress, SegmentName, SegmentRef, SegmentStore, SnapshotKind, SnapshotPart,
    SnapshotSource, SnapshotWriter,
};
pub use window::TimeWindow;
