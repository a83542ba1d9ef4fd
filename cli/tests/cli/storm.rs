//! Storms: processes are killed, and stopped until others have taken their place, at random moments and at a
//! parallelism that changes, while storages are swept and verified beside them, and, on S3, while a proxy
//! drops, delays and repeats what goes through it. No result is lost, none comes twice, no job is stuck.
//!
//! The short form runs with all tests; `make crash`, `make crash-rocksdb` and `make crash-s3` run the long one
//! of 300 kills and 100 stops.

mod auditor;
mod process;
#[cfg(feature = "s3")]
mod proxy;

use std::time::{Duration, Instant};

use self::auditor::Auditor;
use self::process::{Ending, Process};
use crate::support::{Folder, ORDERS_JOB, Orders, assert_same, cases};

/// How many processes may sleep at once.
const ASLEEP: usize = 3;

/// The orders of one job. A storm goes over as many jobs as it needs.
const RECORDS: i64 = 20_000;

#[test]
fn a_storm_on_files() {
    Storm::new(1, 30, |_| "checkpoints".to_owned(), &[]).run("files");
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_storm_on_rocksdb() {
    Storm::new(2, 30, |_| "checkpoints".to_owned(), &crate::crash::ROCKSDB).run("files with RocksDB");
}

/// The proxy answers every request that it does not spoil with what the store answered.
#[cfg(feature = "s3")]
#[test]
#[ignore = "needs a server that speaks the protocol of S3: make s3"]
fn a_storm_on_s3() {
    let uri = std::env::var("STRANDLINE_TEST_S3").unwrap();
    let (before, after) = uri.split_once("endpoint=http://").unwrap();
    let (server, options) = after.split_once('&').unwrap();
    let proxy = proxy::Proxy::start(server, 3);
    let through = format!("{before}endpoint=http://{}&{options}", proxy.address());
    let run = fastrand::u128(..);
    let place = |job: u32| through.replace("{}", &format!("{run:032x}-{job}"));
    // What hangs is given up before long, so that there is time for more.
    let patience = ["--set=checkpoint.request_timeout=1s", "--set=checkpoint.retry_pause=20ms"];
    let mut storm = Storm::new(3, 12, place, &patience);
    storm.settle = Box::new(|| proxy.settle());
    // Every other job has its results there, too.
    storm.output = Some(Box::new(|job| {
        let of = |uri: &str| uri.replace("{}", &format!("{run:032x}-{job}-out"));
        (job % 2 == 1).then(|| Output { uri: of(&through) + "&timeout=1s", direct: of(&uri) })
    }));
    storm.run("S3");
    let counts = proxy.counts();
    println!("the proxy passed {counts}");
    assert!(counts.all_happened(), "{counts}");
}

/// Results that are objects.
struct Output {
    uri: String,
    /// Past the proxy.
    direct: String,
}

impl Output {
    /// Copies all objects to a directory, which is where results are looked for.
    #[cfg(feature = "s3")]
    fn fetch(&self, directory: &std::path::Path) {
        use strandline_checkpoint_storage::{BlobStore, ObjectStore};
        let (place, query) = self.direct.split_once('?').unwrap();
        let (bucket, prefix) = place.strip_prefix("s3://").unwrap().split_once('/').unwrap();
        let store = ObjectStore::open(&format!("s3://{bucket}?{query}")).unwrap();
        let _ = std::fs::remove_dir_all(directory);
        std::fs::create_dir(directory).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (name, found) in runtime.block_on(store.list_objects(prefix)).unwrap() {
            let key = format!("{prefix}/{name}");
            let content = runtime.block_on(BlobStore::read(&store, &key, 0..found.len)).unwrap();
            std::fs::write(directory.join(name), content).unwrap();
        }
    }

    #[cfg(not(feature = "s3"))]
    fn fetch(&self, _: &std::path::Path) {
        unreachable!("{} needs S3", self.direct);
    }
}

/// Where the results of a job by its number are, if they are objects.
type Outputs<'a> = Box<dyn Fn(u32) -> Option<Output> + 'a>;

/// What is still to happen, and what has.
struct Storm<'a> {
    random: fastrand::Rng,
    /// The checkpoint storage of a job by its number.
    place: Box<dyn Fn(u32) -> String + 'a>,
    output: Option<Outputs<'a>>,
    /// Waits for what still goes on in the store when all processes are gone.
    settle: Box<dyn Fn() + 'a>,
    settings: Vec<String>,
    /// The time of a start and a few checkpoints on this machine: kills and stops fall anywhere into it.
    window: Duration,
    kills: u32,
    stops: u32,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    jobs: u32,
    kills: u32,
    stops: u32,
    fenced: u32,
    finished: u32,
    sweeps: u32,
    verified: u32,
}

impl<'a> Storm<'a> {
    /// A third as many stops as kills.
    fn new(seed: u64, kills: u32, place: impl Fn(u32) -> String + 'a, settings: &[&str]) -> Self {
        // Two supervisors that restart a job at once keep each other up for longer than this test has time.
        let settings = [&["--set=checkpoint.give_way=300ms"], settings].concat();
        Self {
            random: fastrand::Rng::with_seed(seed),
            place: Box::new(place),
            output: None,
            settle: Box::new(|| ()),
            settings: settings.into_iter().map(str::to_owned).collect(),
            window: Duration::ZERO,
            kills: cases(kills),
            stops: cases(kills / 3),
            counts: Counts::default(),
        }
    }

    fn run(&mut self, on: &str) {
        let start = Instant::now();
        while self.kills + self.stops > 0 {
            self.job(on);
        }
        println!("a storm on {on}: {:?} in {:.0?}", self.counts, start.elapsed());
    }

    /// One job from its first start until it has finished and nobody sleeps any more.
    fn job(&mut self, on: &str) {
        let number = self.counts.jobs;
        let (orders, folder) = (Orders::new(RECORDS, u64::from(number)), Folder::new(ORDERS_JOB));
        folder.write("orders.csv", &orders.csv);
        let storage = (self.place)(number);
        if !storage.contains("://") {
            std::fs::create_dir(folder.path(&storage)).unwrap();
        }
        let output = self.output.as_ref().and_then(|output| output(number));
        let fetch = || output.iter().for_each(|output| output.fetch(&folder.path("results")));
        let auditor = Auditor::start(&folder, &storage, self.random.u64(..));
        let mut troop = Troop::new(self, &folder, &storage, output.as_ref());
        let events = troop.storm.random.u32(6..=16);
        let _ = (0..events).all(|_| troop.event());
        // Whoever wakes works, is fenced, or ends; nobody is stuck.
        troop.wake_all();
        troop.end_all();
        let when = format!("job {number} on {on}");
        let ended = troop.last_run(&when);
        assert_eq!(ended.code, 0, "{when} cannot go on: {ended}");
        fetch();
        assert_same(&folder.visible("results"), &orders.sums, &when);

        let audit = auditor.stop();
        self.counts.sweeps += audit.sweeps;
        self.counts.verified += audit.verified;
        (self.settle)();
        // What fenced runs left goes with the next start, and with a sweep.
        let again = Troop::new(self, &folder, &storage, output.as_ref()).last_run(&when);
        assert_eq!(again.outcome(), Some("already-finished"), "{when}: {again}");
        fetch();
        assert_same(&folder.results("results"), &orders.sums, &when);
        let swept = folder.strandline(&["checkpoints", "sweep", &storage]);
        assert_eq!(swept.code(), 0, "{when}: {}", swept.stderr());
        (self.settle)();
        let left = folder.strandline(&["checkpoints", "sweep", &storage, "--dry-run"]);
        assert!(left.stdout().contains("would delete 0 files"), "{when}: {}", left.stdout());
        assert!(!left.stdout().contains("not ours"), "{when}: {}", left.stdout());
        let verified = folder.strandline(&["checkpoints", "verify", &storage]);
        assert_eq!(verified.code(), 0, "{when}: {}{}", verified.stdout(), verified.stderr());
        assert!(verified.stdout().contains("good"), "{when}: {}", verified.stdout());
        self.counts.jobs += 1;
    }
}

/// The processes of one job.
struct Troop<'s, 'a> {
    storm: &'s mut Storm<'a>,
    folder: &'s Folder,
    places: Vec<String>,
    asleep: Vec<Process>,
    awake: Vec<Process>,
}

impl<'s, 'a> Troop<'s, 'a> {
    fn new(storm: &'s mut Storm<'a>, folder: &'s Folder, storage: &str, output: Option<&Output>) -> Self {
        let mut places = vec![format!("--set=checkpoint.storage={storage}")];
        places.extend(output.map(|output| format!("--set=sink.path={}", output.uri)));
        Self { storm, folder, places, asleep: Vec::new(), awake: Vec::new() }
    }

    /// A process starts, and is killed or stopped at a random moment. False when the job has finished, or
    /// nothing more is to happen.
    fn event(&mut self) -> bool {
        let (kills, stops) = (self.storm.kills, self.storm.stops);
        if kills + stops == 0 {
            return false;
        }
        let is_kill = self.storm.random.u32(..kills + stops) < kills;
        let Some(first) = self.start() else { return false };
        if is_kill {
            self.kill(first);
            return true;
        }
        first.signal("-STOP");
        self.storm.stops -= 1;
        self.storm.counts.stops += 1;
        self.asleep.push(first);
        // The second process gets anywhere between its first steps and some checkpoints while the first one
        // sleeps.
        let Some(second) = self.start() else { return false };
        if self.asleep.len() == ASLEEP || self.storm.random.bool() {
            let woken = self.asleep.swap_remove(self.storm.random.usize(..self.asleep.len()));
            woken.signal("-CONT");
            self.awake.push(woken);
            if self.storm.random.bool() {
                self.at_random(&second);
            }
        }
        match self.storm.kills > 0 && self.storm.random.bool() {
            true => self.kill(second),
            false => self.awake.push(second),
        }
        true
    }

    /// Starts a process and waits for a random moment of its life; `None` where it finishes the job before.
    fn start(&mut self) -> Option<Process> {
        let random = &mut self.storm.random;
        let (parallelism, interval, rate) =
            (random.u32(1..=4), random.u32(20..=100), random.u32(1_000..8_000));
        let mut args = vec![
            format!("--parallelism={parallelism}"),
            format!("--set=checkpoint.interval={interval}ms"),
            format!("--set=source.rate={rate}"),
        ];
        args.extend_from_slice(&self.places);
        args.extend_from_slice(&self.storm.settings);
        let began = Instant::now();
        let process = Process::start(self.folder, &args);
        if self.storm.window.is_zero() {
            process.wait_for_checkpoints(3);
            self.storm.window = began.elapsed();
        }
        match self.at_random(&process) {
            true => {
                let ended = process.end();
                self.ended(&ended);
                // One that woke may have overtaken it.
                if ended.code == 0 { None } else { self.start() }
            }
            false => Some(process),
        }
    }

    /// Waits for a random part of the window; true when the process ends before.
    fn at_random(&mut self, process: &Process) -> bool {
        let moment = Instant::now() + self.storm.window.mul_f64(self.storm.random.f64());
        process.ended_before(moment)
    }

    fn kill(&mut self, process: Process) {
        // One that had ended by itself is no kill.
        if let Some(ended) = process.kill() {
            return self.ended(&ended);
        }
        self.storm.kills -= 1;
        self.storm.counts.kills += 1;
    }

    fn wake_all(&mut self) {
        for sleeper in self.asleep.drain(..) {
            sleeper.signal("-CONT");
            self.awake.push(sleeper);
        }
    }

    fn end_all(&mut self) {
        for process in std::mem::take(&mut self.awake) {
            let ended = process.end();
            self.ended(&ended);
        }
    }

    /// A process finishes the job, or is fenced by another; nothing else may end one.
    fn ended(&mut self, ended: &Ending) {
        match ended.code {
            0 => self.storm.counts.finished += 1,
            _ if ended.is_fenced() => self.storm.counts.fenced += 1,
            _ => panic!("a process failed: {ended}"),
        }
    }

    /// Runs the job to its end, undisturbed by kills.
    fn last_run(&mut self, when: &str) -> Ending {
        let parallelism = format!("--parallelism={}", self.storm.random.u32(1..=4));
        let args = [&[parallelism], &self.places[..], &self.storm.settings[..]].concat();
        let ended = Process::start(self.folder, &args).end();
        assert!(ended.code == 0, "{when} is stuck: {ended}");
        ended
    }
}
