//! A store in memory with one flaw: to see that the suite can fail.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use strandline_checkpoint_storage::{BlobStore, ClaimOutcome, ClaimStore, Listed, Storage};
use strandline_state_api::{Error, ErrorKind, Result};
use tokio::sync::Notify;

/// How long a flaw waits for somebody to notice it.
const PATIENCE: Duration = Duration::from_millis(20);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// The slot is looked up, and created later: two calls may both report that they created it.
    CheckThenCreate,
    /// A claim replaces what is there.
    ClaimReplaces,
    /// A slot shows empty before it is written.
    SlotShowsEmpty,
    /// An object shows in halves.
    ObjectShowsHalf,
    /// A read beyond the end gives what there is.
    ShortReads,
    /// A list does not hold the newest object.
    StaleLists,
    /// What is deleted stays.
    NothingIsDeleted,
    /// A list of one directory holds all.
    ListsEverything,
}

type Files = Arc<Mutex<BTreeMap<String, Bytes>>>;

#[derive(Clone, Debug)]
pub struct Flawed {
    files: Files,
    flaw: Flaw,
    /// Told when somebody has looked for a file.
    looked: Arc<Notify>,
}

impl Flawed {
    pub fn storage(flaw: Flaw) -> Storage {
        let store = Arc::new(Self { files: Files::default(), flaw, looked: Arc::default() });
        Storage::from_parts("flawed://", Arc::clone(&store) as _, store)
    }

    fn get(&self, path: &str) -> Option<Bytes> {
        let found = self.files.lock().unwrap().get(path).cloned();
        self.looked.notify_waiters();
        found
    }

    /// Until somebody else has looked, so that a race is lost and not only may be; or for a while, if nobody
    /// does.
    async fn let_others_in(&self) {
        let _ = tokio::time::timeout(PATIENCE, self.looked.notified()).await;
    }

    fn set(&self, path: &str, bytes: Bytes) -> bool {
        self.files.lock().unwrap().insert(path.to_owned(), bytes).is_some()
    }

    fn list_dir(&self, dir: &str) -> Vec<Listed> {
        let files = self.files.lock().unwrap();
        let mut listed = Vec::new();
        for (path, bytes) in files.iter() {
            if let Some((of, name)) = path.split_once('/')
                && (of == dir || self.flaw == Flaw::ListsEverything)
            {
                listed.push(Listed { name: name.to_owned(), len: bytes.len() as u64 });
            }
        }
        if self.flaw == Flaw::StaleLists {
            listed.pop();
        }
        listed
    }

    fn remove(&self, path: &str) {
        if self.flaw != Flaw::NothingIsDeleted {
            self.files.lock().unwrap().remove(path);
        }
    }
}

#[async_trait]
impl BlobStore for Flawed {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        if self.flaw == Flaw::ObjectShowsHalf {
            self.set(path, bytes.slice(..bytes.len() / 2));
            self.let_others_in().await;
        }
        self.set(path, bytes);
        Ok(())
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        Ok(self.get(path).map(|bytes| bytes.len() as u64))
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.get(path);
        let bytes =
            bytes.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such object").with("file", path))?;
        let len = bytes.len() as u64;
        if range.end > len && self.flaw != Flaw::ShortReads {
            return Err(Error::corrupt("the object ends before the range").with("file", path));
        }
        Ok(bytes.slice(range.start.min(len) as usize..range.end.min(len) as usize))
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        Ok(self.list_dir(dir))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.remove(path);
        Ok(())
    }
}

#[async_trait]
impl ClaimStore for Flawed {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        match self.flaw {
            Flaw::ClaimReplaces => {
                self.set(path, bytes);
                return Ok(ClaimOutcome::Created);
            }
            Flaw::CheckThenCreate | Flaw::SlotShowsEmpty => {
                if self.get(path).is_some() {
                    return Ok(ClaimOutcome::Exists);
                }
                if self.flaw == Flaw::SlotShowsEmpty {
                    self.set(path, Bytes::new());
                }
                self.let_others_in().await;
                self.set(path, bytes);
                return Ok(ClaimOutcome::Created);
            }
            _ => {}
        }
        let mut files = self.files.lock().unwrap();
        if files.contains_key(path) {
            return Ok(ClaimOutcome::Exists);
        }
        files.insert(path.to_owned(), bytes);
        Ok(ClaimOutcome::Created)
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        match self.get(path) {
            Some(bytes) if bytes.len() as u64 > limit => {
                Err(Error::corrupt("the slot is too long").with("file", path))
            }
            found => Ok(found),
        }
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        Ok(self.list_dir(dir))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.remove(path);
        Ok(())
    }
}
