//! `strandline run`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use strandline_backend_memory::MemoryBackendFactory;
#[cfg(feature = "rocksdb")]
use strandline_backend_rocksdb::{RocksBackendFactory, RocksOptions};
use strandline_runtime::{JobConfig, JobControl, JobReport, Outcome, StartFrom, run as run_pipeline};
#[cfg(not(feature = "rocksdb"))]
use strandline_state_api::ErrorKind;
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Error, Result};

use crate::cli::{ProgressMode, RunArgs};
use crate::cluster::Member;
#[cfg(feature = "rocksdb")]
use crate::jobfile::RocksDb;
use crate::jobfile::{Backend, Job};
use crate::plan::{Counters, plan};
use crate::progress::Progress;
use crate::report;
use crate::{Failure, print, print_error};

/// Why a job with the backend `rocksdb` does not run.
pub(crate) const WITHOUT_ROCKSDB: &str =
    "this program was built without RocksDB; build it with `--features rocksdb`, or use the memory backend";

/// Runs the job of `args` until it ends.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let job = Job::load(&args.job, &args.overrides)?;
    let start = args.from.map_or(StartFrom::Resume, |from| from.0);
    if job.settings.checkpoint.is_none() && matches!(start, StartFrom::Latest | StartFrom::Checkpoint(_)) {
        let text = "error: --from needs checkpoints, and the job file has no enabled [checkpoint]\n";
        return Err(Failure::Usage(text.into()));
    }
    if job.settings.checkpoint.is_some() && job.reads_stream() {
        print_error(
            "warning: the input is a stream: what a checkpoint has of it counts exactly once, but the job can only \
             go on from there if it is started with the same stream again from its beginning",
        );
    }
    let member = Member::of(args, &job)?;
    // Another process coordinates the job, and reports it.
    let other = member.as_ref().filter(|member| member.process() > 0);
    let control = JobControl::new();
    #[cfg(not(feature = "sql"))]
    if args.serve.is_some() {
        return Err(Failure::Usage(crate::NO_SQL.to_owned()));
    }
    match other {
        Some(member) => member.follow_signals(),
        None => stop_on_signal(&control, job.settings.checkpoint.is_some()),
    }
    .map_err(Failure::Failed)?;
    let mode = other.map_or(args.progress, |_| ProgressMode::None);
    let progress = Arc::new(Progress::new(mode, &job.settings.name));
    #[cfg(feature = "sql")]
    let _endpoint = serve(args, &job, &control, &progress)?;
    let defaults = JobConfig::default();
    let config = defaults
        .parallelism(args.parallelism.unwrap_or(job.settings.parallelism))
        .batch_size(job.settings.batch_size)
        .chain_keyed(job.settings.chain)
        .checkpointing(job.settings.checkpoint.clone())
        .restart(job.settings.restart)
        .start(start)
        .allow_orphans(&args.allow_orphans)
        .renamed_operators(args.renamed.iter().cloned())
        .adopt(args.adopt.clone())
        .observer(Arc::clone(&progress) as _);
    let place = Place { member: member.as_ref(), control: &control, progress: &progress };
    let ran = match &job.settings.backend {
        Backend::Memory => place.execute(&job, MemoryBackendFactory::default(), config),
        #[cfg(feature = "rocksdb")]
        Backend::RocksDb(settings) => {
            rocksdb_factory(settings).and_then(|factory| place.execute(&job, factory, config))
        }
        #[cfg(not(feature = "rocksdb"))]
        Backend::RocksDb(_) => Err(Error::new(ErrorKind::Unsupported, WITHOUT_ROCKSDB)),
    };
    progress.finish();
    match ran {
        Ok((None, counters)) => {
            // What only this process knows of.
            if let Some(bad) = report::bad_records(&counters) {
                progress.warn(&format!("process {}: {bad}", other.map_or(0, Member::process)));
            }
            Ok(())
        }
        Ok((Some(ended), counters)) => {
            progress.end(&report::summary(&ended, &counters), !ended.unread.is_empty());
            if args.json {
                print(report::json(&job.settings.name, &ended, &counters));
            }
            match ended.outcome {
                Outcome::Cancelled => Err(Failure::Cancelled),
                Outcome::Finished | Outcome::Stopped | Outcome::AlreadyFinished => Ok(()),
            }
        }
        Err(error) => {
            let error = progress.explain(error);
            if args.json && other.is_none() {
                print(report::failed_job(&job.settings.name, &error));
            }
            Err(Failure::Reported(error))
        }
    }
}

/// Serves the state of the job if that is asked for.
#[cfg(feature = "sql")]
fn serve(
    args: &RunArgs,
    job: &Job,
    control: &JobControl,
    progress: &Progress,
) -> Result<Option<crate::serve::Endpoint>, Failure> {
    let Some(address) = args.serve else { return Ok(None) };
    let Some(checkpoint) = &job.settings.checkpoint else {
        let text = "error: --serve needs checkpoints, and the job file has no enabled [checkpoint]\n";
        return Err(Failure::Usage(text.into()));
    };
    let endpoint = crate::serve::serve(address, crate::serve::wire::token(), control, &checkpoint.storage)?;
    progress.serving(endpoint.address);
    Ok(Some(endpoint))
}

/// Where a job runs: in threads of this process, or in a cluster.
struct Place<'a> {
    member: Option<&'a Member>,
    control: &'a JobControl,
    progress: &'a Progress,
}

impl Place<'_> {
    /// Runs the job to its end; no report where another process has it.
    fn execute<F: BackendFactory>(
        &self,
        job: &Job,
        backend: F,
        config: JobConfig,
    ) -> Result<(Option<JobReport>, Counters)> {
        let plan = plan(job, backend)?;
        self.progress.watch(&plan.counters);
        let report = match self.member {
            Some(member) => member.run(&plan.pipeline, config, self.control, self.progress)?,
            None => Some(run_pipeline(&plan.pipeline, config, self.control)?),
        };
        Ok((report, plan.counters))
    }
}

#[cfg(feature = "rocksdb")]
fn rocksdb_factory(settings: &RocksDb) -> Result<RocksBackendFactory> {
    let mut options = RocksOptions::default();
    options.directory.clone_from(&settings.directory);
    options.write_back = settings.write_back.unwrap_or(options.write_back);
    if let Some(memory) = settings.memory {
        options.memory = usize::try_from(memory).unwrap_or(usize::MAX);
    }
    RocksBackendFactory::new(options)
}

/// The first signal stops the job gracefully, the second at once, and the third ends the process.
fn stop_on_signal(control: &JobControl, has_checkpoints: bool) -> Result<()> {
    let (control, signals) = (control.clone(), AtomicU32::new(0));
    let handler = move || match signals.fetch_add(1, Ordering::Relaxed) {
        0 => {
            let when = if has_checkpoints { " after a last checkpoint" } else { "" };
            print_error(format_args!("stopping{when}; press Ctrl-C again to stop at once"));
            control.stop();
        }
        1 => control.cancel(),
        _ => std::process::exit(130),
    };
    ctrlc::set_handler(handler)
        .map_err(|e| Error::invalid("the handler of signals cannot be installed").caused_by(e))
}
