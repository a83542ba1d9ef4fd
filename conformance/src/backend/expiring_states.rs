//! States of several kinds with one time-to-live, for the cases about expiry.

use std::time::Duration;

use strandline_state_api::backend::KeyedBackendExt;
use strandline_state_api::{
    Expiring, KeyedBackend, ListDescriptor, ListState, MapDescriptor, MapState, Result, Ttl, ValueDescriptor,
    ValueState,
};

use crate::Capabilities;
use crate::access::TableAccess;

/// Returns a time-to-live in processing time.
pub(super) fn ttl(millis: u64) -> Ttl {
    Ttl::processing_time(Duration::from_millis(millis))
}

/// A value, a list and a map with one time-to-live.
#[derive(Clone, Copy)]
pub(super) struct ExpiringStates {
    pub(super) value: ValueState<u64, (), Expiring>,
    pub(super) list: Option<ListState<u64, (), Expiring>>,
    pub(super) map: Option<MapState<u64, u64, (), Expiring>>,
}

impl ExpiringStates {
    pub(super) fn register<B: KeyedBackend>(backend: &mut B, has: Capabilities, ttl: Ttl) -> Result<Self> {
        let (list, map) = (ListDescriptor::new("list"), MapDescriptor::new("map"));
        Ok(Self {
            value: backend.register(&ValueDescriptor::new("value").time_to_live(ttl))?,
            list: has.lists.then(|| backend.register(&list.time_to_live(ttl))).transpose()?,
            map: has.maps.then(|| backend.register(&map.time_to_live(ttl))).transpose()?,
        })
    }

    /// Returns the number of states.
    pub(super) fn states(self) -> usize {
        1 + usize::from(self.list.is_some()) + usize::from(self.map.is_some())
    }

    pub(super) fn write<B: KeyedBackend<Key = u64>>(self, backend: &mut B, key: u64, value: u64) {
        let mut scope = backend.at(&key);
        scope.state(self.value).put(value).unwrap();
        if let Some(list) = self.list {
            scope.state(list).push(value).unwrap();
        }
        if let Some(map) = self.map {
            scope.state(map).put(value, value).unwrap();
        }
    }

    /// Checks what accesses return: the value, the elements, and the map entries in order.
    #[track_caller]
    pub(super) fn check<B: KeyedBackend<Key = u64>>(
        self,
        backend: &mut B,
        key: u64,
        value: Option<u64>,
        elements: &[u64],
        why: &str,
    ) {
        let mut scope = backend.at(&key);
        assert_eq!(scope.state(self.value).get().unwrap().copied(), value, "{why}");
        if let Some(list) = self.list {
            assert_eq!(scope.state(list).get().unwrap().to_vec(), elements, "{why}");
        }
        if let Some(map) = self.map {
            let (mut in_order, mut all) = (Vec::new(), Vec::new());
            let visit = |map_key: &u64, value: &u64| {
                assert_eq!(map_key, value);
                in_order.push(*value);
                Ok(())
            };
            scope.state(map).range(.., visit).unwrap();
            assert_eq!(in_order, elements, "{why}");
            let visit = |map_key: &u64, _: &u64| {
                all.push(*map_key);
                Ok(())
            };
            scope.state(map).for_each(visit).unwrap();
            all.sort_unstable();
            assert_eq!(all, elements, "{why}");
            assert_eq!(scope.state(map).len().unwrap(), elements.len(), "{why}");
            assert_eq!(scope.state(map).is_empty().unwrap(), elements.is_empty(), "{why}");
        }
    }

    /// Checks that all accesses return `value`.
    #[track_caller]
    pub(super) fn shows<B: KeyedBackend<Key = u64>>(self, backend: &mut B, key: u64, value: u64, why: &str) {
        self.check(backend, key, Some(value), &[value], why);
    }

    /// Checks that no access returns anything.
    #[track_caller]
    pub(super) fn hides<B: KeyedBackend<Key = u64>>(self, backend: &mut B, key: u64, why: &str) {
        self.check(backend, key, None, &[], why);
    }

    /// Counts the entries that the backend still has, expired or not.
    pub(super) fn left<B: KeyedBackend<Key = u64>>(self, backend: &mut B, key: u64) -> usize {
        let value = usize::from(backend.timed_value(self.value, &key).unwrap().is_some());
        let elements = self.list.map_or(0, |list| backend.timed_list(list, &key).unwrap().len());
        let entries = self.map.map_or(0, |map| backend.timed_map(map, &key).unwrap().len());
        value + elements + entries
    }
}
