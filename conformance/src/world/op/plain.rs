//! Values, lists and maps that do not expire.

use strandline_state_api::{KeyScope, KeyedBackend};

use super::Op;
use crate::world::contents::Contents;
use crate::world::{Failure, States, same};

pub(super) fn apply_total<B: KeyedBackend<Key = String>>(
    op: &Op,
    scope: &mut KeyScope<'_, B>,
    states: &States,
    model: &mut Contents,
) -> Result<(), Failure> {
    let key = scope.key().clone();
    match op {
        Op::TotalPut(_, value) => {
            scope.state(states.values.total).put(*value)?;
            model.totals.insert(key.clone(), *value);
        }
        Op::TotalAdd(_, by) => {
            let wanted = model.totals.entry(key.clone()).or_insert(7);
            *wanted = wanted.wrapping_add(*by);
            let got = scope.state(states.values.total).modify(
                || 7,
                |value| {
                    *value = value.wrapping_add(*by);
                    *value
                },
            )?;
            same(op, got, *wanted)?;
        }
        _ => {
            let was = model.totals.remove(&key).is_some();
            same(op, scope.state(states.values.total).clear()?, was)?;
        }
    }
    same((op, "then get"), scope.state(states.values.total).get()?, model.totals.get(&key))
}

pub(super) fn apply_label<B: KeyedBackend<Key = String>>(
    op: &Op,
    scope: &mut KeyScope<'_, B>,
    states: &States,
    model: &mut Contents,
    namespace: &String,
) -> Result<(), Failure> {
    let address = (scope.key().clone(), namespace.clone());
    let label = scope.state_in(states.values.label, namespace);
    match op {
        Op::LabelPut(_, _, value) => {
            label.put(value.clone())?;
            model.labels.insert(address.clone(), value.clone());
        }
        Op::LabelPush(_, _, c) => {
            label.modify(String::new, |text| text.push(*c))?;
            model.labels.entry(address.clone()).or_default().push(*c);
        }
        _ => same(op, label.clear()?, model.labels.remove(&address).is_some())?,
    }
    let got = scope.state_in(states.values.label, namespace).get()?;
    same((op, "then get"), got, model.labels.get(&address))
}

pub(super) fn apply_lines<B: KeyedBackend<Key = String>>(
    op: &Op,
    scope: &mut KeyScope<'_, B>,
    states: &States,
    model: &mut Contents,
    namespace: &String,
) -> Result<(), Failure> {
    let Some(states) = states.lists else { return Ok(()) };
    let address = (scope.key().clone(), namespace.clone());
    let list = scope.state_in(states.lines, namespace);
    match op {
        // This returns before the read below: an append to a list that was never read must work, too.
        Op::LinesAdd(_, _, elements) => {
            list.extend(elements.iter().cloned())?;
            if !elements.is_empty() {
                model.lines.entry(address).or_default().extend_from_slice(elements);
            }
            return Ok(());
        }
        Op::LinesPut(_, _, elements) => {
            list.put(elements.clone())?;
            model.lines.remove(&address);
            if !elements.is_empty() {
                model.lines.insert(address.clone(), elements.clone());
            }
        }
        _ => same(op, list.clear()?, model.lines.remove(&address).is_some())?,
    }
    let got = scope.state_in(states.lines, namespace).get()?.as_slice();
    same((op, "then get"), got, model.lines.get(&address).map_or(&[][..], Vec::as_slice))
}

pub(super) fn apply_fields<B: KeyedBackend<Key = String>>(
    op: &Op,
    scope: &mut KeyScope<'_, B>,
    states: &States,
    model: &mut Contents,
    namespace: &String,
) -> Result<(), Failure> {
    let Some(states) = states.maps else { return Ok(()) };
    let address = (scope.key().clone(), namespace.clone());
    let map = scope.state_in(states.fields, namespace);
    let wanted = model.fields.entry(address.clone()).or_default();
    match op {
        Op::FieldPut(_, _, map_key, value) => {
            map.put((*map_key).to_owned(), *value)?;
            wanted.insert((*map_key).to_owned(), *value);
        }
        Op::FieldAdd(_, _, map_key, by) => {
            let add = |value: &mut u64| {
                *value = value.wrapping_add(*by);
                *value
            };
            let got = map.modify((*map_key).to_owned(), || 3, add)?;
            same(op, got, add(wanted.entry((*map_key).to_owned()).or_insert(3)))?;
        }
        Op::FieldTake(_, _, map_key) => {
            same(op, map.take(&(*map_key).to_owned())?, wanted.remove(*map_key))?;
        }
        Op::FieldRemove(_, _, map_key) => {
            same(op, map.remove(&(*map_key).to_owned())?, wanted.remove(*map_key).is_some())?;
            let contains = scope.state_in(states.fields, namespace).contains(&(*map_key).to_owned())?;
            same((op, "then contains"), contains, false)?;
        }
        _ => {
            same(op, map.clear()?, !wanted.is_empty())?;
            wanted.clear();
        }
    }
    let empty = scope.state_in(states.fields, namespace).is_empty()?;
    same((op, "then is_empty"), empty, wanted.is_empty())?;
    if wanted.is_empty() {
        model.fields.remove(&address);
    }
    Ok(())
}
