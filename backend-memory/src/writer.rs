//! The second phase: deltas become segments of a chain, and a long chain becomes a new base.

use std::collections::VecDeque;

use async_trait::async_trait;
use strandline_snapshot_format::{ExpiryFilter, SegmentKind, fold_filtered};
use strandline_state_api::Result;
use strandline_state_api::backend::{BackendScope, SnapshotWriter};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore, SnapshotPart};

use crate::delta::{Delta, write_segments};
use crate::options::MemoryOptions;

/// Stores the snapshots of one backend. It owns the chain: a base, then deltas, oldest first.
#[derive(Debug)]
pub struct MemorySnapshotWriter {
    scope: BackendScope,
    options: MemoryOptions,
    chain: Vec<SnapshotPart>,
    /// How many parts of the chain, from its start, are the base.
    base: usize,
    /// Deltas that are not stored: the current one, and those before it whose commit failed.
    pending: VecDeque<Delta>,
}

impl MemorySnapshotWriter {
    pub(crate) fn new(scope: BackendScope, chain: Vec<SnapshotPart>, options: MemoryOptions) -> Self {
        // The restored files count as the base, so that a restore alone is no reason to fold.
        let base = chain.len();
        Self { scope, options, chain, base, pending: VecDeque::new() }
    }

    async fn store(&mut self, store: &dyn SegmentStore, written: &mut u64) -> Result<()> {
        let (mut fold_wanted, mut filter) = (false, ExpiryFilter::default());
        while let Some(delta) = self.pending.front() {
            let stands_alone = delta.full || self.chain.is_empty();
            let kind = if stands_alone { SegmentKind::Base } else { SegmentKind::Delta };
            let mut finished = Vec::new();
            write_segments(delta, kind, &self.options, &mut |writer| {
                finished.push(writer.finish()?);
                Ok(())
            })?;
            let mut parts = Vec::new();
            for done in finished {
                let segment = store.put(done.bytes).await?;
                *written += segment.len;
                parts.push(SnapshotPart::portable(segment, done.key_groups));
            }
            if stands_alone {
                self.base = parts.len();
                self.chain = parts;
            } else {
                self.chain.extend(parts);
            }
            fold_wanted |= delta.fold;
            filter = self.pending.pop_front().map(|delta| delta.filter).unwrap_or_default();
        }
        if self.chain.len() > self.base && (fold_wanted || self.is_long()) {
            let (range, options) = (self.scope.key_groups, &self.options.format);
            let folded = fold_filtered(&self.chain, store, range, options, &filter).await?;
            *written += folded.written_bytes;
            self.base = folded.parts.len();
            self.chain = folded.parts;
        }
        Ok(())
    }

    fn is_long(&self) -> bool {
        let bytes = |parts: &[SnapshotPart]| parts.iter().map(|part| part.segment.len).sum::<u64>() as f64;
        let (base, deltas) = self.chain.split_at(self.base);
        deltas.len() > self.options.max_deltas || bytes(deltas) > self.options.fold_ratio * bytes(base)
    }
}

#[async_trait]
impl SnapshotWriter for MemorySnapshotWriter {
    type Prepared = Delta;

    async fn commit(&mut self, prepared: Delta, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        let states = prepared.described.clone();
        self.pending.push_back(prepared);
        let mut written_bytes = 0;
        let stored = self.store(store, &mut written_bytes).await;
        stored.map_err(|error| self.scope.locate(error))?;
        let states = if self.chain.is_empty() { Vec::new() } else { states };
        Ok(KeyedSnapshot { parts: self.chain.clone(), written_bytes, states })
    }
}
