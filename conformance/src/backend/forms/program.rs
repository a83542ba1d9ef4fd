//! A program in four versions, each of which stores other bytes, and what its state has to be.

use std::collections::BTreeMap;
use std::fmt::Debug;

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use strandline_state_api::backend::{BackendFactory, KeyedBackendExt};
use strandline_state_api::{
    Evolution, KeyedBackend, ListDescriptor, ListState, MapDescriptor, MapState, Result, SerdeCodec,
    ValueDescriptor, ValueState,
};

use crate::Capabilities;
use crate::backend::simple::Simple;

/// A number, and the version of the program that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) version: u32,
    pub(crate) number: u32,
}

/// A version of the program.
pub(crate) trait Version {
    /// The type of all values.
    type Value: Clone + PartialEq + Debug + Send + 'static;
    const NUMBER: u32;

    fn evolution() -> Evolution<Self::Value>;

    /// Returns what this version reads.
    fn value(written: Written) -> Self::Value;
}

pub(crate) struct First;
pub(crate) struct Second;
pub(crate) struct Third;
pub(crate) struct Fourth;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Labelled {
    label: Option<String>,
    number: u64,
}

fn widened(old: u32) -> u64 {
    u64::from(old) + 2_000_000_000_000
}

fn labelled(old: u64) -> Labelled {
    Labelled { label: Some(format!("was {old}")), number: old + 1 }
}

fn shown(old: &Labelled) -> String {
    format!("{:?}: {}", old.label, old.number)
}

impl Version for First {
    type Value = u32;
    const NUMBER: u32 = 1;

    fn evolution() -> Evolution<u32> {
        Evolution::first(1, SerdeCodec)
    }

    fn value(Written { number, .. }: Written) -> u32 {
        number
    }
}

impl Version for Second {
    type Value = u64;
    const NUMBER: u32 = 2;

    fn evolution() -> Evolution<u64> {
        First::evolution().then(2, SerdeCodec, |old| Ok(widened(old)))
    }

    fn value(written: Written) -> u64 {
        if written.version == 2 { written.number.into() } else { widened(First::value(written)) }
    }
}

impl Version for Third {
    type Value = Labelled;
    const NUMBER: u32 = 3;

    fn evolution() -> Evolution<Labelled> {
        Second::evolution().then(3, SerdeCodec, |old| Ok(labelled(old)))
    }

    fn value(written: Written) -> Labelled {
        match written.version {
            3 => Labelled { label: None, number: written.number.into() },
            _ => labelled(Second::value(written)),
        }
    }
}

impl Version for Fourth {
    type Value = String;
    const NUMBER: u32 = 4;

    fn evolution() -> Evolution<String> {
        Third::evolution().then(4, SerdeCodec, |old| Ok(shown(&old)))
    }

    fn value(written: Written) -> String {
        if written.version == 4 { written.number.to_string() } else { shown(&Third::value(written)) }
    }
}

/// What is stored of one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OfKey {
    pub(crate) value: Option<Written>,
    pub(crate) list: Vec<Written>,
    pub(crate) map: BTreeMap<u8, Written>,
}

/// What the states have to hold.
pub(crate) type Contents = BTreeMap<u64, OfKey>;

/// The keys of random programs.
pub(crate) const KEYS: u64 = 24;

/// The states of one version. A version may leave lists and maps unclaimed.
pub(crate) struct States<V: Version> {
    pub(crate) value: ValueState<V::Value>,
    pub(crate) list: Option<ListState<V::Value>>,
    pub(crate) map: Option<MapState<u8, V::Value>>,
}

impl<V: Version> States<V> {
    /// Registers the states that the backend has.
    pub(crate) fn register<B: KeyedBackend>(backend: &mut B, has: Capabilities) -> Result<Self> {
        Self::register_with(backend, has, V::evolution)
    }

    /// Registers the states with other migrations than those of the version.
    pub(crate) fn register_with<B: KeyedBackend>(
        backend: &mut B,
        has: Capabilities,
        evolution: impl Fn() -> Evolution<V::Value>,
    ) -> Result<Self> {
        let list = || ListDescriptor::evolving("list", evolution());
        let map = || MapDescriptor::evolving("map", evolution());
        Ok(Self {
            value: backend.register(&ValueDescriptor::evolving("value", evolution()))?,
            list: has.lists.then(|| backend.register(&list())).transpose()?,
            map: has.maps.then(|| backend.register(&map())).transpose()?,
        })
    }

    /// Makes random changes to keys of `rig`, also in `contents`.
    pub(crate) fn change<F: BackendFactory>(
        &self,
        rig: &mut Simple<F, u64>,
        contents: &mut Contents,
        rng: &mut Rng,
        changes: usize,
    ) {
        for _ in 0..changes {
            let key = rng.u64(..KEYS);
            if rig.owns(&key) {
                self.change_one(rig, key, contents.entry(key).or_default(), rng);
            }
        }
    }

    fn change_one<F: BackendFactory>(
        &self,
        rig: &mut Simple<F, u64>,
        key: u64,
        of_key: &mut OfKey,
        rng: &mut Rng,
    ) {
        let written = Written { version: V::NUMBER, number: rng.u32(..1_000) };
        let (value, map_key) = (V::value(written), rng.u8(..3));
        let mut scope = rig.backend.at(&key);
        match (rng.u8(..12), self.list, self.map) {
            (0..3, ..) => {
                scope.state(self.value).put(value).unwrap();
                of_key.value = Some(written);
            }
            (3, ..) => {
                let existed = scope.state(self.value).clear().unwrap();
                assert_eq!(existed, of_key.value.take().is_some());
            }
            (4..7, Some(list), _) => {
                scope.state(list).push(value).unwrap();
                of_key.list.push(written);
            }
            (7, Some(list), _) => {
                scope.state(list).put(vec![value]).unwrap();
                of_key.list = vec![written];
            }
            (8, Some(list), _) if rng.bool() => {
                scope.state(list).clear().unwrap();
                of_key.list.clear();
            }
            (9..11, _, Some(map)) => {
                scope.state(map).put(map_key, value).unwrap();
                of_key.map.insert(map_key, written);
            }
            (11, _, Some(map)) if rng.bool() => {
                let existed = scope.state(map).remove(&map_key).unwrap();
                assert_eq!(existed, of_key.map.remove(&map_key).is_some());
            }
            (11, _, Some(map)) if rng.bool() => {
                scope.state(map).clear().unwrap();
                of_key.map.clear();
            }
            _ => {}
        }
    }

    /// Compares the states that are claimed with `contents`.
    pub(crate) fn check<F: BackendFactory>(&self, rig: &mut Simple<F, u64>, contents: &Contents, when: &str) {
        for key in 0..KEYS {
            if !rig.owns(&key) {
                continue;
            }
            let wanted = contents.get(&key).cloned().unwrap_or_default();
            let mut scope = rig.backend.at(&key);
            let value = scope.state(self.value).get().unwrap().cloned();
            assert_eq!(value, wanted.value.map(V::value), "{when}, value of key {key}");
            if let Some(list) = self.list {
                let found = scope.state(list).get().unwrap().to_vec();
                let wanted: Vec<_> = wanted.list.into_iter().map(V::value).collect();
                assert_eq!(found, wanted, "{when}, list of key {key}");
            }
            if let Some(map) = self.map {
                let mut found = BTreeMap::new();
                let visit = |map_key: &u8, value: &V::Value| {
                    found.insert(*map_key, value.clone());
                    Ok(())
                };
                scope.state(map).for_each(visit).unwrap();
                let wanted: BTreeMap<_, _> =
                    wanted.map.into_iter().map(|(map_key, written)| (map_key, V::value(written))).collect();
                assert_eq!(found, wanted, "{when}, map of key {key}");
            }
        }
    }
}
