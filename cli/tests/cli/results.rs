//! Jobs that run to their end: is the result right?

use std::collections::BTreeMap;

use crate::support::{Folder, ORDERS_JOB, Orders, assert_same, cases};

#[test]
fn words_are_counted() {
    let folder = Folder::new(
        r#"
        parallelism = 2
        source = { type = "text", path = "in", split_size = 100 }
        step = [{ words = "line" }, { key_by = "word", aggregate = "count" }]
        sink = { type = "csv", path = "counts" }
        "#,
    );
    let mut random = fastrand::Rng::with_seed(7);
    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    for file in 0..3 {
        let mut text = String::new();
        for _ in 0..500 {
            let word = format!("{}{}", "w".repeat(random.usize(1..40)), random.u8(0..9));
            text += &word;
            text.push([' ', '\n', '\t'][random.usize(0..3)]);
            *wanted.entry(word).or_default() += 1;
        }
        folder.write(&format!("in/{file}.txt"), &text);
    }
    let report = folder.run(&[]);
    let wanted: Vec<_> = wanted.iter().map(|(word, count)| format!("{word},{count}")).collect();
    let mut sorted = wanted.clone();
    sorted.sort_unstable();
    assert_eq!(folder.results("counts"), sorted);
    assert_eq!(report["outcome"], "finished");
    assert_eq!(report["sinks"]["sink"]["records"], wanted.len().to_string());
}

#[test]
fn windows_sum_rows_that_come_out_of_order() {
    let orders = Orders::new(20_000 * i64::from(cases(1)), 1);
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", &orders.csv);
    let report = folder.run(&[]);
    assert_same(&folder.results("results"), &orders.sums, "at the end");
    assert_eq!(report["late_dropped"], 0);
    assert_eq!(report["read"]["source"], 20_000 * cases(1));
}

#[test]
fn rows_behind_their_window_are_dropped_and_counted() {
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", "time,user,amount\n1000,a,1\n40000,a,2\n2000,a,4\n39000,a,8\n");
    // Each row is a batch of its own, so a watermark stands between any two.
    let report = folder.run(&["--parallelism=1", "--set=batch_size=1"]);
    assert_eq!(folder.results("results"), ["a,0,10000,1,1,1", "a,30000,40000,1,8,8", "a,40000,50000,1,2,2"]);
    assert_eq!(report["late_dropped"], 1);
}

#[test]
fn json_lines_become_json_lines() {
    let folder = Folder::new(
        r#"
        [source]
        type = "json"
        path = "in.jsonl"
        columns = ["city", "degrees:float?"]
        [[step]]
        key_by = "city"
        aggregate = ["count", "count(degrees) as known", "avg(degrees) as mean", "min(degrees) as least"]
        [[step]]
        filter = "count > 1 or mean is null"
        [[step]]
        project = ["city as name", "mean", "known", "least"]
        [sink]
        type = "json"
        path = "out"
        "#,
    );
    let lines = [
        r#"{"city": "Oslo", "degrees": 1}"#,
        r#"{"degrees": -2.5, "city": "Oslo", "wind": {"from": "NW"}}"#,
        r#"{"city": "Rome", "degrees": 20}"#,
        r#"{"city": "Lima", "degrees": null}"#,
        r#"{"city": "Oslo"}"#,
    ];
    folder.write("in.jsonl", &lines.join("\n"));
    folder.run(&[]);
    assert_eq!(
        folder.results("out"),
        [
            r#"{"name":"Lima","mean":null,"known":0,"least":null}"#,
            r#"{"name":"Oslo","mean":-0.75,"known":2,"least":-2.5}"#,
        ]
    );
}

#[test]
fn changes_are_emitted_one_by_one() {
    let folder = Folder::new(
        r#"
        source = { type = "csv", path = "in.csv", columns = ["id:int", "n:uint"] }
        step = [{ key_by = "id", aggregate = ["count", "sum(n)"], emit = "changes" }]
        sink = { type = "stdout" }
        "#,
    );
    folder.write("in.csv", "id,n\n-1,5\n7,1\n-1,6\n");
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.stdout(), "-1,1,5\n7,1,1\n-1,2,11\n");
    assert!(ended.stderr().contains("finished: 3 records"), "{}", ended.stderr());
}

#[test]
fn the_key_stream_has_its_checksum_at_any_parallelism() {
    let folder = Folder::new(
        r#"
        source = { type = "keys", records = 200_000, keys = 1_000 }
        step = [{ key_by = "key", aggregate = "count", emit = "changes" }]
        sink = { type = "discard", checksum = true }
        "#,
    );
    // Counted here by the definition, without any of the crates.
    let mut wanted: u64 = 0;
    let mut counts = vec![0u64; 1_000];
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let gamma: u64 = 0x9E37_79B9_7F4A_7C15;
    for n in 0..200_000u64 {
        let hash = mix(42u64.wrapping_add((n + 1).wrapping_mul(gamma)));
        let rank = ((u128::from(hash) * 1_000) >> 64) as u64;
        counts[rank as usize] += 1;
        wanted = wanted.wrapping_add(mix(mix(rank).wrapping_mul(gamma).wrapping_add(counts[rank as usize])));
    }
    for args in [&["--parallelism=1"][..], &["--parallelism=3"], &["--set=chain=true"]] {
        let report = folder.run(args);
        assert_eq!(report["sinks"]["sink"]["checksum"], format!("{wanted:#018x}"), "{args:?}");
        assert_eq!(report["records"], 200_000);
    }
}
