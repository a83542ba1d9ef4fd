//! Steps with state, against computations that know nothing of streams: at every parallelism, and with kills.

mod calls;
mod graph;
mod joins;
mod keyed;
mod windows;

use std::collections::BTreeMap;

use crate::support::{Folder, assert_same};

/// A row of the input: time, key and a value that no other row has.
#[derive(Clone, Copy, Debug)]
struct Event {
    time: i64,
    key: i64,
    value: i64,
}

/// How far rows are out of order, in milliseconds.
const DISORDER: i64 = 2_000;

/// Random rows, out of order by less than [`DISORDER`]; some have one time.
fn events(count: i64, seed: u64) -> Vec<Event> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut values: Vec<_> = (0..count).collect();
    random.shuffle(&mut values);
    let event = |(n, value)| {
        let time = 10_000 + n * 20 - random.i64(0..DISORDER) / 50 * 50;
        Event { time, key: random.i64(0..9), value }
    };
    (0..count).zip(values).map(event).collect()
}

fn csv(events: &[Event]) -> String {
    let rows = events.iter().map(|Event { time, key, value }| format!("{time},k{key},{value}\n"));
    std::iter::once("time,key,value\n".to_owned()).chain(rows).collect()
}

/// A source of such rows. One split, so rows of one key come in the order of the file.
fn source(name: &str) -> String {
    format!(
        "[[source]]\nname = \"{name}\"\ntype = \"csv\"\npath = \"{name}.csv\"\n\
         columns = [\"time:int\", \"key\", \"value:int\"]\nevent_time = \"time\"\nwatermark_delay = \"2s\"\n"
    )
}

const CHECKPOINTS: &str = "[checkpoint]\nstorage = \"checkpoints\"\ninterval = \"20ms\"\n";
const SINK: &str = "[sink]\ntype = \"csv\"\npath = \"out\"\n";

/// A job over files of events.
struct Trial {
    job: String,
    files: Vec<(&'static str, String)>,
}

impl Trial {
    fn new(sources: &[(&'static str, &[Event])], steps: &str) -> Self {
        let of_sources: String = sources.iter().map(|(name, _)| source(name)).collect();
        let files = sources.iter().map(|(name, events)| (*name, csv(events))).collect();
        Self { job: format!("{CHECKPOINTS}{of_sources}{steps}{SINK}"), files }
    }

    fn folder(&self) -> Folder {
        let folder = Folder::new(&self.job);
        for (name, csv) in &self.files {
            folder.write(&format!("{name}.csv"), csv);
        }
        folder
    }

    /// Runs the job at parallelism 1 to 4, at the last one on RocksDB where there is one, and with two kills and
    /// rescales, where barriers overtake rows.
    fn run(&self, check: impl Fn(&Folder, &str)) {
        for parallelism in 1..=4 {
            let folder = self.folder();
            let mut args = vec![format!("--parallelism={parallelism}")];
            if parallelism == 4 && cfg!(feature = "rocksdb") {
                args.push("--set=state.backend=rocksdb".to_owned());
            }
            let report = folder.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(report["late_dropped"], 0, "{report}");
            check(&folder, &format!("at parallelism {parallelism}"));
        }
        let folder = self.folder();
        // Slow enough that the job goes on for seconds.
        let rate = |csv: &String| csv.lines().count().div_ceil(5);
        let slow = self.files.iter().map(|(name, csv)| format!("--set=source.{name}.rate={}", rate(csv)));
        let slow: Vec<_> = slow.collect();
        let slow: Vec<_> = slow.iter().map(String::as_str).collect();
        for parallelism in ["--parallelism=2", "--parallelism=3"] {
            let unaligned = "--set=checkpoint.unaligned=on";
            let mut running = folder.start(&[&[parallelism, unaligned], &slow[..]].concat());
            running.wait_for_checkpoints(3);
            running.kill();
        }
        let report = folder.run(&["--parallelism=2"]);
        assert!(report["resumed_from"].as_u64().is_some(), "{report}");
        assert_eq!(
            (report["outcome"].as_str(), report["late_dropped"].as_u64()),
            (Some("finished"), Some(0))
        );
        check(&folder, "after two kills");
    }

    /// Runs the job in all these ways and compares its rows, in any order.
    fn gives(&self, mut wanted: Vec<String>) {
        wanted.sort_unstable();
        self.run(|folder, when| assert_same(&folder.results("out"), &wanted, when));
    }

    /// As [`gives`](Self::gives), of the rows that are left when all changes are applied, of which at least so many
    /// are rows that go.
    fn leaves(&self, mut wanted: Vec<String>, least: usize) {
        wanted.sort_unstable();
        self.run(|folder, when| {
            let changes = folder.results("out");
            let went = changes.iter().filter(|change| change.ends_with(",delete")).count();
            assert!(went >= least, "{when}: {went} rows went");
            assert_same(&applied(&changes), &wanted, when);
        });
    }
}

/// The rows that came more often than they went.
#[track_caller]
fn applied(changes: &[String]) -> Vec<String> {
    let mut rows: BTreeMap<&str, i32> = BTreeMap::new();
    for change in changes {
        match change.rsplit_once(',').unwrap() {
            (row, "insert") => *rows.entry(row).or_default() += 1,
            (row, "delete") => *rows.entry(row).or_default() -= 1,
            _ => panic!("{change}"),
        }
    }
    let left = rows.into_iter().flat_map(|(row, count)| {
        let count = usize::try_from(count).unwrap_or_else(|_| panic!("{row} went more often than it came"));
        std::iter::repeat_n(row.to_owned(), count)
    });
    left.collect()
}
