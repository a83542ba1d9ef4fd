//! A job that is killed again and again while files are added, appended to, renamed and archived around it, and
//! while a consumer takes its finished output: each row comes out once.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::{Folder, assert_same, cases};

const JOB: &str = r#"
name = "landing"
[checkpoint]
storage = "checkpoints"
interval = "20ms"
[source]
type = "csv"
path = "in"
columns = ["id:int"]
split_size = "64 KiB"
[[step]]
filter = "id >= 0"
[sink]
type = "csv"
path = "out"
"#;

/// What everybody around the job does.
struct Churn<'f> {
    folder: &'f Folder,
    random: fastrand::Rng,
    /// The files that are in the input, and the rows of each.
    live: BTreeMap<String, Vec<u64>>,
    names: u64,
    rows: u64,
    taken: Vec<String>,
    /// The same as numbers, to look up.
    seen: HashSet<u64>,
    archived: u64,
}

impl<'f> Churn<'f> {
    fn new(folder: &'f Folder) -> Self {
        for name in ["in", "out", "taken", "archive"] {
            fs::create_dir(folder.path(name)).unwrap();
        }
        let random = fastrand::Rng::with_seed(17);
        Self {
            folder,
            random,
            live: BTreeMap::new(),
            names: 0,
            rows: 0,
            taken: Vec::new(),
            seen: HashSet::new(),
            archived: 0,
        }
    }

    fn act(&mut self) {
        match self.random.u32(0..10) {
            0..3 => self.add(),
            3..5 => self.append(),
            5..7 => self.rename(),
            7..9 => self.take(),
            _ => self.archive(),
        }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("f{}-{}.csv", self.random.u32(0..20), self.names)
    }

    /// Up to so many new rows, as text and as numbers.
    fn new_rows(&mut self, most: u64) -> (String, Vec<u64>) {
        let rows: Vec<u64> = (self.rows..self.rows + self.random.u64(1..=most)).collect();
        self.rows += rows.len() as u64;
        (rows.iter().map(|row| format!("{row}\n")).collect(), rows)
    }

    fn any(&mut self) -> Option<String> {
        let nth = self.random.usize(..self.live.len().max(1));
        self.live.keys().nth(nth).cloned()
    }

    /// A new file comes by an atomic rename.
    fn add(&mut self) {
        let name = self.name();
        // Some have several splits.
        let most = if self.random.u32(0..8) == 0 { 30_000 } else { 300 };
        let (text, rows) = self.new_rows(most);
        self.folder.write("in/.next", &format!("id\n{text}"));
        fs::rename(self.folder.path("in/.next"), self.folder.path(&format!("in/{name}"))).unwrap();
        self.live.insert(name, rows);
    }

    fn append(&mut self) {
        let Some(name) = self.any() else { return };
        let (text, rows) = self.new_rows(50);
        let mut file = OpenOptions::new().append(true).open(self.folder.path(&format!("in/{name}"))).unwrap();
        // A reader may see a line without its end.
        let half = self.random.usize(..text.len());
        file.write_all(&text.as_bytes()[..half]).unwrap();
        file.write_all(&text.as_bytes()[half..]).unwrap();
        self.live.get_mut(&name).unwrap().extend(rows);
    }

    fn rename(&mut self) {
        let Some(name) = self.any() else { return };
        let new = self.name();
        let path = |name: &str| self.folder.path(&format!("in/{name}"));
        fs::rename(path(&name), path(&new)).unwrap();
        let rows = self.live.remove(&name).unwrap();
        self.live.insert(new, rows);
    }

    /// A consumer takes all finished files.
    fn take(&mut self) {
        for entry in fs::read_dir(self.folder.path("out")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.starts_with("part-") {
                continue;
            }
            let taken = self.folder.path(&format!("taken/{}-{name}", self.taken.len()));
            fs::rename(&path, &taken).unwrap();
            let text = fs::read_to_string(taken).unwrap();
            self.seen.extend(text.lines().map(|row| row.parse::<u64>().unwrap()));
            self.taken.extend(text.lines().map(str::to_owned));
        }
    }

    /// Archives a file whose rows have all been taken.
    fn archive(&mut self) {
        let done = |rows: &Vec<u64>| rows.iter().all(|row| self.seen.contains(row));
        let Some(name) = self.live.iter().find(|(_, rows)| done(rows)).map(|(name, _)| name.clone()) else {
            return;
        };
        let archive = self.folder.path(&format!("archive/{name}"));
        fs::rename(self.folder.path(&format!("in/{name}")), archive).unwrap();
        self.live.remove(&name);
        self.archived += 1;
    }
}

#[test]
fn each_row_comes_out_once_whatever_happens_to_the_files() {
    let folder = Folder::new(JOB);
    let mut churn = Churn::new(&folder);
    let mut last_kill = Duration::from_millis(20);
    for kill in 0..cases(10) {
        let parallelism = format!("--parallelism={}", churn.random.u32(1..5));
        let began = Instant::now();
        let mut job = folder.start(&["--set=source.watch=10ms", &parallelism]);
        for _ in 0..churn.random.u32(0..30) {
            churn.act();
            if job.event().is_none() {
                let (code, report) = job.end();
                panic!("the job ended before kill {kill}, with {code}: {report}");
            }
        }
        // Every other one dies while it starts.
        match kill % 2 {
            0 => job.kill_at(Instant::now() + last_kill.mul_f64(churn.random.f64() / 10.0)),
            _ => job.kill_at(began + last_kill.mul_f64(churn.random.f64())),
        }
        last_kill = began.elapsed().max(Duration::from_millis(20));
        churn.act();
    }
    let report = folder.run(&["--parallelism=2"]);
    assert_eq!(report["outcome"], "finished", "{report}");
    assert!(folder.results("out").len() + churn.taken.len() > 0);
    churn.take();
    let mut wanted: Vec<_> = (0..churn.rows).map(|row| row.to_string()).collect();
    wanted.sort_unstable();
    churn.taken.sort_unstable();
    println!("{} rows, {} names of files, {} archived", churn.rows, churn.names, churn.archived);
    assert_same(&churn.taken, &wanted, &format!("after {} kills", cases(10)));
    assert!(churn.archived > 0, "no file was archived");
}
