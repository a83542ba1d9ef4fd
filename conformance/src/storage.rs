//! Cases for checkpoint storages; each takes the [`StorageSubject`] and panics with what differs.
//!
//! A storage is a [`BlobStore`](strandline_checkpoint_storage::BlobStore) for immutable objects and a
//! [`ClaimStore`](strandline_checkpoint_storage::ClaimStore) for the slots of the commit log. [`objects`] and
//! [`claims`] hold these two to their laws; the other modules let whole coordinators work on them, with lost
//! answers, torn writes and crashes at every single operation.
//!
//! ```
//! use strandline_checkpoint_storage::Storage; // from_parts(..) for stores of your own
//!
//! strandline_conformance::storage_tests!(|| {
//!     let storage = Storage::in_memory().unwrap();
//!     move || storage.clone()
//! });
//! # fn main() {}
//! ```

pub mod claims;
pub mod coordinators;
pub mod crashes;
pub mod damage;
pub mod objects;
pub mod retention;

mod place;
mod subject;

pub use subject::StorageSubject;
