//! Whose checkpoints a storage holds.
//!
//! The first start of a job creates the slot `owner/0` with its name, once and for all by
//! [`ClaimStore::claim`](crate::ClaimStore::claim); who adopts the storage creates the next one. So of two
//! jobs that start at once on a new storage one is refused, before it claims a term and fences the other.
//! Storages of before have no such slot: the newest checkpoint names their job.

use serde::{Deserialize, Serialize};
use strandline_state_api::{Error, ErrorKind, Result};

use crate::envelope::Envelope;
use crate::name::parse_slot;
use crate::{ClaimOutcome, Storage};

const OWNER_DIR: &str = "owner";

const ENVELOPE: Envelope =
    Envelope { what: "record of an owner", magic: *b"STRLOWNR", version: 1, limit: 4 << 10 };

/// How often a start looks again because another one was faster, or an answer was lost.
const ATTEMPTS: usize = 8;

#[derive(Serialize, Deserialize)]
struct Owner {
    job: String,
}

impl Storage {
    /// The name of the job that the storage belongs to; `None` for one that no job has used. Claims nothing.
    ///
    /// # Errors
    /// Those of the store, and [`Corrupt`](ErrorKind::Corrupt) when the record of the owner is damaged.
    pub async fn owner(&self) -> Result<Option<String>> {
        match self.owner_slot().await? {
            Some((_, job)) => Ok(Some(job)),
            None => self.named_by_checkpoint().await,
        }
    }

    /// Makes the storage that of `job`, if it is that of no other, or of `adopt`. Call it before a term is
    /// [claimed](crate::CommitLog::claim), which fences the job that runs.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when it belongs to another job; those of
    /// [`owner`](Self::owner).
    pub async fn belong_to(&self, job: &str, adopt: Option<&str>) -> Result<()> {
        let mut unanswered = None;
        for _ in 0..ATTEMPTS {
            let slot = self.owner_slot().await?;
            let next = slot.as_ref().map_or(0, |(slot, _)| slot + 1);
            let (recorded, owner) = match slot {
                Some((_, owner)) => (true, Some(owner)),
                None => (false, self.named_by_checkpoint().await?),
            };
            match owner {
                Some(owner) if owner == job && recorded => return Ok(()),
                Some(owner) if owner != job && adopt != Some(owner.as_str()) => {
                    return Err(self.of_another(job, &owner));
                }
                Some(_) | None => {}
            }
            self.check_claims().await?;
            let payload = serde_json::to_vec(&Owner { job: job.to_owned() })
                .map_err(|e| Error::new(ErrorKind::Internal, "the name of a job has no JSON").caused_by(e))?;
            let path = format!("{OWNER_DIR}/{next:020}");
            match self.claims().claim(&path, ENVELOPE.seal(&payload)?).await {
                Ok(ClaimOutcome::Created) => return Ok(()),
                Ok(ClaimOutcome::Exists) => {}
                // Whether it was created shows when the record is read again.
                Err(error) if error.kind() == ErrorKind::Unavailable => unanswered = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = unanswered {
            return Err(error);
        }
        let message = "the owner of the storage changes too fast; start again";
        Err(Error::new(ErrorKind::Unavailable, message).with("storage", self.uri()))
    }

    fn of_another(&self, job: &str, owner: &str) -> Error {
        let message = "this storage has the checkpoints of another job: give each job a storage of its own, \
                       or, if this job is to go on where that one stopped, adopt them by its name";
        Error::new(ErrorKind::Incompatible, message)
            .with("storage", self.uri())
            .with("its job", owner)
            .with("this job", job)
    }

    /// The newest slot, and the job in it.
    async fn owner_slot(&self) -> Result<Option<(u64, String)>> {
        let files = self.claims().list(OWNER_DIR).await?;
        let Some(slot) = files.iter().filter_map(|file| parse_slot(&file.name)).max() else {
            return Ok(None);
        };
        let path = format!("{OWNER_DIR}/{slot:020}");
        let Some(bytes) = self.claims().read(&path, ENVELOPE.limit).await? else { return Ok(None) };
        let locate = |error: Error| error.with("storage", self.uri());
        let payload = ENVELOPE.open(&bytes, &path).map_err(locate)?;
        let owner: Owner = serde_json::from_slice(payload).map_err(|e| {
            locate(Error::corrupt("the record of an owner cannot be read").with("file", &path).caused_by(e))
        })?;
        Ok(Some((slot, owner.job)))
    }

    /// The job of the newest checkpoint that can be read.
    async fn named_by_checkpoint(&self) -> Result<Option<String>> {
        for completed in self.history().await?.completed.iter().rev() {
            match self.read_stored(completed).await {
                Ok(stored) => return Ok(Some(stored.manifest.job)),
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
