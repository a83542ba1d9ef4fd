//! Several sources and sinks, and steps that take the rows of others by name.

use std::collections::BTreeMap;

use super::{Event, Trial, events};
use crate::support::{Folder, assert_same};

/// Three sources whose columns are in different orders, counted together; the large rows go elsewhere, too.
#[test]
fn rows_of_several_sources_meet_and_part() {
    let all: Vec<Vec<Event>> = (0..3).map(|seed| events(700, seed)).collect();
    let steps = "
        [[step]]
        name = 'turned'
        from = 'b'
        project = ['value', 'key', 'time']
        [[step]]
        name = 'all'
        union = ['a', 'turned', 'c']
        [[step]]
        key_by = 'key'
        window = '5s'
        aggregate = ['count', 'sum(value)']
        [[step]]
        from = 'all'
        name = 'large'
        filter = 'value >= 600'
        ";
    let mut trial = Trial::new(&[("a", &all[0]), ("b", &all[1]), ("c", &all[2])], steps);
    trial.job = trial.job.replace(
        super::SINK,
        "[[step]]\nfrom = 'large'\nkey_by = 'key'\naggregate = 'count'\n\
         [[sink]]\nname = 'large-rows'\nfrom = 'large'\ntype = 'csv'\npath = 'large'\n\
         [[sink]]\nname = 'counts'\ntype = 'csv'\npath = 'counts'\n\
         [[sink]]\nname = 'sums'\nfrom = 'windows'\ntype = 'csv'\npath = 'out'\n",
    );
    trial.job = trial
        .job
        .replace("key_by = 'key'\n        window", "name = 'windows'\nkey_by = 'key'\n        window");
    let (mut sums, mut counts, mut large) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for Event { time, key, value } in all.iter().flatten() {
        let start = time - time.rem_euclid(5_000);
        let sum: &mut (u64, i64) = sums.entry(format!("k{key},{start},{}", start + 5_000)).or_default();
        *sum = (sum.0 + 1, sum.1 + value);
        if *value >= 600 {
            *counts.entry(*key).or_insert(0) += 1;
            large.push(format!("{time},k{key},{value}"));
        }
    }
    let mut sums: Vec<_> =
        sums.iter().map(|(window, (count, sum))| format!("{window},{count},{sum}")).collect();
    let counts: Vec<_> = counts.iter().map(|(key, count)| format!("k{key},{count}")).collect();
    sums.sort_unstable();
    large.sort_unstable();
    trial.run(|folder, when| {
        assert_same(&folder.results("out"), &sums, when);
        assert_same(&folder.results("counts"), &counts, when);
        assert_same(&folder.results("large"), &large, when);
    });
}

/// What fails in a step right behind a source is a bad record of that source, and each has dead letters of its own.
#[test]
fn each_source_has_its_own_bad_records() {
    let source = |name: &str| {
        format!(
            "[[source]]\nname = '{name}'\ntype = 'csv'\npath = '{name}.csv'\ncolumns = ['n:int']\n\
             on_bad_record = 'dead-letter'\ndead_letters = 'bad-{name}'\n"
        )
    };
    let job = format!(
        "{}{}[[step]]\nname = 'tenths'\nfrom = 'a'\ncompute = '10 / n as tenth'\n\
         [[step]]\nfrom = 'b'\nname = 'ones'\nproject = ['n', 'n as tenth']\n\
         [[step]]\nunion = ['tenths', 'ones']\n[sink]\ntype = 'csv'\npath = 'out'\n",
        source("a"),
        source("b"),
    );
    let folder = Folder::new(&job);
    folder.write("a.csv", "n\n5\n0\n");
    folder.write("b.csv", "n\n0\nx\n");
    let report = folder.run(&[]);
    assert_eq!(folder.results("out"), ["0,0", "5,2"]);
    assert_eq!(report["bad_records_kept"], 2);
    for (name, line) in [("a", "3"), ("b", "3")] {
        let letters = folder.results(&format!("bad-{name}"));
        assert_eq!(letters.len(), 1, "{name}: {letters:?}");
        assert!(letters[0].contains(&format!("\"line\":{line}")), "{letters:?}");
    }
}

/// A job with one source goes on when it gets a second one, if the first is named as it was.
#[test]
fn a_second_source_joins_a_job_that_has_run() {
    let job = |source: &str, union: &str| {
        format!(
            "checkpoint = {{ storage = 'checkpoints', interval = '20ms' }}\nsource = {source}\n\
             step = [{union}{{ id = 'sums', key_by = 'n', aggregate = 'count', emit = 'changes' }}]\n\
             sink = {{ type = 'csv', path = 'out' }}\n"
        )
    };
    let source = "type = 'csv', columns = ['n:int']";
    let folder = Folder::new(&job(&format!("{{ path = 'a', watch = '20ms', {source} }}"), ""));
    folder.write("a/1.csv", "n\n1\n1\n");
    let mut running = folder.start(&[]);
    running.wait_for("rows", |event| event["emitted"].as_u64() >= Some(2));
    running.interrupt();
    let (code, report) = running.end();
    assert_eq!((code, report["outcome"].as_str()), (0, Some("stopped")));
    folder.write("b/1.csv", "n\n1\n");
    let both =
        format!("[{{ name = 'source', path = 'a', {source} }}, {{ name = 'b', path = 'b', {source} }}]");
    folder.write("job.toml", &job(&both, "{ union = ['source', 'b'] }, "));
    let report = folder.run(&[]);
    assert!(report["resumed_from"].as_u64().is_some(), "{report}");
    assert_eq!(folder.results("out"), ["1,1", "1,2", "1,3"]);
}
