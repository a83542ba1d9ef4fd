//! Timely dataflow as a host of attempts.

use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};

use strandline_runtime::host::{Attempt, Host, Plan, Routing};
use strandline_runtime::{JobConfig, JobControl, Pipeline};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Error, ErrorKind, Result};
use timely::communication::allocator::zero_copy::initialize::{
    CommsGuard, initialize_networking_from_sockets,
};
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::{Hooks, WorkerGuards};
use timely::execute::execute_from;
use timely::{CommunicationConfig, WorkerConfig};

use crate::cluster::{Cluster, Processes};
use crate::mail::Mail;
use crate::mesh::{Beating, Farewell, Gathered, Mesh};
use crate::worker::{Ended, Shared, work};

/// The workers of this process, for one attempt after another.
pub(crate) struct TimelyHost {
    cluster: Cluster,
    control: JobControl,
    /// The other processes have heard, within an attempt, that the job is over.
    parted: Arc<AtomicBool>,
}

impl TimelyHost {
    pub(crate) fn new(cluster: &Cluster, control: &JobControl) -> Self {
        Self { cluster: cluster.clone(), control: control.clone(), parted: Arc::default() }
    }

    /// Lets the other processes go, when the job is over: those that have not heard of it within an attempt.
    pub(crate) fn dismiss(self, failed: Option<&Error>) {
        let Some(processes) = self.cluster.processes.as_ref() else { return };
        if !self.parted.load(SeqCst) {
            let farewell = failed.map_or(Farewell::Ended, |error| Farewell::Failed(error.to_string()));
            Mesh::dismiss(self.cluster.workers, processes, &farewell);
        }
    }

    /// Connects the processes for an attempt.
    fn gather(&self) -> Result<Option<Mesh>> {
        let Some(processes) = &self.cluster.processes else { return Ok(None) };
        match Mesh::gather(self.cluster.workers, processes, &|| self.control.cancel_requested())? {
            Gathered::All(mesh) => Ok(Some(mesh)),
            Gathered::Over(_) => Err(nobody()),
        }
    }
}

impl Host for TimelyHost {
    fn parallelism(&self) -> u32 {
        self.cluster.parallelism()
    }

    fn check(&self, plan: &Plan) -> Result<()> {
        let refused =
            |message: &str| Err(Error::new(ErrorKind::Unsupported, message).with("job", plan.job()));
        if self.cluster.parallelism() == 0 {
            return Err(Error::invalid("a cluster needs at least one worker and one process"));
        }
        if plan.is_unaligned() {
            return refused(
                "checkpoints cannot be unaligned on timely dataflow: its progress tracking is the barrier, and what \
                 waits in front of one is bounded by how far sources may be ahead; set `unaligned` to off",
            );
        }
        let lacks =
            plan.edges().iter().find(|edge| edge.routing == Routing::Exchange && edge.codec.is_none());
        if let Some(edge) = lacks.filter(|_| self.cluster.count() > 1) {
            let reader = plan.vertices().iter().find(|vertex| vertex.number() == edge.to);
            let message = "records on their way to the operator cross processes, and have no codec: give their \
                           streams one with `codec`, also the broadcast ones";
            let error = Error::new(ErrorKind::Unsupported, message).with("job", plan.job());
            return Err(match reader {
                Some(reader) => error.with("operator", reader.id()),
                None => error,
            });
        }
        Ok(())
    }

    fn start(&mut self, attempt: Attempt) -> Result<Box<dyn Send>> {
        let mesh = self.gather()?;
        let cluster = &self.cluster;
        let shared = Arc::new(shared_of(cluster, |_| Err(nobody())));
        let commands = attempt.commands().cloned().ok_or_else(nobody)?;
        let _ = shared.attempt.set(Arc::new(attempt));
        let execution = Execution::begin(cluster, mesh, &shared)?;
        let (of_pump, parallelism, parted) =
            (Arc::clone(&shared), cluster.parallelism(), Arc::clone(&self.parted));
        let pump = thread::Builder::new().name("commands".into()).spawn(move || {
            while let Some(directed) = commands.recv() {
                of_pump.leave(directed.subtask, Mail::Command(directed));
            }
            let well = of_pump.attempt.get().is_some_and(|attempt| !attempt.was_given_up());
            parted.store(well, SeqCst);
            // To this worker last: it passes the others on.
            (0..parallelism).rev().for_each(|worker| of_pump.leave(worker, Mail::Over { well }));
        });
        let pump = pump.map_err(|error| unavailable("a thread cannot be started").caused_by(error))?;
        Ok(Box::new(Running { execution: Some(execution), pump: Some(pump) }))
    }
}

/// An attempt under way in the process of the coordinator.
struct Running {
    execution: Option<Execution>,
    pump: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The coordinator has let go of all subtasks, so the commands have ended.
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
        if let Some(execution) = self.execution.take() {
            execution.end();
        }
    }
}

/// Timely at work in this process.
struct Execution {
    guards: WorkerGuards<Ended>,
    comms: Option<CommsGuard>,
    streams: Vec<TcpStream>,
    beating: Option<Beating>,
}

impl Execution {
    fn begin(cluster: &Cluster, mesh: Option<Mesh>, shared: &Arc<Shared>) -> Result<Self> {
        let (builders, comms, streams, beating) = match mesh {
            None => {
                let config = CommunicationConfig::Process(cluster.workers as usize);
                let (builders, _) = config.try_build().map_err(unavailable)?;
                (builders, None, Vec::new(), None)
            }
            Some(mesh) => meshed(cluster, mesh, shared)?,
        };
        let of_workers = Arc::clone(shared);
        let run = move |worker: &mut timely::worker::Worker| match catch_unwind(AssertUnwindSafe(|| {
            work(worker, &of_workers)
        })) {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => {
                of_workers.fail(error);
                Ended::Failed
            }
            Err(_) => {
                of_workers.fail(unavailable("a worker lost its connection to others, or panicked"));
                if let Some(attempt) = of_workers.attempt.get() {
                    attempt.give_up();
                }
                for dataflow in worker.installed_dataflows() {
                    worker.drop_dataflow(dataflow);
                }
                Ended::Failed
            }
        };
        let guards = execute_from(builders, Box::new(()), WorkerConfig::default(), run);
        Ok(Self { guards: guards.map_err(unavailable)?, comms, streams, beating })
    }

    /// Waits for the workers; returns whether all have ended well.
    fn end(self) -> bool {
        let Self { guards, comms, streams, beating } = self;
        let ended = guards.join();
        let well = ended.iter().all(|ended| *ended == Ok(Ended::Well));
        if !well {
            // Threads of timely may wait for a process that never answers.
            streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        // Where a connection is gone, its threads have panicked, and so does their guard: in a thread that bears the
        // name of timely, too, by which a panic hook knows them all.
        let dropped = thread::Builder::new().name("timely:end".into()).spawn(move || drop(comms));
        let _ = dropped.map(JoinHandle::join);
        if let Some(beating) = beating.filter(|_| well) {
            beating.end();
        }
        well
    }
}

type Connected = (Vec<AllocatorBuilder>, Option<CommsGuard>, Vec<TcpStream>, Option<Beating>);

fn meshed(cluster: &Cluster, mesh: Mesh, shared: &Arc<Shared>) -> Result<Connected> {
    let lost = |error| unavailable("a connection to another process is lost").caused_by(error);
    let Mesh { streams, beats } = mesh;
    let process = cluster.processes.as_ref().map_or(0, |processes| processes.process) as usize;
    let own: std::io::Result<Vec<_>> = streams.iter().flatten().map(TcpStream::try_clone).collect();
    let own = own.map_err(lost)?;
    let threads = cluster.workers as usize;
    let hooks = Hooks::default();
    let locals = ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
    let (builders, comms) =
        initialize_networking_from_sockets(locals, streams, process, threads, hooks).map_err(lost)?;
    let closes: std::io::Result<Vec<_>> = own.iter().map(TcpStream::try_clone).collect();
    let (of_beats, closes) = (Arc::clone(shared), closes.map_err(lost)?);
    let beating = beats.begin(move |other| {
        of_beats.fail(unavailable(format!("process {other} of the cluster is silent or gone")));
        // Workers that wait for it hear of it this way.
        closes.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    });
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    Ok((builders, Some(comms), own, Some(beating.map_err(lost)?)))
}

/// Runs the workers of a process that another one coordinates, attempt by attempt, until the job has ended.
pub(crate) fn join<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    config: &JobConfig,
    cluster: &Cluster,
    processes: &Processes,
    control: &JobControl,
) -> Result<()> {
    loop {
        match Mesh::gather(cluster.workers, processes, &|| control.cancel_requested())? {
            Gathered::Over(Farewell::Ended) => return Ok(()),
            Gathered::Over(Farewell::Failed(reason)) => {
                return Err(
                    unavailable("the job has failed in the first process of the cluster").caused_by(reason)
                );
            }
            Gathered::All(mesh) => match join_attempt(pipeline, config.clone(), cluster, mesh) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "an attempt has failed, and this process awaits the next one");
                }
            },
        }
    }
}

fn join_attempt<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    config: JobConfig,
    cluster: &Cluster,
    mesh: Mesh,
) -> Result<()> {
    let pipeline = pipeline.clone();
    let shared = shared_of(cluster, move |description| Attempt::join(&pipeline, config.clone(), description));
    let shared = Arc::new(shared);
    let well = Execution::begin(cluster, Some(mesh), &shared)?.end();
    let error = shared.error.lock().unwrap_or_else(PoisonError::into_inner).take();
    match error {
        None if well => Ok(()),
        None => Err(unavailable(
            "the attempt has failed in another process of the cluster, or the job was cancelled",
        )),
        Some(error) => Err(error),
    }
}

fn shared_of(
    cluster: &Cluster,
    join: impl Fn(strandline_runtime::host::Description) -> Result<Attempt> + Send + Sync + 'static,
) -> Shared {
    let first = cluster.first_worker() as u32;
    Shared::new(first..first + cluster.workers, cluster.parallelism(), join)
}

fn unavailable(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

fn nobody() -> Error {
    Error::new(ErrorKind::Internal, "no coordinator is in this process")
}
