//! One job in several processes that die: exactly once, over other numbers of processes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::*;
use strandline_checkpoint_storage::Storage;
use strandline_host_timely::{Cluster, Processes, run};
use strandline_runtime::{JobConfig, JobControl, Outcome};
use strandline_state_api::ErrorKind;

const ORDERS: u64 = 30_000;
/// How the test starts itself as a process of a cluster.
const SETUP: &str = "STRANDLINE_TEST_PROCESS";

/// A process of a cluster, when the variable is set: no test of its own.
#[test]
#[ignore = "the other tests start it as a process"]
fn process_of_a_cluster() {
    let setup = std::env::var(SETUP).unwrap();
    let [dir, process, workers, addresses] = setup.split('|').collect::<Vec<_>>().try_into().unwrap();
    let dir = Path::new(dir);
    let processes = Processes::new(addresses.split(','), process.parse().unwrap(), "secret")
        .join_timeout(Duration::from_secs(60))
        .silence(Duration::from_secs(3));
    let orders = Orders::gated(ORDERS, read_gate(dir));
    let (gate, of_gate) = (Arc::clone(&orders.gate), dir.to_owned());
    std::thread::spawn(move || {
        loop {
            gate.store(read_gate(&of_gate), SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let config = config(&dir.join("state"), Duration::from_millis(50));
    let pipeline = pipeline(&orders, &dir.join("output"));
    let cluster = Cluster::of_processes(workers.parse().unwrap(), processes);
    match run(&pipeline, &cluster, config, &JobControl::new()) {
        Ok(Some(report)) if report.outcome == Outcome::Finished => {
            let figures: Vec<_> = report.sinks["results"].iter().map(ToString::to_string).collect();
            let counts =
                format!("{} {} {}", report.read["orders"], report.emitted["results"], figures.join(" "));
            fs::write(dir.join("report"), counts).unwrap();
        }
        Ok(_) => {}
        Err(error) => {
            eprintln!("process {process}: {error}");
            std::process::exit(if error.kind() == ErrorKind::Fenced { 4 } else { 3 });
        }
    }
}

/// How many orders of each split may be read.
fn read_gate(dir: &Path) -> u64 {
    fs::read_to_string(dir.join("gate")).ok().and_then(|gate| gate.parse().ok()).unwrap_or(u64::MAX)
}

/// As one step, so that nobody reads half of it.
fn set_gate(dir: &Path, gate: u64) {
    fs::write(dir.join("gate.new"), gate.to_string()).unwrap();
    fs::rename(dir.join("gate.new"), dir.join("gate")).unwrap();
}

struct Running {
    dir: PathBuf,
    workers: u32,
    addresses: String,
    children: Vec<Child>,
}

impl Running {
    fn start(dir: &Path, (processes, workers): (usize, u32)) -> Self {
        // Bound at the same time, so that they differ.
        let listeners: Vec<_> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        drop(listeners);
        let (dir, addresses) = (dir.to_owned(), addresses.join(","));
        let mut running = Self { dir, workers, addresses, children: Vec::new() };
        running.children = (0..processes).map(|process| running.process(process)).collect();
        running
    }

    fn process(&self, process: usize) -> Child {
        let setup = format!("{}|{process}|{}|{}", self.dir.display(), self.workers, self.addresses);
        let program = std::env::current_exe().unwrap();
        let arguments = ["--exact", "process_of_a_cluster", "--ignored", "--nocapture"];
        Command::new(program).args(arguments).env(SETUP, setup).stdout(Stdio::null()).spawn().unwrap()
    }

    fn kill(&mut self, process: usize) {
        self.children[process].kill().unwrap();
        self.children[process].wait().unwrap();
    }

    /// Waits until so many more checkpoints are complete.
    fn wait_for_checkpoints(&mut self, more: usize) {
        let before = completed(&self.dir);
        while completed(&self.dir) < before + more {
            assert!(self.children[0].try_wait().unwrap().is_none(), "the job has more to read");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait(&mut self) -> Vec<ExitStatus> {
        self.children.iter_mut().map(|child| child.wait().unwrap()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
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

#[track_caller]
fn assert_exact(dir: &Path) {
    assert!(written(&dir.join("output")) == expected(ORDERS), "each result is there once");
}

#[test]
fn three_processes_compute_what_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let ended = Running::start(dir.path(), (3, 1)).wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert_exact(dir.path());
    // The report counts what all processes did.
    let report = fs::read_to_string(dir.path().join("report")).unwrap();
    let results = expected(ORDERS).len();
    assert!(report.starts_with(&format!("{ORDERS} {results} ")), "{report}");
    assert!(report.ends_with(&format!("records {results}")), "{report}");
    // Nothing is left to do, and all learn it.
    let ended = Running::start(dir.path(), (2, 2)).wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert_exact(dir.path());
}

/// Whichever process is killed, the job goes on once it is back; the others wait for it.
#[test]
fn a_killed_process_comes_back_and_the_job_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    set_gate(dir.path(), 0);
    let mut running = Running::start(dir.path(), (3, 1));
    for (kill, victim) in [1, 0, 2, 1].into_iter().enumerate() {
        set_gate(dir.path(), (kill as u64 + 1) * ORDERS / 6 / 6);
        running.wait_for_checkpoints(2);
        running.kill(victim);
        running.children[victim] = running.process(victim);
    }
    running.wait_for_checkpoints(1);
    set_gate(dir.path(), u64::MAX);
    let ended = running.wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert_exact(dir.path());
}

#[test]
fn a_job_whose_processes_are_killed_goes_on_with_more_or_fewer() {
    let dir = tempfile::tempdir().unwrap();
    for (attempt, (processes, workers)) in [(3, 1), (2, 2), (3, 1), (1, 1)].into_iter().enumerate() {
        set_gate(dir.path(), (attempt as u64 + 1) * ORDERS / 6 / 5);
        // All of them are killed when it is dropped.
        Running::start(dir.path(), (processes, workers)).wait_for_checkpoints(2);
    }
    set_gate(dir.path(), u64::MAX);
    let ended = Running::start(dir.path(), (2, 2)).wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert_exact(dir.path());
}

#[test]
fn a_stopped_process_is_given_up_and_takes_nothing_when_it_wakes() {
    let dir = tempfile::tempdir().unwrap();
    set_gate(dir.path(), ORDERS / 6 / 2);
    let mut stopped = Running::start(dir.path(), (2, 1));
    stopped.wait_for_checkpoints(2);
    // The coordinator: the other one waits for its commands.
    signal(&stopped.children[0], "STOP");
    set_gate(dir.path(), u64::MAX);
    let ended = Running::start(dir.path(), (2, 1)).wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    signal(&stopped.children[0], "CONT");
    let ended = stopped.wait();
    assert!(ended.iter().all(|status| !status.success()), "another has taken over: {ended:?}");
    assert_exact(dir.path());
}

/// An error of one worker restarts the job on all of them, and no process ends for it.
#[test]
fn a_failure_restarts_the_job_in_the_same_processes() {
    let dir = tempfile::tempdir().unwrap();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.map(|listener| listener.local_addr().unwrap().to_string());
    let orders = Orders::new(ORDERS);
    orders.fuse.store(ORDERS as i64 / 2, SeqCst);
    let run = |process| {
        let processes = Processes::new(addresses.clone(), process, "secret");
        let config = config(&dir.path().join("state"), Duration::from_millis(20));
        let pipeline = pipeline(&orders, &dir.path().join("output"));
        run(&pipeline, &Cluster::of_processes(1, processes), config, &JobControl::new())
    };
    std::thread::scope(|scope| {
        let second = scope.spawn(|| run(1));
        let report = run(0).unwrap().unwrap();
        assert!(second.join().unwrap().unwrap().is_none());
        assert_eq!((report.restarts, report.read["orders"]), (1, ORDERS), "{report:?}");
    });
    assert_exact(dir.path());
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
