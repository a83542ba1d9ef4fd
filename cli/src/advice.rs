//! Advice that the author of a job file can follow, in place of that to the author of a program.

use strandline_state_api::schema::{Fate, Planned, RestorePlan};
use strandline_state_api::{Error, ErrorKind, Result};

/// The text of an error, with how the command line does what it advises.
pub(crate) fn with_help(error: &Error) -> String {
    match help(error) {
        Some(help) => format!("error: {error}\n{help}"),
        None => format!("error: {error}"),
    }
}

/// How the command line does what an error advises.
pub(crate) fn help(error: &Error) -> Option<String> {
    let job = error.context("its job")?;
    Some(format!("help: `--adopt {job}` takes over what belongs to that job"))
}

/// The plan without advice for the author of a program.
pub(crate) fn of_job_file(mut plan: RestorePlan) -> RestorePlan {
    for line in &mut plan.lines {
        if let Fate::Refused(refusal) = &mut line.fate {
            refusal.advice.clear();
        }
    }
    plan
}

/// Checks whether a job file can go on with a checkpoint.
///
/// # Errors
/// As [`RestorePlan::check`], with what to do about it in a job file.
pub(crate) fn check_restore(plan: &RestorePlan) -> Result<()> {
    for Planned { operator, fate, .. } in &plan.lines {
        let error = match fate {
            Fate::Refused(refusal) => {
                let message = format!(
                    "the state of `{operator}` in the checkpoint is of another job file, with other \
                     columns, keys \
                     or aggregates: {}; undo the change, or give the step a new `id` and drop its old state with \
                     `--allow-orphan {operator}`, or begin anew with another checkpoint storage and another output \
                     directory",
                    refusal.difference
                );
                Error::new(ErrorKind::Incompatible, message)
            }
            Fate::Orphan => {
                let message = format!(
                    "the checkpoint has state of `{operator}`, which the job file does not have: give its \
                     step the \
                     `id` \"{operator}\" back, or move the state to the step NEW with `--renamed \
                     {operator}=NEW`, or \
                     drop it with `--allow-orphan {operator}`"
                );
                Error::new(ErrorKind::Incompatible, message)
            }
            _ => continue,
        };
        return Err(error.with("operator", operator));
    }
    Ok(())
}
