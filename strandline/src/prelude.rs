//! What a loop, an operator and a pipeline need: `use strandline::prelude::*;`.

pub use strandline_checkpoint_storage::{SoloJob, Storage, Worker, WorkerGroup};
pub use strandline_state_api::backend::KeyedBackendExt as _;
pub use strandline_state_api::{
    AggregateFunction, AggregatingDescriptor, AggregatingState, Batch, BroadcastContext, BroadcastDescriptor,
    BroadcastOperator, BroadcastState, Context, Error, ErrorKind, KeyScope, KeyedBackend, ListDescriptor,
    ListState, MapDescriptor, MapState, Open, Operator, OperatorListDescriptor, OperatorListState, OrFail,
    ReducingDescriptor, ReducingState, Result, StateKey, TimeDomain, TimeWindow, Timer, TimerDescriptor,
    TimerService, Timestamp, Ttl, ValueDescriptor, ValueState,
};

#[cfg(feature = "memory")]
pub use strandline_backend_memory::{MemoryBackend, MemoryBackendFactory};
#[cfg(feature = "rocksdb")]
pub use strandline_backend_rocksdb::{RocksBackend, RocksBackendFactory};
#[cfg(feature = "runtime")]
pub use strandline_runtime::{CheckpointConfig, JobConfig, JobControl, Pipeline, Unaligned, run, run_async};

#[cfg(all(feature = "operators", feature = "runtime"))]
pub use crate::streams::{
    ChangesExt as _, JoinExt as _, KeyedStreamExt as _, RegularJoinExt as _, StreamExt as _,
    TwoInputsExt as _, VersionedJoinExt as _,
};
