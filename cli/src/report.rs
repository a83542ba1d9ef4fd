//! The report of a run.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Map, Value, json};
use strandline_runtime::sink::{Figure, Unit};
use strandline_runtime::{CheckpointReport, JobReport, Outcome};
use strandline_state_api::Error;
use strandline_state_api::backend::{Scope, Statistic};
use strandline_state_api::schema::{Planned, RestorePlan};

use crate::plan::Counters;

/// One line for a person.
pub(crate) fn summary(report: &JobReport, counters: &Counters) -> String {
    let how = match report.outcome {
        Outcome::Finished => "finished",
        Outcome::Stopped => "stopped",
        Outcome::Cancelled => "cancelled",
        Outcome::AlreadyFinished => return already_finished(report),
    };
    let newest = report.checkpoints.last().map(|newest| newest.checkpoint).or(report.resumed_from);
    let outcome = match newest {
        _ if report.outcome == Outcome::Finished => how.to_owned(),
        Some(newest) => format!("{how}; run it again to resume from checkpoint {newest}"),
        None => format!("{how}; there is no checkpoint, so a later run starts from the beginning"),
    };
    let read: u64 = report.read.values().sum();
    let rate = (read + report.read_again) as f64 / report.elapsed.as_secs_f64().max(1e-3);
    let rate = HumanCount(rate as u64);
    let mut parts =
        vec![format!("{} read in {} ({rate}/s)", counted(read, "record"), seconds(report.elapsed))];
    if !report.checkpoints.is_empty() {
        let written = report.checkpoints.iter().map(|checkpoint| checkpoint.written_bytes).sum();
        let checkpoints = counted(report.checkpoints.len() as u64, "checkpoint");
        parts.push(format!("{checkpoints} ({})", HumanBytes(written)));
    }
    if report.restarts > 0 {
        let restarts = counted(report.restarts.into(), "restart");
        parts.push(format!("{restarts} ({} read again)", counted(report.read_again, "record")));
    }
    for (group, late) in &report.too_late_by_operator {
        parts.push(format!("{} at {group} {}", counted(*late, "late record"), counters.fate_of_late(group)));
    }
    match report.left_out_by_operator.values().sum() {
        0 => {}
        left_out => parts.push(format!("{} left out that no column holds", counted(left_out, "result"))),
    }
    parts.extend(bad_records(counters));
    for (id, figures) in report.sinks.iter().filter(|(_, figures)| !figures.is_empty()) {
        let figures: Vec<_> = figures.iter().map(Figure::to_string).collect();
        parts.push(format!("{id}: {}", figures.join(" ")));
    }
    let line = format!("{outcome}: {}", parts.join(", "));
    match counters.bad().first {
        Some(first) => format!("{line}\nthe first bad record: {first}"),
        None => line,
    }
}

/// How many records could not be decoded, if any, and what became of them.
pub(crate) fn bad_records(counters: &Counters) -> Option<String> {
    let bad = counters.bad();
    let fate = if bad.kept { "kept as dead letters" } else { "skipped" };
    (bad.count > 0).then(|| format!("{} {fate}", counted(bad.count, "bad record")))
}

fn already_finished(report: &JobReport) -> String {
    let ended = "an earlier run finished this job";
    match report.unread.as_slice() {
        [] => format!("{ended}: nothing to do"),
        unread => {
            let unread = unread.join(", ");
            format!("{ended}, and {unread}; add `follow = true` to its source and run it again to read on")
        }
    }
}

/// A number of things.
pub(crate) fn counted(count: u64, of: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {of}{s}", HumanCount(count))
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The whole report, for programs.
pub(crate) fn json(job: &str, report: &JobReport, counters: &Counters) -> Value {
    let quantiles = report.rate_quantiles(&[0.05, 0.5, 0.95]);
    let quantile = |i: usize| quantiles.get(i).copied().unwrap_or(0.0);
    let bad = counters.bad();
    json!({
        "job": job,
        "outcome": match report.outcome {
            Outcome::Finished => "finished",
            Outcome::Stopped => "stopped",
            Outcome::Cancelled => "cancelled",
            Outcome::AlreadyFinished => "already-finished",
        },
        "resumed_from": report.resumed_from.map(|checkpoint| checkpoint.0),
        "records": report.read.values().sum::<u64>(),
        "records_again": report.read_again,
        "done": report.done,
        "read": report.read,
        "emitted": report.emitted,
        "late_dropped": report.too_late_by_operator.values().sum::<u64>(),
        "late_dropped_by": report.too_late_by_operator,
        "behind_watermark": report.late,
        "behind_watermark_by": report.late_by_operator,
        "unread": report.unread,
        "bad_records_skipped": if bad.kept { 0 } else { bad.count },
        "bad_records_kept": if bad.kept { bad.count } else { 0 },
        "first_bad_record": bad.first,
        "results_left_out": report.left_out_by_operator.values().sum::<u64>(),
        "state_entries": report.state_entries,
        "seconds": report.elapsed.as_secs_f64(),
        "rate": report.rate(),
        "rate_warm": report.warm_rate(),
        "rate_quantiles": { "p5": quantile(0), "p50": quantile(1), "p95": quantile(2) },
        "longest_stall_us": micros(report.longest_stall),
        "restarts": report.restarts,
        "checkpoints": report.checkpoints.iter().map(checkpoint).collect::<Vec<_>>(),
        "checkpoints_aborted": report.aborted_checkpoints,
        "sinks": report.sinks.iter().map(|(id, of)| (id.clone(), figures(of))).collect::<Map<_, _>>(),
    })
}

/// The figures of a sink, for programs. Values are text: many readers of JSON round large numbers.
fn figures(figures: &[Figure]) -> Value {
    let member = |figure: &Figure| {
        let value = match figure.unit {
            Unit::Checksum => format!("{:#018x}", figure.value),
            _ => figure.value.to_string(),
        };
        (figure.name.to_owned(), Value::String(value))
    };
    figures.iter().map(member).collect::<Map<_, _>>().into()
}

/// The measurements of state backends, for programs.
fn statistics(statistics: &[Statistic]) -> Value {
    let member = |statistic: &Statistic| {
        let name = match statistic.scope {
            Scope::Backend => statistic.name.to_owned(),
            Scope::Process => format!("shared_{}", statistic.name),
        };
        (name, Value::from(statistic.value))
    };
    statistics.iter().map(member).collect::<Map<_, _>>().into()
}

/// A checkpoint, for programs.
pub(crate) fn checkpoint(report: &CheckpointReport) -> Value {
    json!({
        "id": report.checkpoint.0,
        "kind": report.kind,
        "pause_us": micros(report.pause),
        "alignment_us": micros(report.alignment),
        "start_delay_us": micros(report.start_delay),
        "duration_us": micros(report.duration),
        "commit_us": micros(report.commit),
        "bytes_written": report.written_bytes,
        "full_bytes": report.full_bytes,
        "in_flight_records": report.in_flight_records,
        "in_flight_bytes": report.in_flight_bytes,
        "statistics": statistics(&report.statistics),
    })
}

/// A failure, for programs.
pub(crate) fn failure(error: &Error) -> Value {
    json!({ "outcome": "failed", "error": error.to_string() })
}

/// As [`failure`], of a job.
pub(crate) fn failed_job(job: &str, error: &Error) -> Value {
    json!({ "job": job, "outcome": "failed", "error": error.to_string() })
}

/// A mistake in the command line, for programs.
pub(crate) fn refused(text: &str) -> Value {
    let message = text.trim_end().trim_start_matches("error: ");
    json!({ "outcome": "refused", "mistakes": [{ "message": message }] })
}

/// What becomes of a checkpoint, for programs.
pub(crate) fn plan(plan: &RestorePlan) -> Value {
    let line = |line: &Planned| {
        json!({
            "operator": line.operator, "state": line.state, "stored_as": line.stored_as,
            "fate": line.fate.to_string(),
        })
    };
    plan.lines.iter().map(line).collect()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
