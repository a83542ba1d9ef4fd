//! The right to write the log: a term, claimed and used.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;

use strandline_checkpoint_protocol::{
    Branch, CheckpointKind, CommitRight, LogClient, LogOutcome, LogStep, Misuse, Term, Token,
};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::history::History;
use super::record::CompletedCheckpoint;
use super::savepoints::Savepoints;
use crate::{Manifest, Storage};

/// How many savepoints have slots of their own where there is no other checkpoint, before they go to a list.
const MOST_SAVEPOINTS: u64 = 64;

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
    /// The checkpoints that slots of the log name, in any order.
    pub(super) known: Vec<CompletedCheckpoint>,
    pub(super) savepoints: Savepoints,
    /// The savepoints below the floor that the record read last carries itself, as version 1 did.
    pub(super) carried: BTreeSet<(Term, CheckpointId)>,
    /// Whether the checkpoint under way shares no file with others.
    pub(super) stands_alone: bool,
    /// What this term resumes from is noted.
    has_resumed: bool,
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
            savepoints: Savepoints::default(),
            carried: BTreeSet::new(),
            stands_alone: false,
            has_resumed: false,
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
        log.savepoints.load(storage).await?;
        // They are in the list now, or were removed.
        let floor = log.client.view().floor();
        log.known.retain(|known| !known.is_savepoint() || known.slot >= floor);
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

    /// The checkpoints that are kept, oldest first. Savepoints that were removed since the claim are among
    /// them.
    pub fn retained(&self) -> Vec<CompletedCheckpoint> {
        let mut retained = self.savepoints.listed.savepoints.clone();
        for known in self.certain() {
            retained.entry(known.checkpoint).or_insert_with(|| known.clone());
        }
        retained.into_values().collect()
    }

    /// The checkpoints of slots that are in the log beyond doubt. An entry that this process has created may
    /// stand where one was deleted long ago, until the machine has confirmed it.
    fn certain(&self) -> impl Iterator<Item = &CompletedCheckpoint> {
        let end = self.client.view().next_slot();
        self.known.iter().filter(move |known| known.slot < end)
    }

    /// One attempt at a [`commit`](Self::commit). After an error the checkpoint may exist.
    pub(super) async fn try_commit(&mut self, right: &CommitRight, manifest: &Manifest) -> Result<Committed> {
        let checkpoint = manifest.checkpoint;
        if manifest.term != self.term || checkpoint != right.checkpoint() {
            let message = format!(
                "a manifest of checkpoint {checkpoint} in term {} cannot be committed with the right to \
                 checkpoint {} in term {}",
                manifest.term,
                right.checkpoint(),
                self.term
            );
            return Err(Error::invalid(message));
        }
        if manifest.kind != right.kind() {
            let message = format!("a right to a {:?} commits no {:?}", right.kind(), manifest.kind);
            return Err(Error::invalid(message).with("checkpoint", checkpoint));
        }
        if let Some(committed) = self.settle().await?.filter(|c| c.completed.checkpoint == checkpoint) {
            return Ok(committed);
        }
        let written = self.storage.write_manifest(manifest).await?;
        self.resume(manifest.restored_from);
        let oldest = self.oldest(manifest);
        self.stands_alone = manifest.stands_alone();
        let token = self.token()?;
        let first = self.client.commit(right, token, written, oldest);
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
        let completed = completed.unwrap_or_else(|| CompletedCheckpoint::new(&entry, self.stands_alone));
        Ok(Committed { completed, retained })
    }

    /// Notes, once, what this term resumes from.
    fn resume(&mut self, from: Option<CheckpointId>) {
        if std::mem::replace(&mut self.has_resumed, true) {
            return;
        }
        let newest = self.client.view().last_completed();
        let known = from.map(|from| {
            let known = self.retained().into_iter().find(|known| known.checkpoint == from);
            (from, known.map_or_else(|| Branch::of_unknown(from, newest), |known| known.branch))
        });
        self.client.resume(known.as_ref().map(|(from, branch)| (*from, branch)));
    }

    /// Forgets what is not retained, and what the list of savepoints names.
    fn forget_dropped(&mut self) {
        let (in_log, savepoints) = (self.client.completed(), &self.savepoints);
        self.known.retain(|known| {
            let is_listed = !known.is_savepoint() || savepoints.knows(known);
            !is_listed || in_log.iter().any(|entry| entry.slot == known.slot)
        });
    }

    /// The slot of the oldest checkpoint that is still kept once `manifest` is committed. Those that this
    /// branch gave up do not count.
    fn oldest(&self, manifest: &Manifest) -> u64 {
        let (view, branch) = (self.client.view(), self.client.branch());
        let counts =
            |known: &&CompletedCheckpoint| !known.is_savepoint() && !branch.gave_up(known.checkpoint);
        let mut slots: Vec<u64> = self.certain().filter(counts).map(|known| known.slot).collect();
        slots.sort_unstable_by(|a, b| b.cmp(a));
        if manifest.kind != CheckpointKind::Savepoint {
            slots.insert(0, view.next_slot());
        }
        slots.truncate(self.retain.get());
        let only_savepoints = match view.next_slot() - view.floor() {
            0..=MOST_SAVEPOINTS => view.oldest(),
            _ => view.next_slot(),
        };
        slots.last().copied().unwrap_or(only_savepoints)
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
