//! Reducing and aggregating state, and namespaces that merge.

use std::collections::BTreeMap;

use strandline_state_api::{KeyScope, KeyedBackend};

use super::Op;
use crate::world::contents::{Address, Contents};
use crate::world::{Failure, States, same};

pub(super) fn apply<B: KeyedBackend<Key = String>>(
    op: &Op,
    scope: &mut KeyScope<'_, B>,
    states: &States,
    model: &mut Contents,
    namespace: &String,
) -> Result<(), Failure> {
    let address = (scope.key().clone(), namespace.clone());
    match op {
        Op::SumAdd(_, _, n) => {
            scope.state_in(states.values.sums, namespace).add(*n)?;
            let sum = model.sums.entry(address.clone()).or_default();
            *sum = sum.wrapping_add(*n);
        }
        Op::SumClear(..) => {
            let was = model.sums.remove(&address).is_some();
            same(op, scope.state_in(states.values.sums, namespace).clear()?, was)?;
        }
        Op::SumMerge(_, _, sources) => {
            let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
            scope.state_in(states.values.sums, namespace).merge(&sources)?;
            merge(&mut model.sums, &address, &sources, |into, other| *into = into.wrapping_add(other));
        }
        Op::MeanAdd(_, _, n) => {
            scope.state_in(states.values.mean, namespace).add(*n)?;
            let (sum, count) = model.means.entry(address.clone()).or_default();
            (*sum, *count) = (*sum + n, *count + 1);
        }
        Op::MeanMerge(_, _, sources) => {
            let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
            scope.state_in(states.values.mean, namespace).merge(&sources)?;
            merge(&mut model.means, &address, &sources, |into, other| {
                *into = (into.0 + other.0, into.1 + other.1);
            });
        }
        Op::LinesMerge(_, _, sources) => {
            let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
            let Some(states) = states.lists else { return Ok(()) };
            scope.state_in(states.lines, namespace).merge(&sources)?;
            merge(&mut model.lines, &address, &sources, |into, other| into.extend(other));
        }
        _ => {}
    }
    let sum = scope.state_in(states.values.sums, namespace).get()?;
    same((op, "then the sum"), sum, model.sums.get(&address))?;
    let mean = scope.state_in(states.values.mean, namespace).get()?;
    same((op, "then the mean"), mean, model.means.get(&address).map(|(sum, n)| sum / n))
}

/// Folds the values of other namespaces of a key into one.
fn merge<V>(all: &mut BTreeMap<Address, V>, target: &Address, sources: &[String], fold: impl Fn(&mut V, V)) {
    for source in sources.iter().filter(|source| **source != target.1) {
        let Some(value) = all.remove(&(target.0.clone(), source.clone())) else { continue };
        match all.get_mut(target) {
            Some(into) => fold(into, value),
            None => {
                all.insert(target.clone(), value);
            }
        }
    }
}
