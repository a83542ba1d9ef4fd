//! Jobs whose barriers overtake records, at once, late or not at all, as the seed decides for each process.

use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_runtime::{Pipeline, Unaligned};
use strandline_simulation::{Faults, Job, Simulation, check};
use strandline_state_api::{
    Context, KeyedBackend, Open, Operator, Result, SerdeCodec, ValueDescriptor, ValueState,
};

use crate::common::{SPLITS, counted, records};
use crate::windows::windows;

/// Counts a record as often as its weight is.
struct Weigh(ValueState<u64>);

impl Weigh {
    fn open<B: KeyedBackend<Key = u64>>(ctx: &mut Open<'_, B>) -> Result<Self> {
        Ok(Self(ctx.register(&ValueDescriptor::new("counts"))?))
    }
}

impl Operator for Weigh {
    type Key = u64;
    type In = u64;
    type Out = (u64, u64);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        weight: u64,
        ctx: &mut Context<'_, B, (u64, u64)>,
    ) -> Result<()> {
        for _ in 0..weight {
            let count = ctx.state(self.0).update_or_default(|count| {
                *count += 1;
                *count
            })?;
            ctx.emit((*ctx.key(), count));
        }
        Ok(())
    }
}

fn weighing() -> Job {
    overtaking(Job::new(|world| {
        let pipeline = Pipeline::new("counts", MemoryBackendFactory::default());
        let numbers = pipeline.source("numbers", world.input(records(), SPLITS));
        let keyed = numbers.key_by(|key| (key, 1u64)).codec(SerdeCodec);
        keyed.process("count", Weigh::open).sink("results", world.output("results"));
        pipeline
    }))
}

/// The job with the barriers that the seed draws for each of its processes.
fn overtaking(job: Job) -> Job {
    job.configure(|mut config, world| {
        let process = world.process();
        let unaligned = match process.random_below(4) {
            0 => Unaligned::Off,
            1 => Unaligned::After(Duration::from_micros(process.random_below(3_000))),
            _ => Unaligned::On,
        };
        config.checkpointing = config.checkpointing.map(|checkpointing| checkpointing.unaligned(unaligned));
        config
    })
}

fn exact(seeds: u64, job: &Job) {
    let checked = check(seeds, &Faults::all(), job).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{checked:?}");
}

#[test]
fn counts_are_exact_whatever_barriers_overtake() {
    let job = weighing();
    let expected = Simulation::new(0).expect(&job).unwrap_or_else(|violation| panic!("{violation}"));
    let mut counts: Vec<_> = counted().iter().map(|record| format!("{record:?}")).collect();
    counts.sort();
    assert_eq!(expected.output("results"), Some(&counts[..]));
    exact(300, &job);
}

/// Three exchanges, event time, timers: a record that came behind a watermark which it had been before would
/// show.
#[test]
fn windows_are_exact_whatever_barriers_overtake() {
    exact(150, &overtaking(windows()));
}
