//! What the protocol's [`LogClient`] asks of the store, done.
//!
//! # Whether a created slot counts
//! Slots are [deleted](crate::Storage::sweep) in ascending order, and never the two highest. So whoever creates slot *s*, and
//! afterwards still finds in slot *s* - 1 what was there before, has not filled a slot anew that had been filled and deleted: for then
//! *s* - 1 would have been deleted before it, and what anyone may have created there since has another token. Before slot 0 is deleted a
//! mark is set, which whoever creates slot 0 looks for. Only single objects are read for this: a listing may be torn by what goes on while
//! it is made.

use std::time::Duration;

use strandline_checkpoint_protocol::{CreateResult, EntryKind, LogEntry, LogOutcome, LogStep};
use strandline_state_api::{Error, ErrorKind, Result};

use super::commit::CommitLog;
use super::history::worst_case;
use super::read::{Slot, Tail, read_slot, tail};
use super::record::{Record, chain};
use crate::name::{CUT_MARK, FileKind, FileName, slot_path};
use crate::{ClaimOutcome, Storage};

/// How many creates of unknown outcome in one call are settled before the call gives up.
const UNKNOWN_CREATES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// How often the end of the log is looked for that must be there.
const LOOKS: u32 = 8;

impl CommitLog {
    /// Answers the machine's questions until it is done.
    ///
    /// The question under way is kept in `self.pending` and asked again by the next call, if this one fails or is
    /// dropped: all of them may be asked twice.
    pub(super) async fn drive(&mut self, first: LogStep) -> Result<LogOutcome> {
        self.pending = Some(first);
        let mut unknown = 0;
        loop {
            let next = match self.pending.clone() {
                None => return Err(Error::new(ErrorKind::Internal, "the commit log has nothing to do")),
                Some(LogStep::Done(outcome)) => {
                    self.pending = None;
                    return Ok(outcome);
                }
                Some(LogStep::Tail) => {
                    let entry = match self.created.clone() {
                        Some((entry, before)) => Some(self.confirm(entry, before).await?),
                        None => self.tail_entry().await?,
                    };
                    self.created = None;
                    self.client.on_tail(entry.as_ref())
                }
                Some(LogStep::Read(slot)) => {
                    let entry = self.read_entry(slot).await?;
                    self.client.on_read(slot, entry.as_ref())
                }
                Some(LogStep::Create(entry)) => {
                    let result = self.create(&entry, &mut unknown).await?;
                    self.client.on_create(entry.slot, result)
                }
            };
            self.pending = Some(next);
        }
    }

    /// The entry that the machine may take for the end of the log once `entry` was created: `entry` itself if it counts, else the real
    /// one.
    async fn confirm(&mut self, entry: LogEntry, before: Option<u64>) -> Result<LogEntry> {
        let counts = match entry.slot.checked_sub(1) {
            None => self.storage.claims().read(CUT_MARK, 0).await?.is_none(),
            Some(slot) => match read_slot(&self.storage, slot).await? {
                Slot::Readable(file, _) => before == Some(chain(&file)),
                Slot::Unreadable(chain, _) => before == chain,
                Slot::Missing => false,
            },
        };
        if counts {
            return Ok(entry);
        }
        for _ in 0..LOOKS {
            match self.tail_entry().await? {
                Some(tail) if tail.slot > entry.slot && tail.floor > entry.slot => return Ok(tail),
                _ => tokio::task::yield_now().await,
            }
        }
        // Somebody took over long ago, whom the listing does not show.
        Ok(worst_case(entry.slot + 1, entry.slot + 1, self.client.view().term()))
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
            _ => Ok(Some(worst_case(tail.top, tail.floor, self.client.view().term()))),
        }
    }

    async fn read_entry(&mut self, slot: u64) -> Result<Option<LogEntry>> {
        let lost = match read_slot(&self.storage, slot).await? {
            Slot::Readable(file, record) => {
                if self.unsettled == Some(record.entry.token) {
                    // It is ours, but the call that created it failed: have it made durable before it counts.
                    self.storage.claims().claim(&slot_path(slot), file.clone()).await?;
                    self.created = Some((record.entry.clone(), record.previous));
                    self.unsettled = None;
                }
                self.last = Some((slot, Some(chain(&file))));
                self.note(&record);
                return Ok(Some(record.entry));
            }
            Slot::Unreadable(chain, _) => {
                self.last = Some((slot, chain));
                true
            }
            Slot::Missing => match tail(&self.storage).await? {
                Ok(tail) => tail.floor <= slot && slot < tail.top,
                Err(_) => false,
            },
        };
        Ok(lost.then(|| worst_case(slot, self.client.view().floor(), self.client.view().term())))
    }

    async fn create(&mut self, entry: &LogEntry, unknown: &mut u32) -> Result<CreateResult> {
        let is_checkpoint = matches!(entry.kind, EntryKind::Checkpoint { .. });
        let before = entry.slot.checked_sub(1);
        let previous = self.last.filter(|&(slot, _)| Some(slot) == before).and_then(|(_, chain)| chain);
        let record = Record {
            entry: entry.clone(),
            kind: self.kind.filter(|_| is_checkpoint),
            previous,
            carried: self
                .known
                .iter()
                .filter(|c| c.is_savepoint() && c.slot < entry.floor)
                .cloned()
                .collect(),
        };
        let file = record.encode()?;
        if *unknown > 1 {
            tokio::time::sleep(FIRST_PAUSE * (1 << *unknown)).await;
        }
        self.unsettled = Some(entry.token);
        match self.storage.claims().claim(&slot_path(entry.slot), file.clone()).await {
            Ok(ClaimOutcome::Created) => {
                self.last = Some((entry.slot, Some(chain(&file))));
                self.note(&record);
                self.created = Some((entry.clone(), previous));
                self.unsettled = None;
                Ok(CreateResult::Created)
            }
            Ok(ClaimOutcome::Exists) => Ok(CreateResult::Exists),
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Invalid) => Err(e),
            Err(e) => {
                *unknown += 1;
                if *unknown >= UNKNOWN_CREATES {
                    return Err(e.with("slot", entry.slot));
                }
                tracing::warn!(error = %e, slot = entry.slot, "the answer to a claim was lost; reading the slot back");
                Ok(CreateResult::Unknown)
            }
        }
    }

    /// Remembers what the log says beyond what the machine knows of it.
    fn note(&mut self, record: &Record) {
        for completed in record.carried.iter().cloned().chain(record.completed()) {
            if !self.known.iter().any(|known| known.slot == completed.slot) {
                self.known.push(completed);
            }
        }
    }
}

/// The end of the log; `None` for that of a new storage. A log that was there and is lost is an error.
async fn end_or_new(storage: &Storage) -> Result<Option<Tail>> {
    if let Ok(tail) = tail(storage).await? {
        return Ok(Some(tail));
    }
    let Some(file) = trace(storage).await? else { return Ok(None) };
    // Whoever left that had claimed a slot before. So the log was begun while it was looked for, or it is lost: in the first case it
    // shows from now on, but for a listing that is torn.
    for _ in 0..LOOKS {
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
