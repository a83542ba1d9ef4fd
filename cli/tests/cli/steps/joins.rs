//! Joins against nested loops.

use super::{Event, Trial, events};

/// The columns of the right input, under names of their own.
const RIGHT: &str =
    "[[step]]\nname = \"r\"\nfrom = \"right\"\nproject = [\"key\", \"value as other\", \"time as at\"]\n";

fn trial(left: &[Event], right: &[Event], join: &str) -> Trial {
    let steps = format!("{RIGHT}[[step]]\njoin = [\"left\", \"r\"]\non = \"key\"\n{join}\n");
    Trial::new(&[("left", left), ("right", right)], &steps)
}

fn pair(left: Option<&Event>, right: Option<&Event>) -> String {
    let time = left.map(|event| event.time.to_string()).unwrap_or_default();
    let key = left.or(right).unwrap().key;
    let value = left.map(|event| event.value.to_string()).unwrap_or_default();
    let (other, at) =
        right.map(|event| (event.value.to_string(), event.time.to_string())).unwrap_or_default();
    format!("{time},k{key},{value},{other},{at}")
}

/// The pairs of one key for which `fits`, found by a nested loop, and lone rows as `kind` has them. `behind` is what
/// follows a pair or a row.
fn joined(
    (left, right): (&[Event], &[Event]),
    kind: &str,
    fits: impl Fn(&Event, &Event) -> bool,
    behind: impl Fn(&Event) -> String,
) -> Vec<String> {
    let fits = |l: &Event, r: &Event| l.key == r.key && fits(l, r);
    let mut lines = Vec::new();
    for l in left {
        let partners: Vec<_> = right.iter().filter(|r| fits(l, r)).collect();
        lines.extend(partners.iter().map(|r| pair(Some(l), Some(r)) + &behind(l)));
        if partners.is_empty() && matches!(kind, "left" | "full") {
            lines.push(pair(Some(l), None) + &behind(l));
        }
    }
    let alone = right.iter().filter(|r| !left.iter().any(|l| fits(l, r)));
    if matches!(kind, "right" | "full") {
        lines.extend(alone.map(|r| pair(None, Some(r)) + &behind(r)));
    }
    lines
}

const KINDS: [&str; 4] = ["inner", "left", "right", "full"];

/// Left and right rows; some keys are on one side only.
fn inputs(count: i64, seed: u64) -> (Vec<Event>, Vec<Event>) {
    let (mut left, mut right) = (events(count, seed), events(count, seed + 100));
    left.retain(|event| event.key != 7);
    right.retain(|event| event.key != 8);
    (left, right)
}

fn nothing(_: &Event) -> String {
    String::new()
}

#[test]
fn rows_that_share_a_window_are_joined() {
    let (left, right) = inputs(500, 1);
    for (n, kind) in KINDS.into_iter().enumerate() {
        let (size, window) = [(1_000, "1s"), (1_500, "1500ms")][n % 2];
        let start = |event: &Event| event.time - event.time.rem_euclid(size);
        let borders = |event: &Event| format!(",{},{}", start(event), start(event) + size);
        let wanted = joined((&left, &right), kind, |l, r| start(l) == start(r), borders);
        assert!(wanted.len() > 200);
        trial(&left, &right, &format!("window = \"{window}\"\nkind = \"{kind}\"")).gives(wanted);
    }
}

#[test]
fn rows_that_share_a_sliding_window_are_joined_in_each() {
    let (left, right) = inputs(300, 2);
    let mut wanted = Vec::new();
    for start in (-2_000..30_000).step_by(500) {
        let within = |event: &&Event| start <= event.time && event.time < start + 1_000;
        let left: Vec<_> = left.iter().filter(within).copied().collect();
        let right: Vec<_> = right.iter().filter(within).copied().collect();
        let borders = |_: &Event| format!(",{start},{}", start + 1_000);
        wanted.extend(joined((&left, &right), "left", |_, _| true, borders));
    }
    trial(&left, &right, "window = \"1s\"\nslide = \"500ms\"\nkind = \"left\"").gives(wanted);
}

#[test]
fn rows_that_are_close_are_joined() {
    let (left, right) = inputs(600, 3);
    for (kind, (between, lower, upper)) in KINDS.into_iter().zip([
        ("[\"0s\", \"500ms\"]", 0, 500),
        ("[\"-300ms\", \"300ms\"]", -300, 300),
        ("[\"-1s\", \"-100ms\"]", -1_000, -100),
        ("[\"50ms\", \"400ms\"]", 50, 400),
    ]) {
        let close = |l: &Event, r: &Event| (lower..=upper).contains(&(r.time - l.time));
        let wanted = joined((&left, &right), kind, close, nothing);
        assert!(wanted.len() > 200);
        trial(&left, &right, &format!("between = {between}\nkind = \"{kind}\"")).gives(wanted);
    }
}

#[test]
fn all_rows_are_joined_and_the_result_changes() {
    let (left, right) = inputs(150, 4);
    for kind in KINDS {
        let wanted = joined((&left, &right), kind, |_, _| true, nothing);
        let trial = trial(&left, &right, &format!("kind = \"{kind}\""));
        if kind == "inner" {
            // Only rows without a partner go again.
            trial.gives(wanted.into_iter().map(|line| line + ",insert").collect());
        } else {
            // How many rows go depends on which input is read first.
            trial.leaves(wanted, 0);
        }
    }
}

/// The newest left row of each key with the newest right one: changes go in, and changes come out.
#[test]
fn a_join_takes_changes_as_such() {
    let (left, right) = inputs(400, 5);
    let newest = |events: &[Event]| {
        let mut newest: Vec<Event> = Vec::new();
        for event in events {
            match newest.iter_mut().find(|other| other.key == event.key) {
                None => newest.push(*event),
                Some(other) if event.time >= other.time => *other = *event,
                Some(_) => {}
            }
        }
        newest
    };
    let wanted = joined((&newest(&left), &newest(&right)), "full", |_, _| true, nothing);
    let of = |name: &str| {
        format!(
            "[[step]]\nname = \"newest-{name}\"\nfrom = \"{name}\"\ndeduplicate = \"key\"\nkeep = \"last\"\n\
             emit = \"changes\"\n"
        )
    };
    let join = "[[step]]\njoin = [\"newest-left\", \"newest-r\"]\non = \"key\"\nkind = \"full\"\n";
    let steps = format!("{RIGHT}{}{}{join}", of("left"), of("r"));
    Trial::new(&[("left", &left), ("right", &right)], &steps).leaves(wanted, 5);
}

#[test]
fn a_row_is_joined_with_the_version_of_its_time() {
    let (left, mut right) = inputs(600, 6);
    // Of two versions with one time none is the later one.
    right.sort_by_key(|event| (event.key, event.time));
    right.dedup_by_key(|event| (event.key, event.time));
    right.sort_by_key(|event| event.time);
    let version = |l: &Event| {
        let before = right.iter().filter(|r| r.key == l.key && r.time <= l.time);
        before.max_by_key(|r| r.time)
    };
    for kind in ["inner", "left"] {
        let rows = left.iter().filter(|l| kind == "left" || version(l).is_some());
        let wanted = rows.map(|l| pair(Some(l), version(l))).collect();
        trial(&left, &right, &format!("versioned = true\nkind = \"{kind}\"")).gives(wanted);
    }
}

/// A row with a missing key joins nothing. Rows join while they are kept, however short that is.
#[test]
fn keys_may_be_missing_and_rows_may_expire() {
    let event = |time, key, value| Event { time, key, value };
    let left = [event(1_000, 1, 1), event(90_000, 1, 2)];
    let right = [event(2_000, 1, 3), event(91_000, 1, 4)];
    let trial = trial(&left, &right, "ttl = \"1h\"");
    let folder = trial.folder();
    folder.run(&[]);
    assert_eq!(folder.results("out").len(), 4);
    let folder = trial.folder();
    folder.run(&["--set=step.1.ttl=30s", "--set=batch_size=1"]);
    let found = folder.results("out");
    assert!(found.contains(&"1000,k1,1,3,2000,insert".to_owned()), "{found:?}");
    assert!(found.contains(&"90000,k1,2,4,91000,insert".to_owned()), "{found:?}");

    let folder = trial.folder();
    let nullable = "=[\"time:int\", \"key?\", \"value:int\"]";
    folder.write("left.csv", "time,key,value\n1000,,1\n1000,k1,2\n");
    folder.write("right.csv", "time,key,value\n1000,,3\n1000,k1,4\n");
    folder.run(&[&format!("--set=source.0.columns{nullable}"), &format!("--set=source.1.columns{nullable}")]);
    assert_eq!(folder.results("out"), ["1000,k1,2,4,1000,insert"]);
}
