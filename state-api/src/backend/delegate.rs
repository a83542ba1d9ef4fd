//! A backend that leaves its snapshots to a part of it.

use async_trait::async_trait;

use super::{Progress, RestoreSnapshot, Restored, SnapshotKind, SnapshotSource};
use crate::snapshot::{KeyedSnapshot, SegmentStore};
use crate::{CheckpointId, Result};

/// A backend that leaves its snapshots and its restore to a part of it, such as the `WholeStates` of the
/// crate `strandline-snapshot-format`, or to a backend that it wraps. It needs no [`SnapshotSource`] and no
/// [`RestoreSnapshot`] of its own.
pub trait DelegateSnapshots {
    /// The part.
    type Delegate: SnapshotSource + RestoreSnapshot + Send;

    /// Lends the part.
    fn delegate(&mut self) -> &mut Self::Delegate;
}

impl<B: DelegateSnapshots> SnapshotSource for B {
    type Prepared = <B::Delegate as SnapshotSource>::Prepared;
    type Writer = <B::Delegate as SnapshotSource>::Writer;

    fn prepare(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        self.delegate().prepare(checkpoint, kind)
    }

    fn advance(&mut self, budget: usize) -> Result<Progress<Self::Prepared>> {
        self.delegate().advance(budget)
    }

    fn take_writer(&mut self) -> Result<Self::Writer> {
        self.delegate().take_writer()
    }
}

#[async_trait]
impl<B: DelegateSnapshots + Send> RestoreSnapshot for B {
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored> {
        self.delegate().restore(snapshots, store).await
    }
}
