//! Savepoints whose slots the log has no more, and their removal.
//!
//! An entry whose floor lies above the slot of a savepoint names a list, an immutable file, in which that one
//! stands with all others. The list is written anew when another savepoint passes below the floor, and most
//! entries name the list of the entry before. So savepoints cost an entry nothing, and what counts is decided
//! where everything is: by the entry that won its slot. What a coordinator wrote that lost is garbage.
//!
//! Who removes a savepoint need not be that coordinator. A *mark* takes the savepoint out of every reading of
//! the log from then on; the next list that is written leaves it out; and once no entry and no list names it,
//! nobody ever will, and a sweep takes the mark.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::record::{CompletedCheckpoint, ListRef};
use crate::envelope::Envelope;
use crate::name::{FileKind, REMOVED_DIR, parse_removed, removed_name};
use crate::verify::{is_verdict, unknown};
use crate::{Storage, Term};

const LIST: Envelope =
    Envelope { what: "list of savepoints", magic: *b"STRLSAVE", version: 1, limit: 256 * 1024 * 1024 };

/// Savepoints, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavepointList {
    pub(crate) savepoints: Vec<CompletedCheckpoint>,
    /// The list before, where it could not be read when this one was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unread: Option<ListRef>,
}

/// What lists hold, as far as they can be read.
#[derive(Debug, Default)]
pub(crate) struct ReadLists {
    pub(crate) savepoints: BTreeMap<CheckpointId, CompletedCheckpoint>,
    pub(crate) read: BTreeSet<ListRef>,
    pub(crate) unreadable: Vec<(ListRef, Error)>,
}

impl ReadLists {
    /// Adds what `list` holds, and the lists that were unreadable when it was written.
    pub(crate) async fn add(&mut self, storage: &Storage, list: &ListRef) -> Result<()> {
        let mut next = Some(list.clone());
        while let Some(list) = next.take().filter(|list| !self.read.contains(list)) {
            match storage.read_savepoints(&list).await {
                Ok(SavepointList { savepoints, unread }) => {
                    self.savepoints.extend(savepoints.into_iter().map(|known| (known.checkpoint, known)));
                    next = unread;
                }
                Err(e) if is_verdict(&e) => self.unreadable.push((list.clone(), e)),
                Err(e) => return Err(e),
            }
            self.read.insert(list);
        }
        Ok(())
    }
}

/// The savepoints below the floor, as a coordinator knows them.
#[derive(Debug, Default)]
pub(super) struct Savepoints {
    /// The slot of the entry that names the list, and the list.
    named: Option<(u64, Option<ListRef>)>,
    /// What it holds but for what was removed; empty until it is loaded.
    pub(super) listed: ReadLists,
    removed: Removed,
}

impl Savepoints {
    /// Takes in the list that the entry of `slot` names, unless a later entry is known.
    pub(super) fn note(&mut self, slot: u64, list: Option<&ListRef>) {
        if self.named.as_ref().is_none_or(|(known, _)| *known <= slot) {
            self.named = Some((slot, list.cloned()));
        }
    }

    fn list(&self) -> Option<&ListRef> {
        self.named.as_ref().and_then(|(_, list)| list.as_ref())
    }

    /// Reads the list, unless it is read.
    ///
    /// # Errors
    /// When the store fails; a list that is damaged is no error.
    pub(super) async fn load(&mut self, storage: &Storage) -> Result<()> {
        let Some(list) = self.list().filter(|list| !self.listed.read.contains(list)).cloned() else {
            return Ok(());
        };
        self.removed = storage.removed().await?;
        let mut listed = ReadLists::default();
        listed.add(storage, &list).await?;
        listed.savepoints.retain(|_, known| !self.removed.contains(&known.identity()));
        self.listed = listed;
        Ok(())
    }

    /// Whether a savepoint below the floor is in the list that was read last, or was removed.
    pub(super) fn knows(&self, known: &CompletedCheckpoint) -> bool {
        self.listed.savepoints.contains_key(&known.checkpoint) || self.removed.contains(&known.identity())
    }

    /// The list that an entry names, below whose floor the slots of `passed` lie. Written anew where one of
    /// these is not in the list before.
    pub(super) async fn pin(
        &mut self,
        storage: &Storage,
        term: Term,
        checkpoint: Option<CheckpointId>,
        passed: Vec<CompletedCheckpoint>,
    ) -> Result<Option<ListRef>> {
        if !passed.is_empty() {
            self.load(storage).await?;
        }
        let mut new: Vec<_> = passed.into_iter().filter(|known| !self.knows(known)).collect();
        if !new.is_empty() {
            self.removed = storage.removed().await?;
            new.retain(|known| !self.knows(known));
        }
        if new.is_empty() {
            return Ok(self.list().cloned());
        }
        let mut savepoints = self.listed.savepoints.clone();
        savepoints.retain(|_, known| !self.removed.contains(&known.identity()));
        savepoints.extend(new.into_iter().map(|known| (known.checkpoint, known)));
        let savepoints = savepoints.into_values().collect();
        let unread = self.listed.unreadable.first().map(|(list, _)| list.clone());
        storage.write_savepoints(term, checkpoint, &SavepointList { savepoints, unread }).await.map(Some)
    }
}

/// The savepoints that were removed and may be named still: by term and number.
pub(crate) type Removed = BTreeSet<(Term, CheckpointId)>;

impl Storage {
    /// Writes a list, for an entry of `term`, of `checkpoint` if it is one of a checkpoint.
    pub(super) async fn write_savepoints(
        &self,
        term: Term,
        checkpoint: Option<CheckpointId>,
        list: &SavepointList,
    ) -> Result<ListRef> {
        let json = serde_json::to_vec(list)
            .map_err(|e| Error::invalid("the list of savepoints cannot be written as JSON").caused_by(e))?;
        let bytes = LIST.seal(&json)?;
        let len = bytes.len() as u64;
        let checkpoint = checkpoint.unwrap_or(CheckpointId(0));
        let name = self.put(FileKind::Savepoints, term, checkpoint, bytes).await?;
        Ok(ListRef { name: name.to_string(), len })
    }

    async fn read_savepoints(&self, list: &ListRef) -> Result<SavepointList> {
        let name = list.file_name()?;
        let path = name.path();
        if list.len > LIST.limit {
            let message = format!("{} bytes are too many for a list of savepoints", list.len);
            return Err(Error::corrupt(message).with("file", path));
        }
        self.check_len(&name, list.len).await?;
        let bytes = self.read_whole(&name, list.len).await?;
        let list = serde_json::from_slice(LIST.open(&bytes, &path)?);
        list.map_err(|e| Error::corrupt("this is no list of savepoints").with("file", path).caused_by(e))
    }

    /// The marks of removed savepoints.
    pub(crate) async fn removed(&self) -> Result<Removed> {
        let marks = self.blobs().list(REMOVED_DIR).await?;
        Ok(marks.iter().filter_map(|file| parse_removed(&file.name)).collect())
    }

    /// Removes a savepoint: from now on nothing starts from it, and the next [sweep](Self::sweep) deletes its
    /// files, unless an attempt that has no checkpoint of its own yet may have started from it. Works beside
    /// a running job, and changes nothing where the savepoint is removed already.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the log names no such checkpoint; [`ErrorKind::Invalid`] when it is no
    /// savepoint, or the newest checkpoint, from which a job would resume; else when the store fails.
    pub async fn remove_savepoint(&self, checkpoint: CheckpointId) -> Result<CompletedCheckpoint> {
        let history = self.history().await?;
        if let Some(removed) = history.removed.iter().find(|removed| removed.checkpoint == checkpoint) {
            return Ok(removed.clone());
        }
        let found = history.find(checkpoint).ok_or_else(|| unknown(checkpoint, self))?;
        let refuse = |why: &str| {
            Err(Error::new(ErrorKind::Invalid, why)
                .with("checkpoint", checkpoint)
                .with("storage", self.uri()))
        };
        if !found.is_savepoint() {
            return refuse("only savepoints are removed; other checkpoints go when newer ones complete");
        }
        if history.latest().is_some_and(|latest| latest.checkpoint == checkpoint) {
            return refuse(
                "this savepoint is the newest checkpoint, from which the job would resume: let it complete another \
                 one first",
            );
        }
        let mark = format!("{REMOVED_DIR}/{}", removed_name(found.term, checkpoint));
        self.blobs().put(&mark, Bytes::new()).await?;
        Ok(found.clone())
    }
}
