//! Who starts the processes of a job, disturbs them, and sees the job through to its end.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strandline_checkpoint_storage::{CompletedCheckpoint, Depth};
use strandline_runtime::{
    CheckpointConfig, JobConfig, JobControl, JobEvent, Outcome, RestartStrategy, StartFrom,
};
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{CheckpointId, Error, ErrorKind};

use crate::baton::Baton;
use crate::direct;
use crate::job::{Disturbance, Faults, Job};
use crate::process::Process;
use crate::state::{Fate, Flags, Moment};
use crate::world::{Outside, World};

/// How often a job whose surroundings are healthy may be overtaken before it counts as stuck.
const TRIES: u32 = 12;
/// How long the last processes have to end by themselves.
const LAST: Duration = Duration::from_secs(120);

/// Why a simulation failed.
pub(crate) type Broken = String;

/// A process of the job.
struct Running {
    process: Process,
    flags: Flags,
    control: JobControl,
    ended: Arc<Mutex<Option<Result<Outcome, Error>>>>,
}

/// Directs one simulation.
pub(crate) struct Director {
    pub(crate) baton: Baton,
    pub(crate) outside: Outside,
    job: Job,
    faults: Faults,
    running: Vec<Running>,
    damaged: BTreeSet<String>,
    pub(crate) processes: u32,
    pub(crate) checkpoints: Arc<Mutex<u64>>,
}

impl Director {
    pub(crate) fn new(baton: Baton, job: &Job, faults: &Faults) -> Self {
        Self {
            baton,
            outside: Outside::default(),
            job: job.clone(),
            faults: faults.clone(),
            running: Vec::new(),
            damaged: BTreeSet::new(),
            processes: 0,
            checkpoints: Arc::default(),
        }
    }

    /// Disturbs the job, and then lets it come to its end.
    pub(crate) fn direct(&mut self) -> Result<(), Broken> {
        let (most, greatest) = (self.faults.disturbances, self.faults.store);
        let (disturbances, share) =
            self.baton.random(|random| (random.u32(0..=most), random.f64() * greatest));
        self.outside.disk().disturb(share);
        for _ in 0..disturbances {
            let count = self.faults.kinds.len();
            if count == 0 {
                break;
            }
            let kind = self.faults.kinds[self.baton.random(|random| random.usize(..count))];
            self.baton.note(|| format!("next: {kind:?}"));
            self.disturb(kind)?;
            // Not too many at once: each would only find itself overtaken.
            while self.running.len() > 2 {
                let oldest = self.running.remove(0);
                self.end(&oldest)?;
            }
        }
        self.outside.disk().disturb(0.0);
        self.running.iter().for_each(|running| self.baton.destine_nothing(running.process.id));
        self.baton.note(|| "no more disturbances".to_owned());
        self.finish()?;
        let started = self.baton.elapsed();
        for running in std::mem::take(&mut self.running) {
            let left = (started + LAST).saturating_sub(self.baton.elapsed());
            if !self.await_flag(&running.flags.over, Some(left))? {
                return Err(format!("process {} does not end", running.process.id));
            }
            self.judge(&running)?;
        }
        self.baton.settle();
        // What stale processes left is removed by the next start.
        self.finish()
    }

    fn disturb(&mut self, kind: Disturbance) -> Result<(), Broken> {
        match kind {
            Disturbance::Crash => {
                let running = self.start(StartFrom::Resume);
                self.doom(&running);
                self.await_end(&running)
            }
            Disturbance::Sleep => {
                let running = self.start(StartFrom::Resume);
                let time = self.micros(100..150_000);
                self.baton.destine(running.process.id, self.moment(), Fate::Sleep(time));
                let (slept, over) = (Arc::clone(&running.flags.slept), Arc::clone(&running.flags.over));
                self.running.push(running);
                self.await_ready(move || slept.load(SeqCst) || over.load(SeqCst), None)?;
                let successor = self.start(StartFrom::Resume);
                if self.baton.random(|random| random.bool()) {
                    self.doom(&successor);
                }
                let patience = self.micros(0..100_000);
                self.await_flag(&successor.flags.over, Some(patience))?;
                self.running.push(successor);
                self.collect()
            }
            Disturbance::Rival => {
                let running = self.start(StartFrom::Resume);
                self.running.push(running);
                self.pause(0..30_000)?;
                let rival = self.start(StartFrom::Resume);
                self.running.push(rival);
                self.pause(0..60_000)?;
                self.collect()
            }
            Disturbance::Stop => {
                let running = self.start(StartFrom::Resume);
                self.pause(0..60_000)?;
                running.control.stop();
                self.await_end(&running)
            }
            Disturbance::Savepoint => {
                let running = self.start(StartFrom::Resume);
                self.pause(0..30_000)?;
                drop(running.control.trigger_savepoint());
                self.pause(0..30_000)?;
                self.doom(&running);
                self.await_end(&running)
            }
            Disturbance::Live => {
                let running = self.start(StartFrom::Resume);
                // Who drops a request withdraws it.
                let mut asked = Vec::new();
                for _ in 0..self.baton.random(|random| random.u32(1..=4)) {
                    self.pause(0..15_000)?;
                    asked.push(running.control.live_state());
                }
                self.pause(0..15_000)?;
                self.doom(&running);
                self.await_end(&running)
            }
            Disturbance::Fallback => {
                let completed = self.completed()?;
                let count = completed.len();
                let Some(at) = self.baton.random(|random| (count > 0).then(|| random.usize(..count))) else {
                    return self.disturb(Disturbance::Crash);
                };
                let running = self.start(StartFrom::Checkpoint(completed[at].checkpoint));
                self.doom(&running);
                self.await_end(&running)
            }
            Disturbance::Damage => {
                let completed = self.completed()?;
                // One that is left to fall back to.
                if let [.., _, newest] = &completed[..] {
                    let path = format!("manifest/{}", newest.manifest);
                    self.baton.note(|| format!("lost: {path}"));
                    self.outside.disk().with(|files| drop(files.remove(&path)));
                    self.damaged.insert(newest.manifest.clone());
                }
                self.disturb(Disturbance::Crash)
            }
        }
    }

    /// Lets the job come to its end.
    fn finish(&mut self) -> Result<(), Broken> {
        for _ in 0..TRIES {
            let running = self.start(StartFrom::Resume);
            self.await_flag(&running.flags.over, None)?;
            let ended = running.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
            match ended {
                Some(Ok(Outcome::Finished | Outcome::AlreadyFinished)) => return Ok(()),
                Some(Err(error)) if error.kind() == ErrorKind::Fenced => {}
                Some(Ok(outcome)) => return Err(format!("the job ended as {outcome:?}")),
                Some(Err(error)) => return Err(format!("the job cannot go on: {error:?}")),
                None => return Err("the process of the job ended without a result".to_owned()),
            }
        }
        Err(format!("{TRIES} processes in a row were overtaken"))
    }

    /// Starts a process of the job.
    fn start(&mut self, from: StartFrom) -> Running {
        let (id, flags) = self.baton.add_process();
        self.processes += 1;
        let process = Process { baton: self.baton.clone(), id };
        let world = World { process: process.clone(), outside: self.outside.clone() };
        let config = self.config(from, &world);
        self.baton.note(|| {
            let checkpointing = config.checkpointing.as_ref();
            let interval = checkpointing.and_then(|checkpointing| checkpointing.interval);
            let parallelism = config.parallelism;
            format!("start of process {id} from {from:?}, parallelism {parallelism}, interval {interval:?}")
        });
        let (control, ended) = (JobControl::new(), Arc::new(Mutex::new(None)));
        let (of_job, result, job, of_process) =
            (control.clone(), Arc::clone(&ended), self.job.clone(), process.clone());
        let work = move || {
            let outcome = (job.run)(&world, config, &of_job);
            of_process.note(|| match &outcome {
                Ok(outcome) => format!("the job ended: {outcome:?}"),
                Err(error) => format!("the job failed: {error}"),
            });
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        };
        if let Err(error) = self.baton.spawn(id, "job", Box::new(work)) {
            let failed = Some(Err(error));
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = failed;
            flags.over.store(true, SeqCst);
        }
        Running { process, flags, control, ended }
    }

    /// A configuration as the seed draws it.
    fn config(&self, from: StartFrom, world: &World) -> JobConfig {
        let storage = (self.job.storage)(world.storage(), world);
        let parallelism = self.job.parallelism.clone();
        let config = self.baton.random(|random| {
            let millis = Duration::from_millis;
            let kind = if random.u8(..4) == 0 { SnapshotKind::Full } else { SnapshotKind::Incremental };
            let depth = [Depth::Manifest, Depth::Lengths, Depth::Contents];
            let checkpointing =
                CheckpointConfig::new(storage, Duration::from_micros(random.u64(500..10_000)))
                    .max_concurrent(random.u32(1..=3))
                    .retained(NonZeroUsize::MIN.saturating_add(random.usize(..3)))
                    .kind(kind)
                    .verify(depth[random.usize(..depth.len())])
                    .tolerable_failures(if random.bool() { u32::MAX } else { 1 })
                    .timeout(millis(150))
                    .commit_timeout(millis(200))
                    .cleanup_pause(millis(random.u64(..10)))
                    .give_way(millis(random.u64(..100)));
            JobConfig::default()
                .parallelism(random.u32(parallelism))
                .batch_size(random.usize(1..=8))
                .channel_capacity(random.usize(1..=3))
                .chain_keyed(random.bool())
                .checkpointing(checkpointing)
                .restart(RestartStrategy::FixedDelay { attempts: 12, delay: millis(random.u64(..5)) })
        });
        let (process, checkpoints) = (world.process().clone(), Arc::clone(&self.checkpoints));
        let observer = move |event: &JobEvent| {
            if let JobEvent::CheckpointCompleted(_) = event {
                *checkpoints.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            }
            if let Some(text) = describe(event) {
                process.note(|| text);
            }
        };
        let clock = Arc::new(world.process().clone());
        (self.job.configure)(config.start(from).observer(Arc::new(observer)).clock(clock), world)
    }

    /// Lets a process die at one of its steps.
    fn doom(&self, running: &Running) {
        self.baton.destine(running.process.id, self.moment(), Fate::Crash);
    }

    /// Any step of a process, each order of magnitude as likely as another; or one soon after it has tried to
    /// create a slot of the log, where much is decided and little is done.
    fn moment(&self) -> Moment {
        self.baton.random(|random| {
            let (claims, bits) =
                if random.bool() { (random.u64(1..=6), random.u32(1..=6)) } else { (0, random.u32(1..=12)) };
            Moment { claims, steps: random.u64(1..=1 << bits) }
        })
    }

    fn micros(&self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_micros(self.baton.random(|random| random.u64(range)))
    }

    fn pause(&self, micros: std::ops::Range<u64>) -> Result<(), Broken> {
        let time = self.micros(micros);
        self.await_ready(|| false, Some(time)).map(drop)
    }

    fn await_flag(&self, flag: &Arc<AtomicBool>, time: Option<Duration>) -> Result<bool, Broken> {
        let flag = Arc::clone(flag);
        self.await_ready(move || flag.load(SeqCst), time)
    }

    /// Waits until `ready`, at most for so long; returns whether it is.
    fn await_ready(
        &self,
        ready: impl Fn() -> bool + Clone + Send + 'static,
        time: Option<Duration>,
    ) -> Result<bool, Broken> {
        let until = time.map(|time| self.baton.elapsed() + time);
        loop {
            if let Some(stuck) = self.baton.stuck() {
                return Err(stuck);
            }
            if ready() || until.is_some_and(|until| until <= self.baton.elapsed()) {
                return Ok(ready());
            }
            self.baton.wait(Box::new(ready.clone()), until);
        }
    }

    fn await_end(&mut self, running: &Running) -> Result<(), Broken> {
        self.await_flag(&running.flags.over, None)?;
        self.judge(running)?;
        self.collect()
    }

    /// Ends a process by force.
    fn end(&mut self, running: &Running) -> Result<(), Broken> {
        self.baton.kill(running.process.id);
        self.await_end(running)
    }

    /// Forgets the processes that have ended.
    fn collect(&mut self) -> Result<(), Broken> {
        let (over, running): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|running| running.flags.over.load(SeqCst));
        self.running = running;
        over.iter().try_for_each(|running| self.judge(running))
    }

    /// A process may fail because the store does, or because another took over; nothing else happened to it.
    fn judge(&self, running: &Running) -> Result<(), Broken> {
        let ended = running.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Err(error)) = ended else { return Ok(()) };
        let is_expected =
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Fenced | ErrorKind::NotFound);
        if is_expected || !self.baton.is_alive(running.process.id) {
            return Ok(());
        }
        Err(format!("process {} failed: {error:?}", running.process.id))
    }

    /// The newest checkpoint and those that it grew from, but for damaged ones.
    fn completed(&self) -> Result<Vec<CompletedCheckpoint>, Broken> {
        let history = direct::now(direct::storage(self.outside.disk()).history());
        let mut history = history.map_err(|error| format!("the log cannot be read: {error:?}"))?;
        let mut completed = std::mem::take(&mut history.completed);
        if let Some(newest) = completed.last().cloned() {
            completed.retain(|known| known == &newest || !newest.branch.gave_up(known.checkpoint));
        }
        completed.retain(|known| !self.is_damaged(&known.manifest));
        Ok(completed)
    }

    pub(crate) fn is_damaged(&self, manifest: &str) -> bool {
        self.damaged.contains(manifest)
    }
}

fn describe(event: &JobEvent) -> Option<String> {
    let id = |checkpoint: &CheckpointId| checkpoint.0;
    Some(match event {
        JobEvent::Started { attempt, from } => match from {
            Some(from) => format!("attempt {attempt} runs, from checkpoint {}", id(from)),
            None => format!("attempt {attempt} runs, from nothing"),
        },
        JobEvent::CheckpointCompleted(report) => format!("checkpoint {} is complete", id(&report.checkpoint)),
        JobEvent::CheckpointAborted(aborted) => format!("aborted: {aborted}"),
        JobEvent::Restarting { error, .. } => format!("restarts: {error}"),
        JobEvent::Skipped { checkpoint, .. } => format!("skips checkpoint {}", id(checkpoint)),
        JobEvent::Cleaned { removed, error: None } => format!("cleaned: {removed} files"),
        JobEvent::Cleaned { error: Some(error), .. } => format!("not cleaned: {error}"),
        _ => return None,
    })
}
