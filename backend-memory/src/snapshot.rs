//! The first phase of a snapshot, which runs on the processing thread.

use strandline_snapshot_format::ExpiryFilter;
use strandline_state_api::backend::{Progress, SnapshotKind, SnapshotSource};
use strandline_state_api::{CheckpointId, Error, ErrorKind, KeyedBackend, Result, StateKey};

use crate::backend::MemoryBackend;
use crate::changes::Changes;
use crate::delta::Delta;
use crate::records::{Records, StateDelta};
use crate::under_way::UnderWay;
use crate::writer::MemorySnapshotWriter;

impl<K: StateKey> MemoryBackend<K> {
    /// Drops the oldest snapshot, which failed. The others under way build on it, so none can be finished.
    fn abandon_snapshots(&mut self) {
        self.under_way.pop_front();
        self.under_way.iter_mut().for_each(|under_way| under_way.failed = true);
        self.states.iter_mut().for_each(|state| state.abandon());
        self.needs_base = true;
    }

    /// Returns the filter of a snapshot at this barrier.
    fn expiry_filter(&self, kind: SnapshotKind) -> ExpiryFilter {
        match kind {
            SnapshotKind::Incremental | SnapshotKind::View => ExpiryFilter::default(),
            SnapshotKind::Full | SnapshotKind::Savepoint => {
                ExpiryFilter::of(self.clock, self.states.iter().map(|state| (state.meta(), state.ttl())))
            }
        }
    }

    /// Returns whether so much changed that a base costs less than a delta and a fold.
    fn base_is_cheaper(&self) -> bool {
        let loads = self.states.iter().map(|state| state.load());
        let (entries, changes) = loads.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        let changes = changes + self.chain.held().aborted_records;
        let cheaper = changes > 0 && changes as f64 >= self.options.full_share * entries as f64;
        // A base of nothing needs no file at all.
        cheaper || entries == 0
    }

    /// Returns whether a snapshot of this kind takes everything because the files before it hold states in
    /// older forms. Full snapshots and savepoints have the current forms only, so that a program can give up
    /// the older ones; and a chain that became long is not folded, which would keep its forms.
    fn renews_forms(&self, kind: SnapshotKind) -> bool {
        let is_due = match kind {
            SnapshotKind::Full | SnapshotKind::Savepoint => true,
            SnapshotKind::Incremental => self.chain.is_base_wanted(),
            // Whoever reads it reads all forms.
            SnapshotKind::View => false,
        };
        is_due && !self.older_forms.is_empty()
    }

    /// Checks that the backend can take one more snapshot.
    fn check_limits(&self) -> Result<()> {
        if self.epoch < (1 << 31) - 1 {
            return Ok(());
        }
        let message = "2,147,483,646 snapshots were taken; restart the job";
        Err(self.scope().locate(Error::new(ErrorKind::Unsupported, message)))
    }
}

impl<K: StateKey> SnapshotSource for MemoryBackend<K> {
    type Prepared = Delta;
    type Writer = MemorySnapshotWriter;

    fn prepare(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        self.check_limits()?;
        self.states.begin_checkpoint(checkpoint)?;
        // A savepoint is stored apart from the deltas, so a base for it would be no base of theirs. A view is, too, but
        // is read at once, and the increment behind it stores what it has: a base then.
        let cheaper = kind != SnapshotKind::Savepoint && self.base_is_cheaper();
        let full = std::mem::take(&mut self.needs_base) || cheaper || self.renews_forms(kind);
        if full {
            self.older_forms.clear();
        }
        let loads = self.states.iter().map(|state| state.load());
        let count = loads.map(|(entries, changes)| if full { entries } else { changes }).sum();
        self.states.iter_mut().for_each(|state| state.cut(full));
        self.epoch += 1;
        self.under_way.push_back(UnderWay {
            checkpoint,
            kind,
            full,
            count,
            states: self.states.len(),
            filter: self.expiry_filter(kind),
            older_forms: self.older_forms.clone(),
            failed: false,
            drained: Vec::new(),
            records: Records::default(),
        });
        Ok(())
    }

    fn advance(&mut self, budget: usize) -> Result<Progress<Delta>> {
        let Some(oldest) = self.under_way.front_mut() else { return Ok(Progress::Idle) };
        let mut budget = budget.max(1);
        let mut failure = oldest
            .failed
            .then(|| Error::new(ErrorKind::User, "the snapshot before it, which it builds upon, failed"));
        while failure.is_none()
            && oldest.drained.len() < oldest.states
            && let Some(state) = self.states.at_mut(oldest.drained.len())
        {
            match state.drain(&mut budget, &mut oldest.records) {
                Ok(false) => return Ok(Progress::More),
                Ok(true) => oldest.drained.push(StateDelta {
                    meta: state.meta().clone(),
                    layout: state.layout(),
                    records: std::mem::take(&mut oldest.records),
                }),
                Err(error) => failure = Some(error.with("state", &state.meta().name)),
            }
        }
        if let Some(error) = failure {
            let error = self.states.scope().locate(error).with("checkpoint", oldest.checkpoint);
            self.abandon_snapshots();
            return Err(error);
        }
        let Some(done) = self.under_way.pop_front() else { return Ok(Progress::Idle) };
        let has_older_forms = !done.older_forms.is_empty();
        let current = done.drained.iter().map(|state| state.meta.clone());
        let described = current.chain(done.older_forms).collect();
        let changes = Changes::new(done.drained, done.full, done.count);
        let bytes = changes.bytes();
        let ticket = self.chain.hand_over(changes, done.kind == SnapshotKind::Full);
        let (kind, filter) = (done.kind, done.filter);
        let delta = Delta { ticket, described, has_older_forms, kind, filter, bytes };
        Ok(Progress::Ready(done.checkpoint, delta))
    }

    fn take_writer(&mut self) -> Result<MemorySnapshotWriter> {
        self.states.take_writer()?;
        Ok(MemorySnapshotWriter::new(self.scope().clone(), self.options.clone()))
    }
}
