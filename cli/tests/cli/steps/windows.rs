//! Windows of all shapes.

use std::collections::BTreeMap;

use super::{Event, Trial, events};
use crate::support::{Folder, cases};

/// The aggregates of some rows, as [`AGGREGATES`] writes them.
fn aggregates(values: &[i64]) -> String {
    let (count, sum) = (values.len(), values.iter().sum::<i64>());
    let (min, max) = (values.iter().min().unwrap(), values.iter().max().unwrap());
    format!("{count},{sum},{min},{max},{}", sum as f64 / count as f64)
}

const AGGREGATES: &str =
    "aggregate = [\"count\", \"sum(value)\", \"min(value)\", \"max(value)\", \"avg(value)\"]\n";

/// A line for each group of rows.
fn lines<G: Ord + std::fmt::Display>(groups: impl IntoIterator<Item = (G, i64)>) -> Vec<String> {
    let mut values: BTreeMap<G, Vec<i64>> = BTreeMap::new();
    for (group, value) in groups {
        values.entry(group).or_default().push(value);
    }
    values.iter().map(|(group, values)| format!("{group},{}", aggregates(values))).collect()
}

fn job(window: &str) -> String {
    format!("[[step]]\nkey_by = \"key\"\n{window}\n{AGGREGATES}")
}

/// All windows of a size that begin at multiples of a slide, with an offset, and have the time.
fn windows_with(time: i64, size: i64, slide: i64, offset: i64) -> impl Iterator<Item = (i64, i64)> {
    let first = (time - size - offset).div_euclid(slide) - 1;
    let starts = (first..).map(move |n| offset + n * slide).take_while(move |start| *start <= time);
    starts.filter(move |start| time < start + size).map(move |start| (start, start + size))
}

#[test]
fn windows_of_time_slide_and_have_an_offset() {
    for (seed, (window, size, slide, offset)) in [
        ("window = \"3s\"\noffset = \"700ms\"", 3_000, 3_000, 700),
        ("window = \"3s\"\nslide = \"1s\"", 3_000, 1_000, 0),
        ("window = \"5s\"\nslide = \"2s\"\noffset = \"500ms\"", 5_000, 2_000, 500),
    ]
    .into_iter()
    .enumerate()
    {
        let events = events(2_000 * i64::from(cases(1)), seed as u64);
        let group = |event: &Event| {
            let (key, value) = (event.key, event.value);
            windows_with(event.time, size, slide, offset)
                .map(move |(start, end)| (format!("k{key},{start},{end}"), value))
        };
        let wanted = lines(events.iter().flat_map(group));
        Trial::new(&[("in", &events)], &job(window)).gives(wanted);
    }
}

#[test]
fn sessions_end_when_nothing_comes() {
    let mut all = events(1_500, 4);
    // Rows of a key are about 180 ms apart: some gaps are longer than half a second.
    all.iter_mut().filter(|event| event.key < 3).for_each(|event| event.time = event.time / 500 * 500);
    let mut by_key: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    all.iter().for_each(|event| by_key.entry(event.key).or_default().push(*event));
    let mut wanted = Vec::new();
    for (key, mut events) in by_key {
        events.sort_by_key(|event| event.time);
        for session in events.chunk_by(|a, b| b.time - a.time <= 500) {
            let values: Vec<_> = session.iter().map(|event| event.value).collect();
            let (start, end) = (session[0].time, session[session.len() - 1].time + 500);
            wanted.push(format!("k{key},{start},{end},{}", aggregates(&values)));
        }
    }
    assert!(wanted.len() > 50, "{} sessions", wanted.len());
    Trial::new(&[("in", &all)], &job("session = \"500ms\"")).gives(wanted);
}

#[test]
fn sessions_have_the_gaps_of_their_rows() {
    let gap = |event: &Event| event.value % 400 + 1;
    let mut all = events(1_500, 9);
    let mut by_key: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    all.iter().for_each(|event| by_key.entry(event.key).or_default().push(*event));
    let mut wanted = Vec::new();
    for (key, mut events) in by_key {
        events.sort_by_key(|event| event.time);
        let mut sessions: Vec<(i64, i64, Vec<i64>)> = Vec::new();
        for event in events {
            let end = event.time + gap(&event);
            match sessions.last_mut().filter(|(_, last, _)| event.time <= *last) {
                Some((_, last, values)) => {
                    *last = end.max(*last);
                    values.push(event.value);
                }
                None => sessions.push((event.time, end, vec![event.value])),
            }
        }
        let line = |(start, end, values): (i64, i64, Vec<i64>)| {
            format!("k{key},{start},{end},{}", aggregates(&values))
        };
        wanted.extend(sessions.into_iter().map(line));
    }
    assert!(wanted.len() > 200, "{} sessions", wanted.len());
    let steps = format!("[[step]]\ncompute = \"value % 400 + 1 as gap\"\n{}", job("session_by = \"gap\""));
    Trial::new(&[("in", &all)], &steps).gives(wanted);
    // A row without a gap fails the job, or is left out and counted.
    all.truncate(20);
    all[7].value = 0;
    let steps = steps.replace("value % 400 + 1 as gap", "value as gap");
    let folder = Trial::new(&[("in", &all)], &steps).folder();
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 1);
    for part in ["the gap of a session", "column gap", "value 0"] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
    let report = folder.run(&["--set=source.in.on_bad_record=skip"]);
    assert_eq!(report["results_left_out"], 1);
}

#[test]
fn windows_that_purge_emit_each_row_once() {
    let events = events(1_500, 10);
    let mut wanted = Vec::new();
    for key in 0..9 {
        let of_key: Vec<_> =
            events.iter().filter(|event| event.key == key).map(|event| event.value).collect();
        for rows in of_key.chunks(40) {
            let fired = if rows.len() == 40 { "early" } else { "on-time" };
            wanted.push(format!("k{key},{fired},{}", aggregates(rows)));
        }
    }
    Trial::new(&[("in", &events)], &job("emit_rows = 40\npurge = true")).gives(wanted);
}

#[test]
fn windows_of_rows_have_a_number_of_them() {
    for (window, size, slide) in
        [("window = \"10 rows\"", 10, 10), ("window = \"9 rows\"\nslide = \"6 rows\"", 9, 6)]
    {
        let events = events(1_500, 5);
        let mut wanted = Vec::new();
        for key in 0..9 {
            let of_key: Vec<_> =
                events.iter().filter(|event| event.key == key).map(|event| event.value).collect();
            for end in (slide..of_key.len() + slide).step_by(slide) {
                let start = end.saturating_sub(size);
                wanted.push(format!("k{key},{}", aggregates(&of_key[start..end.min(of_key.len())])));
            }
        }
        Trial::new(&[("in", &events)], &job(window)).gives(wanted);
    }
}

/// Of each group and window the last row is that of the whole window, and those before are of its first rows.
#[test]
fn early_results_come_before_the_last() {
    let events = events(1_500, 6);
    let window = |event: &Event| event.time - event.time.rem_euclid(10_000);
    let groups = events.iter().map(|event| {
        let start = window(event);
        (format!("k{},{start},{},on-time", event.key, start + 10_000), event.value)
    });
    let mut wanted = lines(groups);
    wanted.sort_unstable();
    let trial = Trial::new(&[("in", &events)], &job("window = \"10s\"\nemit_every = \"1s\""));
    trial.run(|folder, when| {
        let found = folder.results("out");
        let (last, early): (Vec<_>, Vec<_>) = found.into_iter().partition(|line| line.contains("on-time"));
        assert_eq!(last, wanted, "{when}");
        assert!(early.len() > 10, "{when}: {} early", early.len());
        for line in early {
            let (window, values) = line.split_once(",early,").unwrap();
            let prefix = format!("{window},on-time,");
            let whole = wanted.iter().find_map(|line| line.strip_prefix(&prefix)).unwrap();
            let number = |values: &str, n: usize| values.split(',').nth(n).unwrap().parse::<i64>().unwrap();
            assert!(number(values, 0) <= number(whole, 0) && number(values, 1) <= number(whole, 1), "{line}");
        }
    });
}

#[test]
fn a_group_without_windows_emits_after_a_number_of_rows() {
    let events = events(1_500, 7);
    let mut wanted = Vec::new();
    for key in 0..9 {
        let of_key: Vec<_> =
            events.iter().filter(|event| event.key == key).map(|event| event.value).collect();
        for end in (40..=of_key.len()).step_by(40) {
            wanted.push(format!("k{key},early,{}", aggregates(&of_key[..end])));
        }
        wanted.push(format!("k{key},on-time,{}", aggregates(&of_key)));
    }
    Trial::new(&[("in", &events)], &job("emit_rows = 40")).gives(wanted);
}

/// Which window a row is in depends on the clock; in all of them together each row is once.
#[test]
fn windows_of_the_clock_have_each_row_once() {
    let events = events(1_500, 8);
    let mut wanted: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for event in &events {
        let sums = wanted.entry(format!("k{}", event.key)).or_default();
        *sums = (sums.0 + 1, sums.1 + event.value);
    }
    for window in ["window = \"50ms\"", "session = \"20ms\""] {
        let trial = Trial::new(&[("in", &events)], &job(&format!("{window}\ntime = \"processing\"")));
        trial.run(|folder, when| {
            let mut found: BTreeMap<String, (u64, i64)> = BTreeMap::new();
            for line in folder.results("out") {
                let fields: Vec<_> = line.split(',').collect();
                let sums = found.entry(fields[0].to_owned()).or_default();
                *sums =
                    (sums.0 + fields[3].parse::<u64>().unwrap(), sums.1 + fields[4].parse::<i64>().unwrap());
            }
            assert_eq!(found, wanted, "{window} {when}");
        });
    }
}

/// Rows that come late correct their window as long as it stays, and go to `[late]` afterwards.
#[test]
fn late_rows_correct_or_are_kept() {
    let folder = Folder::new(
        r#"
        batch_size = 1
        source = { type = "csv", path = "in.csv", columns = ["time:int", "key", "value:int"], event_time = "time" }
        step = [{ key_by = "key", window = "10s", slide = "5s", lateness = "20s", aggregate = "sum(value)" }]
        sink = { type = "csv", path = "out" }
        late = { type = "csv", path = "late" }
        "#,
    );
    folder.write(
        "in.csv",
        "time,key,value\n7000,a,1\n21000,b,2\n6000,a,4\n31000,b,8\n7500,a,16\n60000,b,32\n7000,a,64\n",
    );
    let report = folder.run(&[]);
    let wanted = [
        "a,0,10000,late,5",
        "a,0,10000,on-time,1",
        "a,5000,15000,late,21",
        "a,5000,15000,late,5",
        "a,5000,15000,on-time,1",
        "b,15000,25000,on-time,2",
        "b,20000,30000,on-time,2",
        "b,25000,35000,on-time,8",
        "b,30000,40000,on-time,8",
        "b,55000,65000,on-time,32",
        "b,60000,70000,on-time,32",
    ];
    assert_eq!(folder.results("out"), wanted);
    assert_eq!(folder.results("late"), ["7000,a,64"]);
    assert_eq!(report["late_dropped"], 1, "{report}");
}
