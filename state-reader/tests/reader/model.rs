//! Random changes of every kind of state, in several workers with chains of deltas, against a model in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::{Storage, Worker, WorkerGroup};
use strandline_state_api::backend::{BackendFactory, CheckpointedBackend};
use strandline_state_api::{
    AggregatingDescriptor, AggregatingState, Expiring, Keyed, ListDescriptor, ListState, MapDescriptor,
    MapState, ReducingDescriptor, ReducingState, SelfDescribingCodec, TimeWindow, TimerDescriptor,
    TimerService, Timestamp, Ttl, ValueDescriptor, ValueState,
};
use strandline_state_reader::{CheckpointReader, KeyFilter, Row, Value};

use crate::fixtures::Mean;
use crate::support::{block_on, latest, rows};

const WORKERS: u32 = 3;

type Key = (i32, String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    name: String,
    visits: Option<u64>,
}

#[derive(Clone, Debug)]
enum Op {
    Value(u8, Option<u64>),
    Profile(u8, Option<u64>),
    Push(u8, i64, String),
    ClearList(u8, i64),
    Put(u8, String, u8),
    Remove(u8, String),
    ClearMap(u8),
    Add(u8, i64),
    Timer(u8, i64),
    Checkpoint,
}

fn op() -> impl Strategy<Value = Op> {
    let (key, text) = (0u8..12, "[a\0é]{0,3}");
    prop_oneof![
        (key.clone(), any::<Option<u64>>()).prop_map(|(key, value)| Op::Value(key, value)),
        (key.clone(), any::<Option<u64>>()).prop_map(|(key, value)| Op::Profile(key, value)),
        (key.clone(), -2i64..2, text).prop_map(|(key, window, text)| Op::Push(key, window, text)),
        (key.clone(), -2i64..2).prop_map(|(key, window)| Op::ClearList(key, window)),
        (key.clone(), text, any::<u8>()).prop_map(|(key, field, value)| Op::Put(key, field, value)),
        (key.clone(), text).prop_map(|(key, field)| Op::Remove(key, field)),
        key.clone().prop_map(Op::ClearMap),
        (key.clone(), -100i64..100).prop_map(|(key, value)| Op::Add(key, value)),
        (key, -5i64..5).prop_map(|(key, time)| Op::Timer(key, time)),
        Just(Op::Checkpoint),
    ]
}

fn key(n: u8) -> Key {
    (i32::from(n) - 5, ["", "a", "a\0", "\0b"][usize::from(n % 4)].to_owned())
}

fn window(start: i64) -> TimeWindow {
    TimeWindow { start, end: start + 3 }
}

#[derive(Clone, Copy)]
struct States {
    values: ValueState<u64>,
    profiles: ValueState<Profile>,
    lists: ListState<String, TimeWindow>,
    maps: MapState<String, u8, (), Expiring>,
    sums: ReducingState<i64>,
    means: AggregatingState<Mean>,
    timers: TimerService<TimeWindow>,
}

fn register<B: CheckpointedBackend<Key = Key>>(worker: &mut Worker<B>) -> States {
    let hour = Ttl::processing_time(Duration::from_secs(3600));
    let profiles = ValueDescriptor::with_codec("profiles", SelfDescribingCodec);
    States {
        values: worker.register(&ValueDescriptor::new("values")).unwrap(),
        profiles: worker.register(&profiles).unwrap(),
        lists: worker.register(&ListDescriptor::new("lists").namespaced()).unwrap(),
        maps: worker.register(&MapDescriptor::new("maps").time_to_live(hour)).unwrap(),
        sums: worker.register(&ReducingDescriptor::new("sums", |sum, value| *sum += value)).unwrap(),
        means: worker.register(&AggregatingDescriptor::new("means", Mean)).unwrap(),
        timers: worker.register(&TimerDescriptor::event_time("timers")).unwrap(),
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    values: BTreeMap<Key, u64>,
    profiles: BTreeMap<Key, Option<u64>>,
    lists: BTreeMap<(Key, i64), Vec<String>>,
    maps: BTreeMap<(Key, String), u8>,
    sums: BTreeMap<Key, (i64, u32)>,
    timers: BTreeSet<(Key, i64, i64)>,
}

fn profile(visits: Option<u64>) -> Profile {
    Profile { name: "é".into(), visits }
}

fn apply<B: CheckpointedBackend<Key = Key>>(
    worker: &mut Worker<B>,
    states: States,
    op: &Op,
    model: &mut Model,
) {
    match op {
        Op::Value(n, value) => {
            let key = key(*n);
            match value {
                Some(value) => {
                    worker.at(&key).state(states.values).put(*value).unwrap();
                    model.values.insert(key, *value);
                }
                None => {
                    worker.at(&key).state(states.values).clear().unwrap();
                    model.values.remove(&key);
                }
            }
        }
        Op::Profile(n, visits) => {
            let key = key(*n);
            worker.at(&key).state(states.profiles).put(profile(*visits)).unwrap();
            model.profiles.insert(key, *visits);
        }
        Op::Push(n, start, text) => {
            let key = key(*n);
            worker.at(&key).state_in(states.lists, &window(*start)).push(text.clone()).unwrap();
            model.lists.entry((key, *start)).or_default().push(text.clone());
        }
        Op::ClearList(n, start) => {
            let key = key(*n);
            worker.at(&key).state_in(states.lists, &window(*start)).clear().unwrap();
            model.lists.remove(&(key, *start));
        }
        Op::Put(n, field, value) => {
            let key = key(*n);
            worker.at(&key).state(states.maps).put(field.clone(), *value).unwrap();
            model.maps.insert((key, field.clone()), *value);
        }
        Op::Remove(n, field) => {
            let key = key(*n);
            worker.at(&key).state(states.maps).remove(field).unwrap();
            model.maps.remove(&(key, field.clone()));
        }
        Op::ClearMap(n) => {
            let key = key(*n);
            worker.at(&key).state(states.maps).clear().unwrap();
            model.maps.retain(|(of, _), _| *of != key);
        }
        Op::Add(n, value) => {
            let key = key(*n);
            worker.at(&key).state(states.sums).add(*value).unwrap();
            worker.at(&key).state(states.means).add(*value).unwrap();
            let (sum, count) = model.sums.entry(key).or_default();
            *sum += value;
            *count += 1;
        }
        Op::Timer(n, time) => {
            let key = key(*n);
            let of = window(*time);
            worker.at(&key).state_in(states.timers, &of).register(Timestamp::from_millis(*time)).unwrap();
            model.timers.insert((key, *time, *time));
        }
        Op::Checkpoint => {}
    }
}

/// Applies the changes, with checkpoints between them; returns the model.
async fn store<F, B>(factory: F, storage: &Storage, ops: &[Op]) -> Model
where
    F: BackendFactory<Backend<Key> = B>,
    B: CheckpointedBackend<Key = Key>,
{
    let mut group = WorkerGroup::claim("job", storage, &[("op", WORKERS)]).await.unwrap();
    let mut workers = Vec::new();
    for subtask in 0..WORKERS {
        let mut worker = group.worker::<F, Key, B>("op", subtask, &factory).unwrap();
        let states = register(&mut worker);
        worker.restore().await.unwrap();
        workers.push((worker, states));
    }
    let mut model = Model::default();
    for op in ops.iter().chain([&Op::Checkpoint]) {
        let n = match op {
            Op::Value(n, _) | Op::Profile(n, _) | Op::Push(n, ..) | Op::ClearList(n, _) => *n,
            Op::Put(n, ..) | Op::Remove(n, _) | Op::ClearMap(n) | Op::Add(n, _) | Op::Timer(n, _) => *n,
            Op::Checkpoint => {
                let checkpoint = group.begin().unwrap();
                for (worker, _) in &mut workers {
                    let snapshot = worker.snapshot(checkpoint).await.unwrap();
                    group.add(snapshot).await.unwrap();
                }
                continue;
            }
        };
        let subtask = Keyed::new(&key(n)).group().subtask(WORKERS);
        let (worker, states) = &mut workers[subtask as usize];
        apply(worker, *states, op, &mut model);
    }
    model
}

fn of_key((number, text): &Key) -> Value {
    Value::Record(vec![Value::Int((*number).into()), Value::Text(text.clone())])
}

fn of_window(start: i64) -> Value {
    Value::Record(vec![Value::Int(start), Value::Int(start + 3)])
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn pair(a: Value, b: Value) -> Value {
    Value::Record(vec![a, b])
}

/// Key, namespace, map key, index and value of a row.
type Expected = (Value, Option<Value>, Option<Value>, Option<u64>, Option<Value>);

/// The rows that the model expects of a state, without an order.
fn expected(model: &Model, state: &str) -> Vec<Expected> {
    match state {
        "values" => model
            .values
            .iter()
            .map(|(key, v)| (of_key(key), None, None, None, Some(Value::UInt(*v))))
            .collect(),
        "profiles" => model
            .profiles
            .iter()
            .map(|(key, visits)| {
                let value = pair(text("é"), visits.map_or(Value::Null, Value::UInt));
                (of_key(key), None, None, None, Some(value))
            })
            .collect(),
        "lists" => {
            let list = |((key, start), list): (&(Key, i64), &Vec<String>)| {
                let (key, namespace) = (of_key(key), of_window(*start));
                let element = move |(index, element): (usize, String)| {
                    (
                        key.clone(),
                        Some(namespace.clone()),
                        None,
                        Some(index as u64),
                        Some(Value::Text(element)),
                    )
                };
                list.clone().into_iter().enumerate().map(element)
            };
            model.lists.iter().flat_map(list).collect()
        }
        "maps" => model
            .maps
            .iter()
            .map(|((key, field), v)| {
                (of_key(key), None, Some(text(field)), None, Some(Value::UInt((*v).into())))
            })
            .collect(),
        "sums" => model
            .sums
            .iter()
            .map(|(key, (sum, _))| (of_key(key), None, None, None, Some(Value::Int(*sum))))
            .collect(),
        "means" => model
            .sums
            .iter()
            .map(|(key, (sum, count))| {
                let value = pair(Value::Int(*sum), Value::UInt((*count).into()));
                (of_key(key), None, None, None, Some(value))
            })
            .collect(),
        _ => model
            .timers
            .iter()
            .map(|(key, start, _)| (of_key(key), Some(of_window(*start)), None, None, None))
            .collect(),
    }
}

fn sorted<T: std::fmt::Debug>(mut rows: Vec<T>) -> Vec<String> {
    let mut lines: Vec<String> = rows.drain(..).map(|row| format!("{row:?}")).collect();
    lines.sort();
    lines
}

async fn check(checkpoint: &CheckpointReader, model: &Model) {
    for state in ["values", "profiles", "lists", "maps", "sums", "means", "timers"] {
        // Nothing was ever stored.
        let Ok(stored) = checkpoint.state(state) else {
            assert!(expected(model, state).is_empty(), "{state}");
            continue;
        };
        let found = rows(checkpoint, state).await;
        assert!(found.is_sorted_by_key(|row| row.key_group), "{state}");
        assert_eq!(
            found.iter().all(|row| row.stamp.is_some()),
            state == "maps" || found.is_empty(),
            "{state}"
        );
        assert!(found.iter().all(|row| row.time.is_some() == (state == "timers")), "{state}");
        let parts = |row: Row| (row.key.unwrap(), row.namespace, row.map_key, row.index, row.value);
        let wanted = expected(model, state);
        assert_eq!(sorted(found.into_iter().map(parts).collect()), sorted(wanted.clone()), "{state}");
        // A look-up of each key finds exactly its rows.
        for n in 0..12 {
            let key = of_key(&key(n));
            let found = checkpoint.scan(stored).keys(&KeyFilter::equal(key.clone())).unwrap();
            let found: Vec<_> = found.read_all().await.unwrap().into_iter().map(parts).collect();
            let of_key: Vec<_> = wanted.iter().filter(|row| row.0 == key).cloned().collect();
            assert_eq!(sorted(found), sorted(of_key), "{state}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn state_of_the_memory_backend_is_what_the_model_holds(ops in proptest::collection::vec(op(), 1..120)) {
        block_on(async {
            let storage = Storage::in_memory().unwrap();
            let model = store(MemoryBackendFactory::default(), &storage, &ops).await;
            check(&latest(&storage).await, &model).await;
        });
    }
}

#[cfg(feature = "rocksdb")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn state_of_the_rocksdb_backend_is_what_the_model_holds(ops in proptest::collection::vec(op(), 1..120)) {
        let directory = tempfile::tempdir().unwrap();
        let mut options = strandline_backend_rocksdb::RocksOptions::default();
        options.directory = Some(directory.path().to_path_buf());
        options.memory = 16 << 20;
        let factory = strandline_backend_rocksdb::RocksBackendFactory::new(options).unwrap();
        block_on(async {
            let storage = Storage::in_memory().unwrap();
            let model = store(factory, &storage, &ops).await;
            let checkpoint = latest(&storage).await;
            let subtasks = &checkpoint.manifest().operators[0].subtasks;
            let mut parts = subtasks.iter().flat_map(|subtask| &subtask.keyed.parts);
            prop_assert!(parts.all(|part| !part.format.is_portable()));
            check(&checkpoint, &model).await;
            Ok(())
        })?;
    }
}
