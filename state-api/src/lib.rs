#![doc = include_str!("../README.md")]

mod access;
mod checkpoint;
mod codec;
mod error;
mod hash;
mod id;
mod key;
mod key_group;
mod operator;
mod operator_state;
mod state;
mod time;
mod window;

pub mod assignment;
pub mod backend;
pub mod encoding;
pub mod host;
pub mod schema;
pub mod snapshot;

pub use access::{
    AggregatingAccess, Elements, KeyScope, ListAccess, MapAccess, ReducingAccess, StateHandle, TimerAccess,
    ValueAccess,
};
pub use backend::keyed::KeyedBackend;
pub use checkpoint::{AbortNotice, CheckpointKind};
pub use codec::{Codec, SelfDescribingCodec, SerdeCodec};
pub use error::{Error, ErrorKind, OrFail, Result};
pub use hash::KeyHash;
pub use id::{CheckpointId, OperatorId};
pub use key::{Keyed, StateKey};
pub use key_group::{KeyGroup, KeyGroupRange};
pub use operator::{Batch, BroadcastContext, BroadcastOperator, Context, Open, Operator, Register, Timer};
pub use operator_state::{
    BroadcastDescriptor, BroadcastMap, BroadcastState, OperatorListDescriptor, OperatorListState,
};
pub use schema::Evolution;
pub use state::{
    AggregateFunction, AggregatingDescriptor, AggregatingState, Cleanup, Expiring, Lasting, Lifespan,
    ListDescriptor, ListState, MapDescriptor, MapState, ReduceFunction, ReducingDescriptor, ReducingState,
    Refresh, StateDescriptor, TimerDescriptor, TimerService, Ttl, ValueDescriptor, ValueState, Visibility,
};
pub use time::{TimeDomain, Timestamp};
pub use window::TimeWindow;
