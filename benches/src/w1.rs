//! W1: the keyed count, through the `strandline` binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use strandline_connectors::keys::Distribution;
use strandline_state_api::{Error, ErrorKind, Result};

use crate::clock::of_ended_children;
use crate::scratch;
use crate::w5::{Floor, stream};

/// How many keys the workload has.
pub const KEYS: u64 = 1_000_000;

/// The checksums of the shared workloads, for 1,000,000 keys and seed 42.
pub const CHECKSUMS: [(u64, u64, u64); 3] = [
    (4_000_000, 0xfededed8feeebf25, 0xbbd8f1d9d9ea8aff),
    (20_000_000, 0x81b493f998332dcf, 0x0e06c135561cafe0),
    (40_000_000, 0xc19877a6f6214f08, 0x3758cdfa8de26174),
];

/// The checksum that so many records must have: a known one, or else that of the plain loop.
///
/// # Errors
/// When there is no such stream.
pub fn expected_checksum(records: u64, distribution: Distribution) -> Result<u64> {
    match CHECKSUMS.iter().find(|(of, _, _)| *of == records) {
        Some((_, uniform, _)) if distribution == Distribution::Uniform => Ok(*uniform),
        Some((_, _, zipf)) => Ok(*zipf),
        None => Ok(Floor::whole(stream(records, KEYS, distribution)?, records).0),
    }
}

/// One way to run the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// For the table.
    pub name: &'static str,
    /// The job file in `benches/jobs`.
    pub file: &'static str,
    /// How often each key comes, as in the job file.
    pub distribution: Distribution,
    /// Into how many subtasks the job is split.
    pub parallelism: u32,
    /// The interval of checkpoints; `None` for none.
    pub interval: Option<&'static str>,
}

impl Variant {
    const fn new(name: &'static str, parallelism: u32, interval: Option<&'static str>) -> Self {
        Self { name, file: "w1-uniform.toml", distribution: Distribution::Uniform, parallelism, interval }
    }

    /// The one that all others are compared with: no checkpoints.
    pub const OFF: Self = Self::new("uniform, P=1, no checkpoints", 1, None);
    /// A checkpoint each second.
    pub const EACH_SECOND: Self = Self::new("uniform, P=1, checkpoint each 1 s", 1, Some("1s"));
    /// All others.
    pub const OTHERS: [Self; 7] = [
        Self::new("uniform, P=1, checkpoint each 0.1 s", 1, Some("100ms")),
        Self::new("uniform, P=2, no checkpoints", 2, None),
        Self::new("uniform, P=2, checkpoint each 1 s", 2, Some("1s")),
        Self {
            file: "w1-zipf.toml",
            distribution: Distribution::Zipf,
            ..Self::new("Zipf, P=1, no checkpoints", 1, None)
        },
        Self {
            file: "w1-zipf.toml",
            distribution: Distribution::Zipf,
            ..Self::new("Zipf, P=1, checkpoint each 1 s", 1, Some("1s"))
        },
        Self { file: "w1-chained.toml", ..Self::new("uniform, one thread, no checkpoints", 1, None) },
        Self {
            file: "w1-chained.toml",
            ..Self::new("uniform, one thread, checkpoint each 1 s", 1, Some("1s"))
        },
    ];
}

/// The report of `strandline run --json` on one run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// Records a second, from the first to the last.
    pub rate: f64,
    /// The same without the first third.
    pub rate_warm: f64,
    /// Of the rate in windows of 100 ms after that.
    pub rate_quantiles: Quantiles,
    /// The longest time without progress.
    pub longest_stall_us: u64,
    /// Each checkpoint.
    pub checkpoints: Vec<Checkpoint>,
    /// Processor time for each record, in microseconds, the start of the process included; where the system
    /// reports it.
    #[serde(default)]
    pub cpu_us: Option<f64>,
    /// The figures of each sink.
    sinks: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
}

impl Report {
    /// The checksum of all results.
    fn checksum(&self) -> Option<u64> {
        let text = self.sinks.values().find_map(|figures| figures.get("checksum"))?;
        u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    }
}

/// Records a second.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Quantiles {
    /// A twentieth of the windows was slower.
    pub p5: f64,
    /// The median.
    pub p50: f64,
    /// A twentieth of the windows was faster.
    pub p95: f64,
}

/// One checkpoint, times in microseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Checkpoint {
    /// Its number.
    pub id: u64,
    /// Why it was taken.
    pub kind: String,
    /// How long a subtask did not work on records because of it.
    pub pause_us: u64,
    /// From the first to the last barrier at a subtask.
    pub alignment_us: u64,
    /// From its trigger to its commit.
    pub duration_us: u64,
    /// Bytes of all its files.
    pub full_bytes: u64,
    /// Bytes that it added.
    pub bytes_written: u64,
}

/// The binary, and how many records each run has.
#[derive(Clone, Debug)]
pub struct Runs {
    /// The `strandline` program.
    pub program: PathBuf,
    /// The records of each run.
    pub records: u64,
    /// The state backend; as in the job file unless given.
    pub backend: Option<String>,
}

/// Where the job files are.
pub fn jobs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs")
}

impl Runs {
    /// Runs one variant in a process of its own, on a new storage, and checks the checksum.
    ///
    /// # Errors
    /// When the program cannot be started or fails, and when its checksum is wrong.
    pub fn run(&self, variant: &Variant) -> Result<Report> {
        let dir = scratch::directory()?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg(jobs().join(variant.file)).args(["--json", "--progress", "none"]);
        command.args(["--parallelism", &variant.parallelism.to_string()]);
        command.arg("--set").arg(format!("source.records={}", self.records));
        if let Some(backend) = &self.backend {
            command.arg("--set").arg(format!("state.backend={backend}"));
            if backend == "rocksdb" {
                command.arg("--set").arg(format!("state.directory={}", dir.path().join("state").display()));
            }
        }
        if let Some(interval) = variant.interval {
            command.arg("--set").arg(format!("checkpoint.storage={}", dir.path().join("job").display()));
            command.arg("--set").arg(format!("checkpoint.interval={interval}"));
            command.args(["--set", "checkpoint.enabled=true"]);
        }
        let failed = |why: String| Error::new(ErrorKind::Unavailable, why).with("workload", variant.name);
        let before = of_ended_children();
        let output = command.stdin(Stdio::null()).output().map_err(|e| {
            failed("the program cannot be started".into())
                .with("program", self.program.display())
                .caused_by(e)
        })?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(failed(format!("the run ended with {}: {}", output.status, errors.trim())));
        }
        let mut report: Report = serde_json::from_slice(&output.stdout)
            .map_err(|e| failed("the report of the run is not understood".into()).caused_by(e))?;
        report.cpu_us = before.zip(of_ended_children()).map(|(before, after)| {
            after.saturating_sub(before).as_secs_f64() * 1e6 / self.records.max(1) as f64
        });
        let (found, wanted) = (report.checksum(), expected_checksum(self.records, variant.distribution)?);
        if found != Some(wanted) {
            return Err(Error::corrupt(format!("the checksum is {found:x?} instead of {wanted:#x}"))
                .with("workload", variant.name));
        }
        Ok(report)
    }
}
