//! A storage whose operations fail at random.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use strandline_checkpoint_storage::{BlobStore, ClaimOutcome, ClaimStore, Listed, Storage};
use strandline_state_api::{Error, ErrorKind, Result};

/// How often what fails, in parts of 1,000.
#[derive(Debug, Default)]
pub struct Faults {
    pub puts: AtomicU32,
    /// Before or after they took effect.
    pub claims: AtomicU32,
    /// After they took effect only.
    pub lost_answers: AtomicU32,
    /// Reads of the log.
    pub log_reads: AtomicU32,
    /// Only puts whose path starts so, if set.
    pub only: Mutex<Option<&'static str>>,
    pub injected: AtomicU64,
    /// How many of the next puts hang until their future is dropped.
    pub hanging: AtomicU32,
    hung: (Mutex<u32>, Condvar),
    random: Mutex<fastrand::Rng>,
}

impl Faults {
    /// Waits until this many puts hang or have hung.
    pub fn wait_hung(&self, puts: u32) {
        let hung = self.hung.0.lock().unwrap();
        drop(self.hung.1.wait_while(hung, |hung| *hung < puts).unwrap());
    }

    fn hangs(&self) -> bool {
        let next = |left: u32| left.checked_sub(1);
        let hangs = self.hanging.fetch_update(SeqCst, SeqCst, next).is_ok();
        if hangs {
            *self.hung.0.lock().unwrap() += 1;
            self.hung.1.notify_all();
        }
        hangs
    }

    fn hit(&self, chance: &AtomicU32) -> bool {
        let hit = self.random.lock().unwrap().u32(0..1000) < chance.load(SeqCst);
        if hit {
            self.injected.fetch_add(1, SeqCst);
        }
        hit
    }
}

#[derive(Debug)]
struct Faulty<S: ?Sized> {
    faults: Arc<Faults>,
    inner: Arc<S>,
}

/// `storage` with faults; both reach the same bytes.
pub fn faulty(storage: &Storage, seed: u64) -> (Storage, Arc<Faults>) {
    let faults = Arc::new(Faults { random: Mutex::new(fastrand::Rng::with_seed(seed)), ..Faults::default() });
    let blobs = Faulty { faults: faults.clone(), inner: storage.blobs().clone() };
    let claims = Faulty { faults: faults.clone(), inner: storage.claims().clone() };
    (Storage::from_parts("faulty", Arc::new(blobs), Arc::new(claims)), faults)
}

fn injected() -> Error {
    Error::new(ErrorKind::Unavailable, "injected fault of the store")
}

#[async_trait]
impl BlobStore for Faulty<dyn BlobStore> {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        let meant = self.faults.only.lock().unwrap().is_none_or(|only| path.starts_with(only));
        if meant && self.faults.hit(&self.faults.puts) {
            return Err(injected().with("file", path));
        }
        if meant && self.faults.hangs() {
            std::future::pending::<()>().await;
        }
        self.inner.put(path, bytes).await
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        self.inner.len(path).await
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.inner.read(path, range).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.inner.list(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.inner.delete(path).await
    }
}

#[async_trait]
impl ClaimStore for Faulty<dyn ClaimStore> {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        if self.faults.hit(&self.faults.claims) {
            return Err(injected().with("file", path));
        }
        let outcome = self.inner.claim(path, bytes).await?;
        let lost = self.faults.hit(&self.faults.claims) || self.faults.hit(&self.faults.lost_answers);
        if lost { Err(injected().with("file", path)) } else { Ok(outcome) }
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        if self.faults.hit(&self.faults.log_reads) {
            return Err(injected().with("file", path));
        }
        self.inner.read(path, limit).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.inner.list(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.inner.delete(path).await
    }
}
