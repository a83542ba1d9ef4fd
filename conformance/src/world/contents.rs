//! The model: the contents that the states of the world should have, and the comparison of a backend with
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use strandline_state_api::backend::{KeyedBackendExt, StateTime};
use strandline_state_api::{KeyGroupRange, KeyedBackend, StateKey, TimerService, Timestamp};

use super::states::{BRIEF, ListStates, MapStates, RECENT, SEEN};
use super::{Failure, NAMESPACES, States, group_of, keys_in, same};
use crate::access::{TableAccess, ms};

/// Key and namespace.
pub(crate) type Address = (String, String);

/// Time, key and namespace of a timer.
pub(crate) type ModelTimer = (Timestamp, String, String);

/// The contents of all states of the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) totals: BTreeMap<String, u64>,
    pub(crate) labels: BTreeMap<Address, String>,
    pub(crate) lines: BTreeMap<Address, Vec<String>>,
    pub(crate) fields: BTreeMap<Address, BTreeMap<String, u64>>,
    /// Timers without a namespace, for which the model has the empty one.
    pub(crate) alarms: BTreeSet<ModelTimer>,
    pub(crate) windows: BTreeSet<ModelTimer>,
    pub(crate) sums: BTreeMap<Address, u64>,
    pub(crate) means: BTreeMap<Address, (u64, u64)>,
    /// Values with their stamps. The model keeps expired ones; a backend may remove them at any time.
    pub(crate) brief: BTreeMap<String, Stamped<u64>>,
    pub(crate) recent: BTreeMap<String, Vec<Stamped<String>>>,
    pub(crate) seen: BTreeMap<String, BTreeMap<String, Stamped<u64>>>,
    pub(crate) time: Time,
}

/// A value with its stamp.
pub(crate) type Stamped<V> = (i64, V);

/// The time; both fields start at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) watermark: i64,
    pub(crate) processing: i64,
}

impl Time {
    pub(crate) fn brief_lives(self, stamp: i64) -> bool {
        stamp + BRIEF > self.watermark
    }

    pub(crate) fn recent_lives(self, stamp: i64) -> bool {
        stamp + RECENT > self.watermark
    }

    pub(crate) fn seen_lives(self, stamp: i64) -> bool {
        stamp + SEEN > self.processing
    }

    /// Sets the clock of a backend.
    pub(crate) fn set<B: KeyedBackend>(self, backend: &mut B) {
        let Self { watermark, processing } = self;
        *backend.clock() =
            StateTime { processing_time: ms(processing), watermark: ms(watermark), timestamp: None };
    }
}

impl Contents {
    /// Returns the part whose keys lie in `range`.
    #[must_use]
    pub(crate) fn clip(mut self, range: KeyGroupRange) -> Self {
        let inside = |key: &str| range.contains(group_of(key));
        self.totals.retain(|key, _| inside(key));
        self.labels.retain(|(key, _), _| inside(key));
        self.lines.retain(|(key, _), _| inside(key));
        self.fields.retain(|(key, _), _| inside(key));
        self.alarms.retain(|(_, key, _)| inside(key));
        self.windows.retain(|(_, key, _)| inside(key));
        self.sums.retain(|(key, _), _| inside(key));
        self.means.retain(|(key, _), _| inside(key));
        self.brief.retain(|key, _| inside(key));
        self.recent.retain(|key, _| inside(key));
        self.seen.retain(|key, _| inside(key));
        self
    }

    /// Returns both together; they have no key in common.
    #[must_use]
    pub(crate) fn union(mut self, other: Self) -> Self {
        self.totals.extend(other.totals);
        self.labels.extend(other.labels);
        self.lines.extend(other.lines);
        self.fields.extend(other.fields);
        self.alarms.extend(other.alarms);
        self.windows.extend(other.windows);
        self.sums.extend(other.sums);
        self.means.extend(other.means);
        self.brief.extend(other.brief);
        self.recent.extend(other.recent);
        self.seen.extend(other.seen);
        self.time = other.time;
        self
    }

    /// Returns the same contents at a later time: a restore does not set the system clock back.
    #[must_use]
    pub(crate) fn at(mut self, processing: i64) -> Self {
        self.time.processing = self.time.processing.max(processing);
        self
    }

    /// Counts the entries like [`KeyedBackend::entries`]: without and with the expired ones.
    pub(crate) fn entries(&self) -> RangeInclusive<u64> {
        let map_entries: usize = self.fields.values().map(BTreeMap::len).sum();
        let others =
            self.totals.len() + self.labels.len() + self.lines.len() + self.sums.len() + self.means.len();
        let lasting = map_entries + others + self.alarms.len() + self.windows.len();
        let time = self.time;
        let brief = self.brief.values().filter(|(stamp, _)| time.brief_lives(*stamp)).count();
        let lives = |list: &&Vec<Stamped<String>>| list.iter().any(|(stamp, _)| time.recent_lives(*stamp));
        let recent = self.recent.values().filter(lives).count();
        let items = || self.seen.values().flat_map(BTreeMap::values);
        let seen = items().filter(|(stamp, _)| time.seen_lives(*stamp)).count();
        let living = lasting + brief + recent + seen;
        let all = lasting + self.brief.len() + self.recent.len() + items().count();
        living as u64..=all as u64
    }

    /// Compares every value, list and map of `backend` with the model, and the times of its next timers.
    pub(crate) fn check_tables<B: KeyedBackend<Key = String>>(
        &self,
        backend: &mut B,
        states: &States,
        range: KeyGroupRange,
    ) -> Result<(), Failure> {
        let mut totals = BTreeMap::new();
        let mut twice = Vec::new();
        backend.for_each_value(states.values.total, |key, (), value| {
            twice.extend(totals.insert(key.clone(), *value).map(|_| key.clone()));
            Ok(())
        })?;
        same("all values of `total`", &totals, &self.totals)?;
        let mut labels = BTreeMap::new();
        backend.for_each_value(states.values.label, |key, namespace, value| {
            let address = (key.clone(), namespace.clone());
            twice.extend(labels.insert(address, value.clone()).map(|_| key.clone()));
            Ok(())
        })?;
        same("all values of `label`", &labels, &self.labels)?;
        same("keys whose value was visited twice", twice, Vec::new())?;
        if let Some(maps) = states.maps {
            let mut found = Vec::new();
            backend.for_each_key(maps.fields.id(), range, |key, namespace: &String| {
                found.push((key.key().clone(), namespace.clone()));
                Ok(())
            })?;
            found.sort();
            same("keys and namespaces of `fields`", found, self.fields.keys().cloned().collect())?;
        }
        for key in keys_in(range) {
            let key = key.to_owned();
            self.check_values(backend, states, &key)?;
            if let Some(lists) = states.lists {
                self.check_lists(backend, lists, &key)?;
            }
            if let Some(maps) = states.maps {
                self.check_maps(backend, maps, &key)?;
            }
        }
        let Some(timers) = states.timers else { return Ok(()) };
        let first = |timers: &BTreeSet<ModelTimer>| timers.first().map(|timer| timer.0);
        same("the next of `alarms`", backend.next_timer(timers.alarms)?, first(&self.alarms))?;
        same("the next of `windows`", backend.next_timer(timers.windows)?, first(&self.windows))
    }

    fn check_values<B: KeyedBackend<Key = String>>(
        &self,
        backend: &mut B,
        states: &States,
        key: &String,
    ) -> Result<(), Failure> {
        let (states, time) = (states.values, self.time);
        let mut scope = backend.at(key);
        same(("total", key), scope.state(states.total).get()?, self.totals.get(key))?;
        for namespace in NAMESPACES.map(str::to_owned) {
            let address = (key.clone(), namespace.clone());
            let label = scope.state_in(states.label, &namespace).get()?;
            same(("label", &address), label, self.labels.get(&address))?;
            let sum = scope.state_in(states.sums, &namespace).get()?;
            same(("sums", &address), sum, self.sums.get(&address))?;
            let mean = scope.state_in(states.mean, &namespace).get()?;
            let quotient = |(sum, n): &(u64, u64)| sum / n;
            same(("mean", &address), mean, self.means.get(&address).map(quotient))?;
        }
        let brief = backend.timed_value(states.brief, key)?;
        let brief = brief.map(|timed| (Timestamp::to_stored(timed.stamp), timed.value));
        let wanted = self.brief.get(key).copied().filter(|(stamp, _)| time.brief_lives(*stamp));
        same(("brief", key), brief.filter(|(stamp, _)| time.brief_lives(*stamp)), wanted)
    }

    fn check_lists<B: KeyedBackend<Key = String>>(
        &self,
        backend: &mut B,
        states: ListStates,
        key: &String,
    ) -> Result<(), Failure> {
        for namespace in NAMESPACES.map(str::to_owned) {
            let address = (key.clone(), namespace.clone());
            let mut scope = backend.at(key);
            let lines = scope.state_in(states.lines, &namespace).get()?;
            let wanted = self.lines.get(&address).map_or(&[][..], Vec::as_slice);
            same(("lines", &address), lines.as_slice(), wanted)?;
        }
        let unexpired = |list: &[Stamped<String>]| -> Vec<Stamped<String>> {
            list.iter().filter(|(stamp, _)| self.time.recent_lives(*stamp)).cloned().collect()
        };
        let elements = backend.timed_list(states.recent, key)?.iter();
        let recent: Vec<_> =
            elements.map(|timed| (Timestamp::to_stored(timed.stamp), timed.value.clone())).collect();
        let wanted = self.recent.get(key).map_or(&[][..], Vec::as_slice);
        same(("recent", key), unexpired(&recent), unexpired(wanted))
    }

    fn check_maps<B: KeyedBackend<Key = String>>(
        &self,
        backend: &mut B,
        states: MapStates,
        key: &String,
    ) -> Result<(), Failure> {
        for namespace in NAMESPACES.map(str::to_owned) {
            let address = (key.clone(), namespace.clone());
            let mut scope = backend.at(key);
            let mut found = Vec::new();
            scope.state_in(states.fields, &namespace).for_each(|map_key, value| {
                found.push((map_key.clone(), *value));
                Ok(())
            })?;
            found.sort();
            let wanted = self.fields.get(&address).cloned().unwrap_or_default();
            same(("fields", &address), &found, &wanted.clone().into_iter().collect())?;
            let len = scope.state_in(states.fields, &namespace).len()?;
            same(("the length of fields", &address), len, wanted.len())?;
            let empty = scope.state_in(states.fields, &namespace).is_empty()?;
            same(("fields is empty", &address), empty, wanted.is_empty())?;
            for (map_key, value) in &wanted {
                let got = scope.state_in(states.fields, &namespace).get(map_key)?;
                same(("field", &address, map_key), got, Some(value))?;
            }
        }
        let lives = |timed: &Stamped<u64>| self.time.seen_lives(timed.0);
        let entries = backend.timed_map(states.seen, key)?.into_iter();
        let seen =
            entries.map(|(map_key, timed)| (map_key, (Timestamp::to_stored(timed.stamp), timed.value)));
        let seen: BTreeMap<_, _> = seen.filter(|(_, timed)| lives(timed)).collect();
        let mut wanted = self.seen.get(key).cloned().unwrap_or_default();
        wanted.retain(|_, timed| lives(timed));
        same(("seen", key), seen, wanted)
    }

    /// Removes all timers from `backend` and compares them with the model: each once, in the order of their
    /// times.
    pub(crate) fn check_timers_by_taking_them<B: KeyedBackend<Key = String>>(
        &self,
        backend: &mut B,
        states: &States,
    ) -> Result<(), Failure> {
        let Some(timers) = states.timers else { return Ok(()) };
        let alarms = take_all(backend, timers.alarms, |()| String::new())?;
        same("all of `alarms`", &alarms, &self.alarms)?;
        let windows = take_all(backend, timers.windows, |namespace| namespace)?;
        same("all of `windows`", &windows, &self.windows)
    }
}

/// Pops all timers of a service, which must come in order, each with the right hash, none twice.
fn take_all<B: KeyedBackend<Key = String>, N: StateKey>(
    backend: &mut B,
    service: TimerService<N>,
    name: impl Fn(N) -> String,
) -> Result<BTreeSet<ModelTimer>, Failure> {
    let mut taken = BTreeSet::new();
    let mut last = Timestamp::MIN;
    while let Some(timer) = backend.pop_timer(service, Timestamp::MAX)? {
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
