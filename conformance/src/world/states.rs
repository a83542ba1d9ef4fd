//! The states that the world holds: every kind, with and without namespaces, with and without a time-to-live.

use std::time::Duration;

use strandline_state_api::{
    AggregateFunction, AggregatingDescriptor, AggregatingState, Expiring, KeyedBackend, ListDescriptor,
    ListState, MapDescriptor, MapState, ReducingDescriptor, ReducingState, Refresh, Result, TimerDescriptor,
    TimerService, Ttl, ValueDescriptor, ValueState,
};

/// Adds numbers.
pub(crate) type Add = fn(&mut u64, u64);

fn add(sum: &mut u64, n: u64) {
    *sum = sum.wrapping_add(n);
}

/// Sum and count, and their quotient.
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

/// How long values of `brief` live, in milliseconds of event time.
pub(crate) const BRIEF: i64 = 20;
/// The same of `recent`, whose elements live on when they are read.
pub(crate) const RECENT: i64 = 30;
/// The same of `seen`, in processing time.
pub(crate) const SEEN: i64 = 25;

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis as u64)
}

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident: $handle:ty, $descriptor:ty = $make:expr;)*) => {
        /// The handles.
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct States {
            $($(#[$doc])* pub(crate) $name: $handle,)*
        }

        $(pub(crate) fn $name() -> $descriptor {
            $make
        })*

        impl States {
            /// Their names.
            pub(crate) const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Registers all of them.
            pub(crate) fn register<B: KeyedBackend>(backend: &mut B) -> Result<Self> {
                $(let $name = backend.register(&$name())?;)*
                Ok(Self { $($name),* })
            }
        }
    };
}

// By name.
states! {
    alarms: TimerService, TimerDescriptor = TimerDescriptor::processing_time("alarms");
    brief: ValueState<u64, (), Expiring>, ValueDescriptor<u64, (), Expiring> =
        ValueDescriptor::new("brief").time_to_live(Ttl::event_time(millis(BRIEF)));
    fields: MapState<String, u64, String>, MapDescriptor<String, u64, String> =
        MapDescriptor::new("fields").namespaced();
    label: ValueState<String, String>, ValueDescriptor<String, String> =
        ValueDescriptor::new("label").namespaced();
    lines: ListState<String, String>, ListDescriptor<String, String> =
        ListDescriptor::new("lines").namespaced();
    mean: AggregatingState<Mean, String>, AggregatingDescriptor<Mean, String> =
        AggregatingDescriptor::new("mean", Mean).namespaced();
    recent: ListState<String, (), Expiring>, ListDescriptor<String, (), Expiring> =
        ListDescriptor::new("recent")
            .time_to_live(Ttl::event_time(millis(RECENT)).refresh(Refresh::OnReadAndWrite));
    seen: MapState<String, u64, (), Expiring>, MapDescriptor<String, u64, (), Expiring> =
        MapDescriptor::new("seen").time_to_live(Ttl::processing_time(millis(SEEN)));
    sums: ReducingState<u64, Add, String>, ReducingDescriptor<u64, Add, String> =
        ReducingDescriptor::new("sums", add as Add).namespaced();
    total: ValueState<u64>, ValueDescriptor<u64> = ValueDescriptor::new("total");
    windows: TimerService<String>, TimerDescriptor<String> = TimerDescriptor::event_time("windows");
}

impl States {
    /// The same in another order: after a restore, names count and not positions.
    pub(crate) fn register_reversed<B: KeyedBackend>(backend: &mut B) -> Result<Self> {
        let (windows, total) = (backend.register(&windows())?, backend.register(&total())?);
        let (sums, seen, recent) =
            (backend.register(&sums())?, backend.register(&seen())?, backend.register(&recent())?);
        let _ = (windows, total, sums, seen, recent);
        // Those that are there already are given again.
        Self::register(backend)
    }
}
