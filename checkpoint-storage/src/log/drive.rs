//! What the protocol's [`LogClient`] asks of the store, done.

use std::time::Duration;

use strandline_checkpoint_protocol::{CreateResult, EntryKind, LogEntry, LogOutcome, LogStep};
use strandline_state_api::{Error, ErrorKind, Result};

use super::commit::CommitLog;
use super::history::worst_case;
use super::read::{Slot, read_slot, tail};
use super::record::{Record, chain};
use crate::ClaimOutcome;
use crate::name::{FileKind, FileName, slot_path};

/// How many creates of unknown outcome in one call are settled before the call gives up.
const UNKNOWN_CREATES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

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
                    let entry = self.tail_entry().await?;
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

    async fn tail_entry(&mut self) -> Result<Option<LogEntry>> {
        let Ok(tail) = tail(&self.storage).await? else {
            return self.check_new().await.map(|()| None);
        };
        match tail.content {
            Slot::Readable(file, record) => {
                self.note(&file, &record);
                Ok(Some(record.entry))
            }
            Slot::Unreadable(error) if !tail.certain && self.client.term().is_none() => Err(Error::corrupt(
                "the end of the commit log cannot be read, nor anything before it, so it is unknown which checkpoints \
                 exist; restore the file from a copy, or start with another storage",
            )
            .with("slot", tail.top)
            .with("file", slot_path(tail.top))
            .caused_by(error)),
            _ => Ok(Some(worst_case(tail.top, tail.floor, self.client.view().term()))),
        }
    }

    /// An empty log is that of a new storage, or it was lost.
    async fn check_new(&self) -> Result<()> {
        let manifests = self.storage.blobs().list(FileKind::Manifest.dir()).await?;
        let Some(manifest) =
            manifests.iter().find_map(|file| FileName::parse(FileKind::Manifest, &file.name))
        else {
            return Ok(());
        };
        Err(Error::corrupt(
            "the commit log is gone although manifests are there, so it is unknown which checkpoints exist; restore the \
             files in log/ from a copy, or start with another storage",
        )
        .with("storage", self.storage.uri())
        .with("file", manifest.path()))
    }

    async fn read_entry(&mut self, slot: u64) -> Result<Option<LogEntry>> {
        let lost = match read_slot(&self.storage, slot).await? {
            Slot::Readable(file, record) => {
                if self.unsettled == Some(record.entry.token) {
                    // It is ours, but the call that created it failed: have it made durable before it counts.
                    self.storage.claims().claim(&slot_path(slot), file.clone()).await?;
                    self.unsettled = None;
                }
                self.note(&file, &record);
                return Ok(Some(record.entry));
            }
            Slot::Unreadable(_) => true,
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
        let record = Record {
            entry: entry.clone(),
            kind: self.kind.filter(|_| is_checkpoint),
            previous: self.chained.filter(|&(slot, _)| Some(slot) == before).map(|(_, chain)| chain),
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
            Ok(outcome) => {
                if outcome == ClaimOutcome::Created {
                    self.note(&file, &record);
                    self.unsettled = None;
                    return Ok(CreateResult::Created);
                }
                Ok(CreateResult::Exists)
            }
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
    fn note(&mut self, file: &[u8], record: &Record) {
        self.chained = Some((record.entry.slot, chain(file)));
        for completed in record.carried.iter().cloned().chain(record.completed()) {
            if !self.known.iter().any(|known| known.slot == completed.slot) {
                self.known.push(completed);
            }
        }
    }
}
