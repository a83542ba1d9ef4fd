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
//! | decide whether the entries of announced keys are worth a prefetch | [`Demand`] |
//! | leave out a kind of state | [`Unsupported`] |
//! | leave snapshots and restore to a part of the backend | [`DelegateSnapshots`] |
//! | take whole snapshots, and restore them | `whole::WholeStates` of `strandline-snapshot-format` |
//!
//! The crate `strandline-conformance` tests a backend against this contract. Its module `guide` walks through
//! a whole backend that keeps only values.

mod delegate;
mod demand;
pub(crate) mod keyed;
mod kinds;
mod phases;
mod registry;
mod scope;
mod stored;
mod unsupported;

pub use delegate::DelegateSnapshots;
pub use demand::Demand;
pub(crate) use keyed::KeyedBackend;
pub use keyed::{
    CheckpointedBackend, EncodedEntry, KeyedBackendExt, RestoreSnapshot, Restored, Scope, Statistic,
};
pub use kinds::{At, Lists, Maps, TimerEntry, Timers, Values, Verdict, encoded_range};
pub use phases::{Progress, SnapshotKind, SnapshotSource, SnapshotWriter};
pub use registry::{RegisteredState, StateId, StateLocation, StateRegistry};
pub use scope::{BackendFactory, BackendScope};
pub use stored::{AcceptedForm, StoredValues, expired_bytes};
pub use unsupported::Unsupported;

pub use crate::time::StateTime;
