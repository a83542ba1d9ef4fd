//! Brings the output directory to where an attempt starts from, and clears it of what is dead.
//!
//! Files that the first version wrote have no term in their names. They are older than every file that has
//! one, so they count as those of the lowest term: but not by what a checkpoint shows that the first version
//! itself may have completed, as its own files look the same.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use strandline_runtime::sink::{DeadOutputs, JobIdentity, SinkRecovery, Term};
use strandline_state_api::{Error, Result};

use super::committable::PendingFile;
use super::naming::{Name, Naming};
use super::owner::{Claimed, Committing, Place};
use super::{failed, remove, sync_directory};

pub(super) fn recover(
    directory: &Path,
    naming: Naming<'_>,
    claimed: &Claimed,
    recovery: &SinkRecovery<'_, PendingFile>,
) -> Result<()> {
    let SinkRecovery { job, term, checkpoint, committables: files, dead } = *recovery;
    let place = Place { directory, naming };
    super::directory::create(directory).map_err(|e| failed("created", directory, e))?;
    // Everything is checked before anything is removed, renamed or claimed.
    place.check_owner(job)?;
    let found = list(directory, naming)?;
    if checkpoint.is_none() {
        check_empty(place, &found)?;
    }
    check_terms(directory, term, &found)?;
    files.iter().try_for_each(|file| file.check(naming))?;
    let taken = taken(place, files)?;
    claimed.claim(place, job, term, checkpoint.is_none())?;

    let named =
        || files.iter().map(|file| naming.parse(&file.name)).chain(found.iter().map(|(_, name)| *name));
    let has_terms = dead.shown().is_some_and(|shown| named().any(|name| term_of(name) == Some(shown)));
    sweep(directory, naming, dead, has_terms)?;
    // Of this very term, before any of its tasks runs: from another storage, which is gone.
    for (path, name) in &found {
        if *name == Name::Temporary(Some(term)) {
            remove(path)?;
        }
    }
    if let Some(checkpoint) = checkpoint.filter(|_| !files.is_empty()) {
        claimed.begin_commit(place, term, checkpoint)?;
    }
    for file in files {
        match taken.contains(&file.name.as_str()) {
            false => file.commit(directory)?,
            true => {
                tracing::warn!(
                    file = %directory.join(&file.name).display(),
                    records = file.records,
                    "a finished file is gone: somebody took it"
                );
            }
        }
    }

    let passed_over = |(_, name): &(PathBuf, Name)| match *name {
        Name::Visible(None, of) => checkpoint.is_some_and(|restored| of > restored),
        _ => false,
    };
    if found.iter().any(passed_over) {
        // They go with the first commit; after a crash this file shows the next recovery that its term had
        // names with terms.
        let mark = directory.join(naming.temporary(term, "passed-over", 0, 0));
        File::create(&mark).and_then(|file| file.sync_all()).map_err(|e| failed("created", &mark, e))?;
    }
    sync_directory(directory)
}

/// What [`recover`] would refuse, without a change.
pub(super) fn inspect(directory: &Path, naming: Naming<'_>, job: &JobIdentity, new: bool) -> Result<()> {
    let place = Place { directory, naming };
    super::check_writable(directory).map_err(|e| failed("written", directory, e))?;
    if !directory.exists() {
        return Ok(());
    }
    place.check_owner(job)?;
    if new { check_empty(place, &list(directory, naming)?) } else { Ok(()) }
}

/// The names of the files that were visible once and are gone.
fn taken<'f>(place: Place<'_>, files: &'f [PendingFile]) -> Result<Vec<&'f str>> {
    let committing = place.committing()?;
    let mut taken = Vec::new();
    for file in files {
        if file.is_there(place.directory)? {
            continue;
        }
        let term = term_of(place.naming.parse(&file.name)).unwrap_or(Term(0));
        if committing < Some(Committing { term, checkpoint: file.checkpoint }) {
            return Err(file.lost(place.directory));
        }
        taken.push(file.name.as_str());
    }
    Ok(taken)
}

/// Removes what is dead. `has_terms` is whether the term that `dead` goes by writes names with terms, so that
/// names without one are of lower terms.
pub(super) fn sweep(directory: &Path, naming: Naming<'_>, dead: &DeadOutputs, has_terms: bool) -> Result<()> {
    let older = has_terms && dead.shown().is_some();
    let is_temporary_dead = |name| match name {
        Name::Temporary(Some(term)) => dead.is_pre_committed_dead(term),
        Name::Temporary(None) => older || dead.is_all_pre_committed_dead(),
        _ => false,
    };
    let is_visible_dead = |name| match name {
        Name::Visible(Some(term), checkpoint) => dead.is_committed_dead(term, checkpoint),
        Name::Visible(None, checkpoint) => older && dead.is_committed_dead(Term(0), checkpoint),
        _ => false,
    };
    // A stale process may rename a file meanwhile. After the first round none is left to be renamed, so the
    // second one finds it.
    let mut removed = false;
    for is_dead in [&is_temporary_dead as &dyn Fn(Name) -> bool, &is_visible_dead] {
        for (path, name) in list(directory, naming)? {
            if is_dead(name) {
                remove(&path)?;
                removed = true;
            }
        }
    }
    if removed { sync_directory(directory) } else { Ok(()) }
}

fn term_of(name: Name) -> Option<Term> {
    match name {
        Name::Temporary(term) | Name::Visible(term, _) => term,
        Name::Foreign => None,
    }
}

fn list(directory: &Path, naming: Naming<'_>) -> Result<Vec<(PathBuf, Name)>> {
    let entries = fs::read_dir(directory).map_err(|e| failed("listed", directory, e))?;
    let parse = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.map_err(|e| failed("listed", directory, e))?;
        let name = naming.parse(&entry.file_name().to_string_lossy());
        Ok((entry.path(), name))
    };
    entries.map(parse).collect()
}

/// A new job wants no results there. What no sink wrote does no harm.
fn check_empty(place: Place<'_>, found: &[(PathBuf, Name)]) -> Result<()> {
    // Without an owner they may be of a job that runs.
    let unowned = place.is_unowned()?;
    let is_in_the_way = |(path, name): &&(PathBuf, Name)| {
        let text = path.file_name().and_then(|name| name.to_str());
        match name {
            // Whoever claimed it first may have died on the way.
            Name::Temporary(_) => unowned && !text.is_some_and(|name| place.naming.is_claim(name)),
            Name::Visible(..) => true,
            Name::Foreign => text.is_some_and(|name| place.naming.is_result(name)),
        }
    };
    let others = found.iter().filter(is_in_the_way);
    let mut others: Vec<_> = others.filter_map(|(path, _)| path.file_name()).collect();
    others.sort_unstable();
    let Some(first) = others.first() else { return Ok(()) };
    let message = "the output directory of a new job has results of another run: move them away, choose \
                   another directory, or, where there are checkpoints, resume from that of these results";
    Err(Error::invalid(message)
        .with("directory", place.directory.display())
        .with("files", others.len())
        .with("first", first.display()))
}

/// Files of this term or a higher one are there before the first task of the attempt runs: it was overtaken,
/// or the log of the job is another one than when they were written.
fn check_terms(directory: &Path, own: Term, found: &[(PathBuf, Name)]) -> Result<()> {
    let is_newer = |name: Name| match name {
        Name::Temporary(Some(term)) => term > own,
        Name::Visible(Some(term), _) => term >= own,
        _ => false,
    };
    let Some((path, name)) = found.iter().find(|(_, name)| is_newer(*name)) else { return Ok(()) };
    let message = "the output has files of a newer attempt than this one: another process has taken over, or \
                   the checkpoint storage was replaced by another or older one; in that case move these files \
                   away, or choose another directory";
    Err(Error::invalid(message)
        .with("directory", directory.display())
        .with("file", path.display())
        .with("its term", term_of(*name).map_or(0, |term| term.0))
        .with("term", own))
}
