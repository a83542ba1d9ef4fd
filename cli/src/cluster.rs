//! `strandline run` on several processes: of this machine, which it starts, or of several hosts.

mod children;
mod hosts;

use std::io::Read;
use std::net::TcpListener;
use std::panic;
use std::process::exit;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strandline_host_timely::{Cluster, Processes};
use strandline_runtime::{JobConfig, JobControl, JobReport, Pipeline};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Error, ErrorKind, Result};

use crate::cli::RunArgs;
use crate::jobfile::Job;
use crate::progress::Progress;
use crate::{Failure, print_error};
use children::Children;

/// What the first process of a machine hands to each other one that it starts, as JSON.
const SETUP: &str = "STRANDLINE_PROCESS";
/// How long the processes of one machine wait for each other.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one of them may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// The part of a run in a cluster that is this process's.
#[derive(Debug)]
pub(crate) struct Member {
    cluster: Cluster,
    process: u32,
    /// Whether this process starts the others.
    starts: bool,
    /// How a person knows the first process.
    first: String,
}

/// A process that another one has started.
#[derive(Debug, Serialize, Deserialize)]
struct Setup {
    process: u32,
    workers: u32,
    addresses: Vec<String>,
    token: String,
}

impl Setup {
    fn cluster(&self) -> Cluster {
        let processes = Processes::new(self.addresses.clone(), self.process, &self.token);
        Cluster::of_processes(self.workers, processes.join_timeout(JOIN_TIMEOUT).silence(SILENCE))
    }
}

impl Member {
    /// The cluster that `args` ask for, if they do.
    pub(crate) fn of(args: &RunArgs, job: &Job) -> Result<Option<Self>, Failure> {
        if args.processes.is_none() && args.hosts.is_none() {
            return Ok(None);
        }
        if job.reads_stream() {
            let text = "error: the input is a stream, which only one process has: a job on several processes reads \
                        files that all of them can open\n";
            return Err(Failure::Usage(text.into()));
        }
        if let Ok(setup) = std::env::var(SETUP) {
            return Self::started(&setup).map(Some);
        }
        let (workers, processes) = match (&args.hosts, args.processes) {
            (Some(file), _) => return hosts::member(file, args.host.as_deref()).map(Some),
            (None, count) => (args.workers.unwrap_or(1), count.unwrap_or(1)),
        };
        let addresses = free_addresses(processes).map_err(Failure::Failed)?;
        let token = format!("{:032x}", fastrand::u128(..));
        let first = addresses.first().cloned().unwrap_or_default();
        let setup = Setup { process: 0, workers, addresses, token };
        Ok(Some(Self { cluster: setup.cluster(), process: 0, starts: true, first }))
    }

    /// This process was started by another one, and ends with it.
    fn started(setup: &str) -> Result<Self, Failure> {
        let setup: Setup = serde_json::from_str(setup)
            .map_err(|error| Failure::Usage(format!("error: {SETUP} cannot be read: {error}\n")))?;
        thread::spawn(|| {
            // Whoever started it holds the other end until it ends, however that happens.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            exit(1);
        });
        let first = setup.addresses.first().cloned().unwrap_or_default();
        Ok(Self { cluster: setup.cluster(), process: setup.process, starts: false, first })
    }

    /// The number of this process; the first one coordinates.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Follows signals in a process that does not coordinate.
    pub(crate) fn follow_signals(&self) -> Result<()> {
        let (first, was_started) = (self.first.clone(), std::env::var_os(SETUP).is_some());
        let handler = move || {
            // Ctrl-C reaches all processes of a terminal, and the first one stops the job.
            if !was_started {
                print_error(format_args!(
                    "this process leaves; the job goes on once it is back. What stops the job is Ctrl-C at {first}"
                ));
                exit(130);
            }
        };
        ctrlc::set_handler(handler)
            .map_err(|e| Error::invalid("the handler of signals cannot be installed").caused_by(e))
    }

    /// Runs the job to its end; `None` where another process reports it.
    pub(crate) fn run<F: BackendFactory>(
        &self,
        pipeline: &Pipeline<F>,
        config: JobConfig,
        control: &JobControl,
        progress: &Progress,
    ) -> Result<Option<JobReport>> {
        quieten_timely();
        thread::scope(|scope| {
            let children = match self.cluster.processes() {
                Some(processes) if self.starts => {
                    Some(Children::start(scope, &self.cluster, processes, progress)?)
                }
                _ => None,
            };
            let ended = strandline_host_timely::run(pipeline, &self.cluster, config, control);
            drop(children);
            ended
        })
    }
}

/// Prints no panic of a thread of timely: where a process is lost, those that are connected to it panic, and the
/// attempt fails with an error.
fn quieten_timely() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !thread::current().name().is_some_and(|name| name.starts_with("timely:")) {
            print(info);
        }
    }));
}

/// Addresses of this machine that nobody listens on now.
fn free_addresses(count: u32) -> Result<Vec<String>> {
    let failed = |error| Error::new(ErrorKind::Unavailable, "no free port was found").caused_by(error);
    // Bound at the same time, so that they differ.
    let listeners: std::io::Result<Vec<_>> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let address = |listener: &TcpListener| Ok(listener.local_addr()?.to_string());
    let addresses: std::io::Result<Vec<_>> = listeners.map_err(failed)?.iter().map(address).collect();
    addresses.map_err(failed)
}
