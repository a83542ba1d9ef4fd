//! A barrier that arrives while a large jump of the watermark fires timers.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_runtime::*;
use strandline_state_api::*;

/// Timers that the jump fires: many steps of the executor.
const TIMERS: u64 = 51_200;

/// What the test and the operator see of each other.
#[derive(Clone, Debug, Default)]
struct Watch {
    fired: Arc<AtomicU64>,
    /// How many timers had fired when the snapshot was taken.
    at_cut: Arc<(Mutex<Option<u64>>, Condvar)>,
    began: Arc<(Mutex<bool>, Condvar)>,
    fuse: Fuse,
}

impl Watch {
    fn wait_for_the_first(&self) {
        let (began, changed) = &*self.began;
        drop(changed.wait_while(began.lock().unwrap(), |began| !*began).unwrap());
    }

    /// Gives the barrier time to arrive, at the start of a step.
    fn wait_for_the_cut(&self) {
        let (at_cut, changed) = &*self.at_cut;
        let guard = at_cut.lock().unwrap();
        drop(changed.wait_timeout_while(guard, Duration::from_millis(50), |cut| cut.is_none()).unwrap());
    }
}

/// Encodes numbers, and notes that it does: a snapshot is under way.
struct Noting(Watch);

impl Codec<u64> for Noting {
    fn id(&self) -> String {
        Codec::<u64>::id(&SerdeCodec)
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<()> {
        let (at_cut, changed) = &*self.0.at_cut;
        at_cut.lock().unwrap().get_or_insert_with(|| self.0.fired.load(SeqCst));
        changed.notify_all();
        SerdeCodec.encode(value, out)
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64> {
        SerdeCodec.decode(bytes)
    }
}

/// Sets a timer for each record, and emits its key when it fires.
struct Alarm {
    watch: Watch,
    seen: ValueState<u64>,
    timers: TimerService,
}

impl Operator for Alarm {
    type Key = u64;
    type In = i64;
    type Out = u64;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        time: i64,
        ctx: &mut Context<'_, B, u64>,
    ) -> Result<()> {
        self.watch.fuse.burn(1)?;
        ctx.state(self.seen).put(1)?;
        ctx.state(self.timers).register(time + 9).map(drop)
    }

    fn on_timer<B: KeyedBackend<Key = u64>>(
        &mut self,
        timer: &Timer<u64, ()>,
        ctx: &mut Context<'_, B, u64>,
    ) -> Result<()> {
        self.watch.fuse.burn(1)?;
        let before = self.watch.fired.fetch_add(1, SeqCst);
        if before == 0 {
            *self.watch.began.0.lock().unwrap() = true;
            self.watch.began.1.notify_all();
        }
        if before.is_multiple_of(256) {
            self.watch.wait_for_the_cut();
        }
        assert_eq!(ctx.state(self.seen).get()?, Some(&1));
        ctx.emit(timer.key);
        Ok(())
    }
}

#[test]
fn a_barrier_is_let_through_between_timers_and_each_fires_once() {
    // All timers stand at 10; the record behind them raises the watermark to 99, and the last one waits for
    // the gate.
    let mut records: Vec<(u64, i64)> = (0..TIMERS).map(|key| (key, 1)).collect();
    records.extend([(TIMERS, 100), (TIMERS + 1, 101)]);
    let source = VecSource::new(&records, 1).gated(TIMERS + 1);
    let (sink, watch, storage) = (VecSink::default(), Watch::default(), Storage::in_memory().unwrap());
    let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
    let watched = watch.clone();
    pipeline
        .source("records", source.clone())
        .timestamps(Duration::ZERO, |record: &(u64, i64)| Timestamp::from_millis(record.1))
        .key_by(|(key, time)| (key, time))
        .process("alarm", move |ctx| {
            let watch = watched.clone();
            let seen = ctx.register(&ValueDescriptor::with_codec("seen", Noting(watch.clone())))?;
            Ok(Alarm { watch, seen, timers: ctx.register(&TimerDescriptor::event_time("alarms"))? })
        })
        .sink("results", sink.clone());
    let (events, control) = (Events::new(), JobControl::new());
    let config = JobConfig::default()
        .checkpointing(CheckpointConfig::new(storage, Duration::from_secs(100_000)))
        .restart(RestartStrategy::FixedDelay { attempts: 1, delay: Duration::ZERO })
        .observer(events.clone());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&pipeline, config, &control));
        watch.wait_for_the_first();
        control.trigger_checkpoint();
        events.wait_completed(1);
        // Whatever comes next, a timer or the last record, fails; the job goes on from between two timers.
        watch.fuse.set(1);
        source.open_gate();
        let report = running.join().unwrap().unwrap();
        assert_eq!((report.outcome, report.restarts), (Outcome::Finished, 1));
    });
    let at_cut = watch.at_cut.0.lock().unwrap().expect("a snapshot was taken");
    assert!((1..TIMERS).contains(&at_cut), "{at_cut} of {TIMERS} timers fired before the barrier");
    assert_eq!(sink.visible(), (0..TIMERS + 2).collect::<Vec<_>>());
}
