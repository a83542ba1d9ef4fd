//! One job in several processes that die: exactly once, over other numbers of processes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_conformance::hosts::job::{self, Orders, SPLITS, config, expected, written};
use strandline_conformance::hosts::{Running, exactly_once_over_kills};
use strandline_host_timely::{Cluster, Processes, run};
use strandline_runtime::{JobConfig, JobControl, Outcome, Pipeline};
use strandline_state_api::ErrorKind;

const ORDERS: u64 = 30_000;
/// How the test starts itself as a process of a cluster.
const SETUP: &str = "STRANDLINE_TEST_PROCESS";

/// A process of a cluster, when the variable is set: no test of its own.
#[test]
#[ignore = "the other tests start it as a process"]
fn process_of_a_cluster() {
    let setup = std::env::var(SETUP).unwrap();
    let [process, dir, workers, addresses] = setup.split('|').collect::<Vec<_>>().try_into().unwrap();
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

fn pipeline(orders: &Orders, output: &Path) -> Pipeline<MemoryBackendFactory> {
    job::pipeline(MemoryBackendFactory::default(), orders, output)
}

/// The processes of a cluster, each with so many workers.
struct ClusterOf {
    setup: String,
    running: Running,
}

impl ClusterOf {
    fn start(dir: &Path, (processes, workers): (usize, u32)) -> Self {
        // Bound at the same time, so that they differ.
        let listeners: Vec<_> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        drop(listeners);
        let setup = format!("{}|{workers}|{}", dir.display(), addresses.join(","));
        let children = (0..processes).map(|process| start_process(&setup, process)).collect();
        Self { setup, running: Running { children } }
    }

    fn wait_for_checkpoints(&mut self, dir: &Path, more: u64) {
        self.running.wait_for_checkpoints(&dir.join("state"), more);
    }

    fn kill_and_start_again(&mut self, process: usize) {
        self.running.kill(process);
        self.running.children[process] = start_process(&self.setup, process);
    }
}

fn start_process(setup: &str, process: usize) -> Child {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "process_of_a_cluster", "--ignored", "--nocapture"];
    let setup = format!("{process}|{setup}");
    Command::new(program).args(arguments).env(SETUP, setup).stdout(Stdio::null()).spawn().unwrap()
}

#[track_caller]
fn assert_exact(dir: &Path) {
    assert!(written(&dir.join("output")) == expected(ORDERS), "each result is there once");
}

#[test]
fn three_processes_compute_what_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let ended = ClusterOf::start(dir.path(), (3, 1)).running.wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert_exact(dir.path());
    // The report counts what all processes did.
    let report = fs::read_to_string(dir.path().join("report")).unwrap();
    let results = expected(ORDERS).len();
    assert!(report.starts_with(&format!("{ORDERS} {results} ")), "{report}");
    assert!(report.ends_with(&format!("records {results}")), "{report}");
    // Nothing is left to do, and all learn it.
    let ended = ClusterOf::start(dir.path(), (2, 2)).running.wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert_exact(dir.path());
}

/// Whichever process is killed, the job goes on once it is back; the others wait for it.
#[test]
fn a_killed_process_comes_back_and_the_job_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    set_gate(dir.path(), 0);
    let mut cluster = ClusterOf::start(dir.path(), (3, 1));
    for (kill, victim) in [1, 0, 2, 1].into_iter().enumerate() {
        set_gate(dir.path(), (kill as u64 + 1) * ORDERS / SPLITS / 6);
        cluster.wait_for_checkpoints(dir.path(), 2);
        cluster.kill_and_start_again(victim);
    }
    cluster.wait_for_checkpoints(dir.path(), 1);
    set_gate(dir.path(), u64::MAX);
    let ended = cluster.running.wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert_exact(dir.path());
}

#[test]
fn a_job_whose_processes_are_killed_goes_on_with_more_or_fewer() {
    let shapes = [(3, 1), (2, 2), (1, 1)];
    exactly_once_over_kills(ORDERS, 4, |dir, attempt, gate| {
        set_gate(dir, gate);
        ClusterOf::start(dir, shapes[attempt as usize % shapes.len()]).running
    });
}

#[test]
fn a_stopped_process_is_given_up_and_takes_nothing_when_it_wakes() {
    let dir = tempfile::tempdir().unwrap();
    set_gate(dir.path(), ORDERS / SPLITS / 2);
    let mut stopped = ClusterOf::start(dir.path(), (2, 1));
    stopped.wait_for_checkpoints(dir.path(), 2);
    // The coordinator: the other one waits for its commands.
    signal(&stopped.running.children[0], "STOP");
    set_gate(dir.path(), u64::MAX);
    let ended = ClusterOf::start(dir.path(), (2, 1)).running.wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    signal(&stopped.running.children[0], "CONT");
    let ended = stopped.running.wait();
    assert!(ended.iter().all(|status| !status.success()), "another has taken over: {ended:?}");
    assert_exact(dir.path());
}

/// Processes of a job are killed at random moments, alone or all of them, and it goes on in three, one or two; now and
/// then a whole cluster is stopped, and wakes beside its successor. STRANDLINE_CASES times 6 kills.
#[test]
fn a_storm_of_kills_and_rescales_leaves_each_result_once_and_no_file_behind() {
    let kills: u64 =
        6 * std::env::var("STRANDLINE_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let (dir, seed) = (tempfile::tempdir().unwrap(), fastrand::u64(..));
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut done, mut gate, mut stopped) = (0, 0, None::<ClusterOf>);
    while done < kills {
        let shape = random.choice([(3, 1), (1, 2), (2, 1)]).unwrap();
        let mut cluster = ClusterOf::start(dir.path(), shape);
        if let Some(mut earlier) = stopped.take() {
            cluster.wait_for_checkpoints(dir.path(), 1);
            earlier.running.children.iter().for_each(|child| signal(child, "CONT"));
            let ended = earlier.running.wait();
            assert!(ended.iter().all(|status| !status.success()), "another has taken over: {ended:?}");
        }
        // As many kills as there are processes, of one at a time.
        for _ in 0..shape.0 {
            // A cluster takes as many kills as it has processes, which may be more than were left.
            gate += (ORDERS / SPLITS - gate) / (2 * kills.saturating_sub(done).max(1));
            set_gate(dir.path(), gate);
            cluster.wait_for_checkpoints(dir.path(), 1);
            std::thread::sleep(Duration::from_millis(random.u64(0..60)));
            cluster.kill_and_start_again(random.usize(0..shape.0));
            done += 1;
        }
        cluster.wait_for_checkpoints(dir.path(), 1);
        if random.u8(0..3) == 0 {
            cluster.running.children.iter().for_each(|child| signal(child, "STOP"));
            stopped = Some(cluster);
        }
        eprintln!("{done} of {kills} kills");
    }
    set_gate(dir.path(), u64::MAX);
    let ended = ClusterOf::start(dir.path(), (3, 1)).running.wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    drop(stopped);
    assert_exact(dir.path());
    assert_no_orphans(dir.path());
}

/// After a sweep no segment is left that the checkpoints of the log do not need, and no unfinished output.
#[track_caller]
fn assert_no_orphans(dir: &Path) {
    let storage = Storage::in_dir(dir.join("state")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let needed: BTreeSet<String> = runtime.block_on(async {
        storage.sweep().await.unwrap();
        let mut needed = BTreeSet::new();
        for checkpoint in storage.completed().await.unwrap() {
            let manifest = storage.read_manifest(&checkpoint).await.unwrap();
            needed.extend(manifest.segments().map(|segment| file_name(Path::new(&segment.name.0))));
        }
        needed
    });
    let names = |dir: &Path| -> BTreeSet<String> {
        fs::read_dir(dir).unwrap().map(|entry| file_name(&entry.unwrap().path())).collect()
    };
    assert_eq!(names(&dir.join("state/segments")), needed);
    let unfinished: Vec<_> = names(&dir.join("output"))
        .into_iter()
        .filter(|name| !name.ends_with(".csv") && !matches!(&**name, ".part.owner" | ".part.committing"))
        .collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
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
