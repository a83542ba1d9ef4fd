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

/// Whatever is wrong with a line, and with whichever command: no key of a storage is printed.
#[test]
fn no_mistake_prints_the_credentials_of_a_storage() {
    const KEYS: &str = "access_key_id=AKVISIBLE&secret_access_key=S3CRET/x+y==&session_token=T0KEN";
    let of = |storage: &str| JOB.replace("\"checkpoints\"", storage);
    let jobs = [
        of(&format!("\"s3:/bucket?{KEYS}\"")),
        of(&format!("\"s3://?{KEYS}\"")),
        of(&format!("\"s4://bucket?{KEYS}\"")),
        of(&format!("\"s3://bucket?{KEYS}&enable_versioning=perhaps\"")),
        of(&format!("\"s3://bucket?endpoint=http://me:pa55@h&{KEYS}\", intervall = \"1s\"")),
        of(&format!("\"s3://bucket?{KEYS}")),
        of("\"s3://bucket\", secret_access_key = \"S3CRET/x+y==\", session_token= 'T0KEN'"),
    ];
    let mut shown = Vec::new();
    for job in &jobs {
        let folder = Folder::new(job);
        let ended = folder.strandline(&["run", "job.toml"]);
        assert_eq!(ended.code(), 2, "{job}");
        shown.push(ended.stderr());
    }
    let folder = Folder::new(JOB);
    for uri in ["s3:/bucket", "s3://", "s4://bucket"] {
        let uri = format!("{uri}?{KEYS}");
        let ended = folder.strandline(&["run", "job.toml", &format!("--set=checkpoint.storage={uri}")]);
        assert_eq!(ended.code(), 2);
        shown.push(ended.stderr());
        let ended = folder.strandline(&["checkpoints", "list", &uri]);
        assert_eq!(ended.code(), 1);
        shown.push(ended.stderr());
    }
    for text in shown {
        assert!(
            ["job.toml:", "--set", "s3:", "s4:"].iter().any(|place| text.contains(place)),
            "no place in {text}"
        );
        for secret in ["AKVISIBLE", "S3CRET", "T0KEN", "pa55"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
