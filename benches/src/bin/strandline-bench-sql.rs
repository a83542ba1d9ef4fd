//! State in SQL: scans and look-ups of a checkpoint beside a plain decode of its files, and what live queries cost a
//! running job.
//!
//! Each measurement of a checkpoint has a process of its own, whose peak memory it reports.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Value as Json, json};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::scratch;
use strandline_benches::w5::{self, stream};
use strandline_checkpoint_storage::{Segments, Storage};
use strandline_connectors::keys::Distribution;
use strandline_runtime::{CheckpointConfig, JobConfig, JobControl, JobReport, LiveState};
use strandline_snapshot_format::SegmentReader;
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::snapshot::{SegmentRef, SegmentStore};
use strandline_state_api::{Error, ErrorKind, Result};
use strandline_state_reader::{At, CheckpointReader, Decoders, Value};
use strandline_state_sql::datafusion::arrow::array::{Array, Int64Array, UInt64Array};
use strandline_state_sql::{StateCatalog, StateSession};
use tokio::runtime::{Builder, Runtime};

/// Looked-up keys.
const LOOK_UPS: u64 = 100;
/// How often a scan is repeated; the median counts.
const SCANS: usize = 5;

/// Measures state in SQL.
#[derive(Debug, Parser)]
#[command(name = "strandline-bench-sql")]
struct Cli {
    /// Keys of the state that is scanned. Default: 10000000, or 1000000 on RocksDB.
    #[arg(long)]
    keys: Option<u64>,
    /// Keys of the job that is queried while it runs.
    #[arg(long, default_value_t = 1_000_000)]
    live_keys: u64,
    /// Seconds of each run of that job.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Pairs of runs of it with and without queries.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// The state backend.
    #[arg(long, value_enum, default_value = "memory")]
    backend: Backend,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Backend {
    Memory,
    #[cfg(feature = "rocksdb")]
    Rocksdb,
}

/// A measurement in a process of its own; it prints JSON.
#[derive(Clone, Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Build { directory: PathBuf },
    #[command(hide = true)]
    Plain { directory: PathBuf },
    #[command(hide = true)]
    Scan { directory: PathBuf, partitions: usize },
    #[command(hide = true)]
    LookUp { directory: PathBuf },
    #[command(hide = true)]
    Live { load: Load },
}

/// What a job does each second beside its records; each has the work of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Load {
    Nothing,
    Checkpoint,
    Query,
}

/// Runs the count of W1.
fn count<F: BackendFactory>(
    factory: F,
    (records, keys): (u64, u64),
    config: CheckpointConfig,
    control: &JobControl,
) -> Result<JobReport> {
    let pipeline = w5::pipeline(factory, stream(records, keys, Distribution::Uniform)?);
    strandline_runtime::run(&pipeline, JobConfig::default().checkpointing(config), control)
}

impl Cli {
    fn keys(&self) -> u64 {
        self.keys.unwrap_or(match self.backend {
            Backend::Memory => 10_000_000,
            #[cfg(feature = "rocksdb")]
            Backend::Rocksdb => 1_000_000,
        })
    }

    fn run_job(&self, size: (u64, u64), config: CheckpointConfig, control: &JobControl) -> Result<JobReport> {
        match self.backend {
            Backend::Memory => count(MemoryBackendFactory::default(), size, config, control),
            #[cfg(feature = "rocksdb")]
            Backend::Rocksdb => {
                let options = strandline_backend_rocksdb::RocksOptions::default();
                let (factory, _directory) = strandline_benches::rocks::factory(options)?;
                count(factory, size, config, control)
            }
        }
    }

    /// Leaves a checkpoint of a job that has counted each key three times on average.
    fn build(&self, directory: &Path) -> Result<Json> {
        let config = CheckpointConfig::new(Storage::in_dir(directory)?, Duration::ZERO).interval(None);
        let report = self.run_job((3 * self.keys(), self.keys()), config, &JobControl::new())?;
        Ok(json!({ "entries": report.state_entries, "records": report.done }))
    }

    /// One run of the job that is queried.
    fn live(&self, load: Load) -> Result<Json> {
        let directory = scratch::directory()?;
        let storage = Storage::in_dir(directory.path())?;
        let each_second = (load >= Load::Checkpoint).then_some(Duration::from_secs(1));
        let config = CheckpointConfig::new(storage, Duration::ZERO).interval(each_second);
        let (control, records) = (JobControl::new(), 1 << 40);
        thread::scope(|scope| {
            let running = scope.spawn(|| self.run_job((records, self.live_keys), config, &control));
            let asked = self.ask(&control, load == Load::Query, records);
            control.stop();
            let report = running.join().map_err(|_| Error::new(ErrorKind::Internal, "the job died"))??;
            let (times, bytes) = asked?;
            Ok(json!({
                "rate": report.done as f64 / report.last_done.as_secs_f64(),
                "queries": times.len(),
                "query_ms": median(times.iter().map(|time| time.as_secs_f64() * 1e3).collect()),
                "held_bytes": bytes,
                "peak_bytes": peak(),
            }))
        })
    }

    /// Sums the counters once a second, and compares with what the source had read.
    fn ask(&self, control: &JobControl, queries: bool, records: u64) -> Result<(Vec<Duration>, u64)> {
        let (runtime, end) = (runtime()?, Instant::now() + Duration::from_secs(self.seconds));
        let (mut times, mut bytes) = (Vec::new(), 0);
        while Instant::now() < end {
            let start = Instant::now();
            if queries {
                let live = control.live_state().wait()?;
                bytes = bytes.max(live.held_bytes());
                let (sum, read) = runtime.block_on(sum_and_read(&live, records))?;
                if sum != read {
                    let message = format!("the counters add up to {sum}, and the source has read {read}");
                    return Err(Error::new(ErrorKind::Internal, message));
                }
                times.push(start.elapsed());
            }
            thread::sleep(Duration::from_secs(1).saturating_sub(start.elapsed()));
        }
        Ok((times, bytes))
    }

    fn part(&self, part: &Part) -> Result<Json> {
        match part {
            Part::Build { directory } => self.build(directory),
            Part::Plain { directory } => plain(directory),
            Part::Scan { directory, partitions } => scan(directory, *partitions),
            Part::LookUp { directory } => look_ups(directory, self.keys()),
            Part::Live { load } => self.live(*load),
        }
    }

    /// Runs a part in a process of its own.
    fn child(&self, part: &[&str]) -> Result<Json> {
        let failed = |why: String| Error::new(ErrorKind::Internal, why).with("part", part.join(" "));
        let program = std::env::current_exe().map_err(|e| failed("no program".into()).caused_by(e))?;
        let mut command = Command::new(program);
        command.arg(format!("--keys={}", self.keys())).arg(format!("--live-keys={}", self.live_keys));
        command.arg(format!("--seconds={}", self.seconds));
        if let Some(backend) = self.backend.to_possible_value() {
            command.arg(format!("--backend={}", backend.get_name()));
        }
        let output =
            command.args(part).output().map_err(|e| failed("it cannot start".into()).caused_by(e))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| failed("it prints no JSON".into()).caused_by(e))
    }

    fn all(&self) -> Result<()> {
        let directory = scratch::directory()?;
        let path = directory.path().join("checkpoints");
        let path = path.display().to_string();
        println!("a checkpoint: {}", self.child(&["build", &path])?);
        let is_portable = self.backend == Backend::Memory;
        let plain = is_portable.then(|| self.child(&["plain", &path])).transpose()?;
        if let Some(plain) = &plain {
            println!("plain decode of its files, one thread: {plain}");
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for partitions in [1, cores] {
            let scan = self.child(&["scan", &path, &partitions.to_string()])?;
            println!("SELECT sum(value), {partitions} partitions: {scan}");
            if let (Some(sql), Some(plain)) = (
                scan["rows_per_second"].as_f64(),
                plain.as_ref().and_then(|of| of["rows_per_second"].as_f64()),
            ) {
                println!("  {:.2} of the plain decode (aim: 0.5 with one partition)", sql / plain);
            }
        }
        println!("look-ups by key: {}", self.child(&["look-up", &path])?);
        let (mut of_checkpoints, mut of_queries, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.runs {
            let rate = |load: &str| {
                let run = self.child(&["live", load])?;
                println!("each second {load}: {run}");
                run["rate"].as_f64().ok_or_else(|| Error::new(ErrorKind::Internal, "a run has no rate"))
            };
            let (alone, with_checkpoints, with_queries) =
                (rate("nothing")?, rate("checkpoint")?, rate("query")?);
            of_checkpoints.push(100.0 * (1.0 - with_checkpoints / alone));
            of_queries.push(100.0 * (1.0 - with_queries / with_checkpoints));
            beyond.push(100.0 * (with_checkpoints - with_queries - (alone - with_checkpoints)) / alone);
        }
        println!(
            "loss of rate: by a checkpoint each second {:.1} %, by a live query more {:.1} %, beyond that of a \
             checkpoint {:.1} % (aim: below 5 %)",
            median(of_checkpoints),
            median(of_queries),
            median(beyond)
        );
        Ok(())
    }
}

/// Reads from the newest checkpoint, and counts the bytes.
struct Counting {
    inner: Segments,
    bytes: AtomicU64,
}

#[async_trait]
impl SegmentStore for Counting {
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        self.inner.put(bytes).await
    }

    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>> {
        self.bytes.fetch_add(range.end - range.start, Relaxed);
        self.inner.read(segment, range).await
    }
}

async fn open(directory: &Path) -> Result<(CheckpointReader, Arc<Counting>)> {
    let storage = Storage::in_dir(directory)?;
    let newest = CheckpointReader::open(&storage, At::Latest).await?;
    let store = Arc::new(Counting { inner: storage.reader(), bytes: AtomicU64::new(0) });
    let (manifest, segments) = (newest.manifest().clone(), Arc::clone(&store));
    Ok((CheckpointReader::of_manifest(manifest, segments, Decoders::default()).await?, store))
}

/// Decodes keys and counters of all entries, without a merge and without rows.
fn plain(directory: &Path) -> Result<Json> {
    let mut rates = Vec::new();
    for _ in 0..SCANS {
        let (rows, took) = runtime()?.block_on(async {
            let (checkpoint, store) = open(directory).await?;
            let (start, mut rows, mut sum) = (Instant::now(), 0u64, 0u64);
            for segment in checkpoint.manifest().segments() {
                let reader = SegmentReader::open(&*store, segment).await?;
                let all = strandline_state_api::KeyGroupRange::ALL;
                reader
                    .read(all, |entry| {
                        let key = entry.key.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                        let count = entry.value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                        sum = sum.wrapping_add(key.unwrap_or(0) ^ count.unwrap_or(0));
                        rows += 1;
                        Ok(())
                    })
                    .await?;
            }
            std::hint::black_box(sum);
            Ok::<_, Error>((rows, start.elapsed()))
        })?;
        rates.push(rows as f64 / took.as_secs_f64());
    }
    Ok(json!({ "rows_per_second": median(rates), "peak_bytes": peak() }))
}

fn scan(directory: &Path, partitions: usize) -> Result<Json> {
    runtime()?.block_on(async {
        let (checkpoint, store) = open(directory).await?;
        let path = only_state(&checkpoint)?;
        let rows = checkpoint.scan(checkpoint.state(&path)?).count().await?;
        let session = StateSession::new(StateCatalog::of_checkpoint(checkpoint));
        session
            .query(&format!("SET datafusion.execution.target_partitions = {partitions}"))
            .await
            .map_err(failed)?;
        let (mut rates, mut bytes) = (Vec::new(), 0);
        for _ in 0..SCANS {
            let (before, start) = (store.bytes.load(Relaxed), Instant::now());
            // The key, too: it is decoded as the plain decode does.
            let query = format!("SELECT sum(value), bit_xor(key) FROM \"{path}\"");
            session.query(&query).await.map_err(failed)?;
            rates.push(rows as f64 / start.elapsed().as_secs_f64());
            bytes = store.bytes.load(Relaxed) - before;
        }
        Ok(json!({ "rows": rows, "rows_per_second": median(rates), "bytes": bytes, "peak_bytes": peak() }))
    })
}

fn look_ups(directory: &Path, keys: u64) -> Result<Json> {
    runtime()?.block_on(async {
        let (checkpoint, store) = open(directory).await?;
        let path = only_state(&checkpoint)?;
        let session = StateSession::new(StateCatalog::of_checkpoint(checkpoint));
        let (mut times, mut bytes) = (Vec::new(), Vec::new());
        for number in 0..LOOK_UPS {
            let key = number * (keys / LOOK_UPS).max(1);
            let (before, start) = (store.bytes.load(Relaxed), Instant::now());
            let query = format!("SELECT value FROM \"{path}\" WHERE key = {key}");
            session.query(&query).await.map_err(failed)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            bytes.push((store.bytes.load(Relaxed) - before) as f64);
        }
        Ok(json!({ "first_ms": times[0], "first_bytes": bytes[0], "ms": median(times), "bytes": median(bytes) }))
    })
}

/// The sum of all counters, and the records that the source had read, at one instant.
async fn sum_and_read(live: &LiveState, records: u64) -> Result<(u64, u64)> {
    let decoders = Decoders::default();
    let checkpoint =
        CheckpointReader::of_manifest(live.manifest().clone(), live.segments(), decoders).await?;
    let mut left = 0;
    for operator in &live.manifest().operators {
        for position in checkpoint.positions(&operator.id)?.1 {
            if let Value::Record(fields) = position.value
                && let [_, Value::UInt(next), Value::UInt(end)] = fields[..]
            {
                left += end - next;
            }
        }
    }
    let Ok(path) = only_state(&checkpoint) else { return Ok((0, records - left)) };
    let session = StateSession::new(StateCatalog::of_checkpoint(checkpoint));
    let rows = session.query(&format!("SELECT sum(value) AS n FROM \"{path}\"")).await.map_err(failed)?;
    let column = rows.first().map(|batch| Arc::clone(batch.column(0)));
    let column = column.ok_or_else(|| Error::new(ErrorKind::Internal, "a sum has no row"))?;
    let of = |column: &dyn Array| {
        let unsigned = column.as_any().downcast_ref::<UInt64Array>().map(|column| column.value(0));
        unsigned.or_else(|| column.as_any().downcast_ref::<Int64Array>().map(|column| column.value(0) as u64))
    };
    Ok((of(&*column).unwrap_or(0), records - left))
}

fn only_state(checkpoint: &CheckpointReader) -> Result<String> {
    let state = checkpoint.states().first().map(|state| state.path());
    state.ok_or_else(|| Error::new(ErrorKind::NotFound, "the checkpoint has no state"))
}

fn failed(error: strandline_state_sql::QueryError) -> Error {
    error.error
}

fn runtime() -> Result<Runtime> {
    let built = Builder::new_multi_thread().enable_all().build();
    built.map_err(|e| Error::new(ErrorKind::Unavailable, "no threads for the queries").caused_by(e))
}

/// The most memory that the process has had, in bytes; 0 where the system does not report it.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) << 10
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let done = match &cli.part {
        None => cli.all(),
        Some(part) => cli.part(part).map(|json| println!("{json}")),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
