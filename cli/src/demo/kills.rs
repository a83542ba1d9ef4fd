//! The disturbed runs of the demo: each is killed at a moment that proves something.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use strandline_state_api::{Error, ErrorKind, Result};

use super::child::{Child, End, Kill};
use super::{failed, state, step};
use crate::cli::DemoArgs;

/// The parallelism of each run in turn.
const PARALLELISM: [u32; 4] = [2, 2, 3, 1];

/// The interval of checkpoints in the job file.
const INTERVAL: Duration = Duration::from_millis(100);

/// A run is killed at the latest after so many of its checkpoints and one interval more.
const CHECKPOINTS: u64 = 3;

/// How often the demo begins again, each time with an input that lasts four times as long, before it gives
/// up: a busy machine may take seconds for what takes an idle one a tenth.
const TRIES: u32 = 4;

/// The disturbed runs, summed up.
#[derive(Debug, Default)]
pub(super) struct Disturbed {
    /// Kills after a checkpoint of the run and before the end of the job.
    kills: u32,
    /// Kills within the start of a run.
    early: u32,
    rescales: u32,
    checkpoints: u64,
}

impl fmt::Display for Disturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, early, rescales, checkpoints } = self;
        writeln!(f, "{kills} kills, each after a checkpoint of its run and before the end of the job, and")?;
        write!(f, "{early} while it started; {rescales} changes of parallelism, {checkpoints} checkpoints")
    }
}

/// Runs the job, kills it `args.kills` times in mid-stream, and lets the last run finish. `start_up` is how
/// long the start of the undisturbed run took.
///
/// # Errors
/// If the job ends before its kills in every try, as the demo then proves nothing.
pub(super) fn disturbed(args: &DemoArgs, folder: &Path, start_up: Duration) -> Result<Disturbed> {
    for again in 0..TRIES {
        if again > 0 {
            print_line!(
                "  the job ended before it could be killed; once more, with an input that lasts longer"
            );
            remove_traces(folder)?;
        }
        if let Some(proof) = attempt(args, folder, start_up, 4u32.pow(again))? {
            return Ok(proof);
        }
    }
    let message = format!(
        "in {TRIES} tries the job ended before it could be killed {} times, so nothing is proved: the machine is \
         very busy or the input too short; choose more --records or fewer --kills",
        args.kills
    );
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// Tries once, with an input that lasts `lasting` times as long as an idle machine needs. Returns `None` if
/// the job ended before its last kill.
fn attempt(args: &DemoArgs, folder: &Path, start_up: Duration, lasting: u32) -> Result<Option<Disturbed>> {
    let mut random = fastrand::Rng::with_seed(args.records);
    let mut proof = Disturbed::default();
    let mut before = PARALLELISM[0];
    for run in 0.. {
        let last = proof.kills == args.kills;
        // One kill while a run starts after every other one in mid-stream.
        let early = !last && proof.early < proof.kills / 2;
        let parallelism = PARALLELISM[run % PARALLELISM.len()];
        proof.rescales += u32::from(parallelism != before);
        before = parallelism;
        let slow = format!("source.rate={}", rate(args, parallelism, lasting));
        let overrides: Vec<_> = state(args).into_iter().chain((!last).then_some(slow)).collect();
        let kill = if early {
            Kill::After(start_up.mul_f64(random.f64()))
        } else {
            Kill::AfterCheckpoints(random.u64(1..=CHECKPOINTS), INTERVAL.mul_f64(random.f64()))
        };
        let started = Instant::now();
        let end = Child::start(folder, parallelism, &overrides)?.watch((!last).then_some(kill))?;
        step(&format!("run {}", run + 1), &format!("parallelism {parallelism}{}", describe(&end)), started);
        proof.checkpoints += end.seen().checkpoints;
        match end {
            End::Killed(_) if early => proof.early += 1,
            End::Killed(_) => proof.kills += 1,
            // The kill before this run came too late.
            End::Ended(seen) if seen.already_finished && args.kills > 0 => return Ok(None),
            End::Ended(_) => return Ok(last.then_some(proof)),
        }
    }
    Ok(None)
}

/// Returns how many records per second each reader of a killed run may read, so that the input lasts for
/// twice as many runs.
fn rate(args: &DemoArgs, parallelism: u32, lasting: u32) -> u64 {
    let run = INTERVAL * (CHECKPOINTS as u32 + 1) * lasting;
    let seconds = (run * args.kills.max(1) * 2).as_secs_f64();
    (args.records as f64 / seconds / f64::from(parallelism)) as u64
}

/// Removes what the runs of an earlier try left.
fn remove_traces(folder: &Path) -> Result<()> {
    for name in ["results", "checkpoints", "state"] {
        match fs::remove_dir_all(folder.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(failed("the results of the first try cannot be removed", e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Describes a run for a person.
fn describe(end: &End) -> String {
    let seen = end.seen();
    if seen.already_finished {
        return match seen.from {
            Some(id) => format!(": had finished before, with checkpoint {id}"),
            None => ": had finished before".to_owned(),
        };
    }
    let from = match (seen.started, seen.from) {
        (None, _) => String::new(),
        (Some(_), Some(id)) => format!(", from checkpoint {id}"),
        (Some(_), None) => ", from the beginning".to_owned(),
    };
    let read = HumanCount(seen.read);
    let end = match (end, seen.started, seen.last_checkpoint) {
        (End::Ended(_), ..) => format!("read {read} more orders and finished"),
        (End::Killed(_), None, _) => "killed before it had started".to_owned(),
        (End::Killed(_), _, Some(id)) => format!("killed after {read} orders and checkpoint {id}"),
        (End::Killed(_), _, None) => format!("killed after {read} orders"),
    };
    format!("{from}: {end}")
}

#[cfg(test)]
mod tests {
    use super::super::child::Seen;
    use super::*;

    #[test]
    fn a_run_is_described_as_it_went() {
        let started = Some(Duration::ZERO);
        let run = |seen: Seen| (describe(&End::Killed(seen.clone())), describe(&End::Ended(seen)));
        let early = run(Seen::default()).0;
        assert_eq!(early, ": killed before it had started");
        let (killed, ended) = run(Seen { started, read: 1_000, ..Seen::default() });
        assert_eq!(killed, ", from the beginning: killed after 1,000 orders");
        assert_eq!(ended, ", from the beginning: read 1,000 more orders and finished");
        let resumed = Seen { started, from: Some(3), last_checkpoint: Some(5), read: 7, ..Seen::default() };
        let (killed, ended) = run(resumed);
        assert_eq!(killed, ", from checkpoint 3: killed after 7 orders and checkpoint 5");
        assert_eq!(ended, ", from checkpoint 3: read 7 more orders and finished");
        let finished = Seen { already_finished: true, from: Some(9), ..Seen::default() };
        assert_eq!(run(finished).1, ": had finished before, with checkpoint 9");
    }
}
