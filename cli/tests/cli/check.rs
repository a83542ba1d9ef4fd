//! `strandline check`, and what else is said before a job runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Folder, ORDERS_JOB, Orders};

fn orders() -> Folder {
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", &Orders::new(500, 3).csv);
    folder
}

/// Every file below a folder with its content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.insert(path.display().to_string(), Vec::new());
            found.extend(files(&path));
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_check_opens_everything_and_changes_nothing() {
    let folder = orders();
    let before = files(&folder.path(""));
    let checked = folder.strandline(&["check", "job.toml"]);
    assert_eq!(checked.code(), 0, "{}{}", checked.stdout(), checked.stderr());
    for part in ["source", "1 file", "no checkpoints", "the job will create it", "the job can run"] {
        assert!(checked.stdout().contains(part), "{part}: {}", checked.stdout());
    }
    assert_eq!(files(&folder.path("")), before);

    folder.run(&[]);
    let before = files(&folder.path(""));
    let checked = folder.strandline(&["check", "job.toml", "--json"]);
    assert_eq!(checked.code(), 0, "{}", checked.stdout());
    let report: Value = serde_json::from_str(&checked.stdout()).unwrap();
    assert_eq!((report["job"].as_str(), report["outcome"].as_str()), (Some("orders"), Some("good")));
    assert!(report["parts"][1]["found"].as_str().unwrap().contains("resumes from checkpoint"), "{report}");
    assert_eq!(files(&folder.path("")), before);
}

#[test]
fn a_check_finds_all_that_is_wrong_around_a_job() {
    let folder = orders();
    folder.run(&[]);
    folder.write("wrong/1.csv", "time,user\n1,a\n");
    folder.write("wrong/2.csv", "time,user,amount\n1,a,many\n");
    folder.write("file", "");
    let wrong = ["--set=name=other", "--set=source.path=wrong", "--set=late={type=\"csv\",path=\"file\"}"];
    let checked = folder.strandline(&[&["check", "job.toml"], &wrong[..]].concat());
    assert_eq!(checked.code(), 1);
    let out = checked.stdout();
    for part in [
        "1.csv",
        "\"amount\"",
        "2.csv",
        "the first record is bad",
        "checkpoints of another job",
        "the output directory belongs to another job",
        "late: ",
        "job.toml: 5 problems",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn mistakes_come_as_json_where_that_is_asked_for() {
    let folder = orders();
    for command in ["run", "check"] {
        let set = ["--set=parallelism=0", "--set=step.0.filter=amuont > 0"];
        let ended = folder.strandline(&[&[command, "job.toml", "--json"], &set[..]].concat());
        assert_eq!(ended.code(), 2);
        let report: Value = serde_json::from_str(&ended.stdout()).unwrap();
        assert_eq!(report["outcome"], "refused");
        let mistakes = report["mistakes"].as_array().unwrap();
        assert_eq!(mistakes.len(), 2, "{report}");
        assert_eq!(mistakes[1]["message"], "unknown column `amuont`");
        assert_eq!((mistakes[1]["line"].as_u64(), mistakes[1]["column"].as_u64()), (Some(1), Some(15)));
        assert_eq!(mistakes[1]["label"], "did you mean `amount`?");
    }
    let ended = folder.strandline(&["run", "job.toml", "--json", "--from=latest"]);
    let report: Value = serde_json::from_str(&ended.stdout()).unwrap();
    assert_eq!((ended.code(), report["outcome"].as_str()), (1, Some("failed")));
    let ended = folder.strandline(&["run", "none.toml", "--json"]);
    let report: Value = serde_json::from_str(&ended.stdout()).unwrap();
    assert!(report["mistakes"][0]["message"].as_str().unwrap().contains("none.toml"), "{report}");
}

/// What the message advises is possible with a job file, and works.
#[test]
fn a_changed_job_is_refused_with_advice_that_works() {
    let folder = orders();
    folder.run(&["--set=source.follow=true"]);
    let change = "--set=source.columns=[\"time:int\", \"user\", \"amount:float\"]";
    let follow = "--set=source.follow=true";
    let ended = folder.strandline(&["run", "job.toml", follow, change]);
    assert_eq!(ended.code(), 1);
    assert!(!ended.stderr().contains("migrat"), "{}", ended.stderr());
    assert!(ended.stderr().contains("--allow-orphan group-1"), "{}", ended.stderr());
    let checked = folder.strandline(&["check", "job.toml", follow, change]);
    assert!(checked.stdout().contains("--allow-orphan group-1"), "{}", checked.stdout());
    let ended = folder.strandline(&[
        "run",
        "job.toml",
        follow,
        change,
        "--set=step.1.id=new",
        "--allow-orphan=group-1",
    ]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
}
