//! The rows of W3.

use std::time::Duration;

use strandline_benches::Spread;
use strandline_benches::table::{Budget, Row, Unit, thousands};
use strandline_benches::w3::{Counters, SnapshotCost};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

use crate::{Plan, progress};

pub(crate) fn measure<F: BackendFactory>(
    plan: &Plan,
    [factory, elsewhere]: [&F; 2],
    rows: &mut Vec<Row>,
) -> Result<()> {
    let largest = plan.counters.iter().max().copied();
    let rounds = if plan.quick { 3 } else { 7 };
    for &count in &plan.counters {
        progress(format_args!("W3, {} counters", thousands(count)));
        let promised = Some(count) == largest;
        let mut counters = Counters::new(factory.clone(), count)?;
        let filled = counters.fill()?;
        let first = counters.snapshot()?;
        counters.update(10)?;
        let second = counters.snapshot()?;
        let whole = counters.restore(0, 1)?;
        let halves = counters.restore_halves()?;
        let (mut thirds, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            counters.update(100)?;
            let third = counters.snapshot()?;
            ratios.push(third.raw as f64 / counters.changed_bytes(100)?.max(1) as f64);
            thirds.push(third);
            counters.tidy()?;
        }
        let all: Vec<&SnapshotCost> = [&first, &second].into_iter().chain(&thirds).collect();

        let of = |what: &str| format!("{what}, {} counters", thousands(count));
        let pauses = Spread::of(all.iter().map(|cost| ms(cost.pause)));
        let worst = all.iter().map(|cost| ms(cost.pause)).fold(0.0, f64::max);
        let pause = Row::new("W3", of("pause at the barrier"), pauses, Unit::Milliseconds);
        let notes = format!("{} snapshots of 1, 10 and 100 % changed; worst {worst:.4} ms", all.len());
        rows.push(pause.budget(promised.then_some(Budget::AtMost(1.0))).notes(notes));
        let ratio = Row::new("W3", of("bytes written / bytes changed, 1 %"), Spread::of(ratios), Unit::Ratio);
        let last = thirds.last().map_or(0, |cost| cost.raw);
        let stored = thirds.iter().map(|cost| cost.written);
        let (least, mean) =
            (stored.clone().min().unwrap_or(0), stored.sum::<u64>() / thirds.len().max(1) as u64);
        let notes = format!(
            "{} before compression, {} stored, {} on average",
            megabytes(last),
            megabytes(least),
            megabytes(mean)
        );
        let budget = if promised { plan.in_memory(Budget::AtMost(1.5)) } else { None };
        rows.push(ratio.budget(budget).notes(notes));

        let steps = Spread::of(all.iter().map(|cost| ms(cost.drained.worst)));
        rows.push(Row::new("W3", of("worst step of the drain"), steps, Unit::Milliseconds));
        for (name, costs) in
            [("1st snapshot", vec![&first]), ("2nd, 10 %", vec![&second]), ("1 %", thirds.iter().collect())]
        {
            rows.push(rest(of(&format!("rest of the snapshot, {name}")), &costs));
        }
        let filled = format!("filled in {:.0} ms", ms(filled));
        rows.push(once(of("restore, whole"), whole.restore).notes(format!(
            "{:.1} ns an entry, then {:.1} ns to read and check each; {filled}",
            per(whole.restore, whole.entries),
            per(whole.check, whole.entries)
        )));
        let spread = Spread::of(halves.iter().map(|half| ms(half.restore)));
        rows.push(Row::new("W3", of("restore, each half"), spread, Unit::Milliseconds));
        for (from, to) in [(1, 1), (1, 2), (2, 1), (2, 3)] {
            let cost = counters.rescale(elsewhere, from, to)?;
            let rate = cost.entries as f64 / cost.restore.as_secs_f64().max(1e-9) / 1e6;
            let what = match (from, to) {
                (1, 1) => "restore elsewhere".to_owned(),
                _ => format!("rescale elsewhere, {from} to {to} subtasks"),
            };
            let row = Row::new("W3", of(&what), Spread::of([rate]), Unit::MillionsPerSecond);
            rows.push(row.notes(format!(
                "entries; {:.1} ms in all, the longest of {to} {:.1} ms, then {:.1} ns to check each",
                ms(cost.restore),
                ms(cost.longest),
                per(cost.check, cost.entries)
            )));
        }
    }
    Ok(())
}

fn rest(name: String, costs: &[&SnapshotCost]) -> Row {
    let spread = Spread::of(costs.iter().map(|cost| ms(cost.rest())));
    let notes = costs.last().map_or(String::new(), |cost| {
        format!(
            "drained in {:.1} ms; {} stored of {}",
            ms(cost.drained.total),
            megabytes(cost.written),
            megabytes(cost.full)
        )
    });
    Row::new("W3", name, spread, Unit::Milliseconds).notes(notes)
}

fn once(name: String, time: Duration) -> Row {
    Row::new("W3", name, Spread::of([ms(time)]), Unit::Milliseconds)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn per(time: Duration, entries: u64) -> f64 {
    time.as_secs_f64() * 1e9 / entries.max(1) as f64
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
