//! Operations on the states of the world, applied to a backend and to the model at once.

use fastrand::Rng;
use strandline_state_api::{KeyScope, Keyed, KeyedBackend, StateKey, TimerService};

use super::contents::{Contents, Timer};

mod expiring;
mod folding;

use super::{Failure, KEYS, MAP_KEYS, NAMESPACES, States, same};

type Text = &'static str;

/// One operation; the names are those of the states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    TotalPut(Text, u64),
    TotalAdd(Text, u64),
    TotalClear(Text),
    LabelPut(Text, Text, String),
    LabelPush(Text, Text, char),
    LabelClear(Text, Text),
    LinesAdd(Text, Text, Vec<String>),
    LinesPut(Text, Text, Vec<String>),
    LinesClear(Text, Text),
    FieldPut(Text, Text, Text, u64),
    FieldRemove(Text, Text, Text),
    FieldsClear(Text, Text),
    AlarmSet(Text, i64),
    AlarmDelete(Text, i64),
    AlarmPop(i64),
    WindowSet(Text, Text, i64),
    WindowDelete(Text, Text, i64),
    WindowPop(i64),
    SumAdd(Text, Text, u64),
    SumClear(Text, Text),
    SumMerge(Text, Text, Vec<Text>),
    MeanAdd(Text, Text, u64),
    MeanMerge(Text, Text, Vec<Text>),
    LinesMerge(Text, Text, Vec<Text>),
    /// Those with a time-to-live; the last number is the timestamp beyond the watermark.
    BriefPut(Text, u64, i64),
    BriefAdd(Text, u64, i64),
    BriefGet(Text),
    RecentAdd(Text, String, i64),
    RecentGet(Text, i64),
    SeenPut(Text, Text, u64),
    SeenGet(Text, Text),
    SeenAll(Text),
    /// The watermark and the clock of the machine go on by this much.
    Tick(i64, i64),
    /// So many records are paid for.
    CleanUp(usize),
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn any_time(rng: &mut Rng) -> i64 {
    match rng.u8(..20) {
        0 => i64::MIN,
        1 => i64::MAX,
        2 => -rng.i64(1..50),
        _ => rng.i64(0..50),
    }
}

fn any_namespaces(rng: &mut Rng) -> Vec<Text> {
    (0..rng.usize(..3)).map(|_| pick(rng, &NAMESPACES)).collect()
}

fn any_lines(rng: &mut Rng) -> Vec<String> {
    (0..rng.usize(..4)).map(|_| "x".repeat(rng.usize(..3)) + &rng.u8(..).to_string()).collect()
}

impl Op {
    /// Any operation; a few keys are much hotter than others.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let key = if rng.bool() { pick(rng, &KEYS[..8]) } else { pick(rng, &KEYS) };
        let (ns, field, time) = (pick(rng, &NAMESPACES), pick(rng, &MAP_KEYS), any_time(rng));
        let ahead = rng.i64(0..15);
        match rng.u8(..44) {
            26 | 27 => Self::SumAdd(key, ns, rng.u64(..)),
            28 => Self::SumClear(key, ns),
            29 => Self::SumMerge(key, ns, any_namespaces(rng)),
            30 => Self::MeanAdd(key, ns, rng.u64(..1_000)),
            31 => Self::MeanMerge(key, ns, any_namespaces(rng)),
            32 => Self::LinesMerge(key, ns, any_namespaces(rng)),
            33 => Self::BriefPut(key, rng.u64(..), ahead),
            34 => Self::BriefAdd(key, rng.u64(..), ahead),
            35 => Self::BriefGet(key),
            36 | 37 => Self::RecentAdd(key, rng.u8(..).to_string(), ahead),
            38 => Self::RecentGet(key, ahead),
            39 => Self::SeenPut(key, field, rng.u64(..)),
            40 => Self::SeenGet(key, field),
            41 => Self::SeenAll(key),
            42 => Self::Tick(rng.i64(0..4), rng.i64(0..4)),
            43 => Self::CleanUp(rng.usize(..300)),
            0 | 1 => Self::TotalPut(key, rng.u64(..)),
            2..=4 => Self::TotalAdd(key, rng.u64(1..10)),
            5 => Self::TotalClear(key),
            6 | 7 => Self::LabelPut(key, ns, any_lines(rng).concat()),
            8 => Self::LabelPush(key, ns, rng.char('a'..'e')),
            9 => Self::LabelClear(key, ns),
            10..=12 => Self::LinesAdd(key, ns, any_lines(rng)),
            13 => Self::LinesPut(key, ns, any_lines(rng)),
            14 => Self::LinesClear(key, ns),
            15..=17 => Self::FieldPut(key, ns, field, rng.u64(..)),
            18 => Self::FieldRemove(key, ns, field),
            19 => Self::FieldsClear(key, ns),
            20 => Self::AlarmSet(key, time),
            21 => Self::AlarmDelete(key, time),
            22 => Self::AlarmPop(time),
            23 => Self::WindowSet(key, ns, time),
            24 => Self::WindowDelete(key, ns, time),
            _ => Self::WindowPop(time),
        }
    }

    /// Whether it has nothing to do with state that expires.
    pub(crate) fn is_lasting(&self) -> bool {
        !matches!(
            self,
            Self::BriefPut(..)
                | Self::BriefAdd(..)
                | Self::BriefGet(_)
                | Self::RecentAdd(..)
                | Self::RecentGet(..)
                | Self::SeenPut(..)
                | Self::SeenGet(..)
                | Self::SeenAll(_)
                | Self::Tick(..)
                | Self::CleanUp(_)
        )
    }

    /// The key that it works on; a pop has none.
    pub(crate) fn key(&self) -> Option<&'static str> {
        match *self {
            Self::TotalPut(key, _)
            | Self::TotalAdd(key, _)
            | Self::TotalClear(key)
            | Self::LabelPut(key, ..)
            | Self::LabelPush(key, ..)
            | Self::LabelClear(key, _)
            | Self::LinesAdd(key, ..)
            | Self::LinesPut(key, ..)
            | Self::LinesClear(key, _)
            | Self::FieldPut(key, ..)
            | Self::FieldRemove(key, ..)
            | Self::FieldsClear(key, _)
            | Self::AlarmSet(key, _)
            | Self::AlarmDelete(key, _)
            | Self::WindowSet(key, ..)
            | Self::WindowDelete(key, ..)
            | Self::SumAdd(key, ..)
            | Self::SumClear(key, _)
            | Self::SumMerge(key, ..)
            | Self::MeanAdd(key, ..)
            | Self::MeanMerge(key, ..)
            | Self::LinesMerge(key, ..)
            | Self::BriefPut(key, ..)
            | Self::BriefAdd(key, ..)
            | Self::BriefGet(key)
            | Self::RecentAdd(key, ..)
            | Self::RecentGet(key, _)
            | Self::SeenPut(key, ..)
            | Self::SeenGet(key, _)
            | Self::SeenAll(key) => Some(key),
            Self::AlarmPop(_) | Self::WindowPop(_) | Self::Tick(..) | Self::CleanUp(_) => None,
        }
    }

    /// Does it to both; their answers must be the same.
    pub(crate) fn apply<B: KeyedBackend<Key = String>>(
        &self,
        backend: &mut B,
        states: &States,
        model: &mut Contents,
    ) -> Result<(), Failure> {
        let key = self.key().unwrap_or_default().to_owned();
        match self {
            Self::AlarmPop(up_to) => {
                return pop(backend, states.alarms, *up_to, &mut model.alarms, |()| String::new());
            }
            Self::WindowPop(up_to) => {
                return pop(backend, states.windows, *up_to, &mut model.windows, |namespace| namespace);
            }
            Self::Tick(watermark, processing) => {
                model.time.watermark += watermark;
                model.time.processing += processing;
                model.time.tell(backend);
                return Ok(());
            }
            Self::CleanUp(records) => {
                backend.clean_up(*records)?;
                return Ok(());
            }
            _ => {}
        }
        let mut scope = KeyScope::new(backend, Keyed::new(&key));
        match self {
            Self::TotalPut(..) | Self::TotalAdd(..) | Self::TotalClear(..) => {
                self.apply_total(&mut scope, states, model)
            }
            Self::LabelPut(_, ns, _) | Self::LabelPush(_, ns, _) | Self::LabelClear(_, ns) => {
                self.apply_label(&mut scope, states, model, &(*ns).to_owned())
            }
            Self::LinesAdd(_, ns, _) | Self::LinesPut(_, ns, _) | Self::LinesClear(_, ns) => {
                self.apply_lines(&mut scope, states, model, &(*ns).to_owned())
            }
            Self::FieldPut(_, ns, ..) | Self::FieldRemove(_, ns, _) | Self::FieldsClear(_, ns) => {
                self.apply_fields(&mut scope, states, model, &(*ns).to_owned())
            }
            Self::AlarmSet(..) | Self::AlarmDelete(..) | Self::WindowSet(..) | Self::WindowDelete(..) => {
                self.apply_timer(&mut scope, states, model)
            }
            Self::SumAdd(_, ns, _)
            | Self::SumClear(_, ns)
            | Self::SumMerge(_, ns, _)
            | Self::MeanAdd(_, ns, _)
            | Self::MeanMerge(_, ns, _)
            | Self::LinesMerge(_, ns, _) => {
                folding::apply(self, &mut scope, states, model, &(*ns).to_owned())
            }
            _ => expiring::apply(self, &mut scope, states, model),
        }
    }

    fn apply_total<B: KeyedBackend<Key = String>>(
        &self,
        scope: &mut KeyScope<'_, B>,
        states: &States,
        model: &mut Contents,
    ) -> Result<(), Failure> {
        let key = scope.key().clone();
        match self {
            Self::TotalPut(_, value) => {
                scope.value(states.total).put(*value)?;
                model.totals.insert(key.clone(), *value);
            }
            Self::TotalAdd(_, by) => {
                let wanted = model.totals.entry(key.clone()).or_insert(7);
                *wanted = wanted.wrapping_add(*by);
                let got = scope.value(states.total).modify(
                    || 7,
                    |value| {
                        *value = value.wrapping_add(*by);
                        *value
                    },
                )?;
                same(self, got, *wanted)?;
            }
            _ => {
                let was = model.totals.remove(&key).is_some();
                same(self, scope.value(states.total).clear()?, was)?;
            }
        }
        same((self, "then get"), scope.value(states.total).get()?, model.totals.get(&key))
    }

    fn apply_label<B: KeyedBackend<Key = String>>(
        &self,
        scope: &mut KeyScope<'_, B>,
        states: &States,
        model: &mut Contents,
        namespace: &String,
    ) -> Result<(), Failure> {
        let address = (scope.key().clone(), namespace.clone());
        let label = scope.value_in(states.label, namespace);
        match self {
            Self::LabelPut(_, _, value) => {
                label.put(value.clone())?;
                model.labels.insert(address.clone(), value.clone());
            }
            Self::LabelPush(_, _, c) => {
                label.modify(String::new, |text| text.push(*c))?;
                model.labels.entry(address.clone()).or_default().push(*c);
            }
            _ => same(self, label.clear()?, model.labels.remove(&address).is_some())?,
        }
        let got = scope.value_in(states.label, namespace).get()?;
        same((self, "then get"), got, model.labels.get(&address))
    }

    fn apply_lines<B: KeyedBackend<Key = String>>(
        &self,
        scope: &mut KeyScope<'_, B>,
        states: &States,
        model: &mut Contents,
        namespace: &String,
    ) -> Result<(), Failure> {
        let address = (scope.key().clone(), namespace.clone());
        let list = scope.list_in(states.lines, namespace);
        match self {
            // Without reading it back: an append onto a list that nobody looks at must work too.
            Self::LinesAdd(_, _, elements) => {
                list.extend(elements.iter().cloned())?;
                if !elements.is_empty() {
                    model.lines.entry(address).or_default().extend_from_slice(elements);
                }
                return Ok(());
            }
            Self::LinesPut(_, _, elements) => {
                list.put(elements.clone())?;
                model.lines.remove(&address);
                if !elements.is_empty() {
                    model.lines.insert(address.clone(), elements.clone());
                }
            }
            _ => same(self, list.clear()?, model.lines.remove(&address).is_some())?,
        }
        let got = scope.list_in(states.lines, namespace).get()?;
        same((self, "then get"), got, model.lines.get(&address).map_or(&[][..], Vec::as_slice))
    }

    fn apply_fields<B: KeyedBackend<Key = String>>(
        &self,
        scope: &mut KeyScope<'_, B>,
        states: &States,
        model: &mut Contents,
        namespace: &String,
    ) -> Result<(), Failure> {
        let address = (scope.key().clone(), namespace.clone());
        let map = scope.map_in(states.fields, namespace);
        let wanted = model.fields.entry(address.clone()).or_default();
        match self {
            Self::FieldPut(_, _, map_key, value) => {
                map.put((*map_key).to_owned(), *value)?;
                wanted.insert((*map_key).to_owned(), *value);
            }
            Self::FieldRemove(_, _, map_key) => {
                same(self, map.remove(&(*map_key).to_owned())?, wanted.remove(*map_key).is_some())?;
                let contains = scope.map_in(states.fields, namespace).contains(&(*map_key).to_owned())?;
                same((self, "then contains"), contains, false)?;
            }
            _ => {
                same(self, map.clear()?, !wanted.is_empty())?;
                wanted.clear();
            }
        }
        let empty = scope.map_in(states.fields, namespace).is_empty()?;
        same((self, "then is_empty"), empty, wanted.is_empty())?;
        if wanted.is_empty() {
            model.fields.remove(&address);
        }
        Ok(())
    }

    fn apply_timer<B: KeyedBackend<Key = String>>(
        &self,
        scope: &mut KeyScope<'_, B>,
        states: &States,
        model: &mut Contents,
    ) -> Result<(), Failure> {
        let key = scope.key().clone();
        match self {
            Self::AlarmSet(_, time) => {
                let new = model.alarms.insert((*time, key, String::new()));
                same(self, scope.timers(states.alarms).register(*time)?, new)
            }
            Self::AlarmDelete(_, time) => {
                let was = model.alarms.remove(&(*time, key, String::new()));
                same(self, scope.timers(states.alarms).delete(*time)?, was)
            }
            Self::WindowSet(_, ns, time) => {
                let namespace = (*ns).to_owned();
                let got = scope.timers_in(states.windows, &namespace).register(*time)?;
                same(self, got, model.windows.insert((*time, key, namespace)))
            }
            Self::WindowDelete(_, ns, time) => {
                let namespace = (*ns).to_owned();
                let got = scope.timers_in(states.windows, &namespace).delete(*time)?;
                same(self, got, model.windows.remove(&(*time, key, namespace)))
            }
            _ => Ok(()),
        }
    }
}

/// Pops one timer. Which of those of the earliest time comes is the backend's choice.
fn pop<B: KeyedBackend<Key = String>, N: StateKey>(
    backend: &mut B,
    service: TimerService<N>,
    up_to: i64,
    model: &mut std::collections::BTreeSet<Timer>,
    name: impl Fn(N) -> String,
) -> Result<(), Failure> {
    let earliest = model.first().map(|timer| timer.0);
    same("the next timer", backend.timer_next(service)?, earliest)?;
    let popped = backend.timer_pop(service, up_to)?;
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
