//! Choosing the checkpoint to restore.

use strandline_checkpoint_protocol::Branch;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use crate::log::changes_too_fast;
use crate::verify::{is_verdict, unknown, verdict};
use crate::{
    CompletedCheckpoint, Depth, FileKind, FileName, History, Manifest, Storage, UnreadableSlot, VerifyReport,
};

/// Which checkpoint a recovery chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoverFrom {
    /// The newest that verifies.
    #[default]
    Latest,
    /// This one, or an error.
    Checkpoint(CheckpointId),
}

/// What a recovery does when the newest checkpoint is damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// Chooses the newest one before it that verifies, and reports what it passed over.
    #[default]
    FallBack,
    /// Fails. For jobs whose output cannot be taken back: somebody has to decide.
    Refuse,
}

/// Which checkpoint a recovery chooses, and how closely it verifies one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoverOptions {
    /// Which checkpoint.
    pub from: RecoverFrom,
    /// How closely its files are verified before it is chosen.
    pub depth: Depth,
    /// What it does when that is damaged.
    pub on_damage: OnDamage,
}

/// The checkpoint to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The checkpoint as the log names it.
    pub completed: CompletedCheckpoint,
    /// What it consists of, with all operator state.
    pub manifest: Manifest,
}

/// What to restore, and everything that stood against it. Show the latter to a person whenever it is not
/// empty.
#[derive(Debug)]
pub struct Recovery {
    /// The checkpoint to restore; `None` when the storage never held one.
    pub restored: Option<Recovered>,
    /// Newer checkpoints that were passed over because they are damaged, newest first.
    pub skipped: Vec<VerifyReport>,
    /// Slots of the log that cannot be read; any of them may have held a newer checkpoint.
    pub unreadable: Vec<UnreadableSlot>,
    /// Lists of savepoints that cannot be read: no recovery falls back to those.
    pub unreadable_lists: Vec<Error>,
    /// Manifests newer than every checkpoint in the log. Usually their coordinator died before the commit;
    /// if not, the end of the log was lost.
    pub uncommitted: Vec<String>,
}

impl Recovery {
    /// Whether the newest checkpoint is restored, as far as can be known.
    pub fn is_clean(&self) -> bool {
        self.skipped.is_empty() && self.unreadable.is_empty() && self.unreadable_lists.is_empty()
    }
}

impl Storage {
    /// Chooses the newest checkpoint that verifies, falling back to those that it grew from; reports which it
    /// passed over and why. It never falls back to one that was given up: the output of what came after that
    /// is gone. Claim a term first ([`CommitLog::claim`](crate::CommitLog::claim)), or an older coordinator
    /// may add a newer one. Where a newer coordinator replaces and sweeps what is looked at, the choice begins
    /// anew: what is missing then is no damage.
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when there are checkpoints and none verifies (it
    /// is never an empty start then), or the newest does not and the options [refuse](OnDamage::Refuse)
    /// another. A slot of the log that cannot be read counts as a newest one.
    /// [`NotFound`](strandline_state_api::ErrorKind::NotFound) when the requested one does not exist, was
    /// given up or removed. [`Unavailable`](strandline_state_api::ErrorKind::Unavailable) when the store
    /// fails, which proves nothing about any checkpoint.
    pub async fn recover(&self, options: RecoverOptions) -> Result<Recovery> {
        for _ in 0..self.options().log_reads.max(1) {
            if let Some(recovery) = self.recover_now(options).await? {
                return Ok(recovery);
            }
        }
        Err(changes_too_fast())
    }

    /// As [`recover`](Self::recover); `None` where a checkpoint that was to be chosen has been replaced.
    async fn recover_now(&self, options: RecoverOptions) -> Result<Option<Recovery>> {
        let history = self.history().await?;
        let newer = self.uncommitted(&history).await?;
        let candidates: Vec<_> = match options.from {
            RecoverFrom::Latest => {
                let lost = self.lost_branch(&history, &newer).await?;
                let is_past = |known: &&CompletedCheckpoint| {
                    history.is_on_branch(known)
                        && lost.as_ref().is_none_or(|branch| !branch.gave_up(known.checkpoint))
                };
                history.completed.iter().rev().filter(is_past).cloned().collect()
            }
            RecoverFrom::Checkpoint(id) => {
                vec![history.find(id).cloned().ok_or_else(|| self.not_there(id, &history))?]
            }
        };
        let uncommitted = newer.iter().map(|(name, _)| name.path()).collect();
        let (mut restored, mut skipped) = (None, Vec::new());
        for completed in candidates {
            let (mut report, _) = self.inspect(&completed, options.depth, None).await?;
            if report.is_good() {
                match verdict(self.read_manifest(&completed).await)? {
                    Ok(manifest) => {
                        restored = Some(Recovered { completed, manifest });
                        break;
                    }
                    Err(error) => report.add_manifest(error),
                }
            }
            if !self.is_retained(&report.checkpoint).await? {
                return Ok(None);
            }
            tracing::warn!(%report, "a checkpoint is damaged and passed over");
            skipped.push(report);
        }
        let is_damaged = !skipped.is_empty() || history.is_torn();
        if options.on_damage == OnDamage::Refuse && is_damaged {
            return Err(refused(&skipped, &history).with("storage", self.uri()));
        }
        if restored.is_none() && is_damaged {
            return Err(nothing_verifies(&skipped, &history).with("storage", self.uri()));
        }
        let History { unreadable, unreadable_lists, .. } = history;
        Ok(Some(Recovery { restored, skipped, unreadable, unreadable_lists, uncommitted }))
    }

    fn not_there(&self, id: CheckpointId, history: &History) -> Error {
        let is_it = |known: &CompletedCheckpoint| known.checkpoint == id;
        let why = if history.given_up.iter().any(is_it) {
            "the job has given up this checkpoint: it went on from one before it"
        } else if history.removed.iter().any(is_it) {
            "this savepoint was removed"
        } else {
            return unknown(id, self);
        };
        Error::new(ErrorKind::NotFound, why).with("checkpoint", id).with("storage", self.uri())
    }

    /// The manifests that are newer than every checkpoint in the log, with their lengths, in order.
    async fn uncommitted(&self, history: &History) -> Result<Vec<(FileName, u64)>> {
        let latest = history.latest().map_or(CheckpointId(0), |latest| latest.checkpoint);
        let files = self.blobs().list(FileKind::Manifest.dir()).await?;
        let names = files
            .iter()
            .filter_map(|file| FileName::parse(FileKind::Manifest, &file.name).map(|name| (name, file.len)));
        let mut newer: Vec<_> = names.filter(|(name, _)| name.checkpoint > latest).collect();
        newer.sort();
        Ok(newer)
    }

    /// The branch of a checkpoint whose slot of the log may be one of those that cannot be read, as far as
    /// its manifest shows it: of a higher term, which may have given up the newest checkpoint that is known.
    async fn lost_branch(&self, history: &History, newer: &[(FileName, u64)]) -> Result<Option<Branch>> {
        let Some(latest) = history.latest().filter(|_| !history.unreadable.is_empty()) else {
            return Ok(None);
        };
        for (name, len) in newer.iter().rev().filter(|(name, _)| name.term > latest.term) {
            let lost = CompletedCheckpoint {
                checkpoint: name.checkpoint,
                term: name.term,
                manifest: name.to_string(),
                manifest_len: *len,
                ..latest.clone()
            };
            let manifest = match self.read_stored(&lost).await {
                Ok(stored) => stored.manifest,
                Err(e) if is_verdict(&e) => continue,
                Err(e) => return Err(e),
            };
            let newest = Some(latest.checkpoint);
            let from = manifest.restored_from.map(|from| {
                let known = history.find(from).map(|known| known.branch.clone());
                Branch::grown_from(from, &known.unwrap_or_else(|| Branch::of_unknown(from, newest)), newest)
            });
            return Ok(Some(from.unwrap_or_else(|| Branch::new_job(newest))));
        }
        Ok(None)
    }
}

fn reasons(skipped: &[VerifyReport], history: &History) -> String {
    let slots = history.unreadable.iter().map(|slot| slot.error.to_string());
    let lists = history.unreadable_lists.iter().map(ToString::to_string);
    let reasons: Vec<_> = skipped.iter().map(ToString::to_string).chain(slots).chain(lists).collect();
    reasons.join("; ")
}

fn refused(skipped: &[VerifyReport], history: &History) -> Error {
    let message = format!(
        "the newest checkpoint is damaged, and the options refuse an older one; restore the files from a copy, or \
         allow the fallback: {}",
        reasons(skipped, history)
    );
    Error::corrupt(message)
}

fn nothing_verifies(skipped: &[VerifyReport], history: &History) -> Error {
    let others = history.completed.iter().filter(|known| !history.is_on_branch(known));
    let others: Vec<_> = others.map(|known| known.checkpoint.to_string()).collect();
    let others = match &others[..] {
        [] => String::new(),
        _ => format!(" (or start by number from a savepoint of another branch: {})", others.join(", ")),
    };
    let message = format!(
        "there are checkpoints, but none can be restored, and an empty start would lose their state; restore the \
         files from a copy, or start with another storage{others}: {}",
        reasons(skipped, history)
    );
    Error::corrupt(message)
}
