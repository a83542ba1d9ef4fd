//! W2: state access. One backend, one thread, no engine; an operation is choosing the key and one access.
//!
//! Changes are timed as the first of their entry since a snapshot, which is what incremental tracking costs
//! at most: between slices a snapshot is cut and drained. [`value::ValueOp`] also has updates without that,
//! and updates while a snapshot is not drained.

pub mod kinds;
pub mod list;
pub mod map;
pub mod timers;
pub mod value;
