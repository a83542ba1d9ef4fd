//! What calls do, case by case.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_operators::calls::{Answer, Calls, Replier, Retry};
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{Error, ErrorKind, TimeDomain, Timestamp};
use strandline_state_testing::{Harness, block_on};

use crate::server::Server;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The operator under test; the clock is at 0.
macro_rules! harness {
    ($calls:expr) => {{
        let (calls, factory) = ($calls, MemoryBackendFactory::default());
        let mut harness = Harness::new(factory, "calls", move |ctx| calls.open::<u64, _>(ctx)).unwrap();
        harness.processing_time(0).unwrap();
        harness
    }};
}

/// The record of each answer, with the reply if there is one.
macro_rules! take {
    ($harness:expr) => {
        $harness
            .take_output()
            .into_iter()
            .map(|(Answer { record, reply, .. }, _)| (record, reply.ok()))
            .collect::<Vec<_>>()
    };
}

/// The server replies, and the operator looks for replies.
macro_rules! answer {
    ($harness:expr, $server:expr, $record:expr) => {
        $server.reply($record, Ok($record));
        let poll = $harness.next_processing_timer().unwrap().unwrap();
        $harness.processing_time(poll).unwrap();
        assert_eq!(take!($harness), [($record, Some($record))]);
    };
}

macro_rules! assert_nothing_is_left {
    ($harness:expr) => {
        assert_eq!($harness.entries(), 0, "state is left");
        for domain in [TimeDomain::Event, TimeDomain::Processing] {
            assert_eq!($harness.timers(domain).unwrap(), [], "timers are left");
        }
    };
}

fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "try later")
}

#[test]
fn answers_come_as_replies_do_or_in_the_order_of_the_records() {
    for ordered in [false, true] {
        let server = Server::default();
        let calls = Calls::new(ms(1_000), server.clone());
        let mut harness = harness!(if ordered { calls.ordered() } else { calls });
        for record in 1..=3 {
            harness.process(record % 2, record, None).unwrap();
        }
        assert_eq!(server.asked(), [1, 2, 3]);
        server.reply(2, Ok(20));
        assert_eq!(harness.next_processing_timer().unwrap(), Some(5.into()), "it looks for replies");
        harness.processing_time(5).unwrap();
        assert_eq!(take!(harness), if ordered { vec![] } else { vec![(2, Some(20))] });
        server.reply(1, Ok(10));
        // A record that comes brings the answers along, too.
        harness.process(7u64, 4, None).unwrap();
        assert_eq!(
            take!(harness),
            if ordered { vec![(1, Some(10)), (2, Some(20))] } else { vec![(1, Some(10))] }
        );
        server.reply(4, Ok(40));
        server.reply(3, Ok(30));
        harness.end().unwrap();
        assert_eq!(
            take!(harness),
            if ordered { [(3, Some(30)), (4, Some(40))] } else { [(4, Some(40)), (3, Some(30))] }
        );
        assert_nothing_is_left!(harness);
    }
}

/// Replies from a thread of its own for each call.
fn from_threads(_: &u64, record: &u64, replier: Replier<u64>) {
    let record = *record;
    thread::spawn(move || replier.reply(Ok(record * 10)));
}

#[test]
fn no_watermark_passes_an_answer() {
    let server = Server::default();
    let mut harness = harness!(Calls::new(ms(60_000), server.clone()));
    for record in [10, 20, 30] {
        harness.process(record % 7, record, record as i64).unwrap();
    }
    harness.watermark(5).unwrap();
    assert_eq!(harness.output_watermark(), Some(5.into()), "all records in flight are later");
    harness.watermark(25).unwrap();
    assert_eq!(harness.output_watermark(), Some(9.into()));
    for (record, reached) in [(20, 9), (10, 25)] {
        answer!(harness, server, record);
        assert_eq!(harness.output_watermark(), Some(reached.into()));
    }
    harness.watermark(99).unwrap();
    assert_eq!(harness.output_watermark(), Some(29.into()));
    // A record that is late before its call holds nobody up.
    harness.process(7u64, 40, 40).unwrap();
    answer!(harness, server, 30);
    assert_eq!(harness.output_watermark(), Some(99.into()));
    answer!(harness, server, 40);
    harness.end().unwrap();
    assert_eq!(harness.output_watermark(), Some(Timestamp::MAX));
    assert_nothing_is_left!(harness);
}

#[test]
fn the_end_waits_for_all_replies() {
    for ordered in [false, true] {
        let calls = Calls::new(ms(60_000), from_threads);
        let mut harness = harness!(if ordered { calls.ordered() } else { calls });
        for record in 0..200u64 {
            harness.process(record % 7, record, record as i64).unwrap();
        }
        harness.end().unwrap();
        let answered: Vec<_> = harness.take_output().into_iter().collect();
        assert_eq!(answered.len(), 200);
        for (Answer { record, reply, .. }, time) in &answered {
            assert_eq!(*reply.as_ref().unwrap(), record * 10);
            assert_eq!(*time, Some((*record as i64).into()), "an answer has the time of its record");
        }
        if ordered {
            assert!(answered.is_sorted_by_key(|(answer, _)| answer.record));
        }
        assert_nothing_is_left!(harness);
    }
}

#[test]
fn no_more_calls_are_in_flight_than_the_capacity_allows() {
    let in_flight: Arc<[AtomicUsize; 2]> = Arc::default();
    let counted = Arc::clone(&in_flight);
    let call = move |_: &u64, record: &u64, replier: Replier<u64>| {
        let (record, counted) = (*record, Arc::clone(&counted));
        let now = counted[0].fetch_add(1, Ordering::SeqCst) + 1;
        counted[1].fetch_max(now, Ordering::SeqCst);
        thread::spawn(move || {
            counted[0].fetch_sub(1, Ordering::SeqCst);
            replier.reply(Ok(record));
        });
    };
    let mut harness = harness!(Calls::new(ms(60_000), call).capacity(3));
    for record in 0..50u64 {
        harness.process(record, record, None).unwrap();
    }
    harness.end().unwrap();
    let mut answered = take!(harness);
    answered.sort_unstable();
    assert_eq!(answered, (0..50).map(|record| (record, Some(record))).collect::<Vec<_>>());
    assert!(in_flight[1].load(Ordering::SeqCst) <= 3);
}

#[test]
fn a_call_that_is_not_answered_in_time_has_failed() {
    let server = Server::default();
    let calls = Calls::new(ms(100), server.clone());
    let mut emitting = harness!(calls.clone().emit_failures());
    emitting.process(1u64, 1, 7).unwrap();
    emitting.processing_time(99).unwrap();
    assert_eq!(take!(emitting), []);
    emitting.processing_time(100).unwrap();
    let (failed, time) = emitting.take_output().into_iter().next().unwrap();
    let error = failed.reply.unwrap_err();
    assert_eq!(
        (error.kind(), error.context("timeout ms"), time),
        (ErrorKind::Unavailable, Some("100"), Some(7.into()))
    );
    server.reply(1, Ok(10));
    emitting.processing_time(200).unwrap();
    emitting.end().unwrap();
    assert_eq!(take!(emitting), [], "a late reply is for nobody");
    assert_nothing_is_left!(emitting);

    let mut failing = harness!(calls);
    failing.process(1u64, 1, 7).unwrap();
    let error = failing.processing_time(100).unwrap_err();
    assert_eq!((error.kind(), error.context("key")), (ErrorKind::Unavailable, Some("1")));
}

#[test]
fn failed_calls_start_again_as_often_as_the_program_says() {
    let server = Server::default();
    let retry = Retry::growing(3, ms(10), ms(1_000)).on(|reply| !matches!(reply, Ok(1..)));
    let mut harness = harness!(Calls::new(ms(1_000), server.clone()).retry(retry).emit_failures());
    harness.process(1u64, 1, None).unwrap();
    harness.process(2u64, 2, None).unwrap();
    server.reply(1, Err(refused()));
    server.reply(2, Ok(0));
    harness.processing_time(5).unwrap();
    assert_eq!(server.asked(), [] as [u64; 0]);
    harness.processing_time(14).unwrap();
    assert_eq!(server.asked(), [] as [u64; 0], "the pause is over at 15");
    harness.processing_time(20).unwrap();
    assert_eq!(server.asked(), [1, 2]);
    server.reply(1, Ok(10));
    server.reply(2, Err(refused()));
    harness.processing_time(25).unwrap();
    harness.processing_time(45).unwrap();
    assert_eq!(server.asked(), [2]);
    server.reply(2, Err(refused()));
    harness.processing_time(50).unwrap();
    assert_eq!(take!(harness), [(1, Some(10)), (2, None)]);
    harness.processing_time(55).unwrap();
    assert_nothing_is_left!(harness);
}

#[test]
fn calls_in_flight_start_again_after_a_restore() {
    let server = Server::default();
    let calls = Calls::new(ms(100), server.clone()).ordered();
    let mut harness = harness!(calls);
    for record in 1..=4 {
        harness.process(record % 2, record, record as i64).unwrap();
    }
    server.reply(1, Ok(10));
    harness.processing_time(5).unwrap();
    assert_eq!(take!(harness), [(1, Some(10))]);
    let snapshot = harness.snapshot(SnapshotKind::Incremental).unwrap();
    server.lose();
    for parallelism in [3, 1] {
        harness.restore(&snapshot, parallelism).unwrap();
        // Nothing comes but time.
        harness.processing_time(500).unwrap();
        let mut asked = server.asked();
        asked.sort_unstable();
        assert_eq!(asked, [2, 3, 4]);
        if parallelism == 3 {
            server.lose();
        }
    }
    harness.processing_time(599).unwrap();
    server.reply(4, Ok(40));
    server.reply(3, Ok(30));
    server.reply(2, Ok(20));
    harness.watermark(4).unwrap();
    assert_eq!(harness.output_watermark(), Some(1.into()), "the restored records have no answer yet");
    harness.processing_time(604).unwrap();
    assert_eq!(take!(harness), [(2, Some(20)), (3, Some(30)), (4, Some(40))]);
    assert_eq!(harness.output_watermark(), Some(4.into()));
    harness.processing_time(1_000).unwrap();
    assert_nothing_is_left!(harness);
}

#[test]
fn calls_may_be_futures() {
    let spawn = |future| drop(thread::spawn(|| block_on(future)));
    let calls = Calls::spawned(ms(60_000), |_: u64, record: u64| async move { Ok(record + 1) }, spawn);
    let mut harness = harness!(calls);
    harness.process(1u64, 1, None).unwrap();
    harness.end().unwrap();
    assert_eq!(take!(harness), [(1, Some(2))]);
}

#[test]
fn a_call_without_a_reply_has_failed() {
    let mut harness = harness!(Calls::new(ms(100), |_: &u64, _: &u64, replier: Replier<u64>| drop(replier)));
    harness.process(1u64, 1, None).unwrap();
    let error = harness.processing_time(5).unwrap_err();
    assert!(error.to_string().contains("without a reply"), "{error}");
}

#[test]
fn calls_refuse_what_they_cannot_do() {
    for (calls, part) in [
        (Calls::new(ms(0), Server::default()), "at least 1 ms"),
        (Calls::new(ms(1), Server::default()).capacity(0), "at least 1"),
    ] {
        let opened = Harness::new(MemoryBackendFactory::default(), "calls", |ctx| calls.open::<u64, _>(ctx));
        let Err(error) = opened else { panic!("not refused") };
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(part), "{error}");
    }
}
