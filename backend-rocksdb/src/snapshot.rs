//! The first phase of a snapshot, which runs on the processing thread.

use std::sync::Arc;

use strandline_snapshot_format::ExpiryFilter;
use strandline_state_api::backend::{Progress, SnapshotKind, SnapshotSource};
use strandline_state_api::{CheckpointId, Result, StateKey};

use crate::RocksBackend;
use crate::cut::{DatabaseCut, PreparedCut};
use crate::directory::StoredState;
use crate::writer::RocksSnapshotWriter;

/// A snapshot whose changes are not all in the database.
#[derive(Debug)]
pub(crate) struct UnderWay {
    checkpoint: CheckpointId,
    kind: SnapshotKind,
    cut: Arc<DatabaseCut>,
    states: Vec<StoredState>,
    /// What a full snapshot leaves out.
    filter: ExpiryFilter,
}

impl<K: StateKey> RocksBackend<K> {
    /// What a snapshot of this barrier leaves out.
    fn expiry_filter(&self, kind: SnapshotKind) -> ExpiryFilter {
        let states = self.registry.iter().map(|state| (state.meta(), state.ttl()));
        match kind {
            SnapshotKind::Full | SnapshotKind::Savepoint => ExpiryFilter::of(self.clock, states),
            SnapshotKind::Incremental | SnapshotKind::View => ExpiryFilter::default(),
        }
    }

    /// All states, registered or not, by name.
    fn stored_states(&self) -> Vec<StoredState> {
        let registered = self.registry.iter().map(|state| state.stored());
        let mut states: Vec<_> = registered.chain(self.orphans.iter().cloned()).collect();
        states.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        states
    }
}

impl<K: StateKey> SnapshotSource for RocksBackend<K> {
    type Prepared = PreparedCut;
    type Writer = RocksSnapshotWriter;

    fn prepare(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        self.registry.begin_checkpoint(checkpoint)?;
        let filter = self.expiry_filter(kind);
        if !self.store.waits_for_a_copy() {
            // Every older cut is copied, and this one holds nothing older than now.
            self.store.database().expiries.set_clock(self.clock);
        }
        let (cut, states) = (self.store.cut(checkpoint), self.stored_states());
        self.under_way.push_back(UnderWay { checkpoint, kind, cut, states, filter });
        Ok(())
    }

    fn advance(&mut self, budget: usize) -> Result<Progress<PreparedCut>> {
        let Some(oldest) = self.under_way.front() else { return Ok(Progress::Idle) };
        let checkpoint = oldest.checkpoint;
        match self.store.drain(checkpoint, budget) {
            Ok(false) => return Ok(Progress::More),
            Ok(true) => {}
            Err(error) => {
                self.under_way.pop_front();
                self.store.give_up(checkpoint);
                return Err(self.registry.scope().locate(error).with("checkpoint", checkpoint));
            }
        }
        let Some(UnderWay { checkpoint, kind, cut, states, filter }) = self.under_way.pop_front() else {
            return Ok(Progress::Idle);
        };
        Ok(Progress::Ready(checkpoint, PreparedCut { cut, checkpoint, kind, states, filter }))
    }

    fn take_writer(&mut self) -> Result<RocksSnapshotWriter> {
        self.registry.take_writer()?;
        let (scope, environment) = (self.registry.scope().clone(), self.environment.clone());
        Ok(RocksSnapshotWriter::new(scope, environment, self.restored.take().unwrap_or_default()))
    }
}
