//! An operator with a value, timers in both domains, and two operator lists.

use strandline_backend_memory::MemoryBackendFactory;
use strandline_state_api::backend::{BackendFactory, KeyedBackendExt};
use strandline_state_api::{
    Batch, Context, KeyedBackend, Open, Operator, OperatorListDescriptor, OperatorListState, Result,
    TimeDomain, Timer, TimerDescriptor, TimerService, Timestamp, ValueDescriptor, ValueState,
};
use strandline_state_testing::Harness;

/// An output record: key, service of the timer (or `end`), time of the timer, total.
pub(crate) type Reading = (u64, &'static str, Timestamp, i64);

#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) totals: ValueState<i64>,
    pub(crate) by_event: TimerService<u32>,
    pub(crate) by_clock: TimerService<u32>,
    /// Every record, split on a rescale.
    pub(crate) audit: OperatorListState<(u64, i64)>,
    /// One entry for each key that was ever negative; on a rescale every subtask receives all entries.
    pub(crate) alarms: OperatorListState<u64>,
}

impl Meter {
    pub(crate) fn open<B: KeyedBackend>(ctx: &mut Open<'_, B, u32>) -> Result<Self> {
        let alarms = ctx.register(&OperatorListDescriptor::<u64>::union("alarms"))?;
        // Every subtask kept all entries.
        let restored = ctx.operator_state().get_mut(alarms)?;
        restored.sort_unstable();
        restored.dedup();
        Ok(Self {
            totals: ctx.register(&ValueDescriptor::new("totals"))?,
            by_event: ctx.register(&TimerDescriptor::event_time("by-event"))?,
            by_clock: ctx.register(&TimerDescriptor::processing_time("by-clock"))?,
            audit: ctx.register(&OperatorListDescriptor::split("audit"))?,
            alarms,
        })
    }
}

/// Derives the namespace of a timer from its time, so that no two timers of a key and a domain have equal
/// times: the contract does not define their order.
fn namespace(time: Timestamp) -> u32 {
    time.as_millis().rem_euclid(3) as u32
}

impl Operator for Meter {
    type Key = u64;
    type In = i64;
    type Out = Reading;
    type Namespace = u32;

    fn process<B>(&mut self, record: i64, ctx: &mut Context<'_, B, Reading>) -> Result<()>
    where
        B: KeyedBackend<Key = u64>,
    {
        let key = *ctx.key();
        let total = ctx.state(self.totals).update_or_default(|total| {
            *total += record;
            *total
        })?;
        ctx.operator_state().get_mut(self.audit)?.push((key, record));
        if total < 0 {
            let alarms = ctx.operator_state().get_mut(self.alarms)?;
            if !alarms.contains(&key) {
                alarms.push(key);
            }
        }
        let event = ctx.timestamp().unwrap().plus_millis(record.abs());
        let now = ctx.processing_time().unwrap_or(Timestamp::EPOCH).max(Timestamp::EPOCH);
        let clock = now.plus_millis(record.abs());
        match record.rem_euclid(4) {
            0 => drop(ctx.state_in(self.by_event, &namespace(event)).register(event)?),
            1 => drop(ctx.state_in(self.by_clock, &namespace(clock)).register(clock)?),
            2 => drop(ctx.state_in(self.by_event, &namespace(event)).delete(event)?),
            _ if total % 7 == 0 => drop(ctx.state(self.totals).clear()?),
            _ => {}
        }
        Ok(())
    }

    fn on_timer<B>(&mut self, timer: &Timer<u64, u32>, ctx: &mut Context<'_, B, Reading>) -> Result<()>
    where
        B: KeyedBackend<Key = u64>,
    {
        let time = timer.time;
        assert_eq!((timer.namespace, Some(time)), (namespace(time), ctx.timestamp()));
        let total = ctx.state(self.totals).update_or_default(|total| {
            *total += 1;
            *total
        })?;
        let service = if timer.service == self.by_event { "by-event" } else { "by-clock" };
        if total % 2 == 0 && timer.service == self.by_event {
            let next = time.plus_millis(5);
            ctx.state_in(self.by_event, &namespace(next)).register(next)?;
        }
        ctx.emit((*ctx.key(), service, time, total));
        Ok(())
    }

    fn on_end<B>(&mut self, backend: &mut B, output: &mut Batch<Reading>) -> Result<()>
    where
        B: KeyedBackend<Key = u64>,
    {
        backend.for_each_value(self.totals, |key, (), total| {
            output.push((*key, "end", Timestamp::MAX, *total), None);
            Ok(())
        })
    }
}

/// The function that opens a [`Meter`], as a name for the type of a harness.
pub(crate) type OpenMeter = fn(&mut Open<'_, MemoryBackend, u32>) -> Result<Meter>;

type MemoryBackend = <MemoryBackendFactory as BackendFactory>::Backend<u64>;

pub(crate) type MeterHarness = Harness<MemoryBackendFactory, Meter, OpenMeter>;

pub(crate) fn meter(factory: MemoryBackendFactory, parallelism: u32) -> MeterHarness {
    Harness::with_parallelism(factory, "meter", Meter::open as OpenMeter, parallelism).unwrap()
}

/// Returns the total of a key.
pub(crate) fn total(harness: &mut MeterHarness, key: u64) -> Option<i64> {
    harness.state(key, |meter, state| Ok(state.state(meter.totals).get()?.copied())).unwrap()
}

/// Returns time, key and namespace of all pending timers of a domain, sorted.
pub(crate) fn timers(harness: &mut MeterHarness, domain: TimeDomain) -> Vec<(i64, u64, u32)> {
    let found = harness.timers(domain).unwrap().into_iter();
    let mut timers: Vec<_> =
        found.map(|timer| (timer.time.as_millis(), timer.key, timer.namespace)).collect();
    assert!(timers.is_sorted_by_key(|timer| timer.0));
    timers.sort_unstable();
    timers
}

/// Returns all records, of all subtasks, sorted.
pub(crate) fn audit(harness: &MeterHarness) -> Vec<(u64, i64)> {
    let of = |subtask| {
        harness.operator_state(subtask, |meter, store| Ok(store.get(meter.audit)?.to_vec())).unwrap()
    };
    let mut audit: Vec<_> = (0..harness.parallelism()).flat_map(of).collect();
    audit.sort_unstable();
    audit
}
