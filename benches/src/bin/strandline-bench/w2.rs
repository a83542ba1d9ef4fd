//! The rows of W2.

use std::fmt::Debug;
use std::sync::Arc;

use strandline_benches::keys::shuffled;
use strandline_benches::table::{Budget, Row, thousands};
use strandline_benches::w2::kinds::{Kind, KindOp, Kinds};
use strandline_benches::w2::list::{ListOp, Lists, PlainLists};
use strandline_benches::w2::map::{MapOp, Maps, PlainMaps};
use strandline_benches::w2::timers::{PlainTimers, TimerOp, Timers};
use strandline_benches::w2::value::{PlainValues, ValueOp, Values};
use strandline_benches::{Subject, compare};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Error, Result};

use crate::{Plan, progress};

/// About the bytes of a key in both tables together: lists of one with each tenth of 100, maps of ten.
const LIST_BYTES: u64 = 400;
const MAP_BYTES: u64 = 1_200;

pub(crate) fn measure<F: BackendFactory>(plan: &Plan, factory: &F, rows: &mut Vec<Row>) -> Result<()> {
    check_names(&plan.operations)?;
    values(plan, factory, rows)?;
    kinds(plan, factory, rows)?;
    timers(plan, factory, rows)?;
    lists(plan, factory, rows)?;
    maps(plan, factory, rows)
}

fn values<F: BackendFactory>(plan: &Plan, factory: &F, rows: &mut Vec<Row>) -> Result<()> {
    let ops = plan.chosen(ValueOp::ALL, ValueOp::name);
    if ops.is_empty() {
        return Ok(());
    }
    let largest = plan.keys.iter().max().copied();
    for (turn, &count) in plan.keys.iter().enumerate() {
        progress(format_args!("W2, values, {} keys", thousands(count as u64)));
        let keys = shuffled(count);
        if turn == 0 {
            noise(plan, &keys, rows)?;
        }
        let promised = Some(count) == largest;
        let mut ours = Values::new(factory.clone(), Arc::clone(&keys))?;
        let mut plain = PlainValues::new(keys);
        for &op in &ops {
            let budget = match op {
                ValueOp::Get if promised => plan.in_memory(Budget::AtMost(1.3)),
                ValueOp::Update if promised => plan.in_memory(Budget::AtMost(2.0)),
                _ => None,
            };
            rows.push(row(plan, op, op.name(), count, &mut ours, &mut plain)?.budget(budget));
        }
    }
    Ok(())
}

fn kinds<F: BackendFactory>(plan: &Plan, factory: &F, rows: &mut Vec<Row>) -> Result<()> {
    let ops = plan.chosen(KindOp::ALL, KindOp::name);
    if ops.is_empty() {
        return Ok(());
    }
    for &count in &plan.kinds {
        progress(format_args!("W2, kinds and time-to-live, {} keys", thousands(count as u64)));
        let keys = shuffled(count);
        let mut plain = Kinds::new(factory, &keys, Kind::Plain)?;
        // One at a time beside the plain one: a backend that caches has as much room for both.
        for kind in [Kind::Reducing, Kind::Aggregating, Kind::Timed, Kind::Refreshed] {
            let mut ours = Kinds::new(factory, &keys, kind)?;
            for &op in ops.iter().filter(|op| op.kind() == kind) {
                let compared = compare(op, &mut ours, &mut plain, plan.effort)?;
                let name = format!("{}, {} keys", op.name(), thousands(count as u64));
                rows.push(Row::compared("W2", name, &compared, "a value state"));
            }
        }
    }
    Ok(())
}

fn timers<F: BackendFactory>(plan: &Plan, factory: &F, rows: &mut Vec<Row>) -> Result<()> {
    let ops = plan.chosen(TimerOp::ALL, TimerOp::name);
    if ops.is_empty() {
        return Ok(());
    }
    for &count in &plan.timers {
        progress(format_args!("W2, timers, {} at once", thousands(count as u64)));
        let keys = shuffled(count);
        let (mut ours, mut plain) = (Timers::new(factory, &keys)?, PlainTimers::new(&keys));
        for &op in &ops {
            let compared = compare(op, &mut ours, &mut plain, plan.effort)?;
            let name = format!("{}, {} timers", op.name(), thousands(count as u64));
            rows.push(Row::compared("W2", name, &compared, "a plain ordered set"));
        }
    }
    Ok(())
}

fn lists<F: BackendFactory>(plan: &Plan, factory: &F, rows: &mut Vec<Row>) -> Result<()> {
    let ops = plan.chosen(ListOp::ALL, ListOp::name);
    if ops.is_empty() {
        return Ok(());
    }
    for &count in plan.collections.iter().filter(|count| fits(**count, LIST_BYTES, "lists")) {
        progress(format_args!("W2, lists, {} keys", thousands(count as u64)));
        let keys = shuffled(count);
        let (mut ours, mut plain) = (Lists::new(factory, &keys)?, PlainLists::new(&keys));
        for &op in &ops {
            rows.push(row(plan, op, op.name(), count, &mut ours, &mut plain)?);
        }
    }
    Ok(())
}

fn maps<F: BackendFactory>(plan: &Plan, factory: &F, rows: &mut Vec<Row>) -> Result<()> {
    let ops = plan.chosen(MapOp::ALL, MapOp::name);
    if ops.is_empty() {
        return Ok(());
    }
    for &count in plan.collections.iter().filter(|count| fits(**count, MAP_BYTES, "maps")) {
        progress(format_args!("W2, maps, {} keys", thousands(count as u64)));
        let keys = shuffled(count);
        let (mut ours, mut plain) = (Maps::new(factory.clone(), &keys)?, PlainMaps::new(&keys));
        for &op in &ops {
            rows.push(row(plan, op, op.name(), count, &mut ours, &mut plain)?);
        }
    }
    Ok(())
}

/// Checks that each of `starts` is how the name of an operation starts.
fn check_names(starts: &[String]) -> Result<()> {
    let values = ValueOp::ALL.map(ValueOp::name).into_iter().chain(KindOp::ALL.map(KindOp::name));
    let others = TimerOp::ALL.map(TimerOp::name).into_iter().chain(ListOp::ALL.map(ListOp::name));
    let names: Vec<_> = values.chain(others).chain(MapOp::ALL.map(MapOp::name)).collect();
    match starts.iter().find(|start| !names.iter().any(|name| name.starts_with(start.as_str()))) {
        None => Ok(()),
        Some(start) => Err(Error::invalid(format!(
            "no operation of W2 has a name that starts with `{start}`; the names: {}",
            names.join("; ")
        ))),
    }
}

/// Compares the plain map with itself: how far from 1 a ratio is by chance.
fn noise(plan: &Plan, keys: &Arc<[u64]>, rows: &mut Vec<Row>) -> Result<()> {
    let (mut one, mut other) = (PlainValues::new(Arc::clone(keys)), PlainValues::new(Arc::clone(keys)));
    let name = "(noise: the plain map's get beside itself)";
    rows.push(row(plan, ValueOp::Get, name, keys.len(), &mut one, &mut other)?);
    Ok(())
}

fn row<Op: Copy + Debug>(
    plan: &Plan,
    op: Op,
    name: &str,
    keys: usize,
    ours: &mut impl Subject<Op>,
    plain: &mut impl Subject<Op>,
) -> Result<Row> {
    let compared = compare(op, ours, plain, plan.effort)?;
    let name = format!("{name}, {} keys", thousands(keys as u64));
    Ok(Row::compared("W2", name, &compared, "the plain map"))
}

/// Returns whether this many keys fit into the memory that is free, with a quarter to spare.
fn fits(keys: usize, bytes_per_key: u64, what: &str) -> bool {
    let (needed, Some(free)) = (keys as u64 * bytes_per_key, available_memory()) else { return true };
    let fits = needed <= free / 4 * 3;
    if !fits {
        progress(format_args!(
            "W2, {what}: left out {} keys, which need about {} MB of the {} MB that are free",
            thousands(keys as u64),
            needed >> 20,
            free >> 20
        ));
    }
    fits
}

/// Returns the bytes, where the system reports them.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}
