//! One job in several processes that die: exactly once, over other numbers of processes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use common::*;
use strandline_checkpoint_storage::Storage;
use strandline_host_timely::{Cluster, Processes, run};
use strandline_runtime::{JobConfig, JobControl};
use strandline_state_api::ErrorKind;

const ORDERS: u64 = 30_000;
/// How the test starts itself as a process of a cluster.
const SETUP: &str = "STRANDLINE_TEST_PROCESS";

/// A process of a cluster, when the variable is set: no test of its own.
#[test]
#[ignore = "the other tests start it as a process"]
fn process_of_a_cluster() {
    let setup = std::env::var(SETUP).unwrap();
    let [dir, process, workers, token, addresses, gate] =
        setup.split('|').collect::<Vec<_>>().try_into().unwrap();
    let dir = Path::new(dir);
    let processes = Processes::new(addresses.split(','), process.parse().unwrap(), token)
        .join_timeout(Duration::from_secs(60))
        .silence(Duration::from_secs(3));
    let gate: u64 = gate.parse().unwrap();
    // What is not read to its end is read slowly.
    let pause = if gate < u64::MAX { Duration::from_micros(1_500) } else { Duration::ZERO };
    let orders = Orders { pause, ..Orders::gated(ORDERS, gate) };
    let config = config(&dir.join("state"), Duration::from_millis(50));
    let pipeline = pipeline(&orders, &dir.join("output"));
    let ended = run(
        &pipeline,
        &Cluster::of_processes(workers.parse().unwrap(), processes),
        config,
        &JobControl::new(),
    );
    if let Err(error) = ended {
        eprintln!("process {process}: {error}");
        std::process::exit(if error.kind() == ErrorKind::Unavailable { 3 } else { 4 });
    }
}

struct Running(Vec<Child>);

impl Running {
    fn start(dir: &Path, (processes, workers): (usize, u32), attempt: u32, gate: u64) -> Self {
        // Bound at the same time, so that they differ.
        let listeners: Vec<_> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        drop(listeners);
        let addresses = addresses.join(",");
        let start = |process| {
            let setup = format!("{}|{process}|{workers}|secret-{attempt}|{addresses}|{gate}", dir.display());
            let program = std::env::current_exe().unwrap();
            let arguments = ["--exact", "process_of_a_cluster", "--ignored", "--nocapture"];
            let command =
                Command::new(program).args(arguments).env(SETUP, setup).stdout(Stdio::null()).spawn();
            command.unwrap()
        };
        Self((0..processes).map(start).collect())
    }

    fn wait(&mut self) -> Vec<ExitStatus> {
        self.0.iter_mut().map(|child| child.wait().unwrap()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How many checkpoints are complete.
fn completed(dir: &Path) -> usize {
    let storage = Storage::open(&format!("file://{}", dir.join("state").display())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let completed = runtime.block_on(storage.completed()).unwrap_or_default();
    completed.last().map_or(0, |newest| newest.checkpoint.0 as usize)
}

#[test]
fn three_processes_compute_what_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let ended = Running::start(dir.path(), (3, 1), 1, u64::MAX).wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert!(written(&dir.path().join("output")) == expected(ORDERS));
    // Nothing is left to do, and all learn it.
    let ended = Running::start(dir.path(), (2, 2), 2, u64::MAX).wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert!(written(&dir.path().join("output")) == expected(ORDERS));
}

#[test]
fn a_killed_process_ends_the_others_and_the_job_goes_on_with_more_or_fewer() {
    let dir = tempfile::tempdir().unwrap();
    let mut attempt = 0;
    for (processes, workers, victim) in [(3, 1, 1), (2, 2, 0), (3, 1, 2), (1, 1, 0)] {
        attempt += 1;
        let before = completed(dir.path());
        let mut running =
            Running::start(dir.path(), (processes, workers), attempt, u64::from(attempt) * ORDERS / 6 / 5);
        // It gets on before it is killed.
        while completed(dir.path()) < before + 2 {
            assert!(running.0[0].try_wait().unwrap().is_none(), "the job has more to read");
            std::thread::sleep(Duration::from_millis(5));
        }
        running.0[victim].kill().unwrap();
        let ended = running.wait();
        for (process, status) in ended.iter().enumerate().filter(|(process, _)| *process != victim) {
            assert_eq!(status.code(), Some(3), "process {process} of {processes} lost its peer");
        }
    }
    let ended = Running::start(dir.path(), (2, 2), attempt + 1, u64::MAX).wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert!(written(&dir.path().join("output")) == expected(ORDERS));
}

#[test]
fn a_stopped_process_is_given_up_and_takes_nothing_when_it_wakes() {
    let dir = tempfile::tempdir().unwrap();
    let mut stopped = Running::start(dir.path(), (2, 1), 1, ORDERS / 6 / 2);
    while completed(dir.path()) < 2 {
        assert!(stopped.0[0].try_wait().unwrap().is_none(), "the job has more to read");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The coordinator: the other one waits for its commands.
    signal(&stopped.0[0], "STOP");
    assert_eq!(stopped.0[1].wait().unwrap().code(), Some(3), "it is silent for too long");
    let ended = Running::start(dir.path(), (2, 1), 2, u64::MAX).wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    signal(&stopped.0[0], "CONT");
    assert!(!stopped.0[0].wait().unwrap().success());
    assert!(written(&dir.path().join("output")) == expected(ORDERS));
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_process_with_another_token_is_sent_away() {
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [address(&listeners[0]), address(&listeners[1])];
    drop(listeners);
    let join = |process, token: &str| {
        let dir = tempfile::tempdir().unwrap();
        let processes =
            Processes::new(addresses.clone(), process, token).join_timeout(Duration::from_millis(400));
        let pipeline = pipeline(&Orders::new(10), dir.path());
        let cluster = Cluster::of_processes(1, processes);
        run(&pipeline, &cluster, JobConfig::default(), &JobControl::new()).unwrap_err()
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| join(0, "job attempt 2"));
        let stale = scope.spawn(|| join(1, "job attempt 1"));
        assert_eq!(first.join().unwrap().kind(), ErrorKind::Unavailable, "nobody else came");
        assert_eq!(stale.join().unwrap().kind(), ErrorKind::Unavailable);
    });
}

#[test]
fn what_cannot_cross_processes_is_refused_with_a_reason() {
    use strandline_backend_memory::MemoryBackendFactory;
    use strandline_connectors::DiscardSink;
    use strandline_runtime::{CheckpointConfig, Pipeline};
    use strandline_state_api::*;

    struct Count(ValueState<u64>);

    impl Operator for Count {
        type Key = u64;
        type In = ();
        type Out = u64;
        type Namespace = ();

        fn process<B: KeyedBackend<Key = u64>>(
            &mut self,
            (): (),
            ctx: &mut Context<'_, B, u64>,
        ) -> Result<()> {
            ctx.state(self.0).update_or_default(|n| *n += 1)
        }
    }

    let keyed = Pipeline::new("keyed", MemoryBackendFactory::default());
    keyed
        .source("orders", Orders::new(10))
        .key_by(|(_, key, ..)| (key, ()))
        .process("count", |ctx: &mut Open<'_, _>| Ok(Count(ctx.register(&ValueDescriptor::new("n"))?)))
        .sink("sink", DiscardSink::new());
    let cluster = Cluster::of_processes(1, Processes::new(["127.0.0.1:1", "127.0.0.1:2"], 0, ""));
    let error = run(&keyed, &cluster, JobConfig::default(), &JobControl::new()).unwrap_err();
    assert_eq!((error.kind(), error.context("operator")), (ErrorKind::Unsupported, Some("count")), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let in_memory = CheckpointConfig::new(Storage::in_memory().unwrap(), Duration::from_secs(1));
    let config = JobConfig::default().checkpointing(in_memory);
    let error =
        run(&pipeline(&Orders::new(10), dir.path()), &cluster, config, &JobControl::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
