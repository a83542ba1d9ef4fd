//! What the protocol's [`LogClient`] asks of the store, done.
//!
//! The rules of the log are the machine's. Here damage becomes an answer: a slot that cannot be read, or is
//! missing, becomes an unreadable entry, with its checksum for a token. A log that was deleted against the
//! rules, which no machine can know, is an error.

use strandline_checkpoint_protocol::{
    Anchor, CreateResult, EntryKind, LogEntry, LogOutcome, LogStep, Term, Token,
};
use strandline_state_api::{Error, ErrorKind, Result};

use super::commit::CommitLog;
use super::read::{Slot, Tail, changes_too_fast, read_slot, tail};
use super::record::{CompletedCheckpoint, Record, chain};
use crate::name::{CUT_MARK, FileKind, FileName, slot_path};
use crate::{ClaimOutcome, Storage};

impl CommitLog {
    /// Answers the machine's questions until it is done.
    ///
    /// The question under way is kept in `self.pending` and asked again by the next call, if this one fails
    /// or is dropped: all of them may be asked twice.
    pub(super) async fn drive(&mut self, first: LogStep) -> Result<LogOutcome> {
        self.pending = Some(first);
        let (mut unknown, mut looks) = (0, 0);
        loop {
            let next = match self.pending.clone() {
                None => return Err(Error::new(ErrorKind::Internal, "the commit log has nothing to do")),
                Some(LogStep::Done(outcome)) => {
                    self.pending = None;
                    return Ok(outcome);
                }
                Some(LogStep::Tail) => {
                    let entry = self.tail_entry().await?;
                    let next = self.client.on_tail(entry.as_ref());
                    if next == LogStep::Tail {
                        looks += 1;
                        if looks >= self.storage.options().log_reads {
                            return Err(changes_too_fast());
                        }
                        tokio::task::yield_now().await;
                    }
                    next
                }
                Some(LogStep::Read(slot)) => {
                    let entry = self.read_entry(slot).await?;
                    self.client.on_read(slot, entry.as_ref())
                }
                Some(LogStep::Create(entry)) => {
                    let result = self.create(&entry, &mut unknown).await?;
                    self.client.on_create(entry.slot, result)
                }
                Some(LogStep::Confirm(slot)) => {
                    let found = anchor(&self.storage, slot).await?;
                    self.client.on_confirm(found)
                }
            };
            self.pending = Some(next);
        }
    }

    async fn tail_entry(&mut self) -> Result<Option<LogEntry>> {
        let Some(tail) = end_or_new(&self.storage).await? else { return Ok(None) };
        match tail.content {
            Slot::Readable(_, record) => {
                self.note(&record);
                Ok(Some(record.entry))
            }
            Slot::Unreadable(_, error) if !tail.certain && self.client.term().is_none() => Err(Error::corrupt(
                "the end of the commit log cannot be read, nor anything before it, so it is unknown which checkpoints \
                 exist; restore the file from a copy, or start with another storage",
            )
            .with("slot", tail.top)
            .with("file", slot_path(tail.top))
            .caused_by(error)),
            Slot::Unreadable(chain, _) => Ok(Some(self.worst_case(tail.top, tail.floor, chain))),
            Slot::Missing => Ok(Some(self.worst_case(tail.top, tail.floor, None))),
        }
    }

    async fn read_entry(&mut self, slot: u64) -> Result<Option<LogEntry>> {
        let chain = match read_slot(&self.storage, slot).await? {
            Slot::Readable(file, record) => {
                if self.client.is_unsettled(&record.entry) {
                    self.make_durable(&record).await?;
                }
                self.last = Some((slot, Some(chain(&file))));
                self.note(&record);
                return Ok(Some(record.entry));
            }
            Slot::Unreadable(chain, _) => {
                self.last = Some((slot, chain));
                chain
            }
            Slot::Missing => match tail(&self.storage).await? {
                Ok(tail) if tail.floor <= slot && slot < tail.top => None,
                _ => return Ok(None),
            },
        };
        Ok(Some(self.worst_case(slot, self.client.view().floor(), chain)))
    }

    /// The entry is ours, but the call that created it failed: who finds a slot taken makes it durable.
    async fn make_durable(&mut self, record: &Record) -> Result<()> {
        // Should the slot have been deleted by now, its second entry must not look like the first.
        let entry = LogEntry { token: self.token()?, ..record.entry.clone() };
        let other = Record { entry, ..record.clone() };
        self.storage.ensure(&slot_path(record.entry.slot), other.encode()?).await
    }

    /// What a slot that cannot be read is taken for: for a term above all known, the worst that it can be.
    fn worst_case(&self, slot: u64, floor: u64, chain: Option<u64>) -> LogEntry {
        let above = |term: Term| term.next().unwrap_or(term);
        let term = self.client.view().term().map_or(Term::FIRST, above);
        let kind = EntryKind::Unreadable { term };
        LogEntry { slot, floor, oldest: 0, token: token_of_unreadable(chain), kind }
    }

    async fn create(&mut self, entry: &LogEntry, unknown: &mut u32) -> Result<CreateResult> {
        let checkpoint = match entry.kind {
            EntryKind::Checkpoint { checkpoint, .. } => Some(checkpoint),
            EntryKind::Term { .. } | EntryKind::Unreadable { .. } => None,
        };
        let before = entry.slot.checked_sub(1);
        let previous = self.last.filter(|&(slot, _)| Some(slot) == before).and_then(|(_, chain)| chain);
        let passed = self.known.iter().filter(|known| self.passes(known, entry.floor)).cloned().collect();
        let savepoints = self.savepoints.pin(&self.storage, entry.term(), checkpoint, passed).await?;
        let stands_alone = checkpoint.is_some() && self.stands_alone;
        let record = Record { entry: entry.clone(), previous, savepoints, stands_alone, carried: Vec::new() };
        let file = record.encode()?;
        match self.storage.claims().claim(&slot_path(entry.slot), file.clone()).await {
            Ok(ClaimOutcome::Created) => {
                self.last = Some((entry.slot, Some(chain(&file))));
                self.note(&record);
                Ok(CreateResult::Created)
            }
            Ok(ClaimOutcome::Exists) => Ok(CreateResult::Exists),
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Invalid) => Err(e),
            Err(e) => {
                *unknown += 1;
                if *unknown >= self.storage.options().unknown_creates {
                    return Err(e.with("slot", entry.slot));
                }
                tracing::warn!(error = %e, slot = entry.slot, "the answer to a claim was lost; reading the slot back");
                Ok(CreateResult::Unknown)
            }
        }
    }

    /// Whether the slot of a savepoint is to go with the next entry, which begins the log at `floor`. What
    /// lies below the floor of now went with an entry before: it is in a list, or somebody removed it, and
    /// the mark of that may be gone. Entries that restate it may be there still.
    fn passes(&self, known: &CompletedCheckpoint, floor: u64) -> bool {
        let is_left = known.slot >= self.client.view().floor() || self.carried.contains(&known.identity());
        known.is_savepoint() && is_left && known.slot < floor
    }

    /// Remembers what the record holds beyond what the machine keeps.
    fn note(&mut self, record: &Record) {
        self.carried = record.carried.iter().map(CompletedCheckpoint::identity).collect();
        for completed in record.carried.iter().cloned().chain(record.restated()).chain(record.completed()) {
            if !self.known.iter().any(|known| known.slot == completed.slot) {
                self.known.push(completed);
            }
        }
        self.savepoints.note(record.entry.slot, record.savepoints.as_ref());
    }
}

/// What a slot holds now, by its token; for no slot, whether the log was cut. Mostly single objects are read
/// for this: a listing may be torn by what goes on while it is made.
///
/// A slot that was deleted may come back: the request that created it was carried out once more, long after.
/// Then the slot before it is gone, while it is there before the end of a log. So where that one is gone, the
/// log is listed, too.
async fn anchor(storage: &Storage, slot: Option<u64>) -> Result<Anchor> {
    let found = anchor_alone(storage, slot).await?;
    let Some(slot) = slot.filter(|_| matches!(found, Anchor::Entry(_))) else { return Ok(found) };
    let before = match slot.checked_sub(1) {
        Some(before) => read_slot(storage, before).await?,
        None => return Ok(found),
    };
    let is_overtaken = matches!(before, Slot::Missing)
        && tail(storage).await?.is_ok_and(|tail| tail.top > slot.saturating_add(1));
    Ok(if is_overtaken { Anchor::Gone } else { found })
}

async fn anchor_alone(storage: &Storage, slot: Option<u64>) -> Result<Anchor> {
    Ok(match slot {
        None => match storage.claims().read(CUT_MARK, 0).await? {
            Some(_) => Anchor::Gone,
            None => Anchor::Start,
        },
        Some(slot) => match read_slot(storage, slot).await? {
            Slot::Readable(_, record) => Anchor::Entry(record.entry.token),
            Slot::Unreadable(chain, _) => Anchor::Entry(token_of_unreadable(chain)),
            Slot::Missing => match storage.claims().read(CUT_MARK, 0).await? {
                Some(_) => Anchor::Gone,
                None => return Err(deleted(storage, slot)),
            },
        },
    })
}

/// Slots that are deleted by the rules leave a mark. These were not.
fn deleted(storage: &Storage, slot: u64) -> Error {
    Error::corrupt(
        "the commit log was deleted while it was in use, and the checkpoints with it; restore the directory of \
         the storage from a copy, or start with another storage",
    )
    .with("storage", storage.uri())
    .with("missing", slot_path(slot))
}

/// The token of a slot that cannot be read: no more is known of it than its checksum.
fn token_of_unreadable(chain: Option<u64>) -> Token {
    Token(chain.map_or(0, u128::from))
}

/// The end of the log; `None` for that of a new storage. A log that was there and is lost is an error.
async fn end_or_new(storage: &Storage) -> Result<Option<Tail>> {
    if let Ok(tail) = tail(storage).await? {
        return Ok(Some(tail));
    }
    let Some(file) = trace(storage).await? else { return Ok(None) };
    // Whoever left that had claimed a slot before. So the log was begun while it was looked for, or it is
    // lost: in the first case it shows from now on, but for a listing that is torn.
    for _ in 0..storage.options().log_reads.max(1) {
        if let Ok(tail) = tail(storage).await? {
            return Ok(Some(tail));
        }
        tokio::task::yield_now().await;
    }
    Err(Error::corrupt(
        "the commit log is gone although there was one, so it is unknown which checkpoints exist; restore the \
         files in log/ from a copy, or start with another storage",
    )
    .with("storage", storage.uri())
    .with("file", file))
}

/// A file that is there only where a log is or was.
async fn trace(storage: &Storage) -> Result<Option<String>> {
    let manifests = storage.blobs().list(FileKind::Manifest.dir()).await?;
    let manifest = manifests.iter().find_map(|file| FileName::parse(FileKind::Manifest, &file.name));
    let cut = storage.claims().read(CUT_MARK, 0).await?;
    Ok(manifest.map(|name| name.path()).or(cut.map(|_| CUT_MARK.into())))
}
