//! An operator that emits records later than they come holds event time back for what follows; barriers pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::common::rated::{run_while, wait_done};
use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_runtime::*;
use strandline_state_api::*;

/// Keeps all records until it may let them go.
struct Delay {
    looks: TimerService,
    held: Vec<(Event, Timestamp)>,
    may_go: Arc<AtomicBool>,
}

impl Delay {
    fn open<B: KeyedBackend<Key = u64>>(may_go: &Arc<AtomicBool>, ctx: &mut Open<'_, B>) -> Result<Self> {
        let looks = ctx.register(&TimerDescriptor::processing_time("looks"))?;
        Ok(Self { looks, held: Vec::new(), may_go: Arc::clone(may_go) })
    }

    fn look_soon<B: KeyedBackend<Key = u64>>(&self, ctx: &mut Context<'_, B, Event>) -> Result<()> {
        let soon = ctx.processing_time().unwrap().plus_millis(1);
        ctx.state(self.looks).register(soon).map(drop)
    }
}

impl Operator for Delay {
    type Key = u64;
    type In = Event;
    type Out = Event;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        event: Event,
        ctx: &mut Context<'_, B, Event>,
    ) -> Result<()> {
        self.held.push((event, time_of(&event)));
        self.look_soon(ctx)
    }

    fn on_timer<B: KeyedBackend<Key = u64>>(
        &mut self,
        _: &Timer<u64>,
        ctx: &mut Context<'_, B, Event>,
    ) -> Result<()> {
        if !self.may_go.load(SeqCst) {
            return self.look_soon(ctx);
        }
        self.held.drain(..).for_each(|(event, time)| ctx.emit_with(event, Some(time)));
        Ok(())
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        let earliest = self.held.iter().map(|(_, time)| time.plus_millis(-1)).min();
        earliest.map_or(watermark, |earliest| earliest.min(watermark))
    }

    fn on_end<B: KeyedBackend<Key = u64>>(&mut self, _: &mut B, output: &mut Batch<Event>) -> Result<()> {
        self.held.drain(..).for_each(|(event, time)| output.push(event, Some(time)));
        Ok(())
    }
}

#[test]
fn no_record_is_late_behind_an_operator_that_holds_time_back() {
    let (records, size) = (disordered(2_000), 100);
    for (parallelism, chain_keyed) in [(1, true), (1, false), (3, false)] {
        let source = VecSource::new(&records, 1).gated(1_000);
        let (sink, storage) = (VecSink::default(), Storage::in_memory().unwrap());
        let may_go = Arc::new(AtomicBool::new(false));
        let (pipeline, gate) = (Pipeline::new("held", MemoryBackendFactory::default()), Arc::clone(&may_go));
        pipeline
            .source("events", source.clone())
            .timestamps(millis(DISORDER), time_of)
            .key_by(|event| (event.0, event))
            .process("delay", move |ctx| Delay::open(&gate, ctx))
            .key_by(|(key, _, value)| (key, value))
            .process("sums", move |ctx| WindowSum::open(size, ctx))
            .sink("results", sink.clone());
        let checkpoints = CheckpointConfig::new(storage, millis(1_000_000));
        let config = JobConfig::default()
            .parallelism(parallelism)
            .chain_keyed(chain_keyed)
            .batch_size(64)
            .checkpointing(checkpoints);
        let report = run_while(&pipeline, config, |events, control| {
            wait_done(events, 1_000);
            for n in 1..=2 {
                control.trigger_checkpoint();
                events.wait_completed(n);
            }
            assert_eq!(sink.staged(), 0, "nothing has gone");
            may_go.store(true, SeqCst);
            source.open_gate();
        });
        assert_eq!(report.late_by_operator.get("sums"), None, "parallelism {parallelism}");
        assert!(sink.visible() == window_sums(&records, size), "parallelism {parallelism}");
    }
}
