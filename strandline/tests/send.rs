//! A program awaits the futures of the public API in tasks of any runtime, and moves handles, jobs and errors
//! between threads. The functions of `proofs` prove by their types that it may; nothing calls them.

#![cfg(all(feature = "memory", feature = "runtime", feature = "connectors"))]
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

#[allow(dead_code, clippy::too_many_arguments, reason = "they are compiled, and never called")]
mod proofs {
    use strandline::format::{
        EntryRef, ExpiryFilter, FoldOptions, Merge, SegmentCursor, SegmentHead, SegmentKind, SegmentReader,
        fold, fold_filtered, fold_into, snapshot_fingerprint,
    };
    use strandline::memory::{MemoryBackend, MemoryBackendFactory};
    use strandline::runtime::{JobConfig, JobControl, JobEvent, JobReport, Pipeline};
    use strandline::state::backend::{
        CheckpointedBackend, RestoreSnapshot, SnapshotSource, SnapshotWriter, StateId,
    };
    use strandline::state::host::OperatorStateStore;
    use strandline::state::schema::RestorePlan;
    use strandline::state::snapshot::{KeyedSnapshot, SegmentRef, SegmentStore, SnapshotPart};
    use strandline::state::{
        BroadcastDescriptor, BroadcastState, CheckpointId, Error, Expiring, KeyGroupRange, ListState,
        MapState, OperatorListDescriptor, OperatorListState, ReducingState, Result, TimerService,
        ValueDescriptor, ValueState,
    };
    use strandline::storage::{
        CommitLog, CommitLogOptions, CompletedCheckpoint, Depth, LoopOptions, Manifest, Member, ObjectStore,
        RecoverOptions, Recovery, SegmentCheck, SoloJob, Storage, Worker, WorkerGroup, WorkerSnapshot,
        in_background,
    };

    /// A future that another thread may poll.
    fn sent<T: Send>(_: T) {}

    /// A value that another thread may own.
    fn moves<T: Send + 'static>() {}

    /// A value that several threads may read.
    fn shared<T: Send + Sync + 'static>() {}

    async fn a_segment(
        store: &dyn SegmentStore,
        segment: &SegmentRef,
        range: KeyGroupRange,
        visit: impl FnMut(EntryRef<'_>) -> Result<()> + Send,
    ) {
        sent(SegmentReader::open(store, segment));
        sent(SegmentHead::read(store, segment));
        let reader = SegmentReader::open(store, segment).await.unwrap();
        sent(reader.fingerprint(range));
        sent(reader.read(range, visit));
    }

    fn segments(
        (from, into): (&dyn SegmentStore, &dyn SegmentStore),
        parts: &[SnapshotPart],
        range: KeyGroupRange,
        options: &FoldOptions,
        filter: &ExpiryFilter,
        merge: &mut Merge<'_>,
        cursor: &mut SegmentCursor<'_>,
    ) {
        sent(fold(parts, from, SegmentKind::Base, range, options));
        sent(fold_filtered(parts, from, range, options, filter));
        sent(fold_into(parts, from, into, SegmentKind::Base, range, options));
        sent(snapshot_fingerprint(parts, from, range));
        sent(Merge::open(from, parts, SegmentKind::Base, range));
        sent(merge.read(|_| Ok(std::ops::ControlFlow::Continue(()))));
        sent(merge.next());
        sent(cursor.next());
    }

    fn objects(store: &ObjectStore, tag: Option<&str>) {
        sent(store.list_objects(""));
        sent(store.look_up(""));
        sent(store.read_same("", 0..1, tag));
    }

    fn storage(
        storage: &Storage,
        log: &mut CommitLog,
        manifest: &Manifest,
        completed: &CompletedCheckpoint,
        segment: &SegmentRef,
        check: Option<&dyn SegmentCheck>,
        right: &strandline::protocol::CommitRight,
        options: (CommitLogOptions, RecoverOptions),
    ) {
        sent(in_background(async {}));
        sent(storage.sweep());
        sent(storage.sweep_but(&[]));
        sent(storage.plan_sweep());
        sent(storage.verify(CheckpointId(1)));
        sent(storage.verify_with(completed, Depth::Contents, check));
        sent(storage.write_manifest(manifest));
        sent(storage.read_manifest(completed));
        sent(storage.verify_segment(segment));
        sent(storage.history());
        sent(storage.remove_savepoint(CheckpointId(1)));
        sent(storage.is_retained(completed));
        sent(storage.owner());
        sent(storage.belong_to("job", None));
        sent(storage.completed());
        sent(CommitLog::claim(storage, options.0, CommitLog::random_tokens()));
        sent(storage.recover(options.1));
        sent(log.commit(right, manifest));
        sent(log.commit_alone(manifest));
        sent(log.check());
    }

    fn loops<B: CheckpointedBackend>(
        storage: &Storage,
        job: &mut SoloJob<B>,
        group: &mut WorkerGroup,
        worker: &mut Worker<B>,
        snapshot: WorkerSnapshot,
    ) {
        sent(job.restore());
        sent(job.checkpoint());
        sent(WorkerGroup::claim("job", storage, &[]));
        sent(WorkerGroup::claim_with("job", storage, &[], LoopOptions::default()));
        sent(group.add(snapshot));
        sent(worker.restore());
        sent(worker.snapshot(CheckpointId(1)));
        sent(worker.prepare(CheckpointId(1)).unwrap().store());
    }

    #[cfg(feature = "reader")]
    fn state_in_checkpoints(
        storage: &Storage,
        checkpoint: &strandline::reader::CheckpointReader,
        state: &strandline::reader::StoredState,
        manifest: Manifest,
        segments: std::sync::Arc<dyn SegmentStore>,
    ) {
        use strandline::reader::{At, CheckpointReader, Decoders};
        moves::<CheckpointReader>();
        shared::<CheckpointReader>();
        sent(CheckpointReader::open(storage, At::Latest));
        sent(CheckpointReader::open_with(storage, At::Latest, Decoders::new()));
        sent(CheckpointReader::of_manifest(manifest, segments, Decoders::new()));
        sent(checkpoint.exact_entries(state));
        sent(checkpoint.size(state));
        sent(checkpoint.key_groups(state.operator()));
        let scan = || checkpoint.scan(state);
        sent(scan().partitions(2));
        sent(scan().rows());
        sent(scan().read_all());
        sent(scan().count());
        sent(checkpoint.blocks(state.operator()));
    }

    #[cfg(feature = "sql")]
    fn state_in_sql(storage: &Storage, catalog: &strandline::sql::StateCatalog) {
        use strandline::reader::{At, Decoders};
        use strandline::sql::{StateCatalog, StateSession};
        shared::<StateCatalog>();
        shared::<StateSession>();
        sent(StateCatalog::open(storage, At::Latest));
        sent(StateCatalog::beside(catalog.checkpoint().clone(), storage));
        sent(StateCatalog::open_with(storage, At::Latest, Decoders::new()));
        sent(catalog.checkpoint_at(CheckpointId(1)));
        let session = StateSession::new(catalog.clone());
        let statements = session.parse("SELECT 1").unwrap();
        sent(session.run(&statements[0]));
        sent(session.query("SELECT 1"));
    }

    fn backends<B: RestoreSnapshot, W: SnapshotWriter>(
        backend: &mut B,
        writer: &mut W,
        prepared: W::Prepared,
        snapshots: &[KeyedSnapshot],
        store: &dyn SegmentStore,
    ) {
        sent(backend.restore(snapshots, store));
        sent(writer.commit(prepared, store));
    }

    /// A loop of a user in a task of its own: it holds the job and everything that it lends over an await.
    async fn a_loop(mut job: SoloJob<MemoryBackend<String>>, counts: ValueState<u64>) -> Result<()> {
        let files = job.register(&OperatorListDescriptor::<String>::split("files"))?;
        let rules = job.register(&BroadcastDescriptor::<u64, String>::new("rules"))?;
        let last = job.register(&ValueDescriptor::<u64>::new("last"))?;
        job.restore().await?;
        let key = String::from("key");
        let n = job.at(&key).state(counts).update_or_default(|n| *n)?;
        job.at(&key).state(last).put(n)?;
        job.list_mut(files)?.push(key);
        job.broadcast_mut(rules)?.put(n, String::new());
        job.checkpoint().await.map(drop)
    }

    fn tasks(job: SoloJob<MemoryBackend<String>>, counts: ValueState<u64>) {
        sent(a_loop(job, counts));
    }

    fn jobs_and_errors() {
        shared::<Error>();
        shared::<Storage>();
        shared::<Manifest>();
        shared::<Recovery>();
        shared::<RestorePlan>();
        shared::<KeyedSnapshot>();
        shared::<WorkerSnapshot>();
        shared::<JobControl>();
        shared::<JobEvent>();
        shared::<JobReport>();
        moves::<CommitLog>();
        moves::<JobConfig>();
        moves::<Pipeline<MemoryBackendFactory>>();
        moves::<OperatorStateStore>();
        moves::<WorkerGroup>();
        moves::<MemoryBackend<String>>();
        moves::<SoloJob<MemoryBackend<String>>>();
        moves::<Worker<MemoryBackend<String>, Member>>();
        moves::<<MemoryBackend<String> as SnapshotSource>::Writer>();
        moves::<<MemoryBackend<String> as SnapshotSource>::Prepared>();
    }

    #[cfg(feature = "rocksdb")]
    fn rocksdb() {
        use strandline::rocksdb::{RocksBackend, RocksBackendFactory};
        shared::<RocksBackendFactory>();
        moves::<RocksBackend<String>>();
        moves::<SoloJob<RocksBackend<String>>>();
        moves::<<RocksBackend<String> as SnapshotSource>::Writer>();
        moves::<<RocksBackend<String> as SnapshotSource>::Prepared>();
    }

    /// Values of a state need not be `Sync`, and its handles are still.
    fn handles() {
        type Value = std::cell::Cell<u8>;
        shared::<StateId>();
        shared::<ValueState<Value>>();
        shared::<ValueState<Value, (), Expiring>>();
        shared::<ListState<Value>>();
        shared::<MapState<u64, Value>>();
        shared::<ReducingState<Value>>();
        shared::<TimerService<String>>();
        shared::<OperatorListState<Value>>();
        shared::<BroadcastState<u64, Value>>();
    }
}

/// Returns the names of the public asynchronous functions below `dir`.
fn async_functions(dir: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            async_functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let declared = source.lines().filter_map(|line| line.trim_start().strip_prefix("pub async fn "));
            let name = |rest: &str| rest.split(['(', '<']).next().unwrap_or_default().to_owned();
            names.extend(declared.map(name));
        }
    }
}

#[test]
fn every_public_future_is_proved_to_be_send() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = [
        "state-api",
        "snapshot-format",
        "state-testing",
        "checkpoint-protocol",
        "checkpoint-storage",
        "backend-memory",
        "backend-rocksdb",
        "runtime",
        "connectors",
        "strandline",
    ];
    let mut names = Vec::new();
    for name in crates {
        async_functions(&workspace.join(name).join("src"), &mut names);
    }
    assert!(names.len() > 20, "only {names:?} found");
    let proofs = include_str!("send.rs");
    let proved = |name: &String| {
        proofs.lines().any(|line| {
            let call = line.trim_start().strip_prefix("sent(");
            call.is_some_and(|call| {
                call.starts_with(&format!("{name}("))
                    || call.contains(&format!(".{name}("))
                    || call.contains(&format!("::{name}("))
            })
        })
    };
    let missing: Vec<_> = names.iter().filter(|name| !proved(name)).collect();
    assert!(missing.is_empty(), "no proof in this file that the future of {missing:?} is `Send`");
}
