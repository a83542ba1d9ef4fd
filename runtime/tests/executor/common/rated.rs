//! A keyed operator with a broadcast side whose result does not depend on which side is faster.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_runtime::*;
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::*;

use super::{Events, VecSink, VecSource};

/// Counts what a test waits for.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<(Mutex<u64>, Condvar)>);

impl Tally {
    pub fn add(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    pub fn get(&self) -> u64 {
        *self.0.0.lock().unwrap()
    }

    pub fn wait(&self, n: u64) {
        let (now, limit) = (self.0.0.lock().unwrap(), Duration::from_secs(60));
        let (now, _) = self.0.1.wait_timeout_while(now, limit, |now| *now < n).unwrap();
        assert!(*now >= n, "waited for {n}, and there are {now}");
    }
}

/// Key, rule by which it is rated, amount.
pub type Order = (u64, u64, i64);

/// Number, factor.
pub type Rule = (u64, i64);

/// Multiplies each amount by the factor of its rule. An order whose rule is not known yet waits for the end
/// of time.
#[derive(Debug)]
pub struct Rated {
    factors: BroadcastState<u64, i64>,
    waiting: ListState<(u64, i64)>,
    end: TimerService,
    how: How,
}

/// What a test knows of all subtasks, and asks of them.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// Rules that were applied, in all subtasks together.
    pub applied: Tally,
    /// Nothing waits: an unknown rule is an error.
    pub strict: bool,
}

impl Rated {
    pub fn open<B: KeyedBackend>(how: &How, ctx: &mut Open<'_, B>) -> Result<Self> {
        Ok(Self {
            factors: ctx.register(&BroadcastDescriptor::new("factors"))?,
            waiting: ctx.register(&ListDescriptor::new("waiting"))?,
            end: ctx.register(&TimerDescriptor::event_time("end"))?,
            how: how.clone(),
        })
    }
}

fn unknown(rule: u64) -> Error {
    Error::new(ErrorKind::User, format!("rule {rule} is not known"))
}

impl Operator for Rated {
    type Key = u64;
    type In = (u64, i64);
    type Out = (u64, u64, i64);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        (rule, amount): (u64, i64),
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        match ctx.broadcast(self.factors)?.get(&rule) {
            Some(factor) => ctx.emit((*ctx.key(), rule, amount * factor)),
            None if self.how.strict => return Err(unknown(rule)),
            None => {
                ctx.state(self.waiting).push((rule, amount))?;
                ctx.state(self.end).register(Timestamp::MAX)?;
            }
        }
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = u64>>(
        &mut self,
        _: &Timer<u64, ()>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let waiting = ctx.state(self.waiting).get()?.to_vec();
        ctx.state(self.waiting).clear()?;
        for (rule, amount) in waiting {
            let factor = ctx.broadcast(self.factors)?.get(&rule).ok_or_else(|| unknown(rule))?;
            ctx.emit((*ctx.key(), rule, amount * factor));
        }
        Ok(())
    }
}

impl BroadcastOperator for Rated {
    type Broadcast = Rule;

    /// A rule that is applied twice doubles its factor.
    fn process_broadcast<B: KeyedBackend<Key = u64>>(
        &mut self,
        (rule, factor): Rule,
        ctx: &mut BroadcastContext<'_, B, Self::Out>,
    ) -> Result<()> {
        let factors = ctx.broadcast(self.factors)?;
        let before = factors.get(&rule).copied().unwrap_or(0);
        factors.put(rule, before + factor);
        self.how.applied.add();
        Ok(())
    }
}

/// What [`Rated`] emits, sorted.
pub fn rated(orders: &[Order], rules: &[Rule]) -> Vec<(u64, u64, i64)> {
    let factor = |rule| rules.iter().find(|(number, _)| *number == rule).unwrap().1;
    let mut all: Vec<_> =
        orders.iter().map(|(key, rule, amount)| (*key, *rule, amount * factor(*rule))).collect();
    all.sort_unstable();
    all
}

pub const RULES: u64 = 40;

pub fn rules() -> Vec<Rule> {
    (0..RULES).map(|rule| (rule, 3 + rule as i64)).collect()
}

/// Each order with an amount of its own, so that one that is lost and another that is doubled do not make up
/// for each other.
pub fn orders(n: u64) -> Vec<Order> {
    (0..n).map(|i| (i * 7 % 23, i * 13 % RULES, i as i64)).collect()
}

/// Orders and rules, where they come together, and where results go.
#[derive(Clone)]
pub struct Job {
    pub orders: VecSource<Order>,
    pub rules: VecSource<Rule>,
    pub sink: VecSink<(u64, u64, i64)>,
    pub storage: Storage,
    pub how: How,
}

impl Job {
    pub fn new(orders: &[Order]) -> Self {
        Self {
            orders: VecSource { step: 40, ..VecSource::new(orders, 5) },
            rules: VecSource { step: 3, ..VecSource::new(&rules(), 3) },
            sink: VecSink::default(),
            storage: Storage::in_memory().unwrap(),
            how: How::default(),
        }
    }

    pub fn pipeline(&self) -> Pipeline<MemoryBackendFactory> {
        let pipeline = Pipeline::new("rated", MemoryBackendFactory::default());
        let how = self.how.clone();
        let rules = pipeline.source("rules", self.rules.clone());
        pipeline
            .source("orders", self.orders.clone())
            .key_by(|(key, rule, amount): Order| (key, (rule, amount)))
            .connect_broadcast(rules)
            .process("rate", move |ctx| Rated::open(&how, ctx))
            .sink("results", self.sink.clone());
        pipeline
    }

    pub fn config(&self, parallelism: u32, interval: Duration) -> JobConfig {
        let checkpointing =
            CheckpointConfig::new(self.storage.clone(), interval).tolerable_failures(u32::MAX);
        JobConfig::default()
            .parallelism(parallelism)
            .batch_size(64)
            .checkpointing(checkpointing)
            .restart(RestartStrategy::None)
    }

    /// Runs the job while `meanwhile` watches and steers it.
    pub fn run_while(&self, config: JobConfig, meanwhile: impl FnOnce(&Events, &JobControl)) -> JobReport {
        run_while(&self.pipeline(), config, meanwhile)
    }
}

/// Runs a job while `meanwhile` watches and steers it. The job is cancelled when that fails.
pub fn run_while<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    config: JobConfig,
    meanwhile: impl FnOnce(&Events, &JobControl),
) -> JobReport {
    struct CancelOnPanic<'a>(&'a JobControl);
    impl Drop for CancelOnPanic<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.cancel();
            }
        }
    }
    let (events, control) = (Events::new(), JobControl::new());
    let config = config.observer(events.clone());
    std::thread::scope(|scope| {
        let job = scope.spawn(|| events.of(|| run(pipeline, config, &control).unwrap()));
        let guard = CancelOnPanic(&control);
        meanwhile(&events, &control);
        drop(guard);
        job.join().unwrap()
    })
}

/// Waits until the keyed operator took so many records.
pub fn wait_done(events: &Events, records: u64) {
    let is_done =
        |event: &JobEvent| matches!(event, JobEvent::Progress(progress) if progress.done >= records);
    events.wait(|events| events.iter().any(is_done));
}
