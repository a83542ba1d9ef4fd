//! The states of the world: every kind, with and without namespaces, with and without a time-to-live.

use std::time::Duration;

use strandline_state_api::backend::KeyedBackendExt;
use strandline_state_api::{
    AggregateFunction, AggregatingDescriptor, AggregatingState, Expiring, KeyedBackend, ListDescriptor,
    ListState, MapDescriptor, MapState, ReducingDescriptor, ReducingState, Refresh, Result, TimerDescriptor,
    TimerService, Ttl, ValueDescriptor, ValueState,
};

use crate::Capabilities;

fn add(sum: &mut u64, n: u64) {
    *sum = sum.wrapping_add(n);
}

/// An average: sum and count, and their quotient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean;

impl AggregateFunction for Mean {
    type In = u64;
    type Accumulator = (u64, u64);
    type Out = u64;

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, (sum, n): &mut (u64, u64), value: u64) {
        *sum = sum.wrapping_add(value);
        *n += 1;
    }

    fn result(&self, (sum, n): &(u64, u64)) -> u64 {
        sum.checked_div(*n).unwrap_or_default()
    }

    fn merge(&self, (sum, n): &mut (u64, u64), other: (u64, u64)) {
        *sum = sum.wrapping_add(other.0);
        *n += other.1;
    }
}

/// The time-to-live of `brief`, in milliseconds of event time.
pub(crate) const BRIEF: i64 = 20;
/// The time-to-live of `recent`, which reads reset, in milliseconds of event time.
pub(crate) const RECENT: i64 = 30;
/// The time-to-live of `seen`, in milliseconds of processing time.
pub(crate) const SEEN: i64 = 25;

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis as u64)
}

macro_rules! states {
    ($(#[$doc:meta])* $group:ident { $($name:ident: $handle:ty = $make:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $group {
            $(pub(crate) $name: $handle,)*
        }

        impl $group {
            const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            fn register<B: KeyedBackend>(backend: &mut B) -> Result<Self> {
                Ok(Self { $($name: backend.register(&$make)?),* })
            }
        }
    };
}

states! {
    /// The states that hold one value for each key and namespace.
    ValueStates {
        brief: ValueState<u64, (), Expiring> =
            ValueDescriptor::new("brief").time_to_live(Ttl::event_time(millis(BRIEF)));
        label: ValueState<String, String> = ValueDescriptor::new("label").namespaced();
        mean: AggregatingState<Mean, String> = AggregatingDescriptor::new("mean", Mean).namespaced();
        sums: ReducingState<u64, String> = ReducingDescriptor::new("sums", add).namespaced();
        total: ValueState<u64> = total();
    }
}

states! {
    /// The list states.
    ListStates {
        lines: ListState<String, String> = ListDescriptor::new("lines").namespaced();
        recent: ListState<String, (), Expiring> = ListDescriptor::new("recent")
            .time_to_live(Ttl::event_time(millis(RECENT)).refresh(Refresh::OnReadAndWrite));
    }
}

states! {
    /// The map states.
    MapStates {
        fields: MapState<String, u64, String> = MapDescriptor::new("fields").namespaced();
        seen: MapState<String, u64, (), Expiring> =
            MapDescriptor::new("seen").time_to_live(Ttl::processing_time(millis(SEEN)));
    }
}

states! {
    /// The timer services.
    TimerServices {
        alarms: TimerService = TimerDescriptor::processing_time("alarms");
        windows: TimerService<String> = TimerDescriptor::event_time("windows");
    }
}

/// Declares the state `total` of the world, for cases that register it alone.
pub(crate) fn total() -> ValueDescriptor<u64> {
    ValueDescriptor::new("total")
}

/// The handles; `None` for a kind that the backend under test does not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct States {
    pub(crate) values: ValueStates,
    pub(crate) lists: Option<ListStates>,
    pub(crate) maps: Option<MapStates>,
    pub(crate) timers: Option<TimerServices>,
}

impl States {
    /// Registers the states of all kinds that the backend has.
    pub(crate) fn register<B: KeyedBackend>(backend: &mut B, has: Capabilities) -> Result<Self> {
        Ok(Self {
            values: ValueStates::register(backend)?,
            lists: has.lists.then(|| ListStates::register(backend)).transpose()?,
            maps: has.maps.then(|| MapStates::register(backend)).transpose()?,
            timers: has.timers.then(|| TimerServices::register(backend)).transpose()?,
        })
    }

    /// Registers them in another order: after a restore, names count and not positions.
    pub(crate) fn register_reversed<B: KeyedBackend>(backend: &mut B, has: Capabilities) -> Result<Self> {
        if has.timers {
            TimerServices::register(backend)?;
        }
        if has.maps {
            MapStates::register(backend)?;
        }
        backend.register(&total())?;
        // A state that is registered already keeps its position.
        Self::register(backend, has)
    }

    /// Returns the sorted names of all states of the kinds that the backend has.
    pub(crate) fn names(has: Capabilities) -> Vec<&'static str> {
        let groups = [
            (true, ValueStates::NAMES),
            (has.lists, ListStates::NAMES),
            (has.maps, MapStates::NAMES),
            (has.timers, TimerServices::NAMES),
        ];
        let mut names: Vec<_> =
            groups.into_iter().filter(|(there, _)| *there).flat_map(|(_, names)| names).copied().collect();
        names.sort_unstable();
        names
    }
}
