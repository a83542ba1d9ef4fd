//! Where the entries of a subtask's snapshot come from.

use std::ops::ControlFlow;

use strandline_snapshot_format::{EntryRef, Merge};
use strandline_state_api::Result;
use strandline_state_api::schema::StateMeta;

/// The entries of some key groups of one subtask's snapshot, in order.
pub(crate) enum Source<'a> {
    /// Of parts in the portable format.
    Portable(Box<Merge<'a>>),
    /// Of files of RocksDB, of one state.
    #[cfg(feature = "rocksdb")]
    Native(crate::native::NativeEntries),
}

impl Source<'_> {
    /// Returns the states and forms; the state of an entry is an index into them.
    pub(crate) fn states(&self) -> &[StateMeta] {
        match self {
            Self::Portable(merge) => merge.states(),
            #[cfg(feature = "rocksdb")]
            Self::Native(entries) => entries.states(),
        }
    }

    /// Lends the next entries to `take` until it breaks off; returns whether more may follow.
    pub(crate) async fn read(
        &mut self,
        take: impl FnMut(EntryRef<'_>) -> Result<ControlFlow<()>> + Send,
    ) -> Result<bool> {
        match self {
            Self::Portable(merge) => merge.read(take).await,
            #[cfg(feature = "rocksdb")]
            Self::Native(entries) => entries.read(take),
        }
    }
}
