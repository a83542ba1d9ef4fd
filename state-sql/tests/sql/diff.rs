//! What changed between two checkpoints.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use proptest::prelude::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::{LoopOptions, SoloJob, Storage};
use strandline_state_api::{MapDescriptor, TimerDescriptor, Timestamp, ValueDescriptor};

use crate::support::{block_on, cases, refused, session, sorted};
use crate::zoo;

#[test]
fn added_removed_and_changed_rows_are_told_apart() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        zoo::store(&storage).await;
        let session = session(&storage).await;
        let sql = "SELECT change, key, before, after FROM state_diff('zoo', 'counts', 1, 2)";
        assert_eq!(
            sorted(&session, sql).await,
            ["added,eve,NULL,7", "changed,ada,11,99", "removed,bob,10,NULL"]
        );
        let back = "SELECT change, key, before, after FROM state_diff('zoo', 'counts', 2, 1) LIMIT 9";
        assert_eq!(
            sorted(&session, back).await,
            ["added,bob,NULL,10", "changed,ada,99,11", "removed,eve,7,NULL"]
        );
        let list = "SELECT change, key, index, after['c1'] FROM state_diff('zoo', 'lines', 1, 2)";
        assert_eq!(sorted(&session, list).await, ["added,bob,1,more"]);
        for state in ["animals", "packed", "windows", "fields", "means", "seen", "due", "alarms"] {
            let sql = format!("SELECT * FROM state_diff('zoo', '{state}', 1, 2)");
            assert_eq!(sorted(&session, &sql).await, [""; 0], "{state}");
        }
        let error = refused(&session, "SELECT * FROM state_diff('zoo', 'cuonts', 1, 2)").await;
        assert!(error.contains("did you mean \"zoo/counts\""), "{error}");
        let error = refused(&session, "SELECT * FROM state_diff('zoo', 'counts', 1, 77)").await;
        assert!(error.contains("there is no checkpoint 77"), "{error}");
        let error = refused(&session, "SELECT * FROM state_diff('zoo', 'counts')").await;
        assert!(error.contains("two names and two numbers"), "{error}");
    });
}

/// Changes of a key: a new value, or none.
type Changes = Vec<(u16, Option<u8>)>;

/// Takes a checkpoint behind each step; returns what each has.
async fn store(storage: &Storage, steps: &[Changes]) -> Vec<BTreeMap<u16, u8>> {
    let options = LoopOptions::default().retain(NonZeroUsize::new(9).unwrap());
    let mut job =
        SoloJob::open_with::<_, u16>("job", MemoryBackendFactory::default(), storage, options).unwrap();
    let values = job.register(&ValueDescriptor::<u8>::new("values")).unwrap();
    let maps = job.register(&MapDescriptor::<u8, u8>::new("maps")).unwrap();
    let timers = job.register(&TimerDescriptor::<()>::event_time("timers")).unwrap();
    job.restore().await.unwrap();
    let mut model = BTreeMap::new();
    let mut models = Vec::new();
    for step in steps {
        for (key, change) in step {
            let time = Timestamp::from_millis(i64::from(*key) - 100);
            match change {
                Some(value) => {
                    job.at(key).state(values).put(*value).unwrap();
                    job.at(key).state(maps).put(1, *value).unwrap();
                    job.at(key).state(timers).register(time).unwrap();
                    model.insert(*key, *value);
                }
                None => {
                    job.at(key).state(values).clear().unwrap();
                    job.at(key).state(maps).clear().unwrap();
                    job.at(key).state(timers).delete(time).unwrap();
                    model.remove(key);
                }
            }
        }
        job.checkpoint().await.unwrap();
        models.push(model.clone());
    }
    models
}

fn expected(before: &BTreeMap<u16, u8>, after: &BTreeMap<u16, u8>) -> Vec<String> {
    let keys: std::collections::BTreeSet<u16> = before.keys().chain(after.keys()).copied().collect();
    let mut lines: Vec<String> = keys
        .into_iter()
        .filter_map(|key| match (before.get(&key), after.get(&key)) {
            (Some(a), Some(b)) => (a != b).then(|| format!("changed,{key},{a},{b}")),
            (Some(a), None) => Some(format!("removed,{key},{a},NULL")),
            (None, Some(b)) => Some(format!("added,{key},NULL,{b}")),
            (None, None) => None,
        })
        .collect();
    lines.sort_unstable();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases(12)) })]

    #[test]
    fn differences_are_those_of_a_model(
        steps in proptest::collection::vec(
            proptest::collection::vec((0u16..300, proptest::option::of(0u8..4)), 0..200), 2..4),
    ) {
        block_on(async {
            let storage = Storage::in_memory().unwrap();
            let models = store(&storage, &steps).await;
            let session = session(&storage).await;
            for (a, before) in models.iter().enumerate() {
                for (b, after) in models.iter().enumerate() {
                    let (from, to) = (a + 1, b + 1);
                    for state in ["values", "maps"] {
                        let sql = format!(
                            "SELECT change, key, before, after FROM state_diff('job', '{state}', {from}, {to})"
                        );
                        assert_eq!(sorted(&session, &sql).await, expected(before, after), "{state} {from} {to}");
                    }
                    let sql =
                        format!("SELECT change, key FROM state_diff('job', 'timers', {from}, {to})");
                    let timers: Vec<String> = expected(before, after)
                        .iter()
                        .filter(|line| !line.starts_with("changed"))
                        .map(|line| line.split(',').take(2).collect::<Vec<_>>().join(","))
                        .collect();
                    assert_eq!(sorted(&session, &sql).await, timers);
                }
            }
        });
    }
}
