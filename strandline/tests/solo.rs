//! A job of one loop, on the memory backend.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use strandline::prelude::*;
use strandline::state::host::{OperatorStateEntry, Redistribution};
use strandline::storage::LoopOptions;
use strandline::storage::faults::{Fault, Faults};

type Job = SoloJob<MemoryBackend<String>>;

fn open(storage: &Storage) -> Job {
    SoloJob::open("word-count", MemoryBackend::factory(), storage).unwrap()
}

fn counts(job: &mut Job) -> ValueState<u64> {
    job.register(&ValueDescriptor::new("counts")).unwrap()
}

fn word() -> String {
    "word".to_owned()
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

#[tokio::test]
async fn state_of_every_kind_is_registered_in_any_order_and_restored() {
    let storage = Storage::in_memory().unwrap();
    for round in 0..3_u64 {
        let mut job = open(&storage);
        let done = job.register(&OperatorListDescriptor::<u64>::split("positions")).unwrap();
        let seen = job.register(&ListDescriptor::<u64>::new("seen")).unwrap();
        let limits = job.register(&BroadcastDescriptor::<String, u64>::new("limits")).unwrap();
        let ends = job.register(&TimerDescriptor::event_time("ends")).unwrap();
        let by_hour = job.register(&MapDescriptor::<u8, u64>::new("by hour").namespaced::<u32>()).unwrap();
        let sum = job.register(&ReducingDescriptor::<u64>::new("sum", |all, n| *all += n)).unwrap();
        let recovery = job.restore().await.unwrap();
        assert_eq!(recovery.restored.is_some(), round > 0);
        assert_eq!(
            job.list(done).unwrap(),
            (0..round).collect::<Vec<_>>(),
            "a list named as the executor's own"
        );
        assert_eq!(job.broadcast(limits).unwrap().get(&word()).copied(), round.checked_sub(1));
        assert_eq!(job.at(&word()).state(seen).get().unwrap().to_vec(), (0..round).collect::<Vec<_>>());
        assert_eq!(job.at(&word()).state_in(by_hour, &7).len().unwrap() as u64, round);
        assert_eq!(job.next_timer(ends).unwrap(), (round > 0).then(|| time(0)));
        assert_eq!(job.watermark(), round.checked_sub(1).map(|n| time(n as i64 - 100)));

        job.list_mut(done).unwrap().push(round);
        job.broadcast_mut(limits).unwrap().put(word(), round);
        job.at(&word()).state(seen).push(round).unwrap();
        job.at(&word()).state_in(by_hour, &7).put(round as u8, 1).unwrap();
        job.at(&word()).state(ends).register(time(round as i64)).unwrap();
        job.at(&word()).state(sum).add(round).unwrap();
        job.set_watermark(round as i64 - 100);
        let committed = job.checkpoint().await.unwrap();
        assert_eq!(committed.completed.checkpoint.0, round + 1);
        assert_eq!(committed.retained.len() as u64, (round + 1).min(2), "two are kept");
    }
}

fn refused<T>(result: Result<T>, text: &str) {
    let Err(error) = result else { panic!("not refused: {text}") };
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(error.context("operator"), Some("word-count"), "{error}");
}

#[tokio::test]
async fn nothing_is_accessed_before_the_restore_and_registered_after_it() {
    let storage = Storage::in_memory().unwrap();
    let mut job = open(&storage);
    let counts = counts(&mut job);
    let list = job.register(&OperatorListDescriptor::<u64>::split("list")).unwrap();
    let timers = job.register(&TimerDescriptor::<()>::event_time("timers")).unwrap();
    refused(job.at(&word()).state(counts).update_or_default(|n| *n += 1), "before the restore");
    refused(job.at(&word()).state(counts).get(), "before the restore");
    refused(job.list(list), "before the restore");
    refused(job.list_mut(list), "before the restore");
    refused(job.due(timers), "before the restore");
    refused(job.backend(), "before the restore");
    refused(job.checkpoint().await, "before the restore");
    job.restore().await.unwrap();
    refused(job.restore().await, "restored already");
    refused(job.register(&ValueDescriptor::<u64>::new("late")), "after the restore");
    refused(job.register(&OperatorListDescriptor::<u64>::split("late")), "after the restore");
    job.at(&word()).state(counts).update_or_default(|n| *n += 1).unwrap();
}

#[tokio::test]
async fn a_state_that_nobody_registers_refuses_the_restore_unless_it_is_allowed() {
    let storage = Storage::in_memory().unwrap();
    let mut job = open(&storage);
    let state = counts(&mut job);
    job.restore().await.unwrap();
    job.at(&word()).state(state).put(7).unwrap();
    job.checkpoint().await.unwrap();

    let refuse = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
        assert!(error.context("checkpoint").is_some(), "{error}");
    };
    let mut other = open(&storage);
    other.register(&ValueDescriptor::<u64>::new("others")).unwrap();
    refuse(other.restore().await.unwrap_err());
    let mut renamed: Job = SoloJob::open("words", MemoryBackend::factory(), &storage).unwrap();
    counts(&mut renamed);
    // The storage is that of a job of another name.
    let error = renamed.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    assert_eq!(error.context("its job"), Some("word-count"), "{error}");

    // Allowed, it is kept unused; then it is there again for who registers it.
    let options = LoopOptions::default().allow_orphan("word-count/counts");
    let mut without: Job =
        SoloJob::open_with("word-count", MemoryBackend::factory(), &storage, options).unwrap();
    without.restore().await.unwrap();
    without.checkpoint().await.unwrap();
    let options = LoopOptions::default().renamed("word-count", "words").unwrap();
    let mut renamed: Job = SoloJob::open_with("words", MemoryBackend::factory(), &storage, options).unwrap();
    let state = counts(&mut renamed);
    renamed.restore().await.unwrap();
    assert_eq!(renamed.at(&word()).state(state).get().unwrap().copied(), Some(7));
}

#[tokio::test]
async fn a_second_process_fences_the_first() {
    let storage = Storage::in_memory().unwrap();
    let (mut old, mut new) = (open(&storage), open(&storage));
    old.restore().await.unwrap();
    old.checkpoint().await.unwrap();
    new.restore().await.unwrap();
    for _ in 0..2 {
        assert_eq!(old.checkpoint().await.unwrap_err().kind(), ErrorKind::Fenced);
    }
    new.checkpoint().await.unwrap();
}

#[tokio::test]
async fn values_expire_by_the_system_clock_unless_the_loop_sets_the_time() {
    let storage = Storage::in_memory().unwrap();
    let hour = Duration::from_secs(3600);
    let short =
        ValueDescriptor::<u64>::new("short").time_to_live(Ttl::processing_time(Duration::from_millis(1)));
    let long = ValueDescriptor::<u64>::new("long").time_to_live(Ttl::processing_time(hour));
    let mut job = open(&storage);
    let (short, long) = (job.register(&short).unwrap(), job.register(&long).unwrap());
    job.restore().await.unwrap();
    job.at(&word()).state(short).put(1).unwrap();
    job.at(&word()).state(long).put(1).unwrap();
    let written = Timestamp::of_system_clock();
    while Timestamp::of_system_clock() <= written {
        std::hint::spin_loop();
    }
    assert_eq!(job.at(&word()).state(short).get().unwrap(), None);
    assert_eq!(job.at(&word()).state(long).get().unwrap().copied(), Some(1));
    job.set_time(written + 2 * hour);
    assert_eq!(job.at(&word()).state(long).get().unwrap(), None);
}

#[tokio::test]
async fn timers_are_due_in_their_order_and_see_state_that_expires_after_them() {
    let storage = Storage::in_memory().unwrap();
    let mut job = open(&storage);
    let ttl = Ttl::event_time(Duration::from_millis(10));
    let last = job.register(&ValueDescriptor::<i64>::new("last").time_to_live(ttl)).unwrap();
    let ends = job.register(&TimerDescriptor::<u8>::event_time("ends")).unwrap();
    let alarms = job.register(&TimerDescriptor::<()>::processing_time("alarms")).unwrap();
    job.restore().await.unwrap();
    for at in [7, 3, 20] {
        job.set_timestamp(Some(time(at)));
        job.at(&at.to_string()).state(last).put(at).unwrap();
        job.at(&at.to_string()).state_in(ends, &1).register(time(at + 5)).unwrap();
    }
    job.at(&word()).state(alarms).register(time(1)).unwrap();
    assert_eq!(job.due(ends).unwrap(), None, "no watermark yet");

    job.set_watermark(50);
    let mut fired = Vec::new();
    while let Some(timer) = job.due(ends).unwrap() {
        let value = job.at(&timer.key).state(last).take().unwrap();
        assert_eq!((timer.service, timer.namespace), (ends, 1));
        fired.push((timer.time.as_millis(), value));
    }
    assert_eq!(fired, [(8, Some(3)), (12, Some(7)), (25, Some(20))]);
    assert_eq!(
        job.due(alarms).unwrap().map(|timer| timer.key),
        Some(word()),
        "the system clock has passed it"
    );
    assert_eq!(job.due(alarms).unwrap(), None);
}

#[tokio::test]
async fn a_checkpoint_whose_future_was_dropped_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::in_dir(dir.path()).unwrap();
    let (mut expected, mut dropped) = (BTreeMap::new(), 0);
    for polls in 1..30_usize {
        let mut job = open(&storage);
        let state = counts(&mut job);
        job.restore().await.unwrap();
        for (key, n) in &expected {
            assert_eq!(job.at(key).state(state).get().unwrap(), Some(n), "{key} before {polls} polls");
        }
        job.checkpoint().await.unwrap();
        let key = format!("key {polls}");
        job.at(&key).state(state).put(polls as u64).unwrap();
        expected.insert(key, polls as u64);
        let mut checkpoint = Box::pin(job.checkpoint());
        dropped += 1;
        for _ in 0..polls {
            if checkpoint.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                dropped -= 1;
                break;
            }
            // Lets the work in the background run, so that every number of polls drops another state of it.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        }
        drop(checkpoint);
        job.checkpoint().await.unwrap();
    }
    assert!(dropped > 3, "{dropped}");
}

#[tokio::test]
async fn a_loop_that_checkpoints_runs_in_a_spawned_task() {
    let storage = Storage::in_memory().unwrap();
    let task = tokio::spawn(async move {
        let mut job: Job = SoloJob::open("word-count", MemoryBackend::factory(), &storage)?;
        let counts = job.register(&ValueDescriptor::<u64>::new("counts"))?;
        job.restore().await?;
        job.at(&word()).state(counts).update_or_default(|n| *n += 1)?;
        job.checkpoint().await
    });
    assert_eq!(task.await.unwrap().unwrap().completed.checkpoint.0, 1);
}

#[tokio::test]
async fn operator_state_that_nobody_registers_is_written_again() {
    let storage = Storage::in_memory().unwrap();
    for _ in 0..2 {
        let mut job = open(&storage);
        let list = job.register(&OperatorListDescriptor::<u64>::union("positions")).unwrap();
        job.restore().await.unwrap();
        *job.list_mut(list).unwrap() = vec![4];
        job.checkpoint().await.unwrap();
        let mut without = open(&storage);
        without.restore().await.unwrap();
        without.checkpoint().await.unwrap();
    }
    let recovery = storage.recover(strandline::storage::RecoverOptions::default()).await.unwrap();
    let manifest = recovery.restored.unwrap().manifest;
    let entries: &[OperatorStateEntry] = &manifest.operators[0].subtasks[0].operator_state;
    assert_eq!(entries.len(), 1);
    assert_eq!((&*entries[0].name, entries[0].redistribution), ("positions", Redistribution::Union));
}

/// For two hundred checkpoints the store refuses everything: what a job holds in memory for them is bounded by
/// what changed, and once the store is back nothing is missing.
#[tokio::test]
async fn a_store_that_is_down_costs_memory_for_what_changed_only() {
    const WORDS: u64 = 10_000;
    const CHANGED: u64 = 1_000;
    let start = async |faults: &Faults, storage: &Storage| {
        let mut job = open(&faults.wrap(storage));
        let state = counts(&mut job);
        job.restore().await.unwrap();
        for word in 0..WORDS {
            job.at(&word.to_string()).state(state).put(0).unwrap();
        }
        job.checkpoint().await.unwrap();
        (job, state)
    };
    // The first run counts the operations before the store goes down in the second.
    let healthy = Faults::never();
    start(&healthy, &Storage::in_memory().unwrap()).await;
    let storage = Storage::in_memory().unwrap();
    let faults = Faults::crash_at(healthy.operations(), Fault::NotDone);
    let (mut job, state) = start(&faults, &storage).await;
    let mut most = 0;
    for round in 1..=200 {
        for word in 0..CHANGED / 2 {
            let word = (word + round * 37) % CHANGED;
            job.at(&word.to_string()).state(state).put(round).unwrap();
        }
        let gone = format!("gone-{round}");
        job.at(&gone).state(state).put(1).unwrap();
        job.at(&format!("gone-{}", round - 1)).state(state).clear().unwrap();
        job.checkpoint().await.unwrap_err();
        let held = job.backend().unwrap().statistics();
        let held = held.iter().find(|statistic| statistic.name == "unstored_snapshot_bytes");
        most = most.max(held.expect("the backend counts what it holds").value);
    }
    // One record has at most 32 bytes; 200 times 500 of them would be 2,400,000.
    assert!(most <= 4 * 32 * (CHANGED + 200), "{most} bytes are held");
    assert!(faults.injected() >= 200);
    faults.stop();
    job.checkpoint().await.unwrap();
    let mut again = open(&storage);
    let state_again = counts(&mut again);
    again.restore().await.unwrap();
    for word in (0..WORDS).map(|word| word.to_string()).chain((0..=200).map(|round| format!("gone-{round}")))
    {
        let wanted = job.at(&word).state(state).get().unwrap().copied();
        assert_eq!(again.at(&word).state(state_again).get().unwrap().copied(), wanted, "{word}");
    }
}
