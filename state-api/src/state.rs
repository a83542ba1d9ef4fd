//! Descriptors, with which a program declares states, and the handles that a registration returns.

mod descriptor;
mod folding;
mod handle;
mod lifespan;
mod ttl;

pub use descriptor::{
    AggregatingDescriptor, ListDescriptor, MapDescriptor, ReducingDescriptor, StateDescriptor,
    TimerDescriptor, ValueDescriptor,
};
pub use folding::{AggregateFunction, ReduceFunction};
pub use handle::{AggregatingState, ListState, MapState, ReducingState, TimerService, ValueState};
pub(crate) use lifespan::split_stamp;
pub use lifespan::{Expiring, Lasting, Lifespan};
pub use ttl::{Cleanup, Refresh, Ttl, Visibility};
