//! Operations on the states of the world, each applied to a backend and to the model.

use fastrand::Rng;
use strandline_state_api::KeyedBackend;
use strandline_state_api::backend::KeyedBackendExt;

use super::contents::Contents;
use super::{Failure, KEYS, MAP_KEYS, NAMESPACES, States};

mod expiring;
mod folding;
mod plain;
mod timers;

type Text = &'static str;

/// One operation; its name starts with that of the state. An operation on a state of a kind that the backend
/// does not have has no effect.
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
    FieldAdd(Text, Text, Text, u64),
    FieldTake(Text, Text, Text),
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
    /// The last number of operations on expiring states is the distance of the timestamp from the watermark.
    BriefPut(Text, u64, i64),
    BriefAdd(Text, u64, i64),
    BriefGet(Text),
    RecentAdd(Text, String, i64),
    RecentGet(Text, i64),
    SeenPut(Text, Text, u64),
    SeenGet(Text, Text),
    SeenAll(Text),
    /// Raises the watermark and the processing time by these amounts.
    Tick(i64, i64),
    /// Cleans up after so many records.
    CleanUp(usize),
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn any_time(rng: &mut Rng) -> i64 {
    match rng.u8(..20) {
        0 => i64::MIN + 1,
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
    /// Returns a random operation; a few keys are much hotter than others.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let key = if rng.bool() { pick(rng, &KEYS[..8]) } else { pick(rng, &KEYS) };
        let (ns, field, time) = (pick(rng, &NAMESPACES), pick(rng, &MAP_KEYS), any_time(rng));
        let ahead = rng.i64(0..15);
        match rng.u8(..47) {
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
            42 => Self::Tick(rng.i64(0..12), rng.i64(0..12)),
            43 => Self::CleanUp(rng.usize(..300)),
            44 | 45 => Self::FieldAdd(key, ns, field, rng.u64(1..10)),
            46 => Self::FieldTake(key, ns, field),
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

    /// Returns whether the operation leaves expiring state alone.
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

    /// Returns the key of the operation; a pop has none.
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
            | Self::FieldAdd(key, ..)
            | Self::FieldTake(key, ..)
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

    /// Applies the operation to backend and model; both must return the same.
    pub(crate) fn apply<B: KeyedBackend<Key = String>>(
        &self,
        backend: &mut B,
        states: &States,
        model: &mut Contents,
    ) -> Result<(), Failure> {
        let key = self.key().unwrap_or_default().to_owned();
        match self {
            Self::AlarmPop(_) | Self::WindowPop(_) => return timers::pop_one(self, backend, states, model),
            Self::Tick(watermark, processing) => {
                model.time.watermark += watermark;
                model.time.processing += processing;
                model.time.set(backend);
                return Ok(());
            }
            Self::CleanUp(records) => {
                backend.clean_up(*records)?;
                return Ok(());
            }
            _ => {}
        }
        let mut scope = backend.at(&key);
        match *self {
            Self::TotalPut(..) | Self::TotalAdd(..) | Self::TotalClear(..) => {
                plain::apply_total(self, &mut scope, states, model)
            }
            Self::LabelPut(_, ns, _) | Self::LabelPush(_, ns, _) | Self::LabelClear(_, ns) => {
                plain::apply_label(self, &mut scope, states, model, &ns.to_owned())
            }
            Self::LinesAdd(_, ns, _) | Self::LinesPut(_, ns, _) | Self::LinesClear(_, ns) => {
                plain::apply_lines(self, &mut scope, states, model, &ns.to_owned())
            }
            Self::FieldPut(_, ns, ..)
            | Self::FieldAdd(_, ns, ..)
            | Self::FieldTake(_, ns, _)
            | Self::FieldRemove(_, ns, _)
            | Self::FieldsClear(_, ns) => {
                plain::apply_fields(self, &mut scope, states, model, &ns.to_owned())
            }
            Self::AlarmSet(..) | Self::AlarmDelete(..) | Self::WindowSet(..) | Self::WindowDelete(..) => {
                timers::apply(self, &mut scope, states, model)
            }
            Self::SumAdd(_, ns, _)
            | Self::SumClear(_, ns)
            | Self::SumMerge(_, ns, _)
            | Self::MeanAdd(_, ns, _)
            | Self::MeanMerge(_, ns, _)
            | Self::LinesMerge(_, ns, _) => folding::apply(self, &mut scope, states, model, &ns.to_owned()),
            _ => expiring::apply(self, &mut scope, states, model),
        }
    }
}
