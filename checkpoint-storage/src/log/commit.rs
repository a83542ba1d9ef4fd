//! The right to write the log: a term, claimed and used.

use std::fmt;
use std::num::NonZeroUsize;

use strandline_checkpoint_protocol::{
    CheckpointKind, CommitRight, LogClient, LogOutcome, LogStep, Misuse, Term, Token,
};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::history::History;
use super::record::CompletedCheckpoint;
use crate::{Manifest, Storage};

/// Who claims, and what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitLogOptions {
    /// Who claims, for people: for example a host and a process.
    pub holder: String,
    /// How many checkpoints are kept, savepoints not counted (Flink:
    /// `execution.checkpointing.num-retained`). With one, nothing is left to fall back to when it is
    /// damaged.
    pub retain: NonZeroUsize,
}

impl CommitLogOptions {
    /// Keeps one checkpoint, as Flink does.
    pub fn new(holder: impl Into<String>) -> Self {
        Self { holder: holder.into(), retain: NonZeroUsize::MIN }
    }

    /// Keeps `count` checkpoints.
    #[must_use]
    pub fn retain(mut self, count: NonZeroUsize) -> Self {
        self.retain = count;
        self
    }
}

/// A term of the commit log, and with it the power to complete checkpoints, until somebody claims a higher
/// one.
///
/// Calls may be dropped half-way: the next one first finds out what became of the one before.
pub struct CommitLog {
    pub(super) storage: Storage,
    pub(super) client: LogClient,
    /// The question to the store that has no answer yet.
    pub(super) pending: Option<LogStep>,
    /// The slot read or written last, and its checksum if it has one.
    pub(super) last: Option<(u64, Option<u64>)>,
    /// The checkpoints that the log names, in any order.
    pub(super) known: Vec<CompletedCheckpoint>,
    /// Why the checkpoint under way was taken.
    pub(super) kind: Option<CheckpointKind>,
    term: Term,
    retain: NonZeroUsize,
    tokens: Box<dyn FnMut() -> Result<u128> + Send>,
}

/// A claimed term.
#[derive(Debug)]
pub struct Claimed {
    /// The power to complete checkpoints.
    pub log: CommitLog,
    /// The log as of the claim: what to resume from. An older coordinator can add nothing.
    pub history: History,
}

/// A checkpoint that exists from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The checkpoint.
    pub completed: CompletedCheckpoint,
    /// The checkpoints that are kept, oldest first, this one among them. What no other needs, a
    /// [sweep](Storage::sweep) deletes.
    pub retained: Vec<CompletedCheckpoint>,
}

impl CommitLog {
    /// Claims a term above all that the log knows. From then on no older coordinator can complete a
    /// checkpoint; so claim first, and choose what to resume from afterwards.
    ///
    /// `tokens` must never return the same number twice, over all processes:
    /// [`random_tokens`](Self::random_tokens), or seeded ones in a simulation.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the end of the log cannot be read nor anything before it,
    /// [`ErrorKind::Incompatible`] when a newer version of this crate wrote it, [`ErrorKind::Unsupported`]
    /// when the store cannot create atomically, which a store on a network is probed for, else when the store
    /// or `tokens` fails.
    pub async fn claim(
        storage: &Storage,
        options: CommitLogOptions,
        tokens: impl FnMut() -> Result<u128> + Send + 'static,
    ) -> Result<Claimed> {
        storage.check_claims().await?;
        let mut log = Self {
            storage: storage.clone(),
            client: LogClient::new(options.holder),
            pending: None,
            last: None,
            known: Vec::new(),
            kind: None,
            term: Term::NONE,
            retain: options.retain,
            tokens: Box::new(tokens),
        };
        let token = log.token()?;
        let first = log.client.claim(token);
        match log.drive(first).await? {
            LogOutcome::Claimed { term, .. } => log.term = term,
            other => return Err(out_of_order(&other)),
        }
        log.forget_dropped();
        let history = storage.history().await?;
        Ok(Claimed { log, history })
    }

    /// Tokens from the operating system's randomness, drawn one by one: nothing that two processes share,
    /// such as the time at which they started or the image of a machine that was copied, makes theirs equal.
    pub fn random_tokens() -> impl FnMut() -> Result<u128> + Send + 'static {
        || {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(|error| {
                let message = "the operating system returned no random numbers";
                Error::new(ErrorKind::Unavailable, message).caused_by(error)
            })?;
            Ok(u128::from_le_bytes(bytes))
        }
    }

    /// The term held. It stands in the manifests and in the names of all files written under it.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Sets how many checkpoints the next commit keeps, savepoints not counted.
    pub fn set_retain(&mut self, count: NonZeroUsize) {
        self.retain = count;
    }

    /// The checkpoints that are kept, oldest first.
    pub fn retained(&self) -> Vec<CompletedCheckpoint> {
        let mut retained = self.known.clone();
        retained.sort_by_key(|completed| completed.checkpoint);
        retained
    }

    /// One attempt at a [`commit`](Self::commit). After an error the checkpoint may exist.
    pub(super) async fn try_commit(&mut self, right: &CommitRight, manifest: &Manifest) -> Result<Committed> {
        let checkpoint = manifest.checkpoint;
        if manifest.term != self.term || checkpoint != right.checkpoint() {
            let message = format!(
                "a manifest of checkpoint {checkpoint} in term {} cannot be committed with the right to checkpoint {} in \
                 term {}",
                manifest.term,
                right.checkpoint(),
                self.term
            );
            return Err(Error::invalid(message));
        }
        if let Some(committed) = self.settle().await?.filter(|c| c.completed.checkpoint == checkpoint) {
            return Ok(committed);
        }
        let written = self.storage.write_manifest(manifest).await?;
        let floor = self.floor(manifest);
        self.kind = Some(manifest.kind);
        let token = self.token()?;
        let first = self.client.commit(right, token, written, floor);
        let outcome = self.drive(first).await?;
        self.committed(outcome)
    }

    /// Whether nobody has taken over, as far as the store knew when it answered.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] when somebody has, else when the store fails.
    pub async fn check(&mut self) -> Result<()> {
        self.settle().await?;
        let first = self.client.probe();
        match self.drive(first).await? {
            LogOutcome::Leading(_) => Ok(()),
            other => Err(out_of_order(&other)),
        }
    }

    /// Finds out what became of a call that failed or was dropped.
    async fn settle(&mut self) -> Result<Option<Committed>> {
        let Some(step) = self.pending.take() else { return Ok(None) };
        match self.drive(step).await? {
            LogOutcome::Leading(_) => Ok(None),
            outcome => self.committed(outcome).map(Some),
        }
    }

    fn committed(&mut self, outcome: LogOutcome) -> Result<Committed> {
        let LogOutcome::Committed(entry) = outcome else { return Err(out_of_order(&outcome)) };
        self.forget_dropped();
        let retained = self.retained();
        let completed = retained.iter().find(|known| known.slot == entry.slot).cloned();
        let completed = completed.unwrap_or_else(|| {
            CompletedCheckpoint::new(&entry, self.kind.unwrap_or(CheckpointKind::Periodic))
        });
        Ok(Committed { completed, retained })
    }

    /// Forgets what the log no longer names.
    fn forget_dropped(&mut self) {
        let in_log = self.client.completed();
        self.known
            .retain(|known| known.is_savepoint() || in_log.iter().any(|entry| entry.slot == known.slot));
    }

    /// The slot of the oldest checkpoint that is still kept once `manifest` is committed.
    ///
    /// Checkpoints that this term's restore passed over do not count, or they would push out what it was
    /// restored from.
    fn floor(&self, manifest: &Manifest) -> u64 {
        let passed_over = |known: &CompletedCheckpoint| {
            manifest.restored_from.is_some_and(|from| known.term < self.term && known.checkpoint > from)
        };
        let counts = |known: &&CompletedCheckpoint| !known.is_savepoint() && !passed_over(known);
        let mut slots: Vec<u64> = self.known.iter().filter(counts).map(|known| known.slot).collect();
        slots.sort_unstable_by(|a, b| b.cmp(a));
        if manifest.kind != CheckpointKind::Savepoint {
            slots.insert(0, self.client.view().next_slot());
        }
        slots.truncate(self.retain.get());
        slots.last().copied().unwrap_or_else(|| self.client.view().floor())
    }

    pub(super) fn token(&mut self) -> Result<Token> {
        (self.tokens)().map(Token)
    }
}

impl fmt::Debug for CommitLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitLog")
            .field("storage", &self.storage)
            .field("term", &self.term)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

fn out_of_order(outcome: &LogOutcome) -> Error {
    match outcome {
        LogOutcome::Fenced { by } => {
            Error::new(ErrorKind::Fenced, "a newer coordinator has taken over this storage")
                .with("its term", by)
        }
        LogOutcome::Misuse(Misuse::NotNewer { last }) => {
            Error::invalid("a checkpoint with this number or a higher one exists").with("last", last)
        }
        other => Error::new(ErrorKind::Internal, format!("the commit log answered {other:?}")),
    }
}

impl Claimed {
    /// The number that the first checkpoint of this term must at least have.
    pub fn next_checkpoint(&self) -> CheckpointId {
        self.history.next_checkpoint()
    }
}
