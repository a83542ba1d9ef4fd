//! The faulty store in memory: what processes see of it over a network that loses, delays and repeats.
//!
//! A request that was sent arrives, whatever becomes of its sender: a process that dies meanwhile may have
//! changed the store all the same. What the laws of [`BlobStore`] and [`ClaimStore`] demand is kept: whoever
//! has an answer can rely on it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound::{Excluded, Included};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use strandline_checkpoint_storage::{BlobStore, ClaimOutcome, ClaimStore, Listed, Term};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use crate::baton::Baton;
use crate::direct;
use crate::state::ProcessId;

/// The files of a storage, by path.
pub(crate) type Files = BTreeMap<String, Bytes>;

/// The store itself, which all processes share.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<DiskState>>);

#[derive(Default)]
struct DiskState {
    files: Files,
    /// Which share of the operations is disturbed.
    share: f64,
    disturbed: u64,
    /// The highest checkpoint of each term that was ever in the log. Who claims later may leave it out.
    completed: BTreeMap<Term, CheckpointId>,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is done, and answered.
    Done,
    /// It does not reach the store.
    Lost,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// Its sender gives up; it is done later.
    Late,
    /// It is done, answered, and done once more later.
    Repeated,
    /// Half of what was to be written is there, or half of what was read arrives.
    Torn,
    /// It takes very long.
    Slow,
}

const FATES: [Fate; 6] = [Fate::Lost, Fate::AnswerLost, Fate::Late, Fate::Repeated, Fate::Torn, Fate::Slow];

/// The times of an operation, from when it is sent.
struct Times {
    arrives: Duration,
    answers: Duration,
    /// When what is late or repeated is done.
    again: Duration,
}

impl Times {
    fn draw(random: &mut Rng, fate: Fate) -> Self {
        let micros = |random: &mut Rng, range: Range<u64>| Duration::from_micros(random.u64(range));
        let slow = if fate == Fate::Slow { micros(random, 0..80_000) } else { Duration::ZERO };
        let arrives = micros(random, 10..300) + slow;
        let answers = arrives + micros(random, 10..200);
        Self { arrives, answers, again: answers + micros(random, 0..60_000) }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Disturbs this share of the operations from now on.
    pub(crate) fn disturb(&self, share: f64) {
        self.state().share = share;
    }

    /// How many operations were disturbed so far.
    pub(crate) fn disturbed(&self) -> u64 {
        self.state().disturbed
    }

    /// Looks at the files, or changes them, without any network.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Files) -> T) -> T {
        let (result, is_longer) = {
            let files = &mut self.state().files;
            let end = end_of_log(files);
            (work(files), end_of_log(files) > end)
        };
        if is_longer && let Ok(in_log) = direct::in_log(self) {
            let completed = &mut self.state().completed;
            for (term, checkpoint) in in_log {
                completed.entry(term).and_modify(|of| *of = checkpoint.max(*of)).or_insert(checkpoint);
            }
        }
        result
    }

    /// Whether the log ever had the checkpoint, or a later one of the same term, which includes it.
    pub(crate) fn was_completed(&self, term: Term, checkpoint: CheckpointId) -> bool {
        self.state().completed.get(&term) >= Some(&checkpoint)
    }
}

/// The number of the highest slot.
fn end_of_log(files: &Files) -> Option<u64> {
    let (last, _) = files.range::<str, _>((Included("log/"), Excluded("log0"))).next_back()?;
    last.strip_prefix("log/")?.parse().ok()
}

/// The store as one process reaches it.
pub(crate) struct SimStore {
    pub(crate) disk: Disk,
    pub(crate) baton: Baton,
    pub(crate) process: ProcessId,
}

impl SimStore {
    /// Sends an operation, and awaits its answer.
    async fn send<T: Send + 'static>(
        &self,
        name: &str,
        path: &str,
        work: impl Fn(&mut Files) -> T + Send + Sync + 'static,
        torn: impl FnOnce(&mut Files) + Send + 'static,
    ) -> Result<T> {
        // Other threads run before it is sent, and the process may end here.
        self.baton.timer(Duration::from_micros(1)).await;
        let (fate, times) = self.draw();
        self.baton.note(|| match fate {
            Fate::Done => format!("{name} {path}"),
            fate => format!("{name} {path}: {fate:?}"),
        });
        let (work, answer) = (Arc::new(work), Arc::new(Mutex::new(None)));
        let slot = Arc::clone(&answer);
        let on_disk = |at: Duration, work: Box<dyn FnOnce(&mut Files) + Send>| {
            let disk = self.disk.clone();
            self.baton.later(at, move || disk.with(work));
        };
        let again = Arc::clone(&work);
        match fate {
            Fate::Lost => {}
            Fate::Torn => on_disk(times.arrives, Box::new(torn)),
            Fate::Late => on_disk(times.again, Box::new(move |files| drop(again(files)))),
            Fate::Done | Fate::AnswerLost | Fate::Repeated | Fate::Slow => {
                let first = move |files: &mut Files| {
                    let result = work(files);
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                };
                on_disk(times.arrives, Box::new(first));
                if fate == Fate::Repeated {
                    on_disk(times.again, Box::new(move |files| drop(again(files))));
                }
            }
        }
        self.baton.timer(times.answers).await;
        let answered = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (fate, answered) {
            (Fate::Done | Fate::Repeated | Fate::Slow, Some(answer)) => Ok(answer),
            _ => {
                let message = format!("the store did not answer ({fate:?})");
                Err(Error::new(ErrorKind::Unavailable, message).with("file", path))
            }
        }
    }

    fn draw(&self) -> (Fate, Times) {
        let mut disk = self.disk.state();
        self.baton.random(|random| {
            let disturbed = disk.share > 0.0 && random.f64() < disk.share;
            let fate = if disturbed { FATES[random.usize(..FATES.len())] } else { Fate::Done };
            disk.disturbed += u64::from(disturbed);
            (fate, Times::draw(random, fate))
        })
    }

    /// A list that is made while others change the directory: of what changes meanwhile it shows some.
    async fn list_dir(&self, dir: &str) -> Result<Vec<Listed>> {
        let of_work = dir.to_owned();
        let begun = self.send("list", dir, move |files| list(files, &of_work), |_| {}).await?;
        let mut names = self.disk.with(|files| list(files, dir));
        let is_stale = |baton: &Baton| baton.random(|random| random.bool());
        for (name, len) in &begun {
            if !names.contains_key(name) && is_stale(&self.baton) {
                names.insert(name.clone(), *len);
            }
        }
        names.retain(|name, _| begun.contains_key(name) || !is_stale(&self.baton));
        Ok(names.into_iter().map(|(name, len)| Listed { name, len }).collect())
    }

    async fn remove(&self, path: &str) -> Result<()> {
        let of_work = path.to_owned();
        self.send("delete", path, move |files| drop(files.remove(&of_work)), |_| {}).await
    }
}

/// The files directly in a directory, with their lengths.
pub(crate) fn list(files: &Files, dir: &str) -> BTreeMap<String, u64> {
    let prefix = format!("{dir}/");
    let within = files.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
    let names = within.filter_map(|(path, bytes)| {
        let name = path.strip_prefix(&prefix).filter(|name| !name.contains('/'))?;
        Some((name.to_owned(), bytes.len() as u64))
    });
    names.collect()
}

/// A part of a file, exactly.
pub(crate) fn slice(bytes: &Bytes, range: Range<u64>, path: &str) -> Result<Bytes> {
    if range.end > bytes.len() as u64 || range.start > range.end {
        return Err(Error::corrupt("the file is shorter than it must be").with("file", path));
    }
    Ok(bytes.slice(range.start as usize..range.end as usize))
}

fn half(bytes: &Bytes) -> Bytes {
    bytes.slice(..bytes.len() / 2)
}

pub(crate) fn missing(path: &str) -> Error {
    Error::new(ErrorKind::NotFound, "the file does not exist").with("file", path)
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

#[async_trait]
impl BlobStore for SimStore {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        let (name, half_of) = ((path.to_owned(), path.to_owned()), half(&bytes));
        let work = move |files: &mut Files| drop(files.insert(name.0.clone(), bytes.clone()));
        let torn = move |files: &mut Files| {
            files.entry(name.1).or_insert(half_of);
        };
        self.send("put", path, work, torn).await
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        let of_work = path.to_owned();
        let work = move |files: &mut Files| files.get(&of_work).map(|bytes| bytes.len() as u64);
        self.send("len", path, work, |_| {}).await
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let of_work = path.to_owned();
        let work = move |files: &mut Files| files.get(&of_work).cloned();
        let bytes = self.send("read", path, work, |_| {}).await?.ok_or_else(|| missing(path))?;
        slice(&bytes, range, path)
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.list_dir(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.remove(path).await
    }
}

#[async_trait]
impl ClaimStore for SimStore {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        self.baton.claims(self.process);
        let (name, half_of) = ((path.to_owned(), path.to_owned()), half(&bytes));
        let work = move |files: &mut Files| match files.get(&name.0) {
            Some(_) => ClaimOutcome::Exists,
            None => {
                files.insert(name.0.clone(), bytes.clone());
                ClaimOutcome::Created
            }
        };
        // A slot is created whole or not at all.
        let torn = move |_: &mut Files| drop((name.1, half_of));
        self.send("claim", path, work, torn).await
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        let of_work = path.to_owned();
        let work = move |files: &mut Files| files.get(&of_work).cloned();
        let found = self.send("read", path, work, |_| {}).await?;
        match found {
            Some(bytes) if bytes.len() as u64 > limit => {
                Err(Error::corrupt(format!("more than {limit} bytes")).with("file", path))
            }
            found => Ok(found),
        }
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.list_dir(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.remove(path).await
    }
}
