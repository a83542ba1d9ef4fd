//! A job with every kind of state, namespace and type.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::{LoopOptions, SoloJob, Storage};
use strandline_state_api::{
    AggregatingDescriptor, BroadcastDescriptor, ListDescriptor, MapDescriptor, OperatorListDescriptor,
    ReducingDescriptor, SelfDescribingCodec, TimeWindow, TimerDescriptor, Timestamp, Ttl, ValueDescriptor,
};

use crate::fixtures::Mean;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Level {
    New,
    Known { since: i64 },
    Rank(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Color {
    Red,
    Green,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inner {
    tag: String,
    sizes: Vec<u16>,
}

/// Every type that a value may consist of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Everything {
    yes: bool,
    i8: i8,
    i16: i16,
    i32: i32,
    i64: i64,
    i128: i128,
    u8: u8,
    u16: u16,
    u32: u32,
    u64: u64,
    u128: u128,
    f32: f32,
    f64: f64,
    sign: char,
    text: String,
    maybe: Option<i32>,
    list: Vec<Option<String>>,
    named: BTreeMap<String, u32>,
    numbered: BTreeMap<u8, bool>,
    pair: (i32, String),
    inner: Inner,
    level: Level,
    color: Color,
    nothing: (),
}

pub(crate) fn everything(n: i8) -> Everything {
    let wide = i128::from(n);
    Everything {
        yes: n >= 0,
        i8: n,
        i16: i16::from(n) * 100,
        i32: i32::from(n) * 10_000_000,
        i64: i64::from(n) * 10_000_000_000,
        i128: if n < 0 { i128::MIN } else { i128::MAX - wide },
        u8: n.unsigned_abs(),
        u16: u16::from(n.unsigned_abs()) * 100,
        u32: u32::from(n.unsigned_abs()) * 10_000_000,
        u64: u64::MAX - u64::from(n.unsigned_abs()),
        u128: u128::MAX - u128::from(n.unsigned_abs()),
        f32: f32::from(n) / 4.0,
        f64: f64::from(n) / 8.0,
        sign: if n < 0 { 'é' } else { '+' },
        text: format!("number {n}"),
        maybe: (n % 2 == 0).then_some(i32::from(n)),
        list: (0..n.max(0)).map(|m| (m != 1).then(|| m.to_string())).collect(),
        named: [("a".to_owned(), 1), ("b".to_owned(), u32::from(n.unsigned_abs()))].into(),
        numbered: [(7, true), (9, n < 0)].into(),
        pair: (i32::from(n), "p".repeat(usize::from(n.unsigned_abs() % 4))),
        inner: Inner { tag: format!("t{n}"), sizes: vec![u16::from(n.unsigned_abs()); 2] },
        level: match n % 3 {
            0 => Level::New,
            1 => Level::Known { since: i64::from(n) * 1000 },
            _ => Level::Rank(n.unsigned_abs()),
        },
        color: if n % 2 == 0 { Color::Red } else { Color::Green },
        nothing: (),
    }
}

pub(crate) const KEYS: [&str; 4] = ["ada", "bob", "cäsar", "d'arc"];

/// Takes two checkpoints of the job `zoo`. Between them, a value is added, one is removed, one changes.
pub(crate) async fn store(storage: &Storage) {
    let options = LoopOptions::default().retain(NonZeroUsize::new(5).unwrap());
    let mut job =
        SoloJob::open_with::<_, String>("zoo", MemoryBackendFactory::default(), storage, options).unwrap();
    let hour = || Ttl::processing_time(Duration::from_secs(3600));
    let counts = job.register(&ValueDescriptor::<u32>::new("counts")).unwrap();
    let animals = job.register(&ValueDescriptor::<Everything>::new("animals")).unwrap();
    let packed = ValueDescriptor::<Everything>::with_codec("packed", SelfDescribingCodec);
    let packed = job.register(&packed).unwrap();
    let windows = job.register(&ValueDescriptor::<u32>::new("windows").namespaced::<TimeWindow>()).unwrap();
    let by_day = job.register(&ValueDescriptor::<i16>::new("by_day").namespaced::<(u8, String)>()).unwrap();
    let lines = job.register(&ListDescriptor::<(u8, String)>::new("lines")).unwrap();
    let fields = job.register(&MapDescriptor::<(i32, String), Option<bool>>::new("fields")).unwrap();
    let prices = job.register(&MapDescriptor::<u64, f64>::new("prices")).unwrap();
    let sums = job.register(&ReducingDescriptor::<i64>::new("sums", |sum, value| *sum += value)).unwrap();
    let means = job.register(&AggregatingDescriptor::new("means", Mean)).unwrap();
    let seen = job.register(&ValueDescriptor::<u8>::new("seen").time_to_live(hour())).unwrap();
    let due = job.register(&TimerDescriptor::<TimeWindow>::event_time("due")).unwrap();
    let alarms = job.register(&TimerDescriptor::<()>::processing_time("alarms")).unwrap();
    let offsets = job.register(&OperatorListDescriptor::<Inner>::split("offsets")).unwrap();
    let shared = job.register(&OperatorListDescriptor::<u32>::union("shared")).unwrap();
    let rules = job.register(&BroadcastDescriptor::<(u8, String), Vec<f64>>::new("rules")).unwrap();
    job.restore().await.unwrap();
    job.set_time(Timestamp::from_millis(1_000_000));
    for (key, n) in KEYS.into_iter().map(str::to_owned).zip([-1_i8, 0, 1, 2]) {
        job.at(&key).state(counts).put(u32::from(n.unsigned_abs()) + 10).unwrap();
        job.at(&key).state(animals).put(everything(n)).unwrap();
        job.at(&key).state(packed).put(everything(n)).unwrap();
        for start in [i64::from(n) * 60, 600] {
            let window = TimeWindow { start, end: start + 60 };
            job.at(&key).state_in(windows, &window).put(u32::from(n.unsigned_abs()) + 1).unwrap();
            job.at(&key).state_in(due, &window).register(Timestamp::from_millis(start)).unwrap();
        }
        job.at(&key).state_in(by_day, &(n.unsigned_abs(), "mon".into())).put(i16::from(n)).unwrap();
        for (index, word) in
            ["one", "two", "three"].into_iter().enumerate().take(usize::from(n.unsigned_abs()) + 1)
        {
            job.at(&key).state(lines).push((index as u8, word.to_owned())).unwrap();
            job.at(&key).state(fields).put((i32::from(n), word.to_owned()), Some(n > 0)).unwrap();
            job.at(&key).state(prices).put(index as u64 * 100, f64::from(n) / 2.0).unwrap();
        }
        job.at(&key).state(sums).add(i64::from(n)).unwrap();
        job.at(&key).state(sums).add(5).unwrap();
        job.at(&key).state(means).add(i64::from(n)).unwrap();
        job.at(&key).state(means).add(9).unwrap();
        job.at(&key).state(seen).put(n.unsigned_abs()).unwrap();
        job.at(&key).state(alarms).register(Timestamp::from_millis(2_000_000)).unwrap();
    }
    job.list_mut(offsets).unwrap().extend([everything(1).inner, everything(2).inner]);
    job.list_mut(shared).unwrap().extend([3, 5]);
    job.broadcast_mut(rules).unwrap().put((9, "r".into()), vec![0.5, -1.0]);
    job.checkpoint().await.unwrap();

    job.at(&KEYS[0].to_owned()).state(counts).put(99).unwrap();
    job.at(&KEYS[1].to_owned()).state(counts).clear().unwrap();
    job.at(&"eve".to_owned()).state(counts).put(7).unwrap();
    job.at(&KEYS[1].to_owned()).state(lines).push((9, "more".into())).unwrap();
    job.checkpoint().await.unwrap();
}
