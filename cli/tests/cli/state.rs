//! The commands that show the state in a checkpoint.

use serde_json::Value;

use crate::support::{Folder, SALES};

const INPUT: &str = "shop,user,amount\nnorth,-7,10\nsouth,3,5\nnorth,-7,30\nnorth,3,2\n";

/// A job that has run to its end, and left a checkpoint.
fn finished(job: &str) -> Folder {
    let folder = Folder::new(job);
    folder.write("sales.csv", INPUT);
    folder.run(&[]);
    folder
}

fn printed(folder: &Folder, args: &[&str]) -> String {
    let ended = folder.strandline(&[&["state"], args].concat());
    assert_eq!(ended.code(), 0, "{args:?}: {}{}", ended.stdout(), ended.stderr());
    ended.stdout()
}

fn refused(folder: &Folder, args: &[&str]) -> String {
    let ended = folder.strandline(&[&["state"], args].concat());
    assert_eq!(ended.code(), 1, "{args:?}: {}{}", ended.stdout(), ended.stderr());
    ended.stderr()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines[1..].sort_unstable();
    lines
}

#[test]
fn a_count_of_one_integer_reads_like_the_job() {
    let folder = finished(SALES);
    let scanned = printed(&folder, &["scan", "checkpoints", "by-user/group", "--format", "csv"]);
    assert_eq!(sorted(&scanned), ["user,visits", "-7,2", "3,2"]);
    let keys = printed(&folder, &["scan", "checkpoints", "group", "--keys", "--format=csv"]);
    assert_eq!(sorted(&keys), ["user", "-7", "3"]);
    let found = printed(&folder, &["get", "checkpoints", "by-user/group", "-7", "--format", "json"]);
    let row: Value = serde_json::from_str(&found).unwrap();
    assert_eq!((&row["user"], &row["visits"]), (&(-7).into(), &2.into()));
    let limited = printed(&folder, &["scan", "checkpoints", "by-user", "--limit", "1"]);
    assert_eq!(limited.lines().count(), 2, "{limited}");

    let listed = printed(&folder, &["ls", "checkpoints", "--format", "json"]);
    let line: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!((&line["state"], &line["kind"]), (&"by-user/group".into(), &"value".into()));
    assert_eq!((&line["key"], &line["value"]), (&"{user:i64}".into(), &"{visits:u64}".into()));
    assert_eq!(line["entries"], "2");
    let table = printed(&folder, &["ls", "checkpoints"]);
    assert!(table.lines().nth(2).unwrap().starts_with("by-user/group"), "{table}");
}

#[test]
fn aggregates_of_several_columns_read_like_the_job() {
    let job = SALES.replace("key_by = \"user\"", "key_by = [\"shop\", \"user\"]").replace(
        "\"count as visits\"",
        "\"count\", \"sum(amount) as total\", \"avg(amount) as mean\", \"max(amount)\"",
    );
    let folder = finished(&job);
    let scanned = printed(&folder, &["scan", "checkpoints", "by-user/group", "--format", "csv"]);
    let wanted = [
        "shop,user,count,total,mean,max_amount",
        r#"north,-7,2,40,"{""count"":2,""sum"":""40""}",30"#,
        r#"north,3,1,2,"{""count"":1,""sum"":""2""}",2"#,
        r#"south,3,1,5,"{""count"":1,""sum"":""5""}",5"#,
    ];
    assert_eq!(sorted(&scanned), wanted);
    let found = printed(&folder, &["get", "checkpoints", "group", r#"["north",3]"#, "--format=csv"]);
    assert_eq!(sorted(&found)[1..], wanted[2..3]);
}

#[test]
fn mistakes_are_explained() {
    let folder = finished(SALES);
    let unknown = refused(&folder, &["scan", "checkpoints", "by-user/grop"]);
    assert!(unknown.contains("did you mean \"by-user/group\""), "{unknown}");
    let no_key = refused(&folder, &["get", "checkpoints", "group", "99"]);
    assert!(no_key.contains("no entry of the key") && no_key.contains("99"), "{no_key}");
    let no_number = refused(&folder, &["get", "checkpoints", "group", "north"]);
    assert!(no_number.contains("\"north\" is no i64"), "{no_number}");
    let no_checkpoint = refused(&folder, &["ls", "checkpoints", "--checkpoint", "77"]);
    assert!(no_checkpoint.contains("there is no checkpoint 77"), "{no_checkpoint}");
    let nothing = refused(&folder, &["ls", "elsewhere"]);
    assert!(nothing.contains("does not exist"), "{nothing}");

    // A file of keyed state gets one flipped bit.
    let segments = std::fs::read_dir(folder.path("checkpoints/segments")).unwrap();
    for segment in segments {
        let path = segment.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[30] ^= 4;
        std::fs::write(&path, bytes).unwrap();
    }
    let damaged = refused(&folder, &["scan", "checkpoints", "group"]);
    assert!(
        damaged.contains("corrupt") && damaged.contains("segment") && damaged.contains("block"),
        "{damaged}"
    );
}
