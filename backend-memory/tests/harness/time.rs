//! Time as an operator sees it: the order of its timers, and the state that a timer still finds.

use std::time::Duration;

use strandline_backend_memory::{MemoryBackend, MemoryBackendFactory};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{
    Context, Expiring, KeyedBackend, MapDescriptor, MapState, Open, Operator, Result, Timer, TimerDescriptor,
    TimerService, Timestamp, Ttl, ValueDescriptor, ValueState,
};
use strandline_state_testing::Harness;

/// A timer or a read: the service or `read`, the time, and whether the value and the map entry are visible.
type Seen = (&'static str, i64, bool, bool);

/// A record. State expires after 15 ms of event time.
#[derive(Clone, Copy, Debug)]
enum Do {
    SetA(i64),
    SetB(i64),
    Write,
    Read,
}

#[derive(Debug)]
struct Clocked {
    a: TimerService,
    b: TimerService,
    value: ValueState<u64, (), Expiring>,
    map: MapState<u64, u64, (), Expiring>,
}

impl Clocked {
    fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
        let ttl = Ttl::event_time(Duration::from_millis(15));
        Ok(Self {
            a: ctx.register(&TimerDescriptor::event_time("a"))?,
            b: ctx.register(&TimerDescriptor::event_time("b"))?,
            value: ctx.register(&ValueDescriptor::new("value").time_to_live(ttl))?,
            map: ctx.register(&MapDescriptor::new("map").time_to_live(ttl))?,
        })
    }

    fn look<B: KeyedBackend>(&self, ctx: &mut Context<'_, B, Seen>) -> Result<(bool, bool)> {
        let value = ctx.state(self.value).get()?.is_some();
        Ok((value, ctx.state(self.map).get(&1)?.is_some()))
    }
}

impl Operator for Clocked {
    type Key = u64;
    type In = Do;
    type Out = Seen;
    type Namespace = ();

    fn process<B>(&mut self, record: Do, ctx: &mut Context<'_, B, Seen>) -> Result<()>
    where
        B: KeyedBackend<Key = u64>,
    {
        match record {
            Do::SetA(time) => ctx.state(self.a).register(time).map(drop),
            Do::SetB(time) => ctx.state(self.b).register(time).map(drop),
            Do::Write => {
                ctx.state(self.value).put(1)?;
                ctx.state(self.map).put(1, 1)
            }
            Do::Read => {
                let (value, entry) = self.look(ctx)?;
                ctx.emit(("read", Timestamp::to_stored(ctx.timestamp()), value, entry));
                Ok(())
            }
        }
    }

    fn on_timer<B>(&mut self, timer: &Timer<u64>, ctx: &mut Context<'_, B, Seen>) -> Result<()>
    where
        B: KeyedBackend<Key = u64>,
    {
        let (value, entry) = self.look(ctx)?;
        let service = if timer.service == self.a { "a" } else { "b" };
        ctx.emit((service, timer.time.as_millis(), value, entry));
        Ok(())
    }
}

type OpenClocked =
    fn(&mut Open<'_, <MemoryBackendFactory as BackendFactory>::Backend<u64>>) -> Result<Clocked>;
type Clock = Harness<MemoryBackendFactory, Clocked, OpenClocked>;

fn after(records: &[(Do, i64)]) -> Clock {
    let mut harness =
        Harness::new(MemoryBackend::factory(), "clocked", Clocked::open as OpenClocked).unwrap();
    for (record, timestamp) in records {
        harness.process(1u64, *record, *timestamp).unwrap();
    }
    harness
}

fn seen(harness: &mut Clock) -> Vec<Seen> {
    harness.take_output().into_columns().0
}

#[test]
fn timers_of_all_services_fire_in_one_order_of_time() {
    let mut harness = after(&[(Do::SetA(30), 0), (Do::SetB(10), 0), (Do::SetA(20), 0), (Do::SetB(40), 0)]);
    harness.watermark(100).unwrap();
    let order: Vec<_> = seen(&mut harness).iter().map(|(service, time, ..)| (*service, *time)).collect();
    assert_eq!(order, [("b", 10), ("a", 20), ("a", 30), ("b", 40)]);
}

#[test]
fn a_timer_still_sees_state_that_expires_after_its_time() {
    let mut harness = after(&[(Do::Write, 0), (Do::SetA(10), 0), (Do::SetA(20), 0)]);
    harness.watermark(1_000).unwrap();
    assert_eq!(seen(&mut harness), [("a", 10, true, true), ("a", 20, false, false)]);
}

#[test]
fn a_read_hides_expired_state() {
    let mut harness = after(&[(Do::Write, 0)]);
    for (watermark, visible) in [(14, true), (15, false)] {
        harness.watermark(watermark).unwrap();
        harness.process(1u64, Do::Read, watermark + 1).unwrap();
        assert_eq!(seen(&mut harness), [("read", watermark + 1, visible, visible)]);
    }
}
