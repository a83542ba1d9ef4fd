//! The directory of a factory: databases that live as long as their backends, and local copies that outlive
//! them.
//!
//! ```text
//! instances/<operator>-<subtask>-<process>-<n>.lock   locked as long as the instance lives
//! instances/<operator>-<subtask>-<process>-<n>/       its databases and cuts
//! local/<hash>.sst                                    files of recent checkpoints, named by what they hold
//! ```
//!
//! All of them are private: see [`private`].
//!
//! A process that dies leaves its instances behind, but not their locks: the next process that opens the
//! directory deletes the instances that are not locked.

mod private;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use strandline_state_api::backend::BackendScope;
use strandline_state_api::{Error, ErrorKind, Result};
use xxhash_rust::xxh3::Xxh3;

pub(crate) use self::private::default_directory;
use self::private::{create, make_private};

/// Sets instances apart, also those of several factories in one process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Home {
    base: PathBuf,
    /// The local copies that each living instance may need.
    needed: Mutex<HashMap<u64, HashSet<u128>>>,
}

impl Home {
    /// Opens `base`, or the default where there is none, and deletes the instances of processes that died.
    ///
    /// A `base` that somebody chose may be shared, for example a volume that all containers of a machine
    /// write to; what is made in it is not.
    pub(crate) fn open(base: Option<PathBuf>) -> Result<Self> {
        let base = match base {
            Some(base) if base.is_dir() => base,
            base => {
                let base = base.unwrap_or_else(default_directory);
                make_private(&base)?;
                base
            }
        };
        let home = Self { base, needed: Mutex::default() };
        for directory in [home.instances(), home.local()] {
            make_private(&directory)?;
        }
        home.delete_abandoned()?;
        Ok(home)
    }

    fn instances(&self) -> PathBuf {
        self.base.join("instances")
    }

    fn local(&self) -> PathBuf {
        self.base.join("local")
    }

    fn delete_abandoned(&self) -> Result<()> {
        let instances = self.instances();
        let entries =
            fs::read_dir(&instances).map_err(|e| failed("the directory cannot be read", &instances, e))?;
        for lock in entries.flatten().map(|entry| entry.path()) {
            if lock.extension().is_none_or(|extension| extension != "lock") {
                continue;
            }
            let Ok(file) = File::open(&lock) else { continue };
            match file.try_lock() {
                Ok(()) => {
                    let directory = lock.with_extension("");
                    tracing::info!(directory = %directory.display(), "deleting files of a dead process");
                    remove(&directory);
                    if let Err(error) = fs::remove_file(&lock) {
                        tracing::warn!(path = %lock.display(), %error, "a lock file cannot be deleted");
                    }
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(path = %lock.display(), %error, "a lock file cannot be locked; ignored");
                }
            }
        }
        Ok(())
    }

    /// Makes the directory of a new backend.
    pub(crate) fn instance(self: &Arc<Self>, scope: &BackendScope) -> Result<Instance> {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{}-{}-{number}", scope.operator, scope.subtask, std::process::id());
            let lock = self.instances().join(format!("{name}.lock"));
            let directory = self.instances().join(name);
            let file = match File::create_new(&lock) {
                Ok(file) => file,
                // Of a process elsewhere with the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(failed("the lock file cannot be made", &lock, error)),
            };
            file.try_lock().map_err(|e| failed("the lock file cannot be locked", &lock, e.into()))?;
            let instance = Instance { home: Arc::clone(self), number, directory, lock, _file: file };
            create(&instance.directory)
                .map_err(|e| failed("the directory cannot be made", &instance.directory, e))?;
            return Ok(instance);
        }
    }

    fn copy_path(&self, hash: u128) -> PathBuf {
        self.local().join(format!("{hash:032x}.sst"))
    }

    /// Links the local copy of the file with this hash to `target`; returns whether there is one whose bytes
    /// have the hash.
    pub(crate) fn take_copy(&self, hash: u128, len: u64, target: &Path) -> bool {
        let path = self.copy_path(hash);
        match hash_file(&path) {
            Ok((found, found_len)) if (found, found_len) == (hash, len) => {
                fs::hard_link(&path, target).is_ok()
            }
            Ok(_) => {
                tracing::warn!(path = %path.display(), "a local copy is damaged; the file is downloaded");
                let _ = fs::remove_file(&path);
                false
            }
            Err(_) => false,
        }
    }

    /// Keeps `file` as a local copy.
    pub(crate) fn keep_copy(&self, hash: u128, file: &Path) {
        match fs::hard_link(file, self.copy_path(hash)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "no local copy can be kept");
            }
        }
    }

    /// Notes the copies that `instance` may need after a restart. Unless it is only starting, deletes those
    /// that no instance needs.
    pub(crate) fn need_copies(&self, instance: &Instance, hashes: HashSet<u128>, starting: bool) {
        let mut needed = self.needed.lock().unwrap_or_else(PoisonError::into_inner);
        needed.insert(instance.number, hashes);
        if starting {
            return;
        }
        let all: HashSet<PathBuf> = needed.values().flatten().map(|hash| self.copy_path(*hash)).collect();
        drop(needed);
        for entry in fs::read_dir(self.local()).into_iter().flatten().flatten() {
            if !all.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The directory of one backend; deleted when its last user drops it.
#[derive(Debug)]
pub(crate) struct Instance {
    home: Arc<Home>,
    number: u64,
    directory: PathBuf,
    lock: PathBuf,
    _file: File,
}

impl Instance {
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// A new name in its directory.
    pub(crate) fn path(&self, name: impl std::fmt::Display) -> PathBuf {
        self.directory.join(name.to_string())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.home.needed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        remove(&self.directory);
        let _ = fs::remove_file(&self.lock);
    }
}

/// Deletes a directory where it exists.
pub(crate) fn remove(directory: &Path) {
    match fs::remove_dir_all(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "a directory cannot be deleted");
        }
    }
}

/// The hash and the length of a file.
pub(crate) fn hash_file(path: &Path) -> io::Result<(u128, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 256 << 10];
    let mut len = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hash.digest128(), len)),
            read => {
                hash.update(&buffer[..read]);
                len += read as u64;
            }
        }
    }
}

/// An error of the local file system.
pub(crate) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let advice = if full { "; free space on the disk of the state directory" } else { "" };
    Error::new(ErrorKind::Unavailable, format!("{what}{advice}"))
        .with("path", path.display())
        .caused_by(error)
}
