//! The naive model, and the comparison of a backend with it.

use std::collections::{BTreeMap, BTreeSet};

use strandline_state_api::{KeyGroupRange, KeyScope, Keyed, KeyedBackend, StateKey, TimerService};

use super::{Failure, NAMESPACES, States, group_of, keys_in, same};

/// Key and namespace.
pub(crate) type Address = (String, String);

/// Time, key and namespace of a timer.
pub(crate) type Timer = (i64, String, String);

/// Everything that the states of the world hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) totals: BTreeMap<String, u64>,
    pub(crate) labels: BTreeMap<Address, String>,
    pub(crate) lines: BTreeMap<Address, Vec<String>>,
    pub(crate) fields: BTreeMap<Address, BTreeMap<String, u64>>,
    /// Without a namespace; it is empty.
    pub(crate) alarms: BTreeSet<Timer>,
    pub(crate) windows: BTreeSet<Timer>,
}

impl Contents {
    /// The part of it whose keys lie in `range`.
    #[must_use]
    pub(crate) fn clip(mut self, range: KeyGroupRange) -> Self {
        let inside = |key: &str| range.contains(group_of(key));
        self.totals.retain(|key, _| inside(key));
        self.labels.retain(|(key, _), _| inside(key));
        self.lines.retain(|(key, _), _| inside(key));
        self.fields.retain(|(key, _), _| inside(key));
        self.alarms.retain(|(_, key, _)| inside(key));
        self.windows.retain(|(_, key, _)| inside(key));
        self
    }

    /// Both together; they have no key in common.
    #[must_use]
    pub(crate) fn union(mut self, other: Self) -> Self {
        self.totals.extend(other.totals);
        self.labels.extend(other.labels);
        self.lines.extend(other.lines);
        self.fields.extend(other.fields);
        self.alarms.extend(other.alarms);
        self.windows.extend(other.windows);
        self
    }

    /// The number of its entries, counted like [`KeyedBackend::entries`].
    pub(crate) fn entries(&self) -> u64 {
        let map_entries: usize = self.fields.values().map(BTreeMap::len).sum();
        let others = self.totals.len() + self.labels.len() + self.lines.len();
        (map_entries + others + self.alarms.len() + self.windows.len()) as u64
    }

    /// Compares every value, list and map of `backend` with this, and the times of its next timers.
    pub(crate) fn check_tables<B: KeyedBackend<Key = String>>(
        &self,
        backend: &mut B,
        states: &States,
        range: KeyGroupRange,
    ) -> Result<(), Failure> {
        let mut totals = BTreeMap::new();
        let mut twice = Vec::new();
        backend.value_for_each(states.total, |key, (), value| {
            twice.extend(totals.insert(key.clone(), *value).map(|_| key.clone()));
            Ok(())
        })?;
        same("all values of `total`", &totals, &self.totals)?;
        let mut labels = BTreeMap::new();
        backend.value_for_each(states.label, |key, namespace, value| {
            let address = (key.clone(), namespace.clone());
            twice.extend(labels.insert(address, value.clone()).map(|_| key.clone()));
            Ok(())
        })?;
        same("all values of `label`", &labels, &self.labels)?;
        same("keys whose value was visited twice", twice, Vec::new())?;
        for key in keys_in(range) {
            self.check_key(backend, states, key)?;
        }
        let first = |timers: &BTreeSet<Timer>| timers.first().map(|timer| timer.0);
        same("the next of `alarms`", backend.timer_next(states.alarms)?, first(&self.alarms))?;
        same("the next of `windows`", backend.timer_next(states.windows)?, first(&self.windows))
    }

    fn check_key<B: KeyedBackend<Key = String>>(
        &self,
        backend: &mut B,
        states: &States,
        key: &str,
    ) -> Result<(), Failure> {
        let key = key.to_owned();
        let mut scope = KeyScope::new(backend, Keyed::new(&key));
        same(("total", &key), scope.value(states.total).get()?, self.totals.get(&key))?;
        for namespace in NAMESPACES.map(str::to_owned) {
            let address = (key.clone(), namespace.clone());
            let label = scope.value_in(states.label, &namespace).get()?;
            same(("label", &address), label, self.labels.get(&address))?;
            let lines = scope.list_in(states.lines, &namespace).get()?;
            same(("lines", &address), lines, self.lines.get(&address).map_or(&[][..], Vec::as_slice))?;
            let mut found = Vec::new();
            scope.map_in(states.fields, &namespace).for_each(|map_key, value| {
                found.push((map_key.clone(), *value));
                Ok(())
            })?;
            found.sort();
            let wanted = self.fields.get(&address).cloned().unwrap_or_default();
            same(("fields", &address), &found, &wanted.clone().into_iter().collect())?;
            let empty = scope.map_in(states.fields, &namespace).is_empty()?;
            same(("fields is empty", &address), empty, wanted.is_empty())?;
            for (map_key, value) in &wanted {
                let got = scope.map_in(states.fields, &namespace).get(map_key)?;
                same(("field", &address, map_key), got, Some(value))?;
            }
        }
        Ok(())
    }

    /// Takes all timers out of `backend` and compares them with this: each once, in the order of their times.
    pub(crate) fn check_timers_by_taking_them<B: KeyedBackend<Key = String>>(
        &self,
        backend: &mut B,
        states: &States,
    ) -> Result<(), Failure> {
        let alarms = take_all(backend, states.alarms, |()| String::new())?;
        same("all of `alarms`", &alarms, &self.alarms)?;
        let windows = take_all(backend, states.windows, |namespace| namespace)?;
        same("all of `windows`", &windows, &self.windows)
    }
}

/// Pops all timers of a service; they must come in order, each with the right hash, none twice.
fn take_all<B: KeyedBackend<Key = String>, N: StateKey>(
    backend: &mut B,
    service: TimerService<N>,
    name: impl Fn(N) -> String,
) -> Result<BTreeSet<Timer>, Failure> {
    let mut taken = BTreeSet::new();
    let mut last = i64::MIN;
    while let Some(timer) = backend.timer_pop(service, i64::MAX)? {
        if timer.time < last {
            return Err(Failure(format!("a timer at {} came after one at {last}", timer.time)));
        }
        last = timer.time;
        same(("the hash of a timer of", &timer.key), timer.hash, timer.key.key_hash())?;
        let taken_before = !taken.insert((timer.time, timer.key, name(timer.namespace)));
        if taken_before {
            return Err(Failure(format!("a timer at {last} came twice")));
        }
    }
    Ok(taken)
}
