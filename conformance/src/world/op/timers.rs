//! Timers.

use std::collections::BTreeSet;

use strandline_state_api::{KeyScope, KeyedBackend, StateKey, TimerService, Timestamp};

use super::Op;
use crate::access::TableAccess;
use crate::world::contents::{Contents, ModelTimer};
use crate::world::{Failure, States, same};

pub(super) fn apply<B: KeyedBackend<Key = String>>(
    op: &Op,
    scope: &mut KeyScope<'_, B>,
    states: &States,
    model: &mut Contents,
) -> Result<(), Failure> {
    let Some(states) = states.timers else { return Ok(()) };
    let key = scope.key().clone();
    match *op {
        Op::AlarmSet(_, time) => {
            let new = model.alarms.insert((time.into(), key, String::new()));
            same(op, scope.state(states.alarms).register(time)?, new)
        }
        Op::AlarmDelete(_, time) => {
            let was = model.alarms.remove(&(time.into(), key, String::new()));
            same(op, scope.state(states.alarms).delete(time)?, was)
        }
        Op::WindowSet(_, ns, time) => {
            let namespace = ns.to_owned();
            let got = scope.state_in(states.windows, &namespace).register(time)?;
            same(op, got, model.windows.insert((time.into(), key, namespace)))
        }
        Op::WindowDelete(_, ns, time) => {
            let namespace = ns.to_owned();
            let got = scope.state_in(states.windows, &namespace).delete(time)?;
            same(op, got, model.windows.remove(&(time.into(), key, namespace)))
        }
        _ => Ok(()),
    }
}

/// Applies a pop.
pub(super) fn pop_one<B: KeyedBackend<Key = String>>(
    op: &Op,
    backend: &mut B,
    states: &States,
    model: &mut Contents,
) -> Result<(), Failure> {
    let Some(states) = states.timers else { return Ok(()) };
    match *op {
        Op::AlarmPop(up_to) => {
            pop(backend, states.alarms, up_to.into(), &mut model.alarms, |()| String::new())
        }
        Op::WindowPop(up_to) => pop(backend, states.windows, up_to.into(), &mut model.windows, |ns| ns),
        _ => Ok(()),
    }
}

/// Pops one timer. Of the timers of the earliest time, the backend may return any.
fn pop<B: KeyedBackend<Key = String>, N: StateKey>(
    backend: &mut B,
    service: TimerService<N>,
    up_to: Timestamp,
    model: &mut BTreeSet<ModelTimer>,
    name: impl Fn(N) -> String,
) -> Result<(), Failure> {
    let earliest = model.first().map(|timer| timer.0);
    same("the next timer", backend.next_timer(service)?, earliest)?;
    let popped = backend.pop_timer(service, up_to)?;
    let wanted = earliest.filter(|time| *time <= up_to);
    same(("the time of a pop up to", up_to), popped.as_ref().map(|timer| timer.time), wanted)?;
    if let Some(timer) = popped {
        same(("the hash of a timer of", &timer.key), timer.hash, timer.key.key_hash())?;
        let timer = (timer.time, timer.key, name(timer.namespace));
        if !model.remove(&timer) {
            return Err(Failure(format!("a timer fired that was not set: {timer:?}")));
        }
    }
    Ok(())
}
