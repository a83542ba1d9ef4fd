//! Whose results a directory holds, and how far they were made visible.
//!
//! Two hidden files stand beside the results. `.<prefix>.owner` names the job: another job is refused before
//! it touches anything. `.<prefix>.committing` names the newest checkpoint whose results were about to become
//! visible, and is written just before: a file of it or of an earlier one that is gone was taken by somebody,
//! while one of a later checkpoint was lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strandline_runtime::sink::{JobIdentity, SinkRecovery, Term};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::naming::Naming;
use super::output::Output;

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
    /// The lowest number that a checkpoint of the attempt can have.
    next: Option<CheckpointId>,
}

/// The sinks of this process that have claimed a directory, as long as they are there.
static SINKS: Mutex<Vec<Sink>> = Mutex::new(Vec::new());

struct Sink {
    directory: String,
    prefix: String,
    job: JobIdentity,
    term: Term,
    alive: Weak<()>,
}

/// Stands where an attempt does in the name of a record that is staged. No attempt is called so.
const REPLACING: &str = "replacing";

/// The directory and the names in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) output: &'a dyn Output,
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
            .with("directory", place.output.locate(""))
            .with("its job", &self.job)
            .with("its checkpoints", storage(self))
            .with("this job", &own.job)
            .with("checkpoints", storage(own))
    }
}

impl Place<'_> {
    /// Whether the directory has no owner yet.
    pub(super) fn is_unowned(self) -> Result<bool> {
        Ok(self.owner()?.is_none())
    }

    /// Refuses the directory of another job that is not to be adopted.
    pub(super) fn check_owner(self, job: &JobIdentity) -> Result<()> {
        let own = Owner::of(job);
        match self.owner()? {
            Some(owner) if owner != own && job.adopts.as_ref() != Some(&owner.job) => {
                Err(owner.refuse(&own, self))
            }
            _ => Ok(()),
        }
    }

    /// How far commits have begun.
    pub(super) fn committing(self) -> Result<Option<Committing>> {
        let name = self.naming.committing();
        self.parsed(&name, self.output.read_newest(&name)?)
    }

    fn owner(self) -> Result<Option<Owner>> {
        let name = self.naming.owner();
        self.parsed(&name, self.output.read(&name)?)
    }

    fn parsed<T: DeserializeOwned>(self, name: &str, text: Option<Vec<u8>>) -> Result<Option<T>> {
        let Some(text) = text else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|e| {
            let message = "a file that records whose results a directory holds cannot be read; remove it if \
                           no job runs that writes there";
            Error::corrupt(message).with("file", self.output.locate(name)).caused_by(e)
        })
    }

    fn replace_owner(self, term: Term, owner: &Owner) -> Result<()> {
        let staged = self.naming.temporary(term, REPLACING, std::process::id(), 0);
        self.output.replace_record(&self.naming.owner(), &staged, &to_json(owner)?)
    }

    fn record_commit(self, term: Term, committing: &Committing) -> Result<()> {
        let staged = self.naming.temporary(term, REPLACING, std::process::id(), 0);
        let version = [committing.term.0, committing.checkpoint.0];
        self.output.supersede(&self.naming.committing(), version, &staged, &to_json(committing)?)
    }

    /// Creates the record of the owner, if there is none.
    fn create_owner(self, term: Term, owner: &Owner) -> Result<()> {
        self.output.create_record(&self.naming.owner(), &self.naming.claim(term), &to_json(owner)?)
    }
}

fn to_json<T: Serialize>(content: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(content)
        .map_err(|e| Error::new(ErrorKind::Internal, "a record of the output has no JSON").caused_by(e))
}

impl Claimed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses two sinks of one job with the same names in one directory: they would take each other's files
    /// for what an earlier attempt left.
    fn claim_among_sinks(&self, place: Place<'_>, job: &JobIdentity, term: Term) -> Result<()> {
        let directory = place.output.identity();
        let mut sinks = SINKS.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|sink| sink.alive.strong_count() > 0 && !sink.alive.ptr_eq(&Arc::downgrade(&self.1)));
        let same = |sink: &&Sink| sink.directory == directory && sink.prefix == place.naming.prefix;
        // Terms order the attempts of one job; without checkpoints there are none.
        if term > Term(0) && sinks.iter().filter(same).any(|sink| sink.term == term && sink.job == *job) {
            let message = "two sinks of the job write files of the same names into one directory: give each a \
                           directory or a prefix of its own";
            return Err(Error::invalid(message)
                .with("directory", place.output.locate(""))
                .with("prefix", place.naming.prefix));
        }
        let prefix = place.naming.prefix.to_owned();
        let (job, alive) = (job.clone(), Arc::downgrade(&self.1));
        sinks.push(Sink { directory, prefix, job, term, alive });
        Ok(())
    }

    /// Makes the directory that of the job, unless it is another's. A job that restores nothing is new, and
    /// forgets how far commits were.
    pub(super) fn claim<C>(&self, place: Place<'_>, recovery: &SinkRecovery<'_, C>) -> Result<()> {
        let SinkRecovery { job, term, checkpoint, next_checkpoint: next, .. } = *recovery;
        let own = Owner::of(job);
        self.claim_among_sinks(place, job, term)?;
        match place.owner()? {
            None => place.create_owner(term, &own)?,
            Some(owner) if owner == own => {}
            Some(owner) if job.adopts.as_ref() == Some(&owner.job) => {
                place.replace_owner(term, &own)?;
            }
            Some(owner) => return Err(owner.refuse(&own, place)),
        }
        // Somebody else may have been faster.
        match place.owner()? {
            Some(owner) if owner != own => return Err(owner.refuse(&own, place)),
            _ => {}
        }
        if checkpoint.is_none() {
            place.output.remove_versions(&place.naming.committing())?;
        }
        let committing = place.committing()?;
        *self.state() = State { owner: Some(own), committing, next: Some(next) };
        Ok(())
    }

    /// The lowest number that a checkpoint of the attempt can have.
    pub(super) fn next_checkpoint(&self) -> CheckpointId {
        self.state().next.unwrap_or(CheckpointId(1))
    }

    /// Ends a job whose directory another one has adopted meanwhile.
    pub(super) fn check(&self, place: Place<'_>) -> Result<()> {
        let Some(own) = self.state().owner.clone() else { return Ok(()) };
        match place.owner()? {
            Some(owner) if owner != own => {
                let message = "another job has taken over the output directory";
                Err(Error::new(ErrorKind::Fenced, message)
                    .with("directory", place.output.locate(""))
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
            place.record_commit(term, &committing)?;
            state.committing = Some(committing);
        }
        Ok(())
    }
}
