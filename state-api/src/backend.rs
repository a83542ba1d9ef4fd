//! The contract of a state backend, and a kit for writing one.
//!
//! A backend implements [`KeyedBackend`] with one table type for each kind of state that
//! it has ([`Values`], [`Lists`], [`Maps`], [`Timers`]; [`Unsupported`] for the others), [`SnapshotSource`]
//! with its [`SnapshotWriter`], [`RestoreSnapshot`], and [`BackendFactory`].
//!
//! The kit implements what all backends share:
//!
//! | to do this | use |
//! | --- | --- |
//! | register states, order checkpoints, hand out one writer | [`StateRegistry`] |
//! | refuse name conflicts, foreign handles and late registrations | [`StateRegistry`] |
//! | encode, decode and migrate values, and check whether one has expired | [`StoredValues`] |
//! | encode the bounds of a range of map keys | [`encoded_range`] |
//!
//! The crate `strandline-conformance` tests a backend against this contract; start with its
//! `tests/values_only.rs`, a backend that keeps only values.

pub(crate) mod keyed;
mod kinds;
mod phases;
mod registry;
mod scope;
mod stored;
mod unsupported;

pub(crate) use keyed::KeyedBackend;
pub use keyed::{CheckpointedBackend, KeyedBackendExt, RestoreSnapshot, Restored, Scope, Statistic};
pub use kinds::{At, Lists, Maps, TimerEntry, Timers, Values, Verdict, encoded_range};
pub use phases::{Progress, SnapshotKind, SnapshotSource, SnapshotWriter};
pub use registry::{RegisteredState, StateId, StateLocation, StateRegistry};
pub use scope::{BackendFactory, BackendScope};
pub use stored::{StoredValues, expired_bytes};
pub use unsupported::Unsupported;

pub use crate::time::StateTime;
