//! Keyed operators with a broadcast side that fail, stop, and go on at another parallelism. A mismatch here
//! means that a subtask missed a rule, had one twice, or forgot one.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::rated::*;
use crate::common::*;
use strandline_checkpoint_storage::{RecoverOptions, Storage};
use strandline_runtime::*;

/// Lights one of the fuses at every restart, until there have been enough.
fn relight(seed: u64, failures: u32, job: &Job) -> impl Fn(&JobEvent) + Send + Sync + 'static {
    let fuses = [job.orders.fuse.clone(), job.rules.fuse.clone(), job.sink.fuse.clone()];
    let (random, left) = (Mutex::new(fastrand::Rng::with_seed(seed)), AtomicU32::new(failures));
    move |event| {
        if matches!(event, JobEvent::Started { .. }) && left.load(SeqCst) > 0 {
            left.fetch_sub(1, SeqCst);
            let mut random = random.lock().unwrap();
            match random.usize(0..3) {
                1 => fuses[1].set(random.i64(1..=RULES as i64)),
                side => fuses[side].set(random.i64(1..8_000)),
            }
        }
    }
}

#[test]
fn failures_change_nothing_in_the_result() {
    let (mut restarts, mut resumed) = (0, 0);
    for seed in 0..cases(12) {
        let mut random = fastrand::Rng::with_seed(seed);
        let orders = orders(15_000);
        let job = Job::new(&orders);
        let events = Events::new();
        let relight = relight(seed, 4, &job);
        let seen = events.clone();
        let observer = move |event: &JobEvent| {
            relight(event);
            seen.event(event);
        };
        let config = job
            .config(random.u32(1..4), Duration::from_millis(1))
            .restart(RestartStrategy::FixedDelay { attempts: 20, delay: Duration::ZERO })
            .observer(Arc::new(observer));
        let report = run(&job.pipeline(), config, &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished, "seed {seed}");
        assert!(job.sink.visible() == rated(&orders, &rules()), "seed {seed}: the result differs");
        restarts += report.restarts;
        let is_resumed = |event: &&JobEvent| matches!(event, JobEvent::Started { from: Some(_), .. });
        resumed += events.all().iter().filter(is_resumed).count();
    }
    assert!(restarts > 0 && resumed > 0, "nothing was ever restored: the test tests nothing");
}

#[test]
fn a_rescale_keeps_the_rules_in_every_subtask() {
    let orders = orders(6_000);
    let mut job = Job::new(&orders);
    job.orders.gate.store(0, SeqCst);
    for (parallelism, per_split) in [(1, 400), (3, 800), (2, u64::MAX)] {
        let first = parallelism == 1;
        let report = job.run_while(job.config(parallelism, NEVER), |events, control| {
            if first {
                job.how.applied.wait(RULES);
            }
            job.orders.gate.store(per_split, SeqCst);
            if per_split < u64::MAX {
                wait_done(events, 2_000);
                control.stop();
            }
        });
        assert_eq!(report.resumed_from.is_some(), !first);
        assert_eq!(job.how.applied.get(), RULES, "rules are restored, not read again");
        // From now on there is no order without a rule.
        job.how.strict = true;
    }
    assert!(job.sink.visible() == rated(&orders, &rules()));
}

/// Whether the newest checkpoint has all of `operator` as ended.
fn has_ended(storage: &Storage, operator: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let recovery = runtime.block_on(storage.recover(RecoverOptions::default())).unwrap();
    let manifest = recovery.restored.unwrap().manifest;
    let operator = manifest.operators.iter().find(|of| of.id.as_str() == operator).unwrap();
    operator.subtasks.iter().all(|subtask| subtask.finished)
}

/// Takes checkpoints until one has `operator` as ended.
fn checkpoint_behind_the_end_of(operator: &str, job: &Job, events: &Events, control: &JobControl) {
    for n in 1.. {
        control.trigger_checkpoint();
        events.wait_completed(n);
        if has_ended(&job.storage, operator) {
            return;
        }
    }
}

#[test]
fn checkpoints_go_on_when_the_broadcast_side_has_ended() {
    let orders = orders(4_000);
    let job = Job::new(&orders);
    job.orders.gate.store(400, SeqCst);
    let report = job.run_while(job.config(2, NEVER), |events, control| {
        wait_done(events, 2_000);
        checkpoint_behind_the_end_of("rules", &job, events, control);
        control.cancel();
    });
    assert_eq!(report.outcome, Outcome::Cancelled);
    job.orders.open_gate();
    let report = job.run_while(job.config(2, NEVER), |_, _| {});
    assert_eq!((report.outcome, report.read["orders"]), (Outcome::Finished, 2_000));
    assert_eq!(job.how.applied.get(), RULES * 2, "once in each subtask, not again after the restart");
    assert!(job.sink.visible() == rated(&orders, &rules()));
}

#[test]
fn checkpoints_go_on_when_the_keyed_side_has_ended() {
    let orders = orders(4_000);
    let job = Job::new(&orders);
    job.rules.gate.store(0, SeqCst);
    let report = job.run_while(job.config(2, NEVER), |events, control| {
        wait_done(events, 4_000);
        checkpoint_behind_the_end_of("orders", &job, events, control);
        control.cancel();
    });
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert!(job.sink.visible().is_empty(), "the end of one side is not the end of time: all orders wait");
    job.rules.open_gate();
    let report = job.run_while(job.config(3, NEVER), |_, _| {});
    assert_eq!(report.outcome, Outcome::Finished);
    assert!(!report.read.contains_key("orders") || report.read["orders"] == 0);
    assert!(job.sink.visible() == rated(&orders, &rules()));
}
