//! The first phase of a snapshot: what runs on the processing thread.

use std::sync::Arc;

use strandline_state_api::{
    CheckpointId, Error, Progress, Result, SnapshotKind, SnapshotSource, StateKey, Trimming,
};

use crate::RocksBackend;
use crate::cut::{Cut, PreparedCut};
use crate::directory::StoredState;
use crate::writer::RocksSnapshotWriter;

/// A snapshot whose changes are not all in the database.
#[derive(Debug)]
pub(crate) struct UnderWay {
    checkpoint: CheckpointId,
    kind: SnapshotKind,
    cut: Arc<Cut>,
    states: Vec<StoredState>,
    /// What a full snapshot leaves out.
    trimming: Trimming,
}

impl<K: StateKey> RocksBackend<K> {
    /// What a snapshot of this barrier leaves out.
    fn trimming(&self, kind: SnapshotKind) -> Trimming {
        let mut trimming = Trimming::at(self.clock);
        if kind == SnapshotKind::Full {
            for state in &self.states {
                if let Some(ttl) = state.ttl() {
                    trimming.add(&state.place().meta().name, ttl);
                }
            }
        }
        trimming
    }

    /// All states, registered or not, by name.
    fn stored_states(&self) -> Vec<StoredState> {
        let registered = self.states.iter().map(|state| state.place().stored());
        let mut states: Vec<_> = registered.chain(self.unclaimed.iter().cloned()).collect();
        states.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        states
    }
}

impl<K: StateKey> SnapshotSource for RocksBackend<K> {
    type Prepared = PreparedCut;
    type Writer = RocksSnapshotWriter;

    fn prepare(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        if let Some(newest) = self.newest.filter(|newest| *newest >= checkpoint) {
            return Err(Error::invalid("a snapshot of this or a later checkpoint was prepared before")
                .with("operator", &self.scope.operator)
                .with("checkpoint", checkpoint)
                .with("newest", newest));
        }
        self.used = true;
        self.newest = Some(checkpoint);
        let shared = &self.store.database().expiries;
        let trimming = self.trimming(kind);
        if !self.store.waits_for_a_copy() {
            // Every older cut is copied, and this one knows nothing older than now.
            shared.tell(self.clock);
        }
        let (cut, states) = (self.store.cut(checkpoint), self.stored_states());
        self.under_way.push_back(UnderWay { checkpoint, kind, cut, states, trimming });
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
                self.store.forget(checkpoint);
                return Err(error.with("operator", &self.scope.operator).with("checkpoint", checkpoint));
            }
        }
        let Some(UnderWay { checkpoint, kind, cut, states, trimming }) = self.under_way.pop_front() else {
            return Ok(Progress::Idle);
        };
        Ok(Progress::Ready(checkpoint, PreparedCut { cut, checkpoint, kind, states, trimming }))
    }

    fn take_writer(&mut self) -> Result<RocksSnapshotWriter> {
        if std::mem::replace(&mut self.writer_taken, true) {
            return Err(
                Error::invalid("the snapshot writer was taken before").with("operator", &self.scope.operator)
            );
        }
        let (scope, environment) = (self.scope.clone(), self.environment.clone());
        Ok(RocksSnapshotWriter::new(scope, environment, self.restored.take().unwrap_or_default()))
    }
}
