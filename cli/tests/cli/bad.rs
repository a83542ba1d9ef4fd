//! Errors name the place of the mistake.

use crate::support::Folder;

const JOB: &str = r#"
checkpoint = { storage = "checkpoints" }
restart = { attempts = 0 }
source = { type = "csv", path = "in.csv", columns = ["id:int", "name"] }
step = [{ key_by = "id", aggregate = "count" }]
sink = { type = "csv", path = "out" }
"#;

#[test]
fn a_bad_job_file_is_exit_code_2_and_its_place() {
    let folder = Folder::new(&JOB.replace("\"id\", aggregate", "\"ident\", aggregate"));
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 2);
    assert_eq!(ended.stdout(), "");
    assert!(
        ended.stderr().contains("job.toml:5:21") && ended.stderr().contains("^^^^^"),
        "{}",
        ended.stderr()
    );
    assert!(!folder.path("out").exists() && !folder.path("checkpoints").exists(), "nothing was touched");

    let ended = folder.strandline(&["run", "none.toml"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr().contains("none.toml cannot be read"), "{}", ended.stderr());
    assert_eq!(folder.strandline(&["run", "job.toml", "--parallelism=0"]).code(), 2);
    assert_eq!(folder.strandline(&["run", "job.toml", "--from=newest"]).code(), 2);
    let stateless = folder.strandline(&[
        "run",
        "job.toml",
        "--set=checkpoint.enabled=false",
        "--from=latest",
        "--set=step.0.key_by=id",
    ]);
    assert_eq!(stateless.code(), 2, "{}", stateless.stderr());
}

#[test]
fn a_bad_record_fails_the_job_or_is_skipped() {
    let folder = Folder::new(JOB);
    folder.write("in.csv", "id,name\n1,a\nx,b\n1,c\n");
    let ended = folder.strandline(&["run", "job.toml", "--json"]);
    assert_eq!(ended.code(), 1);
    for part in ["column \"id\": expected int, found \"x\"", "in.csv", "line 3", "byte 12"] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
    assert!(ended.stdout().contains("\"outcome\":\"failed\""), "{}", ended.stdout());
    let report = folder.run(&["--set=source.on_bad_record=skip"]);
    assert_eq!(report["bad_records_skipped"], 1);
    assert_eq!(folder.results("out"), ["1,2"]);
}

#[test]
fn missing_input_is_named() {
    let folder = Folder::new(JOB);
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr().contains("in.csv") && ended.stderr().contains("not found"), "{}", ended.stderr());
}
