//! Checkpoints as a job sees them: aborted ones, the final one, stops, starts from here or there, fencing.

use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::faults::{Fault, Faults, Operation, Target};
use strandline_checkpoint_storage::{CheckpointKind, CommitLog, CommitLogOptions, Storage};
use strandline_runtime::*;
use strandline_state_api::*;

struct Job {
    source: VecSource<u64>,
    sink: VecSink<(u64, u64)>,
    storage: Storage,
    events: Arc<Events>,
    control: JobControl,
    records: Vec<u64>,
}

impl Job {
    /// Ten thousand records, of which the source gives half before its gate is opened.
    fn new() -> Self {
        let records: Vec<u64> = (0..10_000).map(|i| i * 7 % 300).collect();
        Self {
            source: VecSource { step: 50, ..VecSource::new(&records, 4) }.gated(1_250),
            sink: VecSink::default(),
            storage: Storage::in_memory().unwrap(),
            events: Events::new(),
            control: JobControl::new(),
            records,
        }
    }

    fn config(&self) -> JobConfig {
        let checkpointing = CheckpointConfig::new(self.storage.clone(), NEVER)
            .tolerable_failures(u32::MAX)
            .give_way(Duration::ZERO);
        JobConfig::default()
            .parallelism(2)
            .checkpointing(checkpointing)
            .restart(RestartStrategy::None)
            .observer(self.events.clone())
    }

    fn pipeline(&self) -> Pipeline<MemoryBackendFactory> {
        counting(&self.source, &self.sink)
    }

    fn run(&self, config: JobConfig) -> strandline_state_api::Result<JobReport> {
        run(&self.pipeline(), config, &self.control)
    }

    /// Runs the job in another thread while `meanwhile` watches and steers it.
    fn run_while(
        &self,
        config: JobConfig,
        meanwhile: impl FnOnce(),
    ) -> strandline_state_api::Result<JobReport> {
        std::thread::scope(|scope| {
            let job = scope.spawn(|| self.events.of(|| self.run(config)));
            meanwhile();
            job.join().unwrap()
        })
    }

    fn wait_done(&self, records: u64) {
        self.events.wait(|events| {
            events
                .iter()
                .any(|event| matches!(event, JobEvent::Progress(progress) if progress.done >= records))
        });
    }

    fn wait_aborted(&self) -> String {
        self.events.wait(|events| events.iter().any(|event| matches!(event, JobEvent::CheckpointAborted(_))));
        let events = self.events.all();
        let reason = |event: &JobEvent| match event {
            JobEvent::CheckpointAborted(aborted) => Some(aborted.to_string()),
            _ => None,
        };
        events.iter().find_map(reason).unwrap()
    }
}

#[test]
fn a_checkpoint_on_demand_makes_results_visible_while_the_job_goes_on() {
    let job = Job::new();
    let report = job
        .run_while(job.config(), || {
            job.wait_done(5_000);
            assert!(job.sink.visible().is_empty(), "nothing is committed before a checkpoint");
            job.control.trigger_checkpoint();
            job.events.wait_completed(1);
            job.source.open_gate();
        })
        .unwrap();
    assert_eq!(job.sink.visible(), counted(&job.records));
    let kinds: Vec<_> = report.checkpoints.iter().map(|checkpoint| checkpoint.kind).collect();
    assert_eq!(kinds, ["api", "final"], "the job ends with a checkpoint of its own");
    let (first, last) = (&report.checkpoints[0], &report.checkpoints[1]);
    assert!(
        first.written_bytes > 0 && first.full_bytes >= first.written_bytes && first.duration >= first.commit
    );
    assert_eq!((first.checkpoint, last.checkpoint), (CheckpointId(1), CheckpointId(2)));
    assert_eq!(report.state_entries, 300);
}

#[test]
fn an_aborted_checkpoint_is_told_and_does_not_break_the_next() {
    let mut job = Job::new();
    let faults = Faults::on(Target::of(Operation::Put).path("segments/"), Fault::NotDone);
    job.storage = faults.wrap(&job.storage);
    let report = job
        .run_while(job.config(), || {
            job.wait_done(5_000);
            job.control.trigger_checkpoint();
            let reason = job.wait_aborted();
            for part in ["count", "injected fault", "segments/"] {
                assert!(reason.contains(part), "{part} is not in: {reason}");
            }
            faults.stop();
            job.control.trigger_checkpoint();
            job.events.wait_completed(1);
            job.source.open_gate();
        })
        .unwrap();
    assert_eq!((report.restarts, report.aborted_checkpoints, report.checkpoints.len()), (0, 1, 2));
    assert_eq!(job.sink.visible(), counted(&job.records));
}

#[test]
fn too_many_failed_checkpoints_restart_the_job() {
    let mut job = Job::new();
    let faults = Faults::on(Target::of(Operation::Put).path("segments/"), Fault::NotDone);
    job.storage = faults.wrap(&job.storage);
    let mut config = job.config();
    config.restart = Some(RestartStrategy::FixedDelay { attempts: 1, delay: Duration::ZERO });
    if let Some(checkpointing) = &mut config.checkpointing {
        checkpointing.tolerable_failures = 0;
    }
    let report = job
        .run_while(config, || {
            job.wait_done(5_000);
            job.control.trigger_checkpoint();
            job.events.wait(|events| events.iter().any(|event| matches!(event, JobEvent::Restarting { .. })));
            faults.stop();
            job.source.open_gate();
        })
        .unwrap();
    assert_eq!(report.restarts, 1);
    assert_eq!(job.sink.visible(), counted(&job.records));
}

#[test]
fn a_commit_of_unknown_outcome_is_found_by_a_restart() {
    let mut job = Job::new();
    let faults = Faults::never();
    job.storage = faults.wrap(&job.storage);
    let mut config = job.config();
    config.restart = Some(RestartStrategy::FixedDelay { attempts: 100, delay: Duration::from_millis(20) });
    let report = job
        .run_while(config, || {
            job.wait_done(5_000);
            // The entry of the log comes to exist, but neither the answer nor a look at the log gets through.
            faults.add(Target::of(Operation::Claim), Fault::AnswerLost);
            faults.add(Target::of(Operation::Read).path("log/"), Fault::NotDone);
            job.control.trigger_checkpoint();
            job.events.wait(|events| events.iter().any(|event| matches!(event, JobEvent::Restarting { .. })));
            assert!(job.sink.visible().is_empty(), "what may not exist must not be told to sinks");
            faults.stop();
            job.source.open_gate();
        })
        .unwrap();
    assert!(report.restarts >= 1);
    let starts = job.events.all().into_iter().filter_map(|event| match event {
        JobEvent::Started { from, .. } => Some(from),
        _ => None,
    });
    assert_eq!(starts.collect::<Vec<_>>(), [None, Some(CheckpointId(1))], "the checkpoint did exist");
    assert_eq!(job.sink.visible(), counted(&job.records));
}

#[test]
fn a_checkpoint_that_takes_too_long_is_aborted_with_the_names_of_those_it_waits_for() {
    let job = Job::new();
    let mut config = job.config();
    if let Some(checkpointing) = &mut config.checkpointing {
        checkpointing.timeout = Duration::from_millis(20);
    }
    let hold = job.sink.hold.clone();
    let held = hold.lock().unwrap();
    let report = job
        .run_while(config, || {
            job.events.wait(|events| events.iter().any(|event| matches!(event, JobEvent::Started { .. })));
            job.control.trigger_checkpoint();
            let reason = job.wait_aborted();
            assert!(reason.contains("timeout") && reason.contains("count"), "{reason}");
            drop(held);
            job.source.open_gate();
        })
        .unwrap();
    assert!(report.aborted_checkpoints >= 1);
    assert_eq!(job.sink.visible(), counted(&job.records));
}

#[test]
fn a_stop_takes_a_last_checkpoint_and_a_start_goes_on_from_it() {
    let job = Job::new();
    let first = job
        .run_while(job.config(), || {
            job.wait_done(5_000);
            job.control.stop();
        })
        .unwrap();
    assert_eq!((first.outcome, first.checkpoints.len()), (Outcome::Stopped, 1));
    assert_eq!(job.sink.visible().len(), 5_000, "what was read is visible");

    let job = Job { control: JobControl::new(), ..job };
    job.source.open_gate();
    let second = job.run(job.config()).unwrap();
    assert_eq!((second.outcome, second.resumed_from), (Outcome::Finished, Some(CheckpointId(1))));
    assert_eq!(second.read["numbers"], 5_000, "nothing is read twice");
    assert_eq!(job.sink.visible(), counted(&job.records));

    let third = job.run(job.config()).unwrap();
    assert_eq!((third.outcome, third.read.len()), (Outcome::AlreadyFinished, 0));
    assert!(
        job.sink.shared.lock().unwrap().recoveries >= 3,
        "what was left to commit is committed even then"
    );
}

#[test]
fn a_stop_without_checkpoints_commits_what_was_read() {
    let job = Job::new();
    let config = job.config().checkpointing(None::<CheckpointConfig>);
    let report = job
        .run_while(config, || {
            job.wait_done(5_000);
            job.control.stop();
        })
        .unwrap();
    assert_eq!((report.outcome, report.checkpoints.len()), (Outcome::Stopped, 0));
    assert_eq!(job.sink.visible().len(), 5_000);
}

#[test]
fn a_job_starts_where_it_is_told_to() {
    let job = Job::new();
    let latest = job.config().start(StartFrom::Latest);
    let error = job.run(latest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "there is nothing to resume from");
    let report = job
        .run_while(job.config(), || {
            job.wait_done(5_000);
            job.control.trigger_checkpoint();
            job.events.wait_completed(1);
            job.control.trigger_checkpoint();
            job.events.wait_completed(2);
            job.control.cancel();
        })
        .unwrap();
    assert_eq!(report.outcome, Outcome::Cancelled);

    let job = Job { control: JobControl::new(), ..job };
    let unknown = job.config().start(StartFrom::Checkpoint(CheckpointId(77)));
    assert_eq!(job.run(unknown).unwrap_err().kind(), ErrorKind::NotFound);
    job.source.open_gate();
    let first = job.config().start(StartFrom::Checkpoint(CheckpointId(1)));
    let report = job.run(first).unwrap();
    assert_eq!((report.resumed_from, report.outcome), (Some(CheckpointId(1)), Outcome::Finished));
    assert!(report.checkpoints[0].checkpoint > CheckpointId(2), "numbers are never used again");

    let fresh = job.config().start(StartFrom::Fresh);
    let report = job.run(fresh).unwrap();
    assert_eq!((report.resumed_from, report.read["numbers"]), (None, 10_000));
    assert_eq!(job.sink.visible(), counted(&job.records));
}

#[test]
fn a_job_whose_storage_was_taken_over_stops() {
    let job = Job::new();
    let ended = job.run_while(job.config(), || {
        job.wait_done(5_000);
        job.control.trigger_checkpoint();
        job.events.wait_completed(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let options = CommitLogOptions::new("somebody else");
        let claim = CommitLog::claim(&job.storage, options, CommitLog::random_tokens());
        runtime.block_on(claim).unwrap();
        job.source.open_gate();
    });
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(job.sink.visible().len(), 5_000, "what came after the takeover is not committed");
}

/// To claim the storage again would end the run that has taken over.
#[test]
fn a_run_that_was_overtaken_does_not_restart() {
    let job = Job::new();
    let retry = RestartStrategy::FixedDelay { attempts: 5, delay: Duration::ZERO };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ended = job.run_while(job.config().restart(retry), || {
        job.wait_done(5_000);
        let options = CommitLogOptions::new("somebody else");
        let claim = CommitLog::claim(&job.storage, options, CommitLog::random_tokens());
        assert_eq!(runtime.block_on(claim).unwrap().log.term(), 2);
        job.source.fuse.set(1);
        job.source.open_gate();
    });
    let error = ended.unwrap_err();
    assert_eq!((error.kind(), error.context("its term")), (ErrorKind::Fenced, Some("2")), "{error}");
    assert_eq!(runtime.block_on(job.storage.history()).unwrap().term, 2);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_told() {
    let job = Job::new();
    let report = job
        .run_while(job.config(), || {
            job.wait_done(5_000);
            job.control.trigger_checkpoint();
            job.events.wait_completed(1);
            job.control.stop();
        })
        .unwrap();
    assert_eq!(report.checkpoints.len(), 2);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let newest = job.storage.completed().await.unwrap().pop().unwrap();
        assert_eq!((newest.checkpoint, newest.kind), (CheckpointId(2), CheckpointKind::Final));
        job.storage.blobs().delete(&format!("manifest/{}", newest.manifest)).await.unwrap();
    });
    let job = Job { control: JobControl::new(), events: Events::new(), ..job };
    job.source.open_gate();
    let report = job.run(job.config()).unwrap();
    assert_eq!(report.resumed_from, Some(CheckpointId(1)));
    let skipped = |event: &JobEvent| matches!(event, JobEvent::Skipped { checkpoint: CheckpointId(2), .. });
    assert!(job.events.all().iter().any(skipped));
    assert_eq!(job.sink.visible(), counted(&job.records));
}

#[test]
fn state_of_an_operator_that_is_gone_is_not_dropped_silently() {
    let job = Job::new();
    job.run_while(job.config(), || {
        job.wait_done(5_000);
        job.control.stop();
    })
    .unwrap();
    let renamed = || {
        let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
        pipeline
            .source("numbers", job.source.clone())
            .key_by(|n| (n, ()))
            .process("renamed", Count::open)
            .sink("results", job.sink.clone());
        pipeline
    };
    job.source.open_gate();
    let error = run(&renamed(), job.config(), &JobControl::new()).unwrap_err();
    assert_eq!((error.kind(), error.context("operator")), (ErrorKind::Incompatible, Some("count")));

    let allowed = job.config().allow_orphans(["count"]);
    let report = run(&renamed(), allowed, &JobControl::new()).unwrap();
    assert_eq!(report.read["numbers"], 5_000, "the source goes on, the renamed operator starts empty");
    assert_eq!(report.state_entries, 300);
}

#[test]
fn an_operator_that_is_declared_to_be_renamed_keeps_its_state() {
    let job = Job::new();
    job.run_while(job.config(), || {
        job.wait_done(5_000);
        job.control.stop();
    })
    .unwrap();
    let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
    pipeline
        .source("numbers", job.source.clone())
        .key_by(|n| (n, ()))
        .process("renamed", Count::open)
        .sink("results", job.sink.clone());
    job.source.open_gate();
    let id = |id: &str| OperatorId::new(id).unwrap();
    let events = Events::new();
    let renamed_operators = [(id("count"), id("renamed"))];
    let config = job.config().renamed_operators(renamed_operators).observer(events.clone());
    run(&pipeline, config, &JobControl::new()).unwrap();
    assert_eq!(job.sink.visible(), counted(&job.records));
    let planned = events.all().into_iter().find_map(|event| match event {
        JobEvent::RestorePlanned { plan, .. } => Some(plan.to_string()),
        _ => None,
    });
    let plan = planned.expect("a rename is told");
    assert!(plan.contains("renamed") && plan.contains("(stored as count)"), "{plan}");
    let unknown = job.config().renamed_operators([(id("count"), id("nobody"))]);
    let error = run(&pipeline, unknown, &JobControl::new()).unwrap_err();
    assert!(error.to_string().contains("nobody"), "{error}");
}

#[test]
fn a_state_that_nobody_registers_refuses_the_start_and_a_declared_rename_does_not() {
    let job = Job::new();
    job.run_while(job.config(), || {
        job.wait_done(5_000);
        job.control.stop();
    })
    .unwrap();
    let recount = |descriptor: ValueDescriptor<u64>| {
        let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
        pipeline
            .source("numbers", job.source.clone())
            .key_by(|n| (n, ()))
            .process("count", move |ctx| Count::open_in(&descriptor, ctx))
            .sink("results", job.sink.clone());
        pipeline
    };
    let stored = match job.pipeline().schema().unwrap().operators.into_iter().find(|o| !o.states.is_empty()) {
        Some(operator) => operator.states[0].meta.name.clone(),
        None => panic!("no keyed state is declared"),
    };
    job.source.open_gate();
    let other = recount(ValueDescriptor::new("other"));
    let error = run(&other, job.config(), &JobControl::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    assert_eq!((error.context("operator"), error.context("state")), (Some("count"), Some(&*stored)));
    assert!(error.to_string().contains(&format!("count/{stored}")), "{error}");
    let renamed = recount(ValueDescriptor::new("other").renamed_from(stored));
    run(&renamed, job.config(), &JobControl::new()).unwrap();
    assert_eq!(job.sink.visible(), counted(&job.records));
}

/// Keeps the keys that it sees in an operator list named as the executor names the state of sources.
struct Remembering {
    positions: OperatorListState<u64>,
    pending: OperatorListState<u64>,
}

impl Operator for Remembering {
    type Key = u64;
    type In = ();
    type Out = (u64, u64);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, (u64, u64)>,
    ) -> Result<()> {
        let key = *ctx.key();
        ctx.operator_state().get_mut(self.positions)?.push(key);
        ctx.operator_state().get_mut(self.pending)?.push(key);
        let lists = ctx.operator_state();
        let (one, other) = (lists.get(self.positions)?.len(), lists.get(self.pending)?.len());
        assert_eq!(one, other);
        ctx.emit((key, one as u64));
        Ok(())
    }
}

#[test]
fn operator_lists_named_as_the_executor_names_its_own_state_survive_a_restart() {
    let job = Job::new();
    let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
    pipeline
        .source("numbers", job.source.clone())
        .key_by(|n| (n, ()))
        .process("remember", |ctx| {
            let positions = ctx.register(&OperatorListDescriptor::split("positions"))?;
            Ok(Remembering { positions, pending: ctx.register(&OperatorListDescriptor::split("pending"))? })
        })
        .sink("results", job.sink.clone());
    let stopped = rated::run_while(&pipeline, job.config().parallelism(1), |events, control| {
        rated::wait_done(events, 5_000);
        control.stop();
    });
    assert_eq!(stopped.outcome, Outcome::Stopped);
    job.source.open_gate();
    let report = run(&pipeline, job.config().parallelism(1), &JobControl::new()).unwrap();
    assert_eq!((report.outcome, report.read["numbers"]), (Outcome::Finished, 5_000));
    let mut lengths: Vec<u64> = job.sink.visible().into_iter().map(|(_, length)| length).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, (1..=10_000).collect::<Vec<_>>(), "the lists go on where they stood");
}
