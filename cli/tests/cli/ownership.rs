//! Checkpoints and results belong to a job; finished files belong to whoever takes them.

use std::collections::BTreeMap;
use std::fs;

use crate::support::Folder;

/// A job of this name that counts users, slowly.
fn job(name: &str, storage: &str, out: &str) -> String {
    format!(
        r#"
        name = "{name}"
        checkpoint = {{ storage = "{storage}", interval = "30ms" }}
        source = {{ type = "csv", path = "{name}.csv", columns = ["user", "n:int"], rate = 2000 }}
        step = [{{ filter = "n > 0" }}]
        sink = {{ type = "csv", path = "{out}" }}
        "#
    )
}

fn rows(user: &str, count: usize) -> String {
    (1..=count).map(|n| format!("{user},{n}\n")).fold("user,n\n".to_owned(), |text, row| text + &row)
}

/// The folder has the job `ann` in `job.toml` and the job `bob` in `bob.toml`.
fn two_jobs(storages: [&str; 2], outs: [&str; 2]) -> Folder {
    let folder = Folder::new(&job("ann", storages[0], outs[0]));
    folder.write("bob.toml", &job("bob", storages[1], outs[1]));
    folder.write("ann.csv", &rows("ann", 600));
    folder.write("bob.csv", &rows("bob", 600));
    folder
}

/// All files of a folder, hidden ones too.
fn contents(folder: &Folder, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.path(name)];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(files.insert(path.display().to_string(), fs::read(path).unwrap())),
            }
        }
    }
    files
}

#[test]
fn a_storage_refuses_another_job_and_the_first_goes_on() {
    let folder = two_jobs(["ck", "ck"], ["out-ann", "out-bob"]);
    let mut running = folder.start(&[]);
    running.wait_for("its start", |event| event["event"] == "started");
    // Before its first checkpoint, and after.
    for checkpoints in [0, 3] {
        running.wait_for_checkpoints(checkpoints);
        let ended = folder.strandline(&["run", "bob.toml"]);
        assert_eq!(ended.code(), 1);
        for part in ["checkpoints of another job", "its job ann", "this job bob"] {
            assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
        }
        assert!(!folder.path("out-bob").exists(), "nothing was touched");
    }
    let (code, report) = running.end();
    assert_eq!((code, report["restarts"].as_u64()), (0, Some(0)), "it was not disturbed: {report}");
    assert_eq!(folder.results("out-ann").len(), 600);
}

#[test]
fn a_job_that_is_renamed_adopts_what_it_had() {
    let folder = two_jobs(["ck", "ck"], ["out", "out"]);
    let mut running = folder.start(&[]);
    running.wait_for_checkpoints(3);
    running.interrupt();
    assert_eq!(running.end().0, 0);
    // The same job under the name of the other.
    let renamed = job("bob", "ck", "out").replace("bob.csv", "ann.csv");
    folder.write("bob.toml", &renamed);
    assert_eq!(folder.strandline(&["run", "bob.toml"]).code(), 1);
    let ended = folder.strandline(&["run", "bob.toml", "--adopt=carl"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    let ended = folder.strandline(&["run", "bob.toml", "--adopt=ann"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(folder.results("out").len(), 600);
    let ended = folder.strandline(&["run", "job.toml"]);
    assert!(ended.stderr().contains("its job bob"), "it is the other's now: {}", ended.stderr());
}

#[test]
fn an_output_refuses_another_job_and_a_copied_storage() {
    let folder = two_jobs(["ck-ann", "ck-bob"], ["out", "out"]);
    let mut running = folder.start(&["--set=source.rate=1000"]);
    running.wait_for("its start", |event| event["event"] == "started");
    let refused = |args: &[&str]| {
        let ended = folder.strandline(args);
        assert_eq!(ended.code(), 1);
        assert!(ended.stderr().contains("belongs to another job"), "{}", ended.stderr());
    };
    refused(&["run", "bob.toml"]);
    running.wait_for_checkpoints(3);
    refused(&["run", "bob.toml"]);
    running.kill();
    let before = contents(&folder, "out");
    refused(&["run", "bob.toml"]);
    // A copy of its checkpoints beside the original.
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(folder.path("ck-ann"))
        .arg(folder.path("copy"))
        .status();
    assert!(copied.unwrap().success());
    refused(&["run", "job.toml", "--set=checkpoint.storage=copy"]);
    assert_eq!(contents(&folder, "out"), before, "nothing was touched");
    folder.run(&[]);
    assert_eq!(folder.results("out").len(), 600);
}

#[test]
fn consumers_take_finished_files_and_the_job_goes_on() {
    let folder = two_jobs(["ck", "other"], ["out", "other-out"]);
    fs::create_dir(folder.path("out")).unwrap();
    folder.write("out/.gitkeep", "");
    let mut shipped = Vec::new();
    let take = |shipped: &mut Vec<String>| {
        shipped.extend(folder.visible("out"));
        for entry in fs::read_dir(folder.path("out")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("part-") {
                fs::remove_file(path).unwrap();
            }
        }
    };
    for round in 0..4 {
        let mut running = folder.start(&["--set=source.rate=300"]);
        running.wait_for_checkpoints(2);
        match round % 2 {
            0 => {
                running.interrupt();
                assert_eq!(running.end().0, 0, "stopped");
            }
            _ => running.kill(),
        }
        take(&mut shipped);
    }
    folder.run(&["--set=source.rate=1000000"]);
    take(&mut shipped);
    let report = folder.run(&[]);
    assert_eq!(report["outcome"], "already-finished");
    shipped.sort_unstable();
    let mut wanted: Vec<_> = rows("ann", 600).lines().skip(1).map(str::to_owned).collect();
    wanted.sort_unstable();
    assert_eq!(shipped, wanted, "each row exactly once");
    assert!(folder.path("out/.gitkeep").exists());
}

#[test]
fn a_lost_file_names_the_checkpoints_before_it() {
    let folder = two_jobs(["ck", "other"], ["out", "other-out"]);
    // Checkpoints are kept, so that there are earlier ones.
    let mut running = folder.start(&["--set=checkpoint.retained=1000"]);
    let earlier = running.wait_for_checkpoints(2);
    running.wait_for_checkpoints(2);
    running.kill();
    // Whatever of it was pre-committed and not visible yet is lost, if there is anything.
    for entry in fs::read_dir(folder.path("out")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with(".part-") || name == ".part.committing" || name.starts_with("part-") {
            fs::remove_file(path).unwrap();
        }
    }
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 1);
    for part in ["before it was ever visible", "earlier checkpoints", "--from", &earlier.to_string()] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
}
