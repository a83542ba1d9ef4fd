//! Deleting what no retained checkpoint needs: mark and sweep.
//!
//! Marked is what the manifests of the retained checkpoints refer to, that is of those which the log still
//! names. A file that is not marked is deleted only if no running checkpoint can need it either:
//!
//! - its term is lower than the highest claimed one: its writer is fenced and completes nothing any
//!   more; or
//! - its term is the highest, and its checkpoint is not newer than the last one that completed in this term
//!   (savepoints not counted), and older than every savepoint that may still complete late. The entry of that
//!   checkpoint names the oldest of those.
//!
//! The second relies on what a backend may refer to: once its snapshot is part of a completed checkpoint,
//! later snapshots of it refer only to files that this one refers to, or that were written for later
//! checkpoints. A snapshot that was uploaded for an aborted checkpoint may well be the base of later ones:
//! until one of these completes it is newer than the last completed one, and afterwards it is marked if it is
//! needed.
//!
//! A sweep that was planned on an old view of the log stays right: what is written later has a later
//! checkpoint or a higher term in its name, and refers back only to what was marked. So anyone may sweep at
//! any time, also a fenced coordinator or a person's command beside a running job.
//!
//! A savepoint that was removed is not marked any more once the highest term has completed a checkpoint:
//! until then its attempt may have started from it. The marks of removed savepoints are read before the log,
//! and an attempt claims before it reads them: so either it does not choose the savepoint, or the sweep sees
//! its claim.
//!
//! Slots of the log below the floor are deleted in ascending order, but never the two highest: by that a
//! coordinator knows whether a slot that it created had been deleted before.
//!
//! The sweep deletes nothing that it does not understand: files with foreign names are reported and left
//! alone. While a slot of the log or a retained manifest cannot be read, what it may refer to stays.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use strandline_state_api::snapshot::SegmentName;
use strandline_state_api::{CheckpointId, Error, Result};

use crate::log::{CompletedCheckpoint, History, ListRef};
use crate::name::{CUT_MARK, LOG_DIR, REMOVED_DIR, parse_removed, parse_slot, slot_path};
use crate::verify::is_verdict;
use crate::{FileKind, FileName, Listed, Storage, Term, UnreadableSlot};

/// Deletes that are under way at once.
const CONCURRENT: usize = 16;

/// What a sweep did.
#[derive(Debug, Default)]
pub struct SweepReport {
    /// The checkpoints whose files stay, oldest first.
    pub retained: Vec<CompletedCheckpoint>,
    /// The files that were deleted, or would be.
    pub deleted: Vec<String>,
    /// Bytes of the immutable files among them.
    pub freed_bytes: u64,
    /// Files that this crate did not write; they are left alone.
    pub foreign: Vec<String>,
    /// Slots of the log that cannot be read. While there are any, nothing is deleted.
    pub unreadable_slots: Vec<UnreadableSlot>,
    /// Lists of savepoints that cannot be read. While there are any, nothing is deleted.
    pub unreadable_lists: Vec<Error>,
    /// Manifests of retained checkpoints that cannot be read. Everything up to these checkpoints stays.
    pub unreadable_manifests: Vec<Error>,
}

/// Who may still need a file.
struct Fence {
    term: Term,
    completed: Option<CheckpointId>,
    open_savepoint: Option<CheckpointId>,
    /// Everything up to this checkpoint stays, as it is unknown what it needs.
    keep_up_to: Option<CheckpointId>,
    marked: HashSet<FileName>,
    /// Checkpoints all of whose files were written for them, by term and number.
    alone: HashSet<(Term, CheckpointId)>,
}

impl Fence {
    /// Whether no running checkpoint can need it.
    fn is_over(&self, name: &FileName) -> bool {
        let open = self.open_savepoint.is_some_and(|open| open <= name.checkpoint);
        let completed = !open && self.completed.is_some_and(|completed| name.checkpoint <= completed);
        name.term < self.term || (name.term == self.term && completed)
    }

    /// Whether a checkpoint that exists needs it, or may.
    fn is_needed(&self, name: &FileName) -> bool {
        // No manifest refers to a list of savepoints.
        let by_manifest = name.kind != FileKind::Savepoints
            && (self.alone.contains(&(name.term, name.checkpoint))
                || self.keep_up_to.is_some_and(|keep| name.checkpoint <= keep));
        by_manifest || self.marked.contains(name)
    }
}

impl Storage {
    /// Deletes what no retained checkpoint needs and no running one can need: see the rules in the crate's
    /// README. Safe at any time and for anyone.
    ///
    /// # Errors
    /// When the store fails; the next sweep goes on.
    pub async fn sweep(&self) -> Result<SweepReport> {
        self.sweep_but(&[]).await
    }

    /// As [`sweep`](Self::sweep), but leaves the segments in `pinned`, which something reads that is in no log:
    /// the live state of a running job.
    ///
    /// # Errors
    /// As [`sweep`](Self::sweep).
    pub async fn sweep_but(&self, pinned: &[SegmentName]) -> Result<SweepReport> {
        let report = self.plan_sweep_but(pinned).await?;
        let (mut manifests, mut files, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for file in report.deleted.iter().cloned() {
            match file.split_once('/').map(|(dir, _)| dir) {
                Some(LOG_DIR) => slots.push(file),
                Some(dir) if dir == FileKind::Manifest.dir() => manifests.push(file),
                _ => files.push(file),
            }
        }
        // Manifests first, so that one that is there has its files.
        for files in [manifests, files] {
            let deletes = files.into_iter().map(|file| {
                let blobs = Arc::clone(self.blobs());
                async move { blobs.delete(&file).await }
            });
            futures::stream::iter(deletes).buffer_unordered(CONCURRENT).try_collect::<()>().await?;
        }
        // Slots in ascending order, one after the other: commits rely on it.
        for file in slots {
            if file == slot_path(0) {
                self.ensure(CUT_MARK, Bytes::new()).await?;
            }
            self.claims().delete(&file).await?;
        }
        Ok(report)
    }

    /// What [`sweep`](Self::sweep) would do now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn plan_sweep(&self) -> Result<SweepReport> {
        self.plan_sweep_but(&[]).await
    }

    async fn plan_sweep_but(&self, pinned: &[SegmentName]) -> Result<SweepReport> {
        // The marks before the log: see above.
        let marks = self.blobs().list(REMOVED_DIR).await?;
        let removed = marks.iter().filter_map(|mark| parse_removed(&mark.name)).collect();
        let history = History::load(self, Some(&removed)).await?;
        let mut report = SweepReport { retained: history.completed.clone(), ..SweepReport::default() };
        let mut fence = self.fence(&history, &mut report).await?;
        fence.marked.extend(pinned.iter().filter_map(|name| FileName::parse(FileKind::Segment, &name.0)));
        let blocked = history.is_torn();
        for kind in FileKind::ALL {
            self.plan_dir(kind, &fence, blocked, &mut report).await?;
        }
        plan_marks(&history, marks, blocked, &mut report);
        plan_log(self, &history, blocked, &mut report);
        report.unreadable_slots = history.unreadable;
        report.unreadable_lists = history.unreadable_lists;
        Ok(report)
    }

    async fn fence(&self, history: &History, report: &mut SweepReport) -> Result<Fence> {
        let of_term =
            |completed: &&CompletedCheckpoint| completed.term == history.term && !completed.is_savepoint();
        let completed = history.completed.iter().filter(of_term).map(|completed| completed.checkpoint).max();
        let mut fence = Fence {
            term: history.term,
            completed,
            open_savepoint: history.open_savepoint,
            keep_up_to: None,
            marked: history.lists.iter().map(ListRef::file_name).collect::<Result<_>>()?,
            alone: HashSet::new(),
        };
        // The attempt of the highest term may have started from one of these.
        let spared = history.removed.iter().filter(|_| completed.is_none());
        for completed in history.completed.iter().chain(spared) {
            if completed.is_savepoint() && completed.stands_alone {
                fence.alone.insert(completed.identity());
                continue;
            }
            match self.mark(completed).await {
                Ok(marked) => fence.marked.extend(marked),
                Err(e) if is_verdict(&e) => {
                    fence.keep_up_to = fence.keep_up_to.max(Some(completed.checkpoint));
                    report.unreadable_manifests.push(e.with("checkpoint", completed.checkpoint));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(fence)
    }

    /// The files that a checkpoint needs.
    async fn mark(&self, completed: &CompletedCheckpoint) -> Result<Vec<FileName>> {
        let stored = self.read_stored(completed).await?;
        let segments = stored.manifest.segments().map(|segment| (FileKind::Segment, segment));
        let states = stored.external.iter().map(|external| (FileKind::OperatorState, &external.file));
        let names = segments.chain(states).map(|(kind, file)| crate::storage::parse_name(kind, &file.name.0));
        std::iter::once(completed.manifest_name()).chain(names).collect()
    }

    async fn plan_dir(
        &self,
        kind: FileKind,
        fence: &Fence,
        blocked: bool,
        report: &mut SweepReport,
    ) -> Result<()> {
        for file in self.blobs().list(kind.dir()).await? {
            // What an interrupted write left behind is needed by nobody, once the write can not be under way.
            let leftover = self.blobs().leftover_of(&file.name);
            let path = format!("{}/{}", kind.dir(), file.name);
            let Some(name) = FileName::parse(kind, leftover.unwrap_or(&file.name)) else {
                report.foreign.push(path);
                continue;
            };
            if !blocked && fence.is_over(&name) && (leftover.is_some() || !fence.is_needed(&name)) {
                report.freed_bytes += file.len;
                report.deleted.push(path);
            }
        }
        Ok(())
    }
}

/// The mark of a removed savepoint goes once no list and no entry names that savepoint: no later one will.
fn plan_marks(history: &History, marks: Vec<Listed>, blocked: bool, report: &mut SweepReport) {
    for mark in marks {
        let path = format!("{REMOVED_DIR}/{}", mark.name);
        match parse_removed(&mark.name) {
            None => report.foreign.push(path),
            Some(removed) => {
                let mut named = history.removed.iter().map(CompletedCheckpoint::identity);
                if !blocked && history.lists.len() <= 1 && named.all(|named| named != removed) {
                    report.deleted.push(path);
                }
            }
        }
    }
}

fn plan_log(storage: &Storage, history: &History, blocked: bool, report: &mut SweepReport) {
    for name in &history.other {
        let slot = storage.claims().leftover_of(name).and_then(parse_slot);
        let path = format!("{LOG_DIR}/{name}");
        match slot {
            None => report.foreign.push(path),
            // Decided: a process that is still about to claim it loses in any case.
            Some(slot) if history.top.is_some_and(|top| slot <= top) && !blocked => report.deleted.push(path),
            Some(_) => {}
        }
    }
    if !blocked {
        report.deleted.extend(history.dead.iter().map(|&slot| slot_path(slot)));
    }
}
