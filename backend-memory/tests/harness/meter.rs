//! An operator with a bit of everything: a value, timers in both domains, two operator lists.

use strandline_backend_memory::MemoryBackendFactory;
use strandline_state_api::harness::Harness;
use strandline_state_api::*;

/// What it emits: key, service of the timer (or `end`), time of the timer, total.
pub(crate) type Reading = (u64, &'static str, i64, i64);

#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) totals: ValueState<i64>,
    pub(crate) by_event: TimerService<u32>,
    pub(crate) by_clock: TimerService<u32>,
    /// Every record, split on a rescale.
    pub(crate) audit: OperatorListState<(u64, i64)>,
    /// One entry for each key that was ever negative; everyone gets all on a rescale.
    pub(crate) alarms: OperatorListState<u64>,
}

impl Meter {
    pub(crate) fn open<B: KeyedBackend>(ctx: &mut Open<'_, B, u32>) -> Result<Self> {
        let alarms = ctx.operator_list(&OperatorListDescriptor::union("alarms"))?;
        // Every subtask kept all of them.
        let restored = ctx.operator_state().get_mut(alarms)?;
        restored.sort_unstable();
        restored.dedup();
        Ok(Self {
            totals: ctx.value(&ValueDescriptor::new("totals"))?,
            by_event: ctx.timers(&TimerDescriptor::event_time("by-event"))?,
            by_clock: ctx.timers(&TimerDescriptor::processing_time("by-clock"))?,
            audit: ctx.operator_list(&OperatorListDescriptor::split("audit"))?,
            alarms,
        })
    }
}

/// The namespace of a timer follows from its time, so that no two timers of a key and a domain stand at one time: their
/// order would not be promised.
fn namespace(time: i64) -> u32 {
    time.rem_euclid(3) as u32
}

impl<B: KeyedBackend<Key = u64>> Operator<B> for Meter {
    type In = i64;
    type Out = Reading;
    type Namespace = u32;

    fn process(&mut self, record: i64, ctx: &mut Context<'_, B, Reading>) -> Result<()> {
        let key = *ctx.key();
        let total = ctx.state().value(self.totals).modify(
            || 0,
            |total| {
                *total += record;
                *total
            },
        )?;
        ctx.operator_state().get_mut(self.audit)?.push((key, record));
        if total < 0 {
            let alarms = ctx.operator_state().get_mut(self.alarms)?;
            if !alarms.contains(&key) {
                alarms.push(key);
            }
        }
        let (event, clock) = (ctx.timestamp() + record.abs(), ctx.processing_time().max(0) + record.abs());
        match record.rem_euclid(4) {
            0 => drop(ctx.state().timers_in(self.by_event, &namespace(event)).register(event)?),
            1 => drop(ctx.state().timers_in(self.by_clock, &namespace(clock)).register(clock)?),
            2 => drop(ctx.state().timers_in(self.by_event, &namespace(event)).delete(event)?),
            _ if total % 7 == 0 => drop(ctx.state().value(self.totals).clear()?),
            _ => {}
        }
        Ok(())
    }

    fn on_timer(&mut self, due: &DueTimer<u64, u32>, ctx: &mut Context<'_, B, Reading>) -> Result<()> {
        let time = due.timer.time;
        assert_eq!(due.timer.namespace, namespace(time));
        let total = ctx.state().value(self.totals).modify(
            || 0,
            |total| {
                *total += 1;
                *total
            },
        )?;
        if total % 2 == 0 && due.domain == TimeDomain::Event {
            ctx.state().timers_in(self.by_event, &namespace(time + 5)).register(time + 5)?;
        }
        let service = if due.domain == TimeDomain::Event { "by-event" } else { "by-clock" };
        assert_eq!(due.service, service);
        ctx.emit((*ctx.key(), service, time, total));
        Ok(())
    }

    fn on_end(&mut self, backend: &mut B, output: &mut Output<Reading>) -> Result<()> {
        backend.value_for_each(self.totals, |key, (), total| {
            output.push((*key, "end", i64::MAX, *total), NO_TIMESTAMP);
            Ok(())
        })
    }
}

/// The function that opens it, as a name for the type of a harness.
pub(crate) type OpenMeter = fn(&mut Open<'_, MemoryBackend, u32>) -> Result<Meter>;

type MemoryBackend = <MemoryBackendFactory as BackendFactory>::Backend<u64>;

pub(crate) type MeterHarness = Harness<MemoryBackendFactory, u64, Meter, OpenMeter>;

pub(crate) fn meter(factory: MemoryBackendFactory, parallelism: u32) -> MeterHarness {
    Harness::with_parallelism(factory, "meter", Meter::open as OpenMeter, parallelism).unwrap()
}

/// The total of a key.
pub(crate) fn total(harness: &mut MeterHarness, key: u64) -> Option<i64> {
    harness.state(key, |meter, state| Ok(state.value(meter.totals).get()?.copied())).unwrap()
}

/// Time, key and namespace of all pending timers of a domain, sorted.
pub(crate) fn timers(harness: &mut MeterHarness, domain: TimeDomain) -> Vec<(i64, u64, u32)> {
    let found = harness.timers(domain).unwrap().into_iter();
    let mut timers: Vec<_> = found.map(|due| (due.timer.time, due.timer.key, due.timer.namespace)).collect();
    assert!(timers.is_sorted_by_key(|timer| timer.0));
    timers.sort_unstable();
    timers
}

/// All records, of all subtasks, sorted.
pub(crate) fn audit(harness: &MeterHarness) -> Vec<(u64, i64)> {
    let of = |subtask| {
        harness.operator_state(subtask, |meter, store| Ok(store.get(meter.audit)?.to_vec())).unwrap()
    };
    let mut audit: Vec<_> = (0..harness.parallelism()).flat_map(of).collect();
    audit.sort_unstable();
    audit
}
