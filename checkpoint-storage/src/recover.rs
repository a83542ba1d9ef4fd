//! Choosing the checkpoint to restore.

use strandline_state_api::{CheckpointId, Error, Result};

use crate::verify::{unknown, verdict};
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
    /// Manifests newer than every checkpoint in the log. Usually their coordinator died before the commit;
    /// if not, the end of the log was lost.
    pub uncommitted: Vec<String>,
}

impl Recovery {
    /// Whether the newest checkpoint is restored, as far as can be known.
    pub fn is_clean(&self) -> bool {
        self.skipped.is_empty() && self.unreadable.is_empty()
    }
}

impl Storage {
    /// Chooses the newest checkpoint that verifies, falling back to older ones; reports which it passed over
    /// and why. Claim a term first ([`CommitLog::claim`](crate::CommitLog::claim)), or an older coordinator
    /// may add a newer one.
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when there are checkpoints and none verifies (it
    /// is never an empty start then), or the newest does not and the options [refuse](OnDamage::Refuse)
    /// another. A slot of the log that cannot be read counts as a newest one.
    /// [`NotFound`](strandline_state_api::ErrorKind::NotFound) when the requested one does not exist.
    /// [`Unavailable`](strandline_state_api::ErrorKind::Unavailable) when the store fails, which proves
    /// nothing about any checkpoint.
    pub async fn recover(&self, options: RecoverOptions) -> Result<Recovery> {
        let history = self.history().await?;
        let candidates: Vec<_> = match options.from {
            RecoverFrom::Latest => history.completed.iter().rev().cloned().collect(),
            RecoverFrom::Checkpoint(id) => {
                vec![history.find(id).cloned().ok_or_else(|| unknown(id, self))?]
            }
        };
        let uncommitted = self.uncommitted(&history).await?;
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
            tracing::warn!(%report, "a checkpoint is damaged and passed over");
            skipped.push(report);
        }
        if options.on_damage == OnDamage::Refuse && !(skipped.is_empty() && history.unreadable.is_empty()) {
            return Err(refused(&skipped, &history.unreadable).with("storage", self.uri()));
        }
        if restored.is_none() && !(skipped.is_empty() && history.unreadable.is_empty()) {
            return Err(nothing_verifies(&skipped, &history.unreadable).with("storage", self.uri()));
        }
        Ok(Recovery { restored, skipped, unreadable: history.unreadable, uncommitted })
    }

    async fn uncommitted(&self, history: &History) -> Result<Vec<String>> {
        let latest = history.latest().map_or(CheckpointId(0), |latest| latest.checkpoint);
        let files = self.blobs().list(FileKind::Manifest.dir()).await?;
        let names = files.iter().filter_map(|file| FileName::parse(FileKind::Manifest, &file.name));
        let mut newer: Vec<_> =
            names.filter(|name| name.checkpoint > latest).map(|name| name.path()).collect();
        newer.sort();
        Ok(newer)
    }
}

fn reasons(skipped: &[VerifyReport], unreadable: &[UnreadableSlot]) -> String {
    let slots = unreadable.iter().map(|slot| slot.error.to_string());
    let reasons: Vec<_> = skipped.iter().map(ToString::to_string).chain(slots).collect();
    reasons.join("; ")
}

fn refused(skipped: &[VerifyReport], unreadable: &[UnreadableSlot]) -> Error {
    let message = format!(
        "the newest checkpoint is damaged, and the options refuse an older one; restore the files from a copy, or \
         allow the fallback: {}",
        reasons(skipped, unreadable)
    );
    Error::corrupt(message)
}

fn nothing_verifies(skipped: &[VerifyReport], unreadable: &[UnreadableSlot]) -> Error {
    let message = format!(
        "there are checkpoints, but none can be restored, and an empty start would lose their state; restore the \
         files from a copy, or start with another storage: {}",
        reasons(skipped, unreadable)
    );
    Error::corrupt(message)
}
