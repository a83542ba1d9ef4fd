//! Whose results a directory holds, and how far they were made visible.
//!
//! Two hidden files stand beside the results. `.<prefix>.owner` names the job: another job is refused before
//! it touches anything. `.<prefix>.committing` names the newest checkpoint whose results were about to become
//! visible, and is written just before: a file of it or of an earlier one that is gone was taken by somebody,
//! while one of a later checkpoint was lost.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strandline_runtime::sink::{JobIdentity, Term};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::naming::Naming;
use super::{failed, sync_directory};

/// The content of the file that names the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    job: String,
    /// Where its checkpoints are.
    checkpoints: Option<String>,
}

/// The newest checkpoint whose results were about to become visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Committing {
    pub(super) term: Term,
    pub(super) checkpoint: CheckpointId,
}

/// What the subtasks of a sink share: whose directory it is, and how far its commits are.
#[derive(Debug, Default)]
pub(super) struct Claimed(Mutex<State>, Arc<()>);

#[derive(Debug, Default)]
struct State {
    owner: Option<Owner>,
    committing: Option<Committing>,
}

/// The sinks of this process that have claimed a directory, as long as they are there.
static SINKS: Mutex<Vec<Sink>> = Mutex::new(Vec::new());

struct Sink {
    directory: PathBuf,
    prefix: String,
    job: JobIdentity,
    term: Term,
    alive: Weak<()>,
}

/// The directory and the names in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) directory: &'a Path,
    pub(super) naming: Naming<'a>,
}

impl Owner {
    fn of(job: &JobIdentity) -> Self {
        Self { job: job.name.clone(), checkpoints: job.storage.clone() }
    }

    fn refuse(&self, own: &Self, place: Place<'_>) -> Error {
        let message = "the output directory belongs to another job, or to a copy of this one: choose another \
                       directory, or, if this job is to go on with these results, adopt them by the \
                       name of their job";
        let storage = |of: &Self| of.checkpoints.clone().unwrap_or_else(|| "none".into());
        Error::new(ErrorKind::Incompatible, message)
            .with("directory", place.directory.display())
            .with("its job", &self.job)
            .with("its checkpoints", storage(self))
            .with("this job", &own.job)
            .with("checkpoints", storage(own))
    }
}

impl Place<'_> {
    /// Whether the directory has no owner yet.
    pub(super) fn is_unowned(self) -> Result<bool> {
        Ok(self.read::<Owner>(&self.naming.owner())?.is_none())
    }

    /// Refuses the directory of another job that is not to be adopted.
    pub(super) fn check_owner(self, job: &JobIdentity) -> Result<()> {
        let own = Owner::of(job);
        match self.read::<Owner>(&self.naming.owner())? {
            Some(owner) if owner != own && job.adopts.as_ref() != Some(&owner.job) => {
                Err(owner.refuse(&own, self))
            }
            _ => Ok(()),
        }
    }

    /// How far commits have begun.
    pub(super) fn committing(self) -> Result<Option<Committing>> {
        self.read(&self.naming.committing())
    }

    fn read<T: DeserializeOwned>(self, name: &str) -> Result<Option<T>> {
        let path = self.directory.join(name);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| failed("read", &path, e))?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|e| {
            let message = "a file that records whose results a directory holds cannot be read; remove it if \
                           no job runs that writes there";
            Error::corrupt(message).with("file", path.display()).caused_by(e)
        })
    }

    /// Writes a file of this content under a name that nobody else takes.
    fn stage<T: Serialize>(self, name: &str, content: &T) -> Result<std::path::PathBuf> {
        let path = self.directory.join(name);
        let text = serde_json::to_vec(content)
            .map_err(|e| Error::new(ErrorKind::Internal, "an owner has no JSON").caused_by(e))?;
        File::create(&path)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .map_err(|e| failed("created", &path, e))?;
        Ok(path)
    }

    /// Replaces a file at once.
    fn replace<T: Serialize>(self, term: Term, name: &str, content: &T) -> Result<()> {
        let staged = self.naming.temporary(term, "replacing", std::process::id(), 0);
        let staged = self.stage(&staged, content)?;
        let path = self.directory.join(name);
        fs::rename(&staged, &path).map_err(|e| failed("renamed", &staged, e))?;
        sync_directory(self.directory)
    }

    /// Creates the file of the owner, if there is none.
    fn create_owner(self, term: Term, owner: &Owner) -> Result<()> {
        let staged = self.stage(&self.naming.claim(term), owner)?;
        let linked = fs::hard_link(&staged, self.directory.join(self.naming.owner()));
        fs::remove_file(&staged).map_err(|e| failed("removed", &staged, e))?;
        match linked {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed("linked", &staged, e)),
            _ => sync_directory(self.directory),
        }
    }
}

impl Claimed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses two sinks of one job with the same names in one directory: they would take each other's files
    /// for what an earlier attempt left.
    fn claim_among_sinks(&self, place: Place<'_>, job: &JobIdentity, term: Term) -> Result<()> {
        let directory = place.directory.canonicalize().unwrap_or_else(|_| place.directory.to_owned());
        let mut sinks = SINKS.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|sink| sink.alive.strong_count() > 0 && !sink.alive.ptr_eq(&Arc::downgrade(&self.1)));
        let same = |sink: &&Sink| sink.directory == directory && sink.prefix == place.naming.prefix;
        // Terms order the attempts of one job; without checkpoints there are none.
        if term > Term(0) && sinks.iter().filter(same).any(|sink| sink.term == term && sink.job == *job) {
            let message = "two sinks of the job write files of the same names into one directory: give each a \
                           directory or a prefix of its own";
            return Err(Error::invalid(message)
                .with("directory", place.directory.display())
                .with("prefix", place.naming.prefix));
        }
        let prefix = place.naming.prefix.to_owned();
        let (job, alive) = (job.clone(), Arc::downgrade(&self.1));
        sinks.push(Sink { directory, prefix, job, term, alive });
        Ok(())
    }

    /// Makes the directory that of `job`, unless it is another's. A new job forgets how far commits were.
    pub(super) fn claim(&self, place: Place<'_>, job: &JobIdentity, term: Term, is_new: bool) -> Result<()> {
        let own = Owner::of(job);
        self.claim_among_sinks(place, job, term)?;
        match place.read::<Owner>(&place.naming.owner())? {
            None => place.create_owner(term, &own)?,
            Some(owner) if owner == own => {}
            Some(owner) if job.adopts.as_ref() == Some(&owner.job) => {
                place.replace(term, &place.naming.owner(), &own)?;
            }
            Some(owner) => return Err(owner.refuse(&own, place)),
        }
        // Somebody else may have been faster.
        match place.read::<Owner>(&place.naming.owner())? {
            Some(owner) if owner != own => return Err(owner.refuse(&own, place)),
            _ => {}
        }
        if is_new {
            super::remove(&place.directory.join(place.naming.committing()))?;
        }
        let committing = place.committing()?;
        *self.state() = State { owner: Some(own), committing };
        Ok(())
    }

    /// Ends a job whose directory another one has adopted meanwhile.
    pub(super) fn check(&self, place: Place<'_>) -> Result<()> {
        let Some(own) = self.state().owner.clone() else { return Ok(()) };
        match place.read::<Owner>(&place.naming.owner())? {
            Some(owner) if owner != own => {
                let message = "another job has taken over the output directory";
                Err(Error::new(ErrorKind::Fenced, message)
                    .with("directory", place.directory.display())
                    .with("its job", owner.job)
                    .with("this job", own.job))
            }
            _ => Ok(()),
        }
    }

    /// Records that the results of `checkpoint` are about to become visible; once for all subtasks.
    pub(super) fn begin_commit(&self, place: Place<'_>, term: Term, checkpoint: CheckpointId) -> Result<()> {
        let mut state = self.state();
        // A job without checkpoints never comes back to its files.
        if state.owner.as_ref().is_none_or(|owner| owner.checkpoints.is_none()) {
            return Ok(());
        }
        let committing = Committing { term, checkpoint };
        if state.committing < Some(committing) {
            place.replace(term, &place.naming.committing(), &committing)?;
            state.committing = Some(committing);
        }
        Ok(())
    }
}
