//! The rows of W1.

use serde::Serialize;
use strandline_benches::Spread;
use strandline_benches::table::{Budget, Row, Unit};
use strandline_benches::w1::{Report, Runs, Variant};
use strandline_state_api::Result;

use crate::{Plan, program, progress};

/// How many checkpoints of a run are printed one by one.
const PRINTED: usize = 12;

/// One run, for the file that the table can be written to.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    backend: String,
    variant: &'static str,
    report: Report,
}

pub(crate) fn measure(plan: &Plan, backend: &str, rows: &mut Vec<Row>) -> Result<Vec<Run>> {
    let program = match &plan.program {
        Some(program) => program.clone(),
        None => program::build(backend)?,
    };
    let runs = Runs { program, records: plan.records, backend: Some(backend.to_owned()) };
    let mut all = Vec::new();
    let mut run = |variant: &Variant| -> Result<Report> {
        let report = runs.run(variant)?;
        print(variant, &report);
        all.push(Run { backend: backend.to_owned(), variant: variant.name, report: report.clone() });
        Ok(report)
    };
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for turn in 0..plan.runs {
        // The order alternates, as the machine may grow slower or faster.
        let order = if turn % 2 == 0 { [false, true] } else { [true, false] };
        for checkpointed in order {
            if checkpointed {
                on.push(run(&Variant::EACH_SECOND)?);
            } else {
                off.push(run(&Variant::OFF)?);
            }
        }
    }
    let rates = |reports: &[Report]| Spread::of(reports.iter().map(|report| report.rate_warm / 1e6));
    let rate = Row::new("W1", Variant::OFF.name, rates(&off), Unit::MillionsPerSecond);
    rows.push(rate.budget(plan.in_memory(Budget::AtLeast(6.6))).notes(notes(&off)));
    let ratios = Spread::of(on.iter().zip(&off).map(|(on, off)| on.rate_warm / off.rate_warm.max(1.0)));
    let ratio = Row::new("W1", "checkpoint each 1 s / no checkpoints, uniform, P=1", ratios, Unit::Ratio);
    let cpu = |reports: &[Report]| Spread::of(reports.iter().filter_map(|report| report.cpu_us)).p50;
    let cpu = format!("pairs of runs: {}; processor time: {:.2}", on.len(), cpu(&on) / cpu(&off).max(1e-9));
    rows.push(ratio.budget(plan.in_memory(Budget::AtLeast(0.95))).notes(cpu));
    rows.push(plain(&Variant::EACH_SECOND, &on));
    for variant in Variant::OTHERS {
        let reports = [run(&variant)?];
        rows.push(plain(&variant, &reports));
    }
    Ok(all)
}

fn plain(variant: &Variant, reports: &[Report]) -> Row {
    let value = match reports {
        // The rates of one run: those of its windows.
        [only] => {
            let of = only.rate_quantiles;
            Spread { p5: of.p5 / 1e6, p50: only.rate_warm / 1e6, p95: of.p95 / 1e6 }
        }
        several => Spread::of(several.iter().map(|report| report.rate_warm / 1e6)),
    };
    Row::new("W1", variant.name, value, Unit::MillionsPerSecond).notes(notes(reports))
}

/// Describes the last run.
fn notes(reports: &[Report]) -> String {
    let Some(report) = reports.last() else { return String::new() };
    let of = report.rate_quantiles;
    let mut text = format!(
        "windows {:.2} / {:.2} / {:.2} M/s, stall {:.1} ms",
        of.p5 / 1e6,
        of.p50 / 1e6,
        of.p95 / 1e6,
        report.longest_stall_us as f64 / 1e3
    );
    if let Some(cpu) = report.cpu_us {
        text += &format!(", CPU {cpu:.2} us a record");
    }
    if !report.checkpoints.is_empty() {
        let median = |of: fn(&strandline_benches::w1::Checkpoint) -> u64| {
            Spread::of(report.checkpoints.iter().map(|checkpoint| of(checkpoint) as f64)).p50
        };
        text += &format!(
            "; {} checkpoints: pause {:.2} ms, alignment {:.2} ms, {:.0} ms in all, {:.2} of {:.2} MB",
            report.checkpoints.len(),
            median(|c| c.pause_us) / 1e3,
            median(|c| c.alignment_us) / 1e3,
            median(|c| c.duration_us) / 1e3,
            median(|c| c.bytes_written) / 1e6,
            median(|c| c.full_bytes) / 1e6
        );
    }
    text
}

fn print(variant: &Variant, report: &Report) {
    let rates = format!("{:.2} M/s, warm {:.2} M/s", report.rate / 1e6, report.rate_warm / 1e6);
    progress(format_args!("W1, {}: {rates}, {}", variant.name, notes(std::slice::from_ref(report))));
    for checkpoint in report.checkpoints.iter().take(PRINTED) {
        progress(format_args!(
            "    checkpoint {} ({}): pause {} us, alignment {} us, {} us in all, {} bytes written of {}",
            checkpoint.id,
            checkpoint.kind,
            checkpoint.pause_us,
            checkpoint.alignment_us,
            checkpoint.duration_us,
            checkpoint.bytes_written,
            checkpoint.full_bytes
        ));
    }
    if report.checkpoints.len() > PRINTED {
        progress(format_args!("    and {} more", report.checkpoints.len() - PRINTED));
    }
}
