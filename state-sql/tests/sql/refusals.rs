//! What is refused, and how the errors say so.

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::{SoloJob, Storage};
use strandline_state_api::{CheckpointId, ErrorKind, ValueDescriptor};
use strandline_state_reader::At;
use strandline_state_sql::{Place, StateCatalog};

use crate::support::{block_on, refused, rows, session};
use crate::zoo;

#[test]
fn statements_that_do_not_fit_say_where_and_what_there_is() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        zoo::store(&storage).await;
        let session = session(&storage).await;
        let place = async |sql: &str| {
            let error = session.query(sql).await.unwrap_err();
            (error.error.to_string(), error.place.map(|Place { line, column }| (line, column)))
        };
        let (error, at) = place("SELECT 1\n  FROM counts GROUP counts").await;
        assert!(error.contains("this is no SQL") && at == Some((2, 15)), "{error} {at:?}");
        let (error, at) = place("SELECT key,\n  valeu FROM counts").await;
        assert!(error.contains("valeu. Did you mean 'counts.value'") && at == Some((2, 3)), "{error} {at:?}");
        let (error, at) = place("SELECT shop FROM counts").await;
        assert!(error.contains("shop. Valid fields are counts.key") && at == Some((1, 8)), "{error} {at:?}");
        let (error, _) = place("SELECT * FROM cuonts").await;
        assert!(error.contains("did you mean \"zoo/counts\""), "{error}");
        for name in ["Checkpoints", "checkpoint", "chekpoints"] {
            let (error, _) = place(&format!("SELECT * FROM {name}")).await;
            assert!(error.contains("did you mean \"checkpoints\""), "{error}");
        }
        let (error, _) = place("SELECT * FROM nobody.counts").await;
        assert!(error.contains("nobody"), "{error}");
        let (error, _) = place("SELECT * FROM \"zoo@77\".counts").await;
        assert!(error.contains("there is no checkpoint 77; there are 1, 2"), "{error}");
        for sql in [
            "INSERT INTO counts VALUES ('x', 1, 2)",
            "INSERT INTO counts VALUES (1, 2)",
            "INSERT INTO nothing VALUES (1)",
            "DELETE FROM counts",
            "UPDATE counts SET value = 1",
            "TRUNCATE counts",
        ] {
            let error = session.query(sql).await.unwrap_err().error;
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("state in checkpoints is read"), "{error}");
        }
        for sql in ["DROP TABLE \"zoo/counts\"", "DROP TABLE counts", "DROP VIEW IF EXISTS states"] {
            let error = refused(&session, sql).await;
            assert!(error.contains("which nothing changes"), "{error}");
        }
        let error = refused(&session, "CREATE TABLE checkpoints AS SELECT 1").await;
        assert!(error.contains("already exists"), "{error}");
        assert_eq!(rows(&session, "SELECT count(*) FROM counts").await, [["4"]]);
    });
}

#[test]
fn a_storage_without_a_checkpoint_and_two_states_of_a_name_are_refused() {
    block_on(async {
        let empty = Storage::in_memory().unwrap();
        let error = StateCatalog::open(&empty, At::Latest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("no checkpoint"), "{error}");

        let storage = Storage::in_memory().unwrap();
        let mut group =
            strandline_checkpoint_storage::WorkerGroup::claim("j", &storage, &[("a", 1), ("b", 1)])
                .await
                .unwrap();
        let checkpoint = CheckpointId(1);
        let mut snapshots = Vec::new();
        for operator in ["a", "b"] {
            let factory = MemoryBackendFactory::default();
            let mut worker = group.worker::<_, u8, _>(operator, 0, &factory).unwrap();
            let total = worker.register(&ValueDescriptor::<u8>::new("total")).unwrap();
            worker.restore().await.unwrap();
            worker.at(&1).state(total).put(operator.as_bytes()[0]).unwrap();
            snapshots.push(worker);
        }
        assert_eq!(group.begin().unwrap(), checkpoint);
        for mut worker in snapshots {
            group.add(worker.snapshot(checkpoint).await.unwrap()).await.unwrap();
        }
        let session = session(&storage).await;
        let error = refused(&session, "SELECT * FROM total").await;
        assert!(error.contains("choose one of a/total, b/total"), "{error}");
        assert_eq!(rows(&session, "SELECT value FROM \"b/total\"").await, [["98"]]);
        assert_eq!(rows(&session, "SELECT value FROM a").await, [["97"]]);
    });
}

#[test]
fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let storage = Storage::in_dir(folder.path()).unwrap();
        zoo::store(&storage).await;
        let segments = std::fs::read_dir(folder.path().join("segments")).unwrap();
        for segment in segments {
            let path = segment.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[40] ^= 4;
            std::fs::write(&path, bytes).unwrap();
        }
        let session = session(&storage).await;
        let error = session.query("SELECT * FROM animals").await.unwrap_err().error;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(
            error.to_string().contains("segment") && error.to_string().contains("zoo/animals"),
            "{error}"
        );
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
        let session = session(&storage).await;
        for n in 0..6 {
            (0..50).for_each(|key| job.at(&key).state(totals).put(n).unwrap());
            job.checkpoint().await.unwrap();
        }
        let error = session.query("SELECT * FROM totals").await.unwrap_err().error;
        assert_eq!((error.kind(), error.context("checkpoint")), (ErrorKind::NotFound, Some("1")), "{error}");
        assert!(error.to_string().contains("was swept while it was read"), "{error}");
    });
}
