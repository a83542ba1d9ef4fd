//! Bases with deltas, filters, and what a reader refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::Bound;

use futures::{StreamExt, pin_mut};
use serde::{Deserialize, Serialize};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::{LoopOptions, SoloJob, Storage};
use strandline_state_api::schema::DataType;
use strandline_state_api::{
    BroadcastDescriptor, CheckpointId, Codec, ErrorKind, Evolution, KeyGroup, KeyGroupRange, KeyHash,
    ListDescriptor, MapDescriptor, OperatorListDescriptor, Result, SerdeCodec, TimeWindow, TimerDescriptor,
    Timestamp, ValueDescriptor,
};
use strandline_state_reader::{At, CheckpointReader, Decoders, KeyFilter, Parts, Typed, Value};

use crate::fixtures::{Noise, hash};
use crate::support::{block_on, latest, rows, shown};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Level {
    New,
    Known { since: i64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    name: String,
    cents: i64,
    level: Level,
}

fn account(n: u64, cents: i64) -> Account {
    let level = if n.is_multiple_of(2) { Level::New } else { Level::Known { since: -(n as i64) } };
    Account { name: format!("account {n}"), cents, level }
}

/// A checkpoint of 2,000 accounts in a base with deltas; returns the accounts by key.
async fn accounts(storage: &Storage) -> BTreeMap<u64, Account> {
    let options = LoopOptions::default().retain(NonZeroUsize::new(5).unwrap());
    let factory = MemoryBackendFactory::default();
    let mut job = SoloJob::open_with::<_, u64>("bank", factory, storage, options).unwrap();
    let accounts = job.register(&ValueDescriptor::<Account>::new("accounts")).unwrap();
    job.restore().await.unwrap();
    let mut model = BTreeMap::new();
    for n in 0..2000 {
        job.at(&n).state(accounts).put(account(n, 5)).unwrap();
        model.insert(n, account(n, 5));
    }
    job.checkpoint().await.unwrap();
    for step in 1..4 {
        for n in (step..200).step_by(3) {
            job.at(&n).state(accounts).put(account(n, step as i64)).unwrap();
            model.insert(n, account(n, step as i64));
        }
        job.at(&(500 + step)).state(accounts).clear().unwrap();
        model.remove(&(500 + step));
        job.checkpoint().await.unwrap();
    }
    model
}

fn value(account: &Account) -> Value {
    let level = match &account.level {
        Level::New => Value::Variant(0, Box::new(Value::Unit)),
        Level::Known { since } => Value::Variant(1, Box::new(Value::Record(vec![Value::Int(*since)]))),
    };
    Value::Record(vec![Value::Text(account.name.clone()), Value::Int(account.cents), level])
}

#[test]
fn a_chain_reads_as_the_job_left_it() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        let model = accounts(&storage).await;
        let checkpoint = latest(&storage).await;
        let state = checkpoint.state("bank/accounts").unwrap();
        assert_eq!(state.key().data_type().to_string(), "u64");
        assert_eq!(
            state.value().unwrap().data_type().to_string(),
            "{name:str,cents:i64,level:<New:(),Known:{since:i64}>}"
        );
        let found: BTreeMap<u64, Value> = rows(&checkpoint, "accounts")
            .await
            .into_iter()
            .map(|row| match row.key {
                Some(Value::UInt(key)) => (key, row.value.unwrap()),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected: BTreeMap<_, _> = model.iter().map(|(key, of)| (*key, value(of))).collect();
        assert_eq!(found, expected);
        // The chain has deltas, so the indices do not show how many there are.
        assert_eq!(checkpoint.exact_entries(state).await.unwrap(), None);
        assert_eq!(checkpoint.scan(state).count().await.unwrap(), model.len() as u64);
        let first = CheckpointReader::open(&storage, At::Checkpoint(CheckpointId(1))).await.unwrap();
        assert_eq!(first.exact_entries(first.state("bank").unwrap()).await.unwrap(), Some(2000));
    });
}

#[test]
fn filters_return_what_a_full_scan_has() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        let model = accounts(&storage).await;
        let checkpoint = latest(&storage).await;
        let state = checkpoint.state("accounts").unwrap();
        let keys = |rows: Vec<strandline_state_reader::Row>| -> BTreeSet<u64> {
            let mut keys = BTreeSet::new();
            for row in rows {
                let Some(Value::UInt(key)) = row.key else { panic!() };
                assert!(keys.insert(key), "{key} came twice");
                assert_eq!(row.value, None);
                assert_eq!(row.key_group, KeyGroup::of(KeyHash::of_encoded(&key.to_be_bytes())));
            }
            keys
        };
        let only_keys = Parts { key: true, ..Parts::NONE };
        let scan = || checkpoint.scan(state).parts(only_keys);

        let wanted = [7, 501, 502, 1999, 5000].map(Value::UInt).to_vec();
        let found = keys(scan().keys(&KeyFilter::In(wanted)).unwrap().read_all().await.unwrap());
        assert_eq!(found, BTreeSet::from([7, 1999]));

        let range = KeyFilter::Range(Bound::Excluded(Value::UInt(499)), Bound::Included(Value::UInt(510)));
        let found = keys(scan().keys(&range).unwrap().read_all().await.unwrap());
        assert_eq!(found, model.range(500..=510).map(|(key, _)| *key).collect());

        let mut of_parts = BTreeSet::new();
        for part in scan().partitions(7).await.unwrap() {
            let more = keys(part.read_all().await.unwrap());
            assert!(of_parts.is_disjoint(&more));
            of_parts.extend(more);
        }
        assert_eq!(of_parts, model.keys().copied().collect());

        let groups = KeyGroupRange::new(1000, 9000);
        let found = keys(scan().key_groups(groups).read_all().await.unwrap());
        let in_range = |key: &&u64| groups.contains(KeyGroup::of(KeyHash::of_encoded(&key.to_be_bytes())));
        assert_eq!(found, model.keys().filter(in_range).copied().collect());

        assert_eq!(scan().limit(10).read_all().await.unwrap().len(), 10);
        assert_eq!(scan().limit(0).count().await.unwrap(), 0);
        let batches = scan().rows();
        pin_mut!(batches);
        let mut sizes = Vec::new();
        while let Some(batch) = batches.next().await {
            sizes.push(batch.unwrap().len());
        }
        assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= 1024), "{sizes:?}");
    });
}

#[test]
fn every_kind_of_state_is_read() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        let mut job = SoloJob::open::<_, String>("kinds", MemoryBackendFactory::default(), &storage).unwrap();
        let windows = ValueDescriptor::<u32>::new("windows").namespaced::<TimeWindow>();
        let windows = job.register(&windows).unwrap();
        let lines = job.register(&ListDescriptor::<(u8, String)>::new("lines")).unwrap();
        let fields = job.register(&MapDescriptor::<(i32, String), Option<bool>>::new("fields")).unwrap();
        let timers = job.register(&TimerDescriptor::<TimeWindow>::event_time("timers")).unwrap();
        let offsets = job.register(&OperatorListDescriptor::<Account>::split("offsets")).unwrap();
        let rules = job.register(&BroadcastDescriptor::<(u8, String), Vec<f64>>::new("rules")).unwrap();
        job.restore().await.unwrap();
        let ada = String::from("ada");
        let window = TimeWindow { start: -10, end: 5 };
        job.at(&ada).state_in(windows, &window).put(7).unwrap();
        job.at(&ada).state(lines).push((1, "one".into())).unwrap();
        job.at(&ada).state(fields).put((-3, "x\0".into()), Some(true)).unwrap();
        job.at(&ada).state(fields).put((4, String::new()), None).unwrap();
        job.at(&ada).state_in(timers, &window).register(Timestamp::from_millis(-4)).unwrap();
        job.list_mut(offsets).unwrap().extend([account(1, 2), account(2, 3)]);
        job.broadcast_mut(rules).unwrap().put((9, "r".into()), vec![0.5, -1.0]);
        job.checkpoint().await.unwrap();
        job.at(&ada).state(lines).push((2, "two".into())).unwrap();
        job.checkpoint().await.unwrap();

        let checkpoint = latest(&storage).await;
        assert_eq!(shown(&checkpoint, "windows").await, ["ada | {start: -10, end: 5} | 7"]);
        assert_eq!(shown(&checkpoint, "kinds/lines").await, ["ada | (1, one)", "ada | (2, two)"]);
        let lines = rows(&checkpoint, "lines").await;
        assert_eq!(lines.iter().map(|row| row.index).collect::<Vec<_>>(), [Some(0), Some(1)]);
        assert_eq!(shown(&checkpoint, "fields").await, ["ada | (-3, x\0) | true", "ada | (4, ) | null"]);
        let timers = rows(&checkpoint, "timers").await;
        assert_eq!(timers[0].time, Some(Timestamp::from_millis(-4)));
        assert_eq!(timers[0].key, Some(Value::Text(ada)));

        let map_key = Value::Record(vec![Value::Int(4), Value::Text(String::new())]);
        let filter = KeyFilter::equal(map_key);
        let fields = checkpoint.state("fields").unwrap();
        let found = checkpoint.scan(fields).map_keys(&filter).unwrap().read_all().await.unwrap();
        assert_eq!((found.len(), &found[0].value), (1, &Some(Value::Null)));
        let error = checkpoint.scan(checkpoint.state("lines").unwrap()).map_keys(&filter).unwrap_err();
        assert!(error.to_string().contains("no map"), "{error}");

        let operator_states = checkpoint.operator_states();
        let names: Vec<_> = operator_states.iter().map(|state| state.name.as_str()).collect();
        assert_eq!(names, ["offsets", "rules"]);
        let offsets = checkpoint.operator_elements(&operator_states[0]).unwrap();
        let found: Vec<_> = offsets.iter().map(|element| element.value.clone()).collect();
        assert_eq!(found, [value(&account(1, 2)), value(&account(2, 3))]);
        let rules = checkpoint.operator_elements(&operator_states[1]).unwrap();
        let map_key = operator_states[1].map_key.as_ref().unwrap();
        assert_eq!(Typed::new(rules[0].map_key.as_ref().unwrap(), map_key.data_type()).to_string(), "(9, r)");
        assert_eq!(rules[0].value, Value::List(vec![Value::Float(0.5), Value::Float(-1.0)]));
    });
}

#[test]
fn a_look_up_reads_only_the_blocks_that_may_hold_the_key() {
    block_on(async {
        let Noise { checkpoint, store, all } = Noise::stored().await;
        let state = checkpoint.state("noise").unwrap();
        checkpoint.size(state).await.unwrap();
        let before = store.bytes_read();
        for n in [0, 77, 19_999] {
            let found = checkpoint.scan(state).keys(&KeyFilter::equal(Value::UInt(n))).unwrap();
            let found = found.read_all().await.unwrap();
            assert_eq!(found.len(), 1);
            let Some(Value::Record(values)) = &found[0].value else { panic!("{found:?}") };
            assert_eq!(values[0], Value::UInt(hash(n)));
        }
        let read = store.bytes_read() - before;
        assert!(read < all / 2, "three look-ups read {read} of {all} bytes");
        let full = checkpoint.scan(state).count().await.unwrap();
        assert_eq!(full, 20_000);
        assert!(store.bytes_read() - before - read >= all / 2);
    });
}

#[test]
fn a_codec_of_ones_own_is_decoded_by_a_decoder_of_ones_own() {
    struct Celsius;

    impl Codec<i16> for Celsius {
        fn id(&self) -> String {
            "celsius".into()
        }

        fn encode(&self, value: &i16, out: &mut Vec<u8>) -> Result<()> {
            out.extend_from_slice(&value.to_le_bytes());
            Ok(())
        }

        fn decode(&self, bytes: &[u8]) -> Result<i16> {
            Ok(i16::from_le_bytes(bytes.try_into().unwrap_or_default()))
        }
    }

    block_on(async {
        let storage = Storage::in_memory().unwrap();
        let mut job = SoloJob::open::<_, u8>("rooms", MemoryBackendFactory::default(), &storage).unwrap();
        let degrees = job.register(&ValueDescriptor::with_codec("degrees", Celsius)).unwrap();
        job.restore().await.unwrap();
        job.at(&1).state(degrees).put(215).unwrap();
        job.checkpoint().await.unwrap();
        assert_eq!(shown(&latest(&storage).await, "degrees").await, ["1 | 0xd700"]);
        let decoders = Decoders::new().value("celsius", DataType::F64, |bytes| {
            Ok(Value::Float(f64::from(Celsius.decode(bytes)?) / 10.0))
        });
        let checkpoint = CheckpointReader::open_with(&storage, At::Latest, decoders).await.unwrap();
        assert_eq!(shown(&checkpoint, "degrees").await, ["1 | 21.5"]);
    });
}

#[test]
fn values_of_an_older_version_come_in_the_newest_type() {
    #[derive(Serialize, Deserialize)]
    struct First {
        cents: u32,
        gone: bool,
    }

    #[derive(Serialize, Deserialize)]
    struct Second {
        currency: Option<String>,
        cents: u64,
    }

    block_on(async {
        let storage = Storage::in_memory().unwrap();
        let mut job = SoloJob::open::<_, u8>("bank", MemoryBackendFactory::default(), &storage).unwrap();
        let old = job.register(&ValueDescriptor::<First>::new("accounts")).unwrap();
        job.restore().await.unwrap();
        for key in 0..40 {
            job.at(&key).state(old).put(First { cents: key.into(), gone: true }).unwrap();
        }
        job.checkpoint().await.unwrap();

        let mut job = SoloJob::open::<_, u8>("bank", MemoryBackendFactory::default(), &storage).unwrap();
        let versions = Evolution::<First>::first(1, SerdeCodec)
            .then(2, SerdeCodec, |first| Ok(Second { currency: None, cents: first.cents.into() }));
        let new = job.register(&ValueDescriptor::evolving("accounts", versions)).unwrap();
        job.restore().await.unwrap();
        job.at(&1).state(new).put(Second { currency: Some("EUR".into()), cents: 100 }).unwrap();
        job.checkpoint().await.unwrap();

        let checkpoint = latest(&storage).await;
        let state = checkpoint.state("accounts").unwrap();
        assert_eq!(state.value().unwrap().data_type().to_string(), "{currency:?str,cents:u64}");
        let found = shown(&checkpoint, "accounts").await;
        assert_eq!(found.len(), 40);
        assert!(found.contains(&"1 | {currency: EUR, cents: 100}".to_owned()), "{found:?}");
        assert!(found.contains(&"7 | {currency: null, cents: 7}".to_owned()), "{found:?}");
    });
}

#[test]
fn errors_name_what_there_is() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        let error = CheckpointReader::open(&storage, At::Latest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("no checkpoint"), "{error}");
        accounts(&storage).await;
        let checkpoint = latest(&storage).await;
        let error = checkpoint.state("bank/acounts").unwrap_err().to_string();
        assert!(error.contains("did you mean \"bank/accounts\""), "{error}");
        let error = CheckpointReader::open(&storage, At::Checkpoint(CheckpointId(77))).await.unwrap_err();
        assert!(error.to_string().contains("there are 1, 2, 3, 4"), "{error}");
        let state = checkpoint.state("accounts").unwrap();
        let error = checkpoint.scan(state).keys(&KeyFilter::equal(Value::Text("x".into()))).unwrap_err();
        assert!(error.to_string().contains("is no u64"), "{error}");
    });
}

#[test]
fn a_checkpoint_that_is_swept_while_it_is_read_is_named() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        let mut job = SoloJob::open::<_, u64>("bank", MemoryBackendFactory::default(), &storage).unwrap();
        let totals = job.register(&ValueDescriptor::<u64>::new("totals")).unwrap();
        job.restore().await.unwrap();
        job.at(&1).state(totals).put(1).unwrap();
        job.checkpoint().await.unwrap();
        let checkpoint = latest(&storage).await;
        for n in 0..6 {
            for key in 0..50 {
                job.at(&key).state(totals).put(n).unwrap();
            }
            job.checkpoint().await.unwrap();
        }
        let state = checkpoint.state("totals").unwrap();
        let error = checkpoint.scan(state).read_all().await.unwrap_err();
        assert_eq!((error.kind(), error.context("checkpoint")), (ErrorKind::NotFound, Some("1")));
        assert!(error.to_string().contains("was swept while it was read"), "{error}");
    });
}
