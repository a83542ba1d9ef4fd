//! The two seams to whatever holds the bytes: immutable objects, and slots that one writer wins.
//!
//! The crate brings [`LocalDir`] (a directory on a local disk) and [`ObjectStore`] (anything that OpenDAL
//! reaches and that can create an object atomically). Bring your own by implementing [`BlobStore`] and
//! [`ClaimStore`]: blobs may live in one system and claims in another, for example in a consensus service
//! beside an object store that cannot create conditionally.

mod faults;
mod local;
mod located;
mod object;
mod retry;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use strandline_state_api::Result;

pub(crate) use faults::missing;
pub use local::LocalDir;
pub(crate) use located::{Located, locate};
#[cfg(feature = "s3")]
pub(crate) use object::translate;
pub use object::{ObjectInfo, ObjectStore};

/// A file that a listing found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name within the listed directory.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// What became of an attempt to create a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// This call created it, durably.
    Created,
    /// It existed before, and is unchanged.
    Exists,
}

/// Immutable objects. Paths are relative, parts separated by `/`, in ASCII.
///
/// # Law
/// Once [`put`](Self::put) returned, every later [`read`](Self::read), [`len`](Self::len) and
/// [`list`](Self::list), by any process, sees the whole object, also after a crash or a loss of power. Until
/// then readers see all of it or nothing. Implementations retry what fails for a moment; an error that they
/// return is meant to be final.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Stores `bytes` under `path`. An object of that name is replaced, which happens only with the same
    /// content.
    ///
    /// # Errors
    /// When the store cannot; the object may exist or not.
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()>;

    /// The length of an object in bytes; `None` when there is none.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn len(&self, path: &str) -> Result<Option<u64>>;

    /// Reads `range` of an object, exactly.
    ///
    /// # Errors
    /// [`NotFound`](strandline_state_api::ErrorKind::NotFound) when there is none,
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when it ends before the range does.
    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes>;

    /// The files directly in `dir`, in no order; none when the directory does not exist.
    ///
    /// # Errors
    /// When the store does not answer: a list is complete or an error.
    async fn list(&self, dir: &str) -> Result<Vec<Listed>>;

    /// Deletes an object; no error when there is none.
    ///
    /// # Errors
    /// When the store cannot; the object may exist or not.
    async fn delete(&self, path: &str) -> Result<()>;

    /// If `name` is what an interrupted write of this store leaves behind: the name that the object was to
    /// get.
    fn leftover_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        let _ = name;
        None
    }

    /// How many operations were retried since the store was opened.
    fn retries(&self) -> u64 {
        0
    }
}

/// Slots that exactly one writer wins: the consensus register under the commit log.
///
/// # Law
/// [`claim`](Self::claim) is linearizable: of all attempts at one path, over all processes and all time until
/// the path is deleted, at most one creates it; readers see its whole content or nothing; a writer that dies
/// in the middle leaves the slot free or created, never half. Safety decisions are not made here.
#[async_trait]
pub trait ClaimStore: Send + Sync + fmt::Debug {
    /// Creates `path` with `bytes` if it does not exist.
    ///
    /// # Errors
    /// The outcome is unknown: the slot may have been created by this very call. Read it back and compare a
    /// token that only this writer knows; never take an error for a lost slot. An implementation must not
    /// retry a create whose answer was lost, as it would report its own success as
    /// [`Exists`](ClaimOutcome::Exists) without knowing it.
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome>;

    /// Verifies, as far as that is possible, that [`claim`](Self::claim) keeps the law; called once for a
    /// storage, before its first claim. The default trusts: override it where somebody else's server decides.
    ///
    /// # Errors
    /// [`Unsupported`](strandline_state_api::ErrorKind::Unsupported) when the store breaks the law, else when
    /// it does not answer.
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The content of a slot, `None` when it does not exist; never older than any answer before the call.
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when it is longer than `limit` bytes, else when
    /// the store cannot tell.
    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>>;

    /// The files directly in `dir`, in no order; holds every slot that exists during the whole call. Slots
    /// that are created or deleted meanwhile may be in it or not; nothing that decides about a commit relies
    /// on them.
    ///
    /// # Errors
    /// When the store does not answer: a list is complete or an error.
    async fn list(&self, dir: &str) -> Result<Vec<Listed>>;

    /// Deletes a slot; no error when there is none.
    ///
    /// # Errors
    /// When the store cannot; the slot may exist or not.
    async fn delete(&self, path: &str) -> Result<()>;

    /// If `name` is what an interrupted claim of this store leaves behind: the name of the slot.
    fn leftover_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        let _ = name;
        None
    }
}
