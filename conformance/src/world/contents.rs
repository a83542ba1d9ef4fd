//! The naive model, and the comparison of a backend with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use strandline_state_api::{
    KeyGroupRange, KeyScope, Keyed, KeyedBackend, NO_TIMESTAMP, StateKey, StateTime, TimerService,
};

use super::states::{BRIEF, RECENT, SEEN};
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
    pub(crate) sums: BTreeMap<Address, u64>,
    pub(crate) means: BTreeMap<Address, (u64, u64)>,
    /// Values with their stamps. Expired ones stay here: how long a backend keeps them is up to it.
    pub(crate) brief: BTreeMap<String, Stamped<u64>>,
    pub(crate) recent: BTreeMap<String, Vec<Stamped<String>>>,
    pub(crate) seen: BTreeMap<String, BTreeMap<String, Stamped<u64>>>,
    pub(crate) time: Time,
}

/// A value with the time of its last use.
pub(crate) type Stamped<V> = (i64, V);

/// What time it is. Both start at 0.
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

    /// Tells a backend.
    pub(crate) fn tell<B: KeyedBackend>(self, backend: &mut B) {
        let Self { watermark, processing: processing_time } = self;
        *backend.clock() = StateTime { processing_time, watermark, timestamp: NO_TIMESTAMP };
    }
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
        self.sums.retain(|(key, _), _| inside(key));
        self.means.retain(|(key, _), _| inside(key));
        self.brief.retain(|key, _| inside(key));
        self.recent.retain(|key, _| inside(key));
        self.seen.retain(|key, _| inside(key));
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
        self.sums.extend(other.sums);
        self.means.extend(other.means);
        self.brief.extend(other.brief);
        self.recent.extend(other.recent);
        self.seen.extend(other.seen);
        self.time = other.time;
        self
    }

    /// The same, later: the clock of the machine does not go back with a restore.
    #[must_use]
    pub(crate) fn at(mut self, processing: i64) -> Self {
        self.time.processing = self.time.processing.max(processing);
        self
    }

    /// The number of its entries, counted like [`KeyedBackend::entries`]: without and with those that have expired.
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
        let mut places = Vec::new();
        backend.for_each_key(states.fields, range, |key, namespace| {
            places.push((key.key().clone(), namespace.clone()));
            Ok(())
        })?;
        places.sort();
        same("keys and namespaces of `fields`", places, self.fields.keys().cloned().collect())?;
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
            let sum = scope.reducing_in(&states.sums, &namespace).get()?;
            same(("sums", &address), sum, self.sums.get(&address))?;
            let mean = scope.aggregating_in(&states.mean, &namespace).get()?;
            let quotient = |(sum, n): &(u64, u64)| sum / n;
            same(("mean", &address), mean, self.means.get(&address).map(quotient))?;
            for (map_key, value) in &wanted {
                let got = scope.map_in(states.fields, &namespace).get(map_key)?;
                same(("field", &address, map_key), got, Some(value))?;
            }
        }
        self.check_expiring(scope, states)
    }

    /// What lives must be there with its stamp; what has expired may be there for a while.
    fn check_expiring<B: KeyedBackend<Key = String>>(
        &self,
        mut scope: KeyScope<'_, B>,
        states: &States,
    ) -> Result<(), Failure> {
        let (key, time) = (scope.key().clone(), self.time);
        let brief = scope.value(states.brief.stored()).get()?.map(|timed| (timed.stamp, timed.value));
        let wanted = self.brief.get(&key).copied().filter(|(stamp, _)| time.brief_lives(*stamp));
        same(("brief", &key), brief.filter(|(stamp, _)| time.brief_lives(*stamp)), wanted)?;
        let elements = scope.list(states.recent.stored()).get()?;
        let recent: Vec<_> = elements.iter().map(|timed| (timed.stamp, timed.value.clone())).collect();
        let living = |list: &[Stamped<String>]| -> Vec<Stamped<String>> {
            list.iter().filter(|(stamp, _)| time.recent_lives(*stamp)).cloned().collect()
        };
        same(("recent", &key), living(&recent), living(self.recent.get(&key).map_or(&[], Vec::as_slice)))?;
        let mut seen = BTreeMap::new();
        scope.map(states.seen.stored()).for_each(|map_key, timed| {
            seen.insert(map_key.clone(), (timed.stamp, timed.value));
            Ok(())
        })?;
        seen.retain(|_, (stamp, _)| time.seen_lives(*stamp));
        let mut wanted = self.seen.get(&key).cloned().unwrap_or_default();
        wanted.retain(|_, (stamp, _)| time.seen_lives(*stamp));
        same(("seen", &key), seen, wanted)
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
