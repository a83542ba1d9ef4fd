//! Brings the output directory to where an attempt starts from, and clears it of what is dead.
//!
//! Files that the first version wrote have no term in their names. They are older than every file that has
//! one, so they count as those of the lowest term: but not by what a checkpoint shows that the first version
//! itself may have completed, as its own files look the same.

use strandline_runtime::sink::{DeadOutputs, JobIdentity, SinkRecovery, Term};
use strandline_state_api::{Error, ErrorKind, Result};

use super::committable::PendingFile;
use super::naming::{Name, Naming};
use super::output::Output;
use super::owner::{Claimed, Committing, Place};

pub(super) fn recover(
    output: &dyn Output,
    naming: Naming<'_>,
    claimed: &Claimed,
    recovery: &SinkRecovery<'_, PendingFile>,
) -> Result<()> {
    let SinkRecovery { job, term, checkpoint, committables: files, dead, .. } = *recovery;
    let place = Place { output, naming };
    output.create()?;
    // Everything is checked before anything is removed, renamed or claimed.
    place.check_owner(job)?;
    let found = list(output, naming)?;
    if checkpoint.is_none() {
        check_empty(place, &found)?;
    }
    check_terms(output, term, &found)?;
    files.iter().try_for_each(|file| file.check(output, naming))?;
    let begun = place.committing()?;
    let may_be_taken = |file: &PendingFile| {
        let term = term_of(naming.parse(&file.name)).unwrap_or(Term(0));
        begun >= Some(Committing { term, checkpoint: file.checkpoint })
    };
    for file in files {
        if !file.is_there(output)? && !may_be_taken(file) {
            return Err(file.lost(output));
        }
    }
    claimed.claim(place, recovery)?;

    let named =
        || files.iter().map(|file| naming.parse(&file.name)).chain(found.iter().map(|(_, name)| *name));
    let has_terms = dead.shown().is_some_and(|shown| named().any(|name| term_of(name) == Some(shown)));
    sweep(output, naming, dead, has_terms)?;
    // Of this very term, before any of its tasks runs: from another storage, which is gone.
    for (file, name) in &found {
        if *name == Name::Temporary(Some(term)) {
            output.discard(file)?;
        }
    }
    if let Some(checkpoint) = checkpoint.filter(|_| !files.is_empty()) {
        claimed.begin_commit(place, term, checkpoint)?;
    }
    for file in files {
        match file.commit(output) {
            Err(e) if e.kind() == ErrorKind::NotFound && may_be_taken(file) => {
                tracing::warn!(
                    file = output.locate(&file.name),
                    records = file.records,
                    "a finished file is gone: somebody took it"
                );
            }
            committed => committed?,
        }
    }

    // What still waits is of the term of the restored checkpoint, mostly nothing.
    for (file, name) in list(output, naming)? {
        if matches!(name, Name::Temporary(_)) {
            output.forget(&file)?;
        }
    }

    let passed_over = |(_, name): &(String, Name)| match *name {
        Name::Visible(None, of) => checkpoint.is_some_and(|restored| of > restored),
        _ => false,
    };
    if found.iter().any(passed_over) {
        // They go with the first commit; after a crash this file shows the next recovery that its term had
        // names with terms.
        output.replace_record(&naming.temporary(term, "passed-over", 0, 0), &naming.claim(term), b"")?;
    }
    output.sync()
}

/// What [`recover`] would refuse, without a change.
pub(super) fn inspect(output: &dyn Output, naming: Naming<'_>, job: &JobIdentity, new: bool) -> Result<()> {
    if !output.inspect()? {
        return Ok(());
    }
    let place = Place { output, naming };
    place.check_owner(job)?;
    if new { check_empty(place, &list(output, naming)?) } else { Ok(()) }
}

/// Removes what is dead. `has_terms` is whether the term that `dead` goes by writes names with terms, so that
/// names without one are of lower terms.
pub(super) fn sweep(
    output: &dyn Output,
    naming: Naming<'_>,
    dead: &DeadOutputs,
    has_terms: bool,
) -> Result<()> {
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
    // A stale process may commit a file meanwhile. After the first round none is left to be committed, so the
    // second one finds it.
    let mut removed = false;
    for (file, name) in list(output, naming)? {
        if is_temporary_dead(name) {
            output.discard(&file)?;
            removed = true;
        }
    }
    for (file, name) in list(output, naming)? {
        if is_visible_dead(name) {
            output.remove(&file)?;
            removed = true;
        }
    }
    if removed { output.sync() } else { Ok(()) }
}

fn term_of(name: Name) -> Option<Term> {
    match name {
        Name::Temporary(term) | Name::Visible(term, _) => term,
        Name::Foreign => None,
    }
}

fn list(output: &dyn Output, naming: Naming<'_>) -> Result<Vec<(String, Name)>> {
    let parse = |file: String| {
        let name = naming.parse(&file);
        (file, name)
    };
    Ok(output.list()?.into_iter().map(parse).collect())
}

/// A new job wants no results there. What no sink wrote does no harm.
fn check_empty(place: Place<'_>, found: &[(String, Name)]) -> Result<()> {
    // Without an owner they may be of a job that runs.
    let unowned = place.is_unowned()?;
    let is_in_the_way = |(file, name): &&(String, Name)| match name {
        // Whoever claimed it first may have died on the way.
        Name::Temporary(_) => unowned && !place.naming.is_claim(file),
        Name::Visible(..) => true,
        Name::Foreign => place.naming.is_result(file),
    };
    let mut others: Vec<_> = found.iter().filter(is_in_the_way).map(|(file, _)| file).collect();
    others.sort_unstable();
    let Some(first) = others.first() else { return Ok(()) };
    let message = "the output directory of a new job has results of another run: move them away, choose \
                   another directory, or, where there are checkpoints, resume from that of these results";
    Err(Error::invalid(message)
        .with("directory", place.output.locate(""))
        .with("files", others.len())
        .with("first", first))
}

/// Files of this term or a higher one are there before the first task of the attempt runs: it was overtaken,
/// or the log of the job is another one than when they were written.
fn check_terms(output: &dyn Output, own: Term, found: &[(String, Name)]) -> Result<()> {
    let is_newer = |name: Name| match name {
        Name::Temporary(Some(term)) => term > own,
        Name::Visible(Some(term), _) => term >= own,
        _ => false,
    };
    let Some((file, name)) = found.iter().find(|(_, name)| is_newer(*name)) else { return Ok(()) };
    let message = "the output has files of a newer attempt than this one: another process has taken over, or \
                   the checkpoint storage was replaced by another or older one; in that case move these files \
                   away, or choose another directory";
    Err(Error::invalid(message)
        .with("directory", output.locate(""))
        .with("file", output.locate(file))
        .with("its term", term_of(*name).map_or(0, |term| term.0))
        .with("term", own))
}
