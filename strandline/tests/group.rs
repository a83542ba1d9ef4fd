//! Several loops over one storage, on the memory backend.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use strandline::prelude::*;
use strandline::state::Keyed;

const OPERATOR: &str = "counts";

struct Member {
    worker: Worker<MemoryBackend<u64>>,
    counts: ValueState<u64>,
    split: OperatorListState<u64>,
    rules: BroadcastState<u64, u64>,
}

async fn start(storage: &Storage, parallelism: u32) -> (WorkerGroup, Vec<Member>) {
    let group = WorkerGroup::claim("job", storage, &[(OPERATOR, parallelism)]).await.unwrap();
    let mut members = Vec::new();
    for subtask in 0..parallelism {
        let mut worker = group.worker(OPERATOR, subtask, &MemoryBackend::factory()).unwrap();
        let counts = worker.register(&ValueDescriptor::new("counts")).unwrap();
        let split = worker.register(&OperatorListDescriptor::split("split")).unwrap();
        let rules = worker.register(&BroadcastDescriptor::new("rules")).unwrap();
        worker.restore().await.unwrap();
        members.push(Member { worker, counts, split, rules });
    }
    (group, members)
}

fn contents(members: &mut [Member]) -> (BTreeMap<u64, u64>, Vec<u64>) {
    let (mut counts, mut split) = (BTreeMap::new(), Vec::new());
    for member in members {
        let backend = member.worker.backend().unwrap();
        let visit = |key: &u64, (): &(), n: &u64| {
            assert_eq!(counts.insert(*key, *n), None, "one worker owns a key");
            Ok(())
        };
        backend.for_each_value(member.counts, visit).unwrap();
        split.extend_from_slice(member.worker.list(member.split).unwrap());
    }
    split.sort_unstable();
    (counts, split)
}

async fn checkpoint(group: &mut WorkerGroup, members: &mut [Member]) {
    let checkpoint = group.begin().unwrap();
    let last = members.len() - 1;
    for (at, member) in members.iter_mut().enumerate() {
        let snapshot = member.worker.snapshot(checkpoint).await.unwrap();
        let committed = group.add(snapshot.clone()).await.unwrap();
        assert_eq!(
            committed.map(|committed| committed.completed.checkpoint),
            (at == last).then_some(checkpoint)
        );
        assert_eq!(group.add(snapshot).await.unwrap_err().kind(), ErrorKind::Invalid, "once");
    }
}

#[tokio::test]
async fn any_number_of_workers_resumes_from_any_other() {
    let storage = Storage::in_memory().unwrap();
    let (mut counts, mut split) = (BTreeMap::new(), Vec::new());
    for (round, parallelism) in (1_u64..).zip([1, 3, 2, 2, 5, 1]) {
        let (mut group, mut members) = start(&storage, parallelism).await;
        assert_eq!(contents(&mut members), (counts.clone(), split.clone()), "round {round}");
        for key in 0..500 {
            let owner = &mut members[Keyed::new(&key).group().subtask(parallelism) as usize];
            owner.worker.at(&key).state(owner.counts).update_or_default(|n| *n += round).unwrap();
            *counts.entry(key).or_default() += round;
        }
        for member in &mut members {
            let rules = member.worker.broadcast_mut(member.rules).unwrap();
            assert_eq!(rules.len() as u64, round - 1, "every worker has all rules");
            rules.put(round, round);
            member.worker.list_mut(member.split).unwrap().push(round);
            split.push(round);
        }
        split.sort_unstable();
        checkpoint(&mut group, &mut members).await;
        // What follows the last checkpoint is lost.
        let split = members[0].split;
        members[0].worker.list_mut(split).unwrap().push(99);
    }
}

#[tokio::test]
async fn a_key_of_another_worker_is_refused() {
    let storage = Storage::in_memory().unwrap();
    let (_group, mut members) = start(&storage, 2).await;
    let key = (0_u64..).find(|key| Keyed::new(key).group().subtask(2) == 1).unwrap();
    let counts = members[0].counts;
    let error = members[0].worker.at(&key).state(counts).get().unwrap_err();
    assert!(error.to_string().contains("key groups"), "{error}");
}

#[tokio::test]
async fn a_checkpoint_that_a_worker_missed_is_given_up_and_the_next_one_has_all() {
    let storage = Storage::in_memory().unwrap();
    let (mut group, mut members) = start(&storage, 2).await;
    let missed = group.begin().unwrap();
    let key = 1;
    let owner = Keyed::new(&key).group().subtask(2) as usize;
    let counts = members[owner].counts;
    members[owner].worker.at(&key).state(counts).put(7).unwrap();
    let late = members[owner].worker.snapshot(missed).await.unwrap();
    checkpoint(&mut group, &mut members).await;
    assert_eq!(group.add(late).await.unwrap_err().kind(), ErrorKind::Invalid);
    let (_, mut members) = start(&storage, 1).await;
    assert_eq!(contents(&mut members).0, BTreeMap::from([(key, 7)]));
}

#[tokio::test]
async fn an_operator_of_the_checkpoint_that_the_group_lacks_is_refused() {
    let storage = Storage::in_memory().unwrap();
    let (mut group, mut members) = start(&storage, 1).await;
    let counts = members[0].counts;
    members[0].worker.at(&1).state(counts).put(7).unwrap();
    checkpoint(&mut group, &mut members).await;
    let error = WorkerGroup::claim("job", &storage, &[("others", 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.context("operator")), (ErrorKind::Incompatible, Some(OPERATOR)));
    for operators in [&[(OPERATOR, 0)][..], &[(OPERATOR, 1), (OPERATOR, 1)]] {
        let error = WorkerGroup::claim("job", &storage, operators).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let group = WorkerGroup::claim("job", &storage, &[(OPERATOR, 2)]).await.unwrap();
    let worker: Result<Worker<MemoryBackend<u64>>> = group.worker(OPERATOR, 2, &MemoryBackend::factory());
    assert_eq!(worker.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_newer_group_fences_an_older_one() {
    let storage = Storage::in_memory().unwrap();
    let (mut old, mut workers) = start(&storage, 1).await;
    let (mut new, mut others) = start(&storage, 2).await;
    let id = old.begin().unwrap();
    let snapshot = workers[0].worker.snapshot(id).await.unwrap();
    assert_eq!(old.add(snapshot).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(old.begin().unwrap_err().kind(), ErrorKind::Fenced);
    checkpoint(&mut new, &mut others).await;
}

/// The upload of a snapshot hangs; the worker takes the next one, and that checkpoint completes. Then the first
/// one ends, or is dropped, and the next checkpoint is exact.
#[tokio::test]
async fn a_snapshot_whose_upload_hangs_delays_no_later_one() {
    for released in [true, false] {
        let storage = Storage::in_memory().unwrap();
        let (mut group, mut members) = start(&storage, 1).await;
        let member = &mut members[0];
        for key in 0..500 {
            member.worker.at(&key).state(member.counts).put(1).unwrap();
        }
        let hanging = group.begin().unwrap();
        let hanging = member.worker.prepare(hanging).unwrap();
        // A task of its own may store it.
        fn sendable<T: Send + 'static>(value: T) -> T {
            value
        }
        let mut upload = Box::pin(sendable(hanging.store()));
        let started = upload.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        for key in 0..10 {
            member.worker.at(&key).state(member.counts).put(2).unwrap();
        }
        let next = group.begin().unwrap();
        let snapshot = member.worker.prepare(next).unwrap().store().await.unwrap();
        assert!(group.add(snapshot).await.unwrap().is_some());
        let (mut expected, _) = contents(&mut members);
        let (_, mut restored) = start(&storage, 2).await;
        assert_eq!(contents(&mut restored).0, expected);
        drop(restored);
        if released {
            let late = match started {
                Poll::Ready(late) => late.unwrap(),
                Poll::Pending => upload.as_mut().await.unwrap(),
            };
            assert_eq!(group.add(late).await.unwrap_err().kind(), ErrorKind::Invalid);
        }
        drop(upload);
        let (mut group, mut members) = start(&storage, 1).await;
        let counts = members[0].counts;
        members[0].worker.at(&7).state(counts).put(3).unwrap();
        expected.insert(7, 3);
        checkpoint(&mut group, &mut members).await;
        let (_, mut restored) = start(&storage, 2).await;
        assert_eq!(contents(&mut restored).0, expected, "released: {released}");
    }
}
