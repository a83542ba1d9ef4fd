//! `strandline check`: what would keep a job from running, all of it, without a change to anything.

use std::path::Path;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use strandline_checkpoint_storage::Storage;
use strandline_connectors::{CsvRows, FileSink, FileSinkConfig, OutputPath, Row};
use strandline_runtime::sink::JobIdentity;
use strandline_state_api::{Error, ErrorKind, Result};

use crate::cli::CheckArgs;
use crate::jobfile::{Backend, BadRecordPolicy, Job, Program, SourceKind, SourceSpec, Step};
use crate::report::counted;
use crate::{Failure, advice, plan, print, schema};

/// A part of the job that was opened: what was found there, or the errors.
struct Looked {
    part: &'static str,
    place: String,
    found: Result<String, Vec<Error>>,
}

/// Checks the job of `args`, and prints what it found.
pub(crate) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let job = Job::load(&args.job, &args.overrides)?;
    let parts = look(&job, args.adopt.as_deref());
    let bad: usize = parts.iter().map(|part| part.found.as_ref().err().map_or(0, Vec::len)).sum();
    if args.json {
        print(report(&job, &parts));
    } else {
        for part in &parts {
            show(part);
        }
        match bad {
            0 => print_line!("{}: the job can run", args.job.display()),
            bad => print_line!("{}: {}", args.job.display(), counted(bad as u64, "problem")),
        }
    }
    if bad == 0 { Ok(()) } else { Err(Failure::Shown) }
}

fn look(job: &Job, adopt: Option<&str>) -> Vec<Looked> {
    let mut parts: Vec<_> = job.sources.iter().map(|spec| source(job, spec)).collect();
    let checkpoints = job.settings.checkpoint.as_ref().map(|checkpoint| &checkpoint.storage);
    let mut is_new = true;
    if let Some(storage) = checkpoints {
        let (looked, new) = look_at_storage(job, storage, adopt);
        is_new = new;
        parts.push(looked);
    }
    let identity = JobIdentity {
        name: job.settings.name.clone(),
        storage: checkpoints.map(|storage| storage.uri().to_owned()),
        adopts: adopt.map(str::to_owned),
    };
    let mut directory = |part, path: &OutputPath| parts.push(look_at_sink(part, path, &identity, is_new));
    for path in job.sinks.iter().filter_map(|output| output.sink.directory()) {
        directory("sink", path);
    }
    if let Some(path) = job.late.as_ref().and_then(|(late, _)| late.directory()) {
        directory("late", path);
    }
    for files in job.sources.iter().filter_map(SourceSpec::files) {
        if let BadRecordPolicy::Keep(path) = &files.bad_records {
            directory("dead letters", path);
        }
    }
    for placed in &job.steps {
        if let Step::Call(call) = &placed.step {
            parts.push(look_at_program(&call.program));
        }
    }
    if matches!(job.settings.backend, Backend::RocksDb(_)) && !cfg!(feature = "rocksdb") {
        let found = Err(vec![Error::new(ErrorKind::Unsupported, crate::run::WITHOUT_ROCKSDB)]);
        parts.push(Looked { part: "state", place: "rocksdb".into(), found });
    }
    parts
}

fn source(job: &Job, spec: &SourceSpec) -> Looked {
    let part = "source";
    let Some(files) = spec.files() else {
        let records = match &spec.kind {
            SourceKind::Keys(config) => config.records,
            _ => 0,
        };
        let found = Ok(format!("{} random keys", HumanCount(records)));
        return Looked { part, place: "keys".into(), found };
    };
    let found = match plan::inspect(job, spec) {
        Ok(found) if found.mistakes.is_empty() => {
            Ok(format!("{}, {}", counted(found.files, "file"), HumanBytes(found.bytes)))
        }
        Ok(found) => Err(found.mistakes),
        Err(error) => Err(vec![error]),
    };
    Looked { part, place: files.path.display().to_string(), found }
}

/// Looks at the storage of checkpoints; returns whether the job would begin as a new one, too.
fn look_at_storage(job: &Job, storage: &Storage, adopt: Option<&str>) -> (Looked, bool) {
    let opened =
        crate::checkpoints::runtime().and_then(|runtime| runtime.block_on(open_storage(job, storage, adopt)));
    let is_new = matches!(opened, Ok(None));
    let found = match opened {
        Ok(None) => Ok("no checkpoints: the job begins anew".into()),
        Ok(Some(newest)) => Ok(format!("the job resumes from checkpoint {newest}")),
        Err(error) => Err(vec![error]),
    };
    (Looked { part: "checkpoint", place: storage.uri().to_owned(), found }, is_new)
}

/// The newest checkpoint, where there is one and the job can restore it.
async fn open_storage(job: &Job, storage: &Storage, adopt: Option<&str>) -> Result<Option<u64>> {
    if let Some(path) = storage.uri().strip_prefix("file://") {
        strandline_connectors::check_writable(Path::new(path)).map_err(|e| {
            let message = "the directory of the checkpoint storage cannot be written";
            Error::new(ErrorKind::Unavailable, message).with("directory", path).caused_by(e)
        })?;
    }
    let name = &job.settings.name;
    match storage.owner().await? {
        Some(owner) if owner != *name && adopt != Some(owner.as_str()) => {
            let message = "the storage has the checkpoints of another job: choose another storage, or take \
                them over with `--adopt` and the name of that job";
            return Err(Error::new(ErrorKind::Incompatible, message)
                .with("storage", storage.uri())
                .with("its job", owner)
                .with("this job", name));
        }
        _ => {}
    }
    let history = storage.history().await?;
    let on_branch = |completed: &&_| history.is_on_branch(completed);
    let Some(newest) = history.completed.iter().rev().find(on_branch) else { return Ok(None) };
    let manifest = storage.read_manifest(newest).await?;
    let plan = schema::of(job)?.plan(&manifest.stored_operators(), &Default::default());
    advice::check_restore(&plan).map_err(|error| error.with("checkpoint", newest.checkpoint))?;
    Ok(Some(newest.checkpoint.0))
}

/// Looks for a program as the job does when it starts one.
fn look_at_program(program: &Program) -> Looked {
    let place = program.path.display().to_string();
    let folder = if program.folder.as_os_str().is_empty() { Path::new(".") } else { &program.folder };
    let found = match which::which_in(&program.path, std::env::var_os("PATH"), folder) {
        Ok(path) => Ok(format!("found at {}", path.display())),
        Err(error) => {
            let message = "the program of a call cannot be found";
            Err(vec![Error::new(ErrorKind::Invalid, message).with("program", &place).with("reason", error)])
        }
    };
    Looked { part: "call", place, found }
}

fn look_at_sink(part: &'static str, path: &OutputPath, job: &JobIdentity, is_new: bool) -> Looked {
    let sink = FileSink::<Row, _>::new(FileSinkConfig::new(path.clone()), CsvRows::new());
    let found = match sink.and_then(|sink| sink.inspect(job, is_new)) {
        Ok(()) if path.on_disk().is_some_and(|path| !path.exists()) => Ok("the job will create it".into()),
        Ok(()) if path.on_disk().is_some() => Ok("the directory is there".into()),
        Ok(()) => Ok("the store answers".into()),
        Err(error) => Err(vec![error]),
    };
    Looked { part, place: path.display().to_string(), found }
}

fn show(Looked { part, place, found }: &Looked) {
    match found {
        Ok(found) => print_line!("good     {part} {place}: {found}"),
        Err(errors) => {
            for error in errors {
                print_line!("problem  {part}: {error}");
                if let Some(help) = advice::help(error) {
                    print_line!("         {help}");
                }
            }
        }
    }
}

fn report(job: &Job, parts: &[Looked]) -> Value {
    let part = |Looked { part, place, found }: &Looked| {
        let errors: Vec<_> = found.as_ref().err().into_iter().flatten().map(Error::to_string).collect();
        json!({ "part": part, "place": place, "found": found.as_ref().ok(), "errors": errors })
    };
    json!({
        "job": job.settings.name,
        "outcome": if parts.iter().all(|part| part.found.is_ok()) { "good" } else { "bad" },
        "parts": parts.iter().map(part).collect::<Vec<_>>(),
    })
}
