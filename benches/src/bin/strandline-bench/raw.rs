//! The rows of RocksDB itself beside the backend.

use strandline_backend_rocksdb::RocksOptions;
use strandline_benches::rocks::{Access, ManyStates, Ours, Raw, StatesOp, factory, options};
use strandline_benches::table::{Budget, Row, Unit, thousands};
use strandline_benches::{Spread, compare};
use strandline_connectors::keys::Distribution;
use strandline_state_api::Result;

use crate::{Plan, progress};

/// How the write-back table stands to the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TableSize {
    /// There is none.
    Off,
    /// That of the default options, which holds all keys of the usual sizes.
    Usual,
    /// About a tenth of the keys fit into it.
    Tenth,
}

/// What an entry takes in the table, about.
const ENTRY_BYTES: usize = 112;

impl TableSize {
    const ALL: [Self; 3] = [Self::Off, Self::Usual, Self::Tenth];

    fn name(self) -> &'static str {
        match self {
            Self::Off => "no table",
            Self::Usual => "table",
            Self::Tenth => "table of a tenth",
        }
    }

    /// The options for ours, and for the raw database: the same memory, of which the latter has no table.
    fn options(self, keys: usize) -> [RocksOptions; 2] {
        let write_back = [if self == Self::Off { 0.0 } else { RocksOptions::default().write_back }, 0.0];
        write_back.map(|share| {
            let mut options = options(share);
            if self == Self::Tenth {
                let table = (keys / 10 * ENTRY_BYTES) as f64;
                options.memory = ((table / RocksOptions::default().write_back) as usize).max(8 << 20);
            }
            options
        })
    }

    fn budget(self, access: Access, distribution: Distribution) -> Option<Budget> {
        match self {
            Self::Off => Some(Budget::AtMost(1.11)),
            Self::Usual if access == Access::Modify && distribution == Distribution::Zipf => {
                Some(Budget::AtMost(0.2))
            }
            Self::Usual | Self::Tenth => None,
        }
    }
}

pub(crate) fn measure(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    for &count in &plan.keys {
        for table in TableSize::ALL {
            beside_raw(plan, table, count, &Access::VALUES, rows)?;
        }
    }
    for &count in &plan.collections {
        for table in [TableSize::Off, TableSize::Usual] {
            beside_raw(plan, table, count, &Access::LISTS, rows)?;
            beside_raw(plan, table, count, &Access::MAPS, rows)?;
        }
    }
    if let Some(&entries) = plan.keys.iter().max() {
        for table in [TableSize::Off, TableSize::Usual] {
            many_states(plan, table, entries, rows)?;
        }
    }
    Ok(())
}

fn beside_raw(
    plan: &Plan,
    table: TableSize,
    count: usize,
    accesses: &[Access],
    rows: &mut Vec<Row>,
) -> Result<()> {
    let [(ours, _dir), (raw, _raw_dir)] = {
        let [ours, raw] = table.options(count);
        [factory(ours)?, factory(raw)?]
    };
    let (mut ours, mut raw) = (Ours::new(&ours, count)?, Raw::new(&raw, count)?);
    for &access in accesses {
        for (distribution, of) in [(Distribution::Uniform, "uniform"), (Distribution::Zipf, "Zipf")] {
            let name = format!("{}, {of}, {}, {} keys", access.name(), table.name(), thousands(count as u64));
            progress(format_args!("raw, {name}"));
            let compared = compare((access, distribution), &mut ours, &mut raw, plan.effort)?;
            let row = Row::compared("raw", name, &compared, "RocksDB itself");
            rows.push(row.budget(table.budget(access, distribution)));
        }
    }
    Ok(())
}

/// 100 states beside one with as many entries.
fn many_states(plan: &Plan, table: TableSize, entries: usize, rows: &mut Vec<Row>) -> Result<()> {
    let [of_many, of_one] = [table.options(entries), table.options(entries)].map(|[ours, _]| factory(ours));
    let ((of_many, _many_dir), (of_one, _one_dir)) = (of_many?, of_one?);
    let (mut many, mut one) =
        (ManyStates::new(&of_many, entries, 100)?, ManyStates::new(&of_one, entries, 1)?);
    let of = format!("{}, {} entries", table.name(), thousands(entries as u64));
    for op in StatesOp::ALL {
        progress(format_args!("raw, 100 states beside one, {}, {of}", op.name()));
        let compared = compare(op, &mut many, &mut one, plan.effort)?;
        let name = format!("100 states / 1 state, {}, {of}", op.name());
        rows.push(Row::compared("raw", name, &compared, "one state"));
    }
    let ((memory, files), (memory_of_one, files_of_one)) = (many.bytes(), one.bytes());
    for (what, many, one) in [("memory", memory, memory_of_one), ("files", files, files_of_one)] {
        let ratio = Spread::of([many as f64 / one.max(1) as f64]);
        let notes = format!("{:.1} MB beside {:.1} MB of one state", many as f64 / 1e6, one as f64 / 1e6);
        rows.push(
            Row::new("raw", format!("100 states / 1 state, {what}, {of}"), ratio, Unit::Ratio).notes(notes),
        );
    }
    Ok(())
}
