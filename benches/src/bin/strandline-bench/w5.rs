//! The rows of W5.

use strandline_benches::table::{Row, Unit, nanoseconds};
use strandline_benches::w1::KEYS;
use strandline_benches::w5::{Counting, Embedding, Floor, executor, stream};
use strandline_benches::{Spread, compare};
use strandline_connectors::keys::Distribution;
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Error, Result};

use crate::{Plan, progress};

pub(crate) fn measure<F: BackendFactory>(plan: &Plan, factory: &F, rows: &mut Vec<Row>) -> Result<()> {
    // Once nearly every key has a counter.
    let warm_up = if plan.quick { KEYS } else { 5 * KEYS };
    for (distribution, of) in [(Distribution::Uniform, "uniform"), (Distribution::Zipf, "Zipf")] {
        for way in Embedding::ALL {
            progress(format_args!("W5, {}, {of}", way.name()));
            let keys = stream(u64::MAX, KEYS, distribution)?;
            let mut ours = Counting::new(factory, way, keys.clone(), warm_up)?;
            let mut plain = Floor::new(keys, warm_up);
            let compared = compare(way, &mut ours, &mut plain, plan.effort)?;
            rows.push(Row::compared("W5", format!("{}, {of}", way.name()), &compared, "a bare loop"));
        }
    }
    for (chained, name) in [(true, "executor, one thread"), (false, "executor, two threads and an exchange")]
    {
        rows.push(whole(plan, factory, chained, name)?);
    }
    Ok(())
}

/// Compares whole runs of the executor and of the loop, in turns.
fn whole<F: BackendFactory>(plan: &Plan, factory: &F, chained: bool, name: &str) -> Result<Row> {
    progress(format_args!("W5, {name}"));
    let keys = stream(plan.records, KEYS, Distribution::Uniform)?;
    let (mut ratios, mut ours_ns, mut plain_ns) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..plan.runs {
        let ours = || executor(factory.clone(), keys.clone(), chained);
        let plain = || Floor::whole(keys.clone(), plan.records);
        let (ours, plain) = if turn % 2 == 0 {
            let ours = ours()?;
            (ours, plain())
        } else {
            let plain = plain();
            (ours()?, plain)
        };
        if ours.0 != plain.0 {
            return Err(Error::corrupt(format!(
                "the executor's checksum is {:#x}, that of the loop {:#x}",
                ours.0, plain.0
            )));
        }
        ratios.push(ours.1.as_secs_f64() / plain.1.as_secs_f64().max(1e-12));
        ours_ns.push(ours.1.as_secs_f64() * 1e9);
        plain_ns.push(plain.1.as_secs_f64() * 1e9);
    }
    let [ours, plain] = [ours_ns, plain_ns].map(|times| nanoseconds(Spread::of(times).p50));
    Ok(Row::new("W5", format!("{name}, uniform"), Spread::of(ratios), Unit::Ratio)
        .notes(format!("{ours} beside {plain} of a bare loop")))
}
