//! Deduplication and top rows.

use std::cmp::Reverse;

use super::{Event, Trial, events};

fn line(event: &Event) -> String {
    format!("{},k{},{}", event.time, event.key, event.value)
}

/// Of the rows with one key and one tenth of a value, the one that counts.
fn kept(events: &[Event], last: bool) -> Vec<String> {
    let mut kept: Vec<Event> = Vec::new();
    for event in events {
        let same = |other: &&mut Event| (other.key, other.value % 10) == (event.key, event.value % 10);
        match kept.iter_mut().find(same) {
            None => kept.push(*event),
            Some(other) if last && event.time >= other.time || !last && event.time < other.time => {
                *other = *event;
            }
            Some(_) => {}
        }
    }
    kept.iter().map(|event| format!("{},{}", line(event), event.value % 10)).collect()
}

fn deduplicate(settings: &str) -> String {
    format!(
        "[[step]]\ncompute = \"value % 10 as tenth\"\n[[step]]\ndeduplicate = [\"key\", \"tenth\"]\n{settings}\n"
    )
}

#[test]
fn one_row_of_each_key_stays() {
    let events = events(1_500, 1);
    for (settings, last) in [("", false), ("keep = \"last\"", true)] {
        Trial::new(&[("in", &events)], &deduplicate(settings)).gives(kept(&events, last));
    }
}

#[test]
fn changes_of_deduplicated_rows_lead_to_the_same() {
    let events = events(1_500, 2);
    for (settings, last) in [("emit = \"changes\"", false), ("emit = \"changes\"\nkeep = \"last\"", true)] {
        Trial::new(&[("in", &events)], &deduplicate(settings)).leaves(kept(&events, last), 5);
    }
}

/// A key that was forgotten is new.
#[test]
fn a_forgotten_key_counts_again() {
    let event = |time: i64| Event { time, key: 1, value: 10 };
    let events = [event(1_000), event(2_000), event(60_000), event(61_000)];
    let far: Vec<_> = (0..500).map(|n| Event { time: 3_000 + n * 100, key: 2, value: 7 }).collect();
    let all = [&events[..2], &far, &events[2..]].concat();
    let trial = Trial::new(&[("in", &all)], &deduplicate("ttl = \"1h\""));
    let folder = trial.folder();
    folder.run(&["--set=batch_size=1"]);
    assert_eq!(folder.results("out"), ["1000,k1,10,0", "3000,k2,7,7"]);
    // Event time is two seconds behind the rows.
    let folder = trial.folder();
    folder.run(&["--set=batch_size=1", "--set=step.1.ttl=30s"]);
    assert_eq!(folder.results("out"), ["1000,k1,10,0", "3000,k2,7,7", "35200,k2,7,7", "60000,k1,10,0"]);
}

/// The greatest three of each group, with their ranks.
fn top(events: &[Event], least: bool, group: impl Fn(&Event) -> String) -> Vec<String> {
    let mut groups: Vec<String> = events.iter().map(&group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut lines = Vec::new();
    for name in groups {
        let mut rows: Vec<_> = events.iter().filter(|event| group(event) == name).collect();
        rows.sort_by_key(|event| if least { (Reverse(0), event.value) } else { (Reverse(event.value), 0) });
        let ranked = (1..).zip(rows.iter().take(3));
        lines.extend(ranked.map(|(rank, event)| format!("{name},{rank},{},{}", event.time, event.value)));
    }
    lines
}

#[test]
fn the_top_rows_of_windows_have_ranks() {
    let events = events(1_500, 3);
    let window = |size: i64| {
        move |event: &Event| {
            let start = event.time - event.time.rem_euclid(size);
            format!("k{},{start},{}", event.key, start + size)
        }
    };
    let job = |settings: &str| format!("[[step]]\nkey_by = \"key\"\ntop = 3\n{settings}\n");
    let wanted = top(&events, false, window(3_000));
    Trial::new(&[("in", &events)], &job("by = \"value\"\nwindow = \"3s\"")).gives(wanted);
    let wanted = top(&events, true, window(3_000));
    Trial::new(&[("in", &events)], &job("by = [\"value asc\", \"time\"]\nwindow = \"3s\"")).gives(wanted);
    let wanted = top(&events, false, |event| format!("k{}", event.key));
    Trial::new(&[("in", &events)], &job("by = \"value desc\"")).gives(wanted);
}

#[test]
fn changes_of_top_rows_lead_to_the_same() {
    let events = events(1_500, 4);
    let ranked = top(&events, false, |event| format!("k{}", event.key));
    let without_rank = |line: &String| {
        let fields: Vec<_> = line.split(',').collect();
        [fields[0], fields[2], fields[3]].join(",")
    };
    let wanted = ranked.iter().map(without_rank).collect();
    let steps = "[[step]]\nkey_by = \"key\"\ntop = 3\nby = \"value\"\nemit = \"changes\"\n";
    Trial::new(&[("in", &events)], steps).leaves(wanted, 20);
}

/// Rows are stored without their columns, so those are compared.
#[test]
fn a_resumed_step_keeps_rows_of_the_same_columns() {
    let events = events(1_500, 5);
    let steps = [
        deduplicate("emit = \"changes\""),
        "[[step]]\nkey_by = \"key\"\ntop = 3\nby = \"value\"\nwindow = \"3s\"\n".to_owned(),
        "[[step]]\nname = \"other\"\nproject = [\"key\", \"value as other\"]\n\
         [[step]]\njoin = [\"in\", \"other\"]\non = \"key\"\n"
            .to_owned(),
    ];
    for step in steps {
        let folder = Trial::new(&[("in", &events)], &step).folder();
        let mut running = folder.start(&["--set=source.in.rate=300"]);
        running.wait_for_checkpoints(2);
        running.kill();
        let changed = "--set=source.in.columns=[\"value:int\", \"time:int\", \"key\"]";
        let ended = folder.strandline(&["run", "job.toml", changed]);
        assert_eq!(ended.code(), 1, "{step}");
        assert!(ended.stderr().contains("with other columns, keys or aggregates"), "{}", ended.stderr());
        folder.run(&[]);
    }
}
