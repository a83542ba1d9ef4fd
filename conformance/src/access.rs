//! Accesses that tests of a backend need beyond those of operators: timers, and stored values with their
//! stamps.

use strandline_state_api::backend::{At, Lists, Maps, TimerEntry, Timers, Values};
use strandline_state_api::{
    Expiring, Keyed, KeyedBackend, Lifespan, ListState, MapState, Result, StateKey, TimerService, Timestamp,
    ValueState,
};

/// A stored value with its stamp.
pub(crate) type Timed<V> = <Expiring as Lifespan>::Stored<V>;

/// Returns an instant for the clock of a backend.
pub(crate) fn ms(millis: i64) -> Option<Timestamp> {
    Some(Timestamp::from_millis(millis))
}

/// Accesses to whole tables; every backend implements them.
pub(crate) trait TableAccess: KeyedBackend {
    /// Removes and returns the earliest timer that is due at or before `up_to`.
    fn pop_timer<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        up_to: impl Into<Timestamp>,
    ) -> Result<Option<TimerEntry<Self::Key, N>>> {
        self.timers::<N>(service.id())?.pop(up_to.into())
    }

    /// Returns the time of the earliest timer.
    fn next_timer<N: StateKey>(&mut self, service: TimerService<N>) -> Result<Option<Timestamp>> {
        self.timers::<N>(service.id())?.next()
    }

    /// Visits every timer of a service.
    fn for_each_timer<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        visit: impl FnMut(&TimerEntry<Self::Key, N>) -> Result<()>,
    ) -> Result<()> {
        self.timers::<N>(service.id())?.for_each(visit)
    }

    /// Returns a value with its stamp, expired or not.
    fn timed_value<V: Send + 'static>(
        &mut self,
        state: ValueState<V, (), Expiring>,
        key: &Self::Key,
    ) -> Result<Option<&Timed<V>>> {
        self.values::<Timed<V>, ()>(state.id())?.get(At { key: Keyed::new(key), namespace: &() })
    }

    /// Returns the elements of a list with their stamps, expired or not.
    fn timed_list<T: Send + 'static>(
        &mut self,
        state: ListState<T, (), Expiring>,
        key: &Self::Key,
    ) -> Result<&[Timed<T>]> {
        self.lists::<Timed<T>, ()>(state.id())?.get(At { key: Keyed::new(key), namespace: &() })
    }

    /// Returns the entries of a map with their stamps, expired or not.
    fn timed_map<MK: StateKey, V: Clone + Send + 'static>(
        &mut self,
        state: MapState<MK, V, (), Expiring>,
        key: &Self::Key,
    ) -> Result<Vec<(MK, Timed<V>)>> {
        let mut entries = Vec::new();
        let at = At { key: Keyed::new(key), namespace: &() };
        self.maps::<MK, Timed<V>, ()>(state.id())?.for_each(at, |map_key, timed| {
            entries.push((map_key.clone(), timed.clone()));
            Ok(())
        })?;
        Ok(entries)
    }
}

impl<B: KeyedBackend> TableAccess for B {}
