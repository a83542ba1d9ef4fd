#![doc = include_str!("../README.md")]

mod aggregate;
mod assignment;
mod backend;
mod codec;
mod descriptor;
mod error;
mod evolution;
mod handle;
mod hash;
mod id;
mod key;
mod key_group;
mod operator;
mod operator_state;
mod plan;
mod schema;
mod scope;
mod snapshot;
mod ttl;
mod window;

pub mod format;
pub mod harness;

pub use aggregate::{
    AggregateFunction, AggregatingDescriptor, AggregatingState, ReduceFunction, ReducingDescriptor,
    ReducingState,
};
pub use assignment::{
    KeyedAssignment, ListSplit, assign_keyed, assign_operator_state, broadcast_source, union_list,
};
pub use backend::{
    BackendFactory, BackendScope, CheckpointedBackend, FiredTimer, KeyedBackend, RestoreSnapshot, Restored,
    encoded_range,
};
pub use codec::{Codec, SelfDescribingCodec, SerdeCodec};
pub use descriptor::{
    ListDescriptor, MapDescriptor, StateDescriptor, TimeDomain, TimerDescriptor, ValueDescriptor,
};
pub use error::{Error, ErrorKind, Result};
pub use evolution::{Decoder, Evolution, Migration, Reading};
pub use handle::{ListState, MapState, StateHandle, TimerService, ValueState};
pub use hash::KeyHash;
pub use id::{CheckpointId, OperatorId};
pub use key::{Keyed, StateKey, push_escaped, split_escaped};
pub use key_group::{KeyGroup, KeyGroupRange, subtask_of};
pub use operator::{
    BroadcastContext, BroadcastOperator, Context, DueTimer, KeyedProcess, NO_TIMESTAMP, Open, Operator,
    Output, Steps,
};
pub use operator_state::{
    BroadcastDescriptor, BroadcastMap, BroadcastState, OperatorListDescriptor, OperatorListState,
    OperatorLists, OperatorStateEntry, OperatorStateStore, Redistribution,
};
pub use plan::{Fate, JobSchema, OperatorSchema, Planned, RestorePlan, StoredOperator};
pub use schema::{Compatibility, ReadableForm, StateSchema};
pub use scope::{
    AggregatingAccess, KeyScope, ListAccess, MapAccess, ReducingAccess, TimerAccess, ValueAccess,
};
pub use snapshot::{
    KeyedSnapshot, PartFormat, Progress, SegmentName, SegmentRef, SegmentStore, SnapshotKind, SnapshotPart,
    SnapshotSource, SnapshotWriter,
};
pub use ttl::{
    Cleanup, Expiring, Expiry, Lasting, Refresh, StateTime, Timed, Trimmed, Trimming, Ttl, Visibility,
};
pub use window::TimeWindow;
