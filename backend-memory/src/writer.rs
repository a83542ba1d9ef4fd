//! The second phase: changes become segments behind those of an older snapshot, and a long chain becomes a
//! new base.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use strandline_snapshot_format::{ExpiryFilter, SegmentKind, fold_filtered};
use strandline_state_api::Result;
use strandline_state_api::backend::{BackendScope, SnapshotKind, SnapshotWriter};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentName, SegmentStore, SnapshotPart};

use crate::chain::{Plan, StoredSnapshot};
use crate::changes::{Changes, write_segments};
use crate::delta::Delta;
use crate::options::MemoryOptions;

/// Stores the snapshots of one backend.
#[derive(Debug)]
pub struct MemorySnapshotWriter {
    scope: BackendScope,
    options: MemoryOptions,
}

/// What one commit has stored.
#[derive(Debug, Default)]
struct Written {
    bytes: u64,
    names: HashSet<SegmentName>,
}

impl MemorySnapshotWriter {
    pub(crate) fn new(scope: BackendScope, options: MemoryOptions) -> Self {
        Self { scope, options }
    }

    /// Stores a snapshot. It starts again only when an older one was stored meanwhile whose files do not go
    /// with its own.
    async fn store(&self, delta: &Delta, store: &dyn SegmentStore) -> Result<(StoredSnapshot, u64)> {
        let mut written = Written::default();
        loop {
            let plan = delta.ticket.plan();
            match self.store_as_planned(delta, &plan, store, &mut written).await {
                Ok(Some(stored)) => return Ok((stored, written.bytes)),
                Ok(None) => {}
                // It may have been about to read what a sweep has deleted.
                Err(_) if delta.ticket.is_outdated(&plan) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Stores a snapshot, unless others that were stored meanwhile do not go with it.
    async fn store_as_planned(
        &self,
        delta: &Delta,
        plan: &Plan,
        store: &dyn SegmentStore,
        written: &mut Written,
    ) -> Result<Option<StoredSnapshot>> {
        let plain = self.store_changes(delta, plan, store, written).await?;
        if delta.kind == SnapshotKind::Savepoint {
            // Apart from the chain, in which the snapshot counts as aborted, so that the next one stores its
            // changes, too.
            let alone = plain.stands_alone();
            let apart = if alone { plain } else { self.fold(&plain, &delta.filter, store, written).await? };
            return Ok(Some(apart));
        }
        if delta.kind == SnapshotKind::View {
            // Apart from the chain, too, but on its files; a sweep may delete those of an older snapshot.
            return Ok(Some(plain).filter(|_| !delta.ticket.is_outdated(plan)));
        }
        let must_fold = plan.stands_alone && !plain.stands_alone();
        let is_long = (plain.has_deltas() && self.is_long(&plain)) || self.is_crowded(&plain);
        if is_long && !must_fold && delta.has_older_forms {
            // A fold would keep values in older forms, which the backend can write in the current ones.
            delta.ticket.ask_for_base();
        } else if must_fold || is_long {
            let folded = self.fold(&plain, &delta.filter, store, written).await?;
            if delta.ticket.publish(&folded) {
                return Ok(Some(folded));
            }
        }
        Ok(Some(plain).filter(|plain| !must_fold && delta.ticket.publish(plain)))
    }

    /// Stores the changes of a plan behind the files of the snapshot that it builds on.
    async fn store_changes(
        &self,
        delta: &Delta,
        plan: &Plan,
        store: &dyn SegmentStore,
        written: &mut Written,
    ) -> Result<StoredSnapshot> {
        let StoredSnapshot { mut parts, mut base, mut restored, .. } = plan.on.clone();
        let options = match delta.kind {
            // It stays in memory for the time of a query.
            SnapshotKind::View => Cow::Owned(self.options.without_compression()),
            _ => Cow::Borrowed(&self.options),
        };
        for changes in &plan.changes {
            let alone = changes.full || parts.is_empty();
            let kind = if alone { SegmentKind::Base } else { SegmentKind::Delta };
            let filter = if alone && plan.changes.len() == 1 { Some(&delta.filter) } else { None };
            let new = write(changes, kind, filter, &options, store, written).await?;
            if alone {
                (base, restored) = (new.len(), false);
                parts = new;
            } else {
                parts.extend(new);
            }
        }
        Ok(StoredSnapshot { parts, base, restored, own: written.names.clone() })
    }

    async fn fold(
        &self,
        of: &StoredSnapshot,
        filter: &ExpiryFilter,
        store: &dyn SegmentStore,
        written: &mut Written,
    ) -> Result<StoredSnapshot> {
        let (range, options) = (self.scope.key_groups, &self.options.format);
        let folded = fold_filtered(&of.parts, store, range, options, filter).await?;
        written.bytes += folded.written_bytes;
        written.names.extend(folded.parts.iter().map(|part| part.segment.name.clone()));
        let (base, own) = (folded.parts.len(), written.names.clone());
        Ok(StoredSnapshot { parts: folded.parts, base, restored: false, own })
    }

    /// Returns whether a chain that was restored has more parts than one that was written here would have.
    fn is_crowded(&self, snapshot: &StoredSnapshot) -> bool {
        let bytes: u64 = snapshot.parts.iter().map(|part| part.segment.len).sum();
        let segments = bytes / self.options.format.max_segment_bytes as u64 + 1;
        snapshot.restored && snapshot.parts.len() > self.options.max_deltas.saturating_add(segments as usize)
    }

    fn is_long(&self, snapshot: &StoredSnapshot) -> bool {
        let bytes = |parts: &[SnapshotPart]| parts.iter().map(|part| part.segment.len).sum::<u64>() as f64;
        let (base, deltas) = snapshot.parts.split_at(snapshot.base);
        deltas.len() > self.options.max_deltas || bytes(deltas) > self.options.fold_ratio * bytes(base)
    }
}

/// Stores changes as segments: the first layer of them of `kind`, the others as deltas on it.
async fn write(
    changes: &Arc<Changes>,
    kind: SegmentKind,
    filter: Option<&ExpiryFilter>,
    options: &MemoryOptions,
    store: &dyn SegmentStore,
    written: &mut Written,
) -> Result<Vec<SnapshotPart>> {
    let all = ExpiryFilter::default();
    let mut finished = Vec::new();
    for (layer, states) in changes.layers().into_iter().enumerate() {
        let kind = if layer == 0 { kind } else { SegmentKind::Delta };
        write_segments(states, kind, filter.unwrap_or(&all), options, &mut |writer| {
            finished.push(writer.finish()?);
            Ok(())
        })?;
    }
    let mut parts = Vec::new();
    for done in finished {
        let segment = store.put(done.bytes).await?;
        written.bytes += segment.len;
        written.names.insert(segment.name.clone());
        parts.push(SnapshotPart::portable(segment, done.key_groups));
    }
    Ok(parts)
}

#[async_trait]
impl SnapshotWriter for MemorySnapshotWriter {
    type Prepared = Delta;

    async fn commit(&self, prepared: Delta, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        let stored = self.store(&prepared, store).await;
        let (stored, written_bytes) = stored.map_err(|error| self.scope.locate(error))?;
        let states = if stored.parts.is_empty() { Vec::new() } else { prepared.described.clone() };
        Ok(KeyedSnapshot { parts: stored.parts, written_bytes, states })
    }
}
