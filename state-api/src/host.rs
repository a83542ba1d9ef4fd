//! What a host needs to run operators; a host is an engine, a loop or a test harness.
//!
//! A host drives each subtask through a [`KeyedProcess`], stores the [operator state](OperatorStateStore)
//! with the keyed snapshot, and distributes both with [`assignment`](crate::assignment) when the parallelism
//! changes.

mod process;
mod register;

pub use process::{KeyedProcess, Steps};
pub use register::AnyDescriptor;

pub use crate::operator_state::{OperatorLists, OperatorStateEntry, OperatorStateStore, Redistribution};
