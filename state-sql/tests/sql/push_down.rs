//! What a query reads and decodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::{SoloJob, Storage};
use strandline_state_api::schema::DataType;
use strandline_state_api::{Codec, Error, MapDescriptor, Result, ValueDescriptor};
use strandline_state_reader::{At, Decoders, Value};
use strandline_state_sql::{StateCatalog, StateSession};

use crate::fixtures::{Noise, hash};
use crate::support::{block_on, cases, refused, rows, session, sorted};

#[test]
fn a_query_reads_no_more_than_it_needs() {
    block_on(async {
        let Noise { checkpoint, store, all } = Noise::stored().await;
        let session = StateSession::new(StateCatalog::of_checkpoint(checkpoint));
        let read = async |sql: &str| {
            let before = store.bytes_read();
            let found = rows(&session, sql).await;
            (found, store.bytes_read() - before)
        };

        // The indices show both, and nothing else is read: the end of the file.
        let (counted, of_indices) = read("SELECT count(*), min(key_group) >= 0 FROM noise").await;
        assert_eq!(counted, [["20000", "true"]]);
        assert!(of_indices < all / 10, "{of_indices} of {all} bytes");
        assert_eq!(read("SELECT count(*) FROM noise").await.1, 0);

        let sql = "SELECT value['c0'] FROM noise WHERE key IN (0, 77, 19999) AND value['c1'] > 0";
        let (mut found, few) = read(sql).await;
        found.sort();
        let mut expected = [0, 77, 19_999].map(|n| vec![hash(n).to_string()]);
        expected.sort();
        assert_eq!(found, expected);
        assert!(few < all / 2, "three look-ups read {few} of {all} bytes");
        let (_, none) = read("SELECT * FROM noise WHERE key_group < 0").await;
        assert_eq!(none, 0);
        let (found, half) = read("SELECT count(key) FROM noise WHERE key_group BETWEEN 0 AND 99").await;
        assert!(found[0][0] != "0" && half < all / 10, "{half} of {all} bytes");
        let (found, full) = read("SELECT sum(value['c0'] % 7), count(*) FROM noise").await;
        assert_eq!(found[0], [(0..20_000).map(|n| hash(n) % 7).sum::<u64>().to_string(), "20000".to_owned()]);
        assert!(full >= all / 2);
    });
}

/// Two bytes that only a decoder of a user's own knows.
struct Secret;

impl Codec<u16> for Secret {
    fn id(&self) -> String {
        "secret".into()
    }

    fn encode(&self, value: &u16, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u16> {
        Ok(u16::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }
}

#[test]
fn values_that_no_column_shows_are_not_decoded() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        let mut job = SoloJob::open::<_, String>("rooms", MemoryBackendFactory::default(), &storage).unwrap();
        let secrets = job.register(&ValueDescriptor::with_codec("secrets", Secret)).unwrap();
        job.restore().await.unwrap();
        job.at(&"hall".to_owned()).state(secrets).put(5).unwrap();
        job.checkpoint().await.unwrap();
        let decoders =
            Decoders::new().value("secret", DataType::U64, |_| Err(Error::invalid("the secret is kept")));
        let catalog = StateCatalog::open_with(&storage, At::Latest, decoders).await.unwrap();
        let session = StateSession::new(catalog);
        assert_eq!(sorted(&session, "SELECT key FROM secrets").await, ["hall"]);
        assert_eq!(sorted(&session, "SELECT count(*) FROM secrets WHERE key > 'a'").await, ["1"]);
        let error = refused(&session, "SELECT value FROM secrets").await;
        assert!(error.contains("the secret is kept") && error.contains("key hall"), "{error}");
    });
}

#[test]
fn a_limit_ends_the_scan() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        let mut job = SoloJob::open::<_, u32>("rooms", MemoryBackendFactory::default(), &storage).unwrap();
        let secrets = job.register(&ValueDescriptor::with_codec("secrets", Secret)).unwrap();
        job.restore().await.unwrap();
        (0..20_000).for_each(|n| job.at(&n).state(secrets).put(5).unwrap());
        job.checkpoint().await.unwrap();
        let decoded = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&decoded);
        let decoders = Decoders::new().value("secret", DataType::U64, move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(Value::UInt(7))
        });
        let session =
            StateSession::new(StateCatalog::open_with(&storage, At::Latest, decoders).await.unwrap());
        session.query("SET datafusion.execution.target_partitions = 2").await.unwrap();
        assert_eq!(rows(&session, "SELECT value FROM secrets LIMIT 10").await.len(), 10);
        let decoded = decoded.load(Ordering::Relaxed);
        assert!((10..=20).contains(&decoded), "{decoded} values were decoded");
    });
}

#[test]
fn partitions_have_each_row_once() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        let mut job = SoloJob::open::<_, u32>("bank", MemoryBackendFactory::default(), &storage).unwrap();
        let totals = job.register(&ValueDescriptor::<u32>::new("totals")).unwrap();
        job.restore().await.unwrap();
        (0..50_000).for_each(|n| job.at(&n).state(totals).put(n / 2).unwrap());
        job.checkpoint().await.unwrap();
        let session = session(&storage).await;
        // There are no more of them than blocks.
        for (wanted, partitions) in [(1, 1), (3, 3), (16, 8)] {
            let set = format!("SET datafusion.execution.target_partitions = {wanted}");
            session.query(&set).await.unwrap();
            let plan = rows(&session, "EXPLAIN SELECT sum(value) FROM totals").await;
            assert!(format!("{plan:?}").contains(&format!("partitions={partitions}")), "{plan:?}");
            let sql = "SELECT count(key), count(DISTINCT key), sum(value) FROM totals";
            assert_eq!(sorted(&session, sql).await, [format!("50000,50000,{}", 25_000_u64 * 24_999)]);
        }
    });
}

/// A condition on the keys of a state.
fn condition(column: &'static str, literal: &BoxedStrategy<String>) -> BoxedStrategy<String> {
    let compared = prop_oneof![Just("="), Just("<"), Just("<="), Just(">"), Just(">="), Just("<>")];
    let some = proptest::collection::vec(literal.clone(), 1..5);
    prop_oneof![
        (compared.clone(), literal.clone()).prop_map(move |(op, of)| format!("{column} {op} {of}")),
        (compared, literal.clone()).prop_map(move |(op, of)| format!("{of} {op} {column}")),
        (any::<bool>(), some).prop_map(move |(not, all)| {
            format!("{column} {}IN ({})", if not { "NOT " } else { "" }, all.join(", "))
        }),
        (literal.clone(), literal.clone()).prop_map(move |(a, b)| format!("{column} BETWEEN {a} AND {b}")),
        (0..40_000u32).prop_map(|group| format!("key_group > {group}")),
        (0..40_000u32, 0..40_000u32).prop_map(|(a, b)| format!("key_group BETWEEN {a} AND {b}")),
        Just(format!("{column} IS NULL")),
    ]
    .boxed()
}

fn conditions(
    column: &'static str,
    literal: &BoxedStrategy<String>,
) -> impl Strategy<Value = String> + use<> {
    let one = condition(column, literal);
    one.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

fn numbers() -> BoxedStrategy<String> {
    prop_oneof![(-60i64..60).prop_map(|n| n.to_string()), Just("9999999999".to_owned())].boxed()
}

fn texts() -> BoxedStrategy<String> {
    "[a-c]{0,2}".prop_map(|text| format!("'{text}'")).boxed()
}

/// Three jobs with keys of other types, and a copy of each state that no filter is pushed into.
async fn sessions() -> [StateSession; 3] {
    let (numbers, texts, maps) =
        (Storage::in_memory().unwrap(), Storage::in_memory().unwrap(), Storage::in_memory().unwrap());
    let mut job = SoloJob::open::<_, i32>("j", MemoryBackendFactory::default(), &numbers).unwrap();
    let s = job.register(&ValueDescriptor::<i64>::new("s")).unwrap();
    job.restore().await.unwrap();
    (-50..50).for_each(|n| job.at(&n).state(s).put(i64::from(n) * 2).unwrap());
    job.checkpoint().await.unwrap();
    let words: Vec<String> =
        ["", "a", "b", "c"].iter().flat_map(|a| ["", "a", "b"].map(|b| format!("{a}{b}"))).collect();
    let mut job = SoloJob::open::<_, String>("j", MemoryBackendFactory::default(), &texts).unwrap();
    let s = job.register(&ValueDescriptor::<u8>::new("s")).unwrap();
    job.restore().await.unwrap();
    words.iter().for_each(|word| job.at(word).state(s).put(1).unwrap());
    job.checkpoint().await.unwrap();
    let mut job = SoloJob::open::<_, u8>("j", MemoryBackendFactory::default(), &maps).unwrap();
    let s = job.register(&MapDescriptor::<String, u8>::new("s")).unwrap();
    job.restore().await.unwrap();
    for key in 0..9 {
        words.iter().for_each(|word| job.at(&key).state(s).put(word.clone(), key).unwrap());
    }
    job.checkpoint().await.unwrap();
    let mut sessions = Vec::new();
    for storage in [numbers, texts, maps] {
        let session = session(&storage).await;
        session.query("CREATE TABLE copy AS SELECT * FROM s").await.unwrap();
        sessions.push(session);
    }
    sessions.try_into().unwrap_or_else(|_| panic!())
}

#[test]
fn filters_return_what_a_copy_returns() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sessions = runtime.block_on(sessions());
    let which = prop_oneof![
        conditions("key", &numbers()).prop_map(|condition| (0, condition)),
        conditions("key", &texts()).prop_map(|condition| (1, condition)),
        conditions("map_key", &texts()).prop_map(|condition| (2, condition)),
    ];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases(60))
    });
    let outcome = runner.run(&which, |(index, condition)| {
        let session = &sessions[index];
        let query = |table: &str| format!("SELECT * FROM {table} WHERE {condition}");
        let (found, expected) = runtime
            .block_on(async { (sorted(session, &query("s")).await, sorted(session, &query("copy")).await) });
        prop_assert_eq!(found, expected, "{}", condition);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
