//! What an operator sees of time: in which order timers fire, and what is alive when they do.

use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_state_api::harness::Harness;
use strandline_state_api::*;

/// What timers and reads found: the service or `read`, the time, and whether the value and the entry were alive.
type Seen = (&'static str, i64, bool, bool);

/// What a record does. State lives for 15 ms of event time.
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
        let life = Ttl::event_time(Duration::from_millis(15));
        Ok(Self {
            a: ctx.timers(&TimerDescriptor::event_time("a"))?,
            b: ctx.timers(&TimerDescriptor::event_time("b"))?,
            value: ctx.register(&ValueDescriptor::new("value").time_to_live(life))?,
            map: ctx.register(&MapDescriptor::new("map").time_to_live(life))?,
        })
    }

    fn look<B: KeyedBackend>(&self, ctx: &mut Context<'_, B, Seen>) -> Result<(bool, bool)> {
        let value = ctx.state().value(self.value).get()?.is_some();
        Ok((value, ctx.state().map(self.map).get(&1)?.is_some()))
    }
}

impl<B: KeyedBackend<Key = u64>> Operator<B> for Clocked {
    type In = Do;
    type Out = Seen;
    type Namespace = ();

    fn process(&mut self, record: Do, ctx: &mut Context<'_, B, Seen>) -> Result<()> {
        match record {
            Do::SetA(time) => ctx.state().timers(self.a).register(time).map(drop),
            Do::SetB(time) => ctx.state().timers(self.b).register(time).map(drop),
            Do::Write => {
                ctx.state().value(self.value).put(1)?;
                ctx.state().map(self.map).put(1, 1)
            }
            Do::Read => {
                let (value, entry) = self.look(ctx)?;
                ctx.emit(("read", ctx.timestamp(), value, entry));
                Ok(())
            }
        }
    }

    fn on_timer(&mut self, due: &DueTimer<u64, ()>, ctx: &mut Context<'_, B, Seen>) -> Result<()> {
        let (value, entry) = self.look(ctx)?;
        let service = if due.service == "a" { "a" } else { "b" };
        ctx.emit((service, due.timer.time, value, entry));
        Ok(())
    }
}

type OpenClocked =
    fn(&mut Open<'_, <MemoryBackendFactory as BackendFactory>::Backend<u64>>) -> Result<Clocked>;
type Clock = Harness<MemoryBackendFactory, u64, Clocked, OpenClocked>;

fn after(records: &[(Do, i64)]) -> Clock {
    let mut harness =
        Harness::new(MemoryBackendFactory::default(), "clocked", Clocked::open as OpenClocked).unwrap();
    for (record, timestamp) in records {
        harness.process(1u64, *record, *timestamp).unwrap();
    }
    harness
}

fn seen(harness: &mut Clock) -> Vec<Seen> {
    harness.take_output().into_iter().map(|(seen, _)| seen).collect()
}

#[test]
fn timers_of_all_services_fire_in_one_order_of_time() {
    let mut harness = after(&[(Do::SetA(30), 0), (Do::SetB(10), 0), (Do::SetA(20), 0), (Do::SetB(40), 0)]);
    harness.watermark(100).unwrap();
    let order: Vec<_> = seen(&mut harness).iter().map(|(service, time, ..)| (*service, *time)).collect();
    assert_eq!(order, [("b", 10), ("a", 20), ("a", 30), ("b", 40)]);
}

#[test]
fn a_timer_finds_alive_what_was_alive_at_its_time() {
    let mut harness = after(&[(Do::Write, 0), (Do::SetA(10), 0), (Do::SetA(20), 0)]);
    harness.watermark(1_000).unwrap();
    assert_eq!(seen(&mut harness), [("a", 10, true, true), ("a", 20, false, false)]);
}

#[test]
fn nobody_reads_what_has_expired() {
    let mut harness = after(&[(Do::Write, 0)]);
    for (watermark, alive) in [(14, true), (15, false)] {
        harness.watermark(watermark).unwrap();
        harness.process(1u64, Do::Read, watermark + 1).unwrap();
        assert_eq!(seen(&mut harness), [("read", watermark + 1, alive, alive)]);
    }
}
