//! The first phase of a snapshot, and the restore: what runs on the processing thread.

use async_trait::async_trait;
use strandline_state_api::format::{Merge, SegmentKind, StateMeta};
use strandline_state_api::{
    CheckpointId, Error, ErrorKind, KeyedBackend, KeyedSnapshot, Progress, RestoreSnapshot, Restored, Result,
    SegmentStore, SnapshotKind, SnapshotPart, SnapshotSource, StateKey, Trimming,
};

use crate::MemoryBackend;
use crate::delta::{Delta, StateDelta};
use crate::kept::Kept;
use crate::writer::MemorySnapshotWriter;

/// A snapshot that was prepared and is not drained.
#[derive(Debug)]
pub(crate) struct UnderWay {
    checkpoint: CheckpointId,
    /// What the caller asked for.
    kind: SnapshotKind,
    /// Whether the cut takes all entries.
    full: bool,
    /// How many states there were.
    states: usize,
    /// What it leaves out.
    trimming: Trimming,
    /// Whether it cannot be finished, because one before it failed.
    failed: bool,
    /// Which of them is drained next, and what came of those before.
    drained: Vec<StateDelta>,
    chunks: Vec<Vec<u8>>,
}

impl<K: StateKey> MemoryBackend<K> {
    /// After a failure of the oldest snapshot: the others under way build upon it, so none can be finished.
    fn give_up(&mut self) {
        self.under_way.pop_front();
        self.under_way.iter_mut().for_each(|under_way| under_way.failed = true);
        self.states.iter_mut().for_each(|state| state.abandon());
        self.broken = true;
    }

    /// What a snapshot of this barrier leaves out.
    fn trimming(&self, kind: SnapshotKind) -> Trimming {
        let mut trimming = Trimming::at(self.clock);
        if kind == SnapshotKind::Full {
            for state in &self.states {
                if let Some(ttl) = state.ttl() {
                    trimming.add(&state.meta().name, ttl);
                }
            }
        }
        trimming
    }

    /// Whether only the files that it was restored from have the states that the job does not claim.
    fn unclaimed_in_files(&self) -> bool {
        !self.unclaimed.is_empty() && !self.restored.is_empty()
    }

    /// Whether so much changed that a snapshot of everything is cheaper than one of the changes and a fold.
    fn takes_all(&self) -> bool {
        let (entries, changes) =
            self.states.iter().map(|state| state.load()).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        !self.unclaimed_in_files()
            && changes > 0
            && changes as f64 >= self.options.full_share * entries as f64
    }
}

impl<K: StateKey> SnapshotSource for MemoryBackend<K> {
    type Prepared = Delta;
    type Writer = MemorySnapshotWriter;

    fn prepare(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        if let Some(newest) = self.newest.filter(|newest| *newest >= checkpoint) {
            return Err(Error::invalid("a snapshot of this or a later checkpoint was prepared before")
                .with("operator", &self.scope.operator)
                .with("checkpoint", checkpoint)
                .with("newest", newest));
        }
        if self.epoch == (1 << 31) - 1 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "2,147,483,646 snapshots were taken; restart the job",
            ));
        }
        if self.broken && self.unclaimed_in_files() {
            let message =
                "a snapshot failed, and a new base would lose states that the job does not claim; restart it";
            return Err(Error::new(ErrorKind::Unsupported, message).with("operator", &self.scope.operator));
        }
        let full = std::mem::take(&mut self.broken) || self.takes_all();
        for state in &mut self.states {
            state.cut(full);
        }
        self.epoch += 1;
        self.newest = Some(checkpoint);
        let (states, drained, chunks) = (self.states.len(), Vec::new(), Vec::new());
        let trimming = self.trimming(kind);
        self.under_way.push_back(UnderWay {
            checkpoint,
            kind,
            full,
            states,
            trimming,
            failed: false,
            drained,
            chunks,
        });
        Ok(())
    }

    fn advance(&mut self, budget: usize) -> Result<Progress<Delta>> {
        let Some(oldest) = self.under_way.front_mut() else { return Ok(Progress::Idle) };
        let mut budget = budget.max(1);
        let mut failure = oldest
            .failed
            .then(|| Error::new(ErrorKind::User, "the snapshot before it, which it builds upon, failed"));
        while failure.is_none() && oldest.drained.len() < oldest.states {
            let state = &mut self.states[oldest.drained.len()];
            match state.drain(&mut budget, &mut oldest.chunks) {
                Ok(false) => return Ok(Progress::More),
                Ok(true) => {
                    let chunks = std::mem::take(&mut oldest.chunks);
                    oldest.drained.push(StateDelta {
                        meta: state.meta().clone(),
                        layout: state.layout(),
                        chunks,
                    });
                }
                Err(error) => failure = Some(error.with("state", &state.meta().name)),
            }
        }
        if let Some(error) = failure {
            let error = error.with("operator", &self.scope.operator).with("checkpoint", oldest.checkpoint);
            self.give_up();
            return Err(error);
        }
        let Some(done) = self.under_way.pop_front() else { return Ok(Progress::Idle) };
        let mut described: Vec<_> = done.drained.iter().map(|state| state.meta.clone()).collect();
        if !self.restored.is_empty() {
            described.extend_from_slice(&self.unclaimed);
        }
        let (full, fold) = (done.full, done.kind == SnapshotKind::Full);
        let delta = Delta { states: done.drained, described, full, fold, trimming: done.trimming };
        Ok(Progress::Ready(done.checkpoint, delta))
    }

    fn take_writer(&mut self) -> Result<MemorySnapshotWriter> {
        if std::mem::replace(&mut self.writer_taken, true) {
            return Err(
                Error::invalid("the snapshot writer was taken before").with("operator", &self.scope.operator)
            );
        }
        let (parts, options) = (self.restored.clone(), self.options.clone());
        Ok(MemorySnapshotWriter::new(self.scope.clone(), parts, options))
    }
}

#[async_trait]
impl<K: StateKey> RestoreSnapshot for MemoryBackend<K> {
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored> {
        if self.entries() > 0 || self.epoch > 1 || self.writer_taken || !self.restored.is_empty() {
            return Err(Error::invalid("only an empty, unused backend can be restored")
                .with("operator", &self.scope.operator));
        }
        let snapshots: Vec<_> =
            snapshots.iter().map(|snapshot| snapshot.clip(self.scope.key_groups)).collect();
        let parts: Vec<_> = snapshots.iter().map(|snapshot| &snapshot.parts[..]).collect();
        let restored = self.restore_all(&parts, store).await;
        restored.map_err(|e| e.with("operator", &self.scope.operator).with("subtask", self.scope.subtask))
    }
}

impl<K: StateKey> MemoryBackend<K> {
    async fn restore_all(
        &mut self,
        snapshots: &[&[SnapshotPart]],
        store: &dyn SegmentStore,
    ) -> Result<Restored> {
        let mut merges = Vec::new();
        for parts in snapshots.iter().filter(|parts| !parts.is_empty()) {
            merges.push(Merge::open(store, parts, SegmentKind::Base, self.scope.key_groups).await?);
        }
        let mut restored = Restored::default();
        let mut differs = false;
        for meta in merges.iter().flat_map(Merge::states) {
            match self.claimant(meta) {
                Some(claimant) => {
                    let state = &self.states[claimant];
                    state.schema().compatibility(meta)?;
                    differs |= state.meta() != meta;
                }
                None if self.unclaimed.iter().any(|known| known.name == meta.name) => {}
                None => self.unclaimed.push(meta.clone()),
            }
        }
        if differs {
            // Deltas of today do not go with a base of another form, so the next snapshot writes everything.
            self.broken = true;
            for meta in &self.unclaimed {
                self.states.push(Box::new(Kept::new(meta.clone())));
            }
        }
        for merge in merges {
            self.restore_one(merge, &mut restored).await?;
        }
        restored.bytes = snapshots.iter().flat_map(|parts| parts.iter()).map(|part| part.segment.len).sum();
        if !differs {
            self.restored = snapshots.concat();
        }
        restored.unclaimed = self.unclaimed.iter().map(|meta| meta.name.clone()).collect();
        Ok(restored)
    }

    /// The state here that takes the entries of a stored one.
    fn claimant(&self, stored: &StateMeta) -> Option<usize> {
        self.states.iter().position(|state| state.schema().is_called(&stored.name))
    }

    async fn restore_one(&mut self, mut merge: Merge<'_>, restored: &mut Restored) -> Result<()> {
        // By index in the segments' state table.
        let mut targets = Vec::new();
        for meta in merge.states() {
            let target = self.claimant(meta);
            if let Some(target) = target {
                self.states[target].accept(meta).map_err(|e| e.with("state", &meta.name))?;
            }
            targets.push(target);
        }
        while let Some(entry) = merge.next().await? {
            restored.entries += 1;
            if let Some(Some(target)) = targets.get(usize::from(entry.state)) {
                let state = &mut self.states[*target];
                state.restore(&entry).map_err(|e| e.with("state", &state.meta().name))?;
            }
        }
        Ok(())
    }
}
