//! The first phase of a snapshot, and the restore: what runs on the processing thread.

use async_trait::async_trait;
use strandline_state_api::format::{Merge, SegmentKind};
use strandline_state_api::{
    CheckpointId, Error, ErrorKind, KeyedBackend, KeyedSnapshot, Progress, RestoreSnapshot, Restored, Result,
    SegmentStore, SnapshotKind, SnapshotSource, StateKey,
};

use crate::MemoryBackend;
use crate::delta::{Delta, StateDelta};
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

    /// Whether so much changed that a snapshot of everything is cheaper than one of the changes and a fold.
    fn takes_all(&self) -> bool {
        let (entries, changes) =
            self.states.iter().map(|state| state.load()).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        self.unclaimed.is_empty() && changes > 0 && changes as f64 >= self.options.full_share * entries as f64
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
        if self.broken && !self.unclaimed.is_empty() {
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
        self.under_way.push_back(UnderWay { checkpoint, kind, full, states, failed: false, drained, chunks });
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
        let delta = Delta { states: done.drained, full: done.full, fold: done.kind == SnapshotKind::Full };
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
        let mut restored = Restored::default();
        for snapshot in snapshots {
            let snapshot = snapshot.clip(self.scope.key_groups);
            self.restore_one(&snapshot, store, &mut restored)
                .await
                .map_err(|e| e.with("operator", &self.scope.operator).with("subtask", self.scope.subtask))?;
            self.restored.extend(snapshot.parts);
        }
        self.unclaimed.clone_from(&restored.unclaimed);
        Ok(restored)
    }
}

impl<K: StateKey> MemoryBackend<K> {
    async fn restore_one(
        &mut self,
        snapshot: &KeyedSnapshot,
        store: &dyn SegmentStore,
        restored: &mut Restored,
    ) -> Result<()> {
        if snapshot.parts.is_empty() {
            return Ok(());
        }
        let mut merge = Merge::open(store, &snapshot.parts, SegmentKind::Base, self.scope.key_groups).await?;
        // By index in the segments' state table: the state here that takes its entries, if any.
        let mut targets = Vec::new();
        for meta in merge.states() {
            let target = self.states.iter().position(|state| state.meta().name == meta.name);
            match target {
                Some(target) => meta.check_readable_as(self.states[target].meta())?,
                None if !restored.unclaimed.contains(&meta.name) => {
                    restored.unclaimed.push(meta.name.clone());
                }
                None => {}
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
        restored.bytes += snapshot.full_bytes();
        Ok(())
    }
}
