//! CSV as people have it: quotes that go wrong, null and empty text, files that are no CSV.

use std::fs;

use crate::support::Folder;

const JOB: &str = r#"
source = { type = "csv", path = "in.csv", columns = ["user", "note"] }
sink = { type = "json", path = "out" }
"#;

/// Two records; the field of the first goes on over two lines.
const TWO: &str = "user,note\nann,\"line one\nline two\"\nbob,x\n";

#[test]
fn a_field_over_lines_is_refused_or_read_and_never_invents_a_row() {
    let folder = Folder::new(JOB);
    folder.write("in.csv", TWO);
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 1);
    for part in ["in.csv", "line 2", "column note", "quoted_newlines"] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
    let report = folder.run(&["--set=source.on_bad_record=skip", "--set=sink.path=skipped"]);
    assert_eq!(report["bad_records_skipped"], 1);
    assert!(report["first_bad_record"].as_str().unwrap().contains("line 2"), "{report}");
    assert_eq!(folder.results("skipped"), [r#"{"user":"bob","note":"x"}"#]);
    folder.run(&["--set=source.quoted_newlines=true", "--set=sink.path=read"]);
    let wanted = [r#"{"user":"ann","note":"line one\nline two"}"#, r#"{"user":"bob","note":"x"}"#];
    assert_eq!(folder.results("read"), wanted);
}

#[test]
fn a_quote_that_never_closes_is_named_by_its_line() {
    let folder = Folder::new(JOB);
    let line = |i: usize| format!("u{i},{}\n", if i == 11 { "\"x" } else { "x" });
    folder.write(
        "in.csv",
        &["user,note\n".to_owned()].into_iter().chain((1..=1_000).map(line)).collect::<String>(),
    );
    for quoted_newlines in ["--set=source.quoted_newlines=false", "--set=source.quoted_newlines=true"] {
        let ended = folder.strandline(&["run", "job.toml", quoted_newlines]);
        assert_eq!(ended.code(), 1);
        assert!(
            ended.stderr().contains("line 12") && ended.stderr().contains("not closed"),
            "{}",
            ended.stderr()
        );
    }
    folder.run(&["--set=source.on_bad_record=skip", "--set=source.split_size=1KiB", "--parallelism=3"]);
    assert_eq!(folder.results("out").len(), 999);
}

#[test]
fn null_and_empty_text_come_back_from_our_own_csv() {
    let folder = Folder::new(
        r#"
        source = { type = "json", path = "in.jsonl", columns = ["note:text?"] }
        sink = { type = "csv", path = "mid", header = true }
        "#,
    );
    // One nullable column is the hardest.
    folder.write("in.jsonl", "{\"note\":\"\"}\n{\"note\":null}\n{\"note\":\"x\"}\n{}\n");
    folder.run(&[]);
    assert_eq!(folder.results("mid"), ["", "", "\"\"", "note", "x"]);
    folder.write(
        "back.toml",
        r#"
        source = { type = "csv", path = "mid", columns = ["note:text?"] }
        sink = { type = "json", path = "back" }
        "#,
    );
    let ended = folder.strandline(&["run", "back.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    let wanted = [r#"{"note":""}"#, r#"{"note":"x"}"#, r#"{"note":null}"#, r#"{"note":null}"#];
    assert_eq!(folder.results("back"), wanted);
}

#[test]
fn what_is_no_text_is_named_and_never_printed() {
    let folder = Folder::new(JOB);
    let utf_16: Vec<u8> = "user,note\nann,x\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, part) in [
        ([&[0xFF, 0xFE], utf_16.as_slice()].concat(), "UTF-16"),
        (utf_16.clone(), "UTF-16"),
        (vec![0x1F, 0x8B, 8, 0, 0, 0], "gzip"),
        (b"\x7FELF\x02\x01\x01\0\xF0\x1b[31m".to_vec(), "binary"),
        (b"user,\x1b[31mred\nann,x\n".to_vec(), "no column \"note\""),
    ] {
        fs::write(folder.path("in.csv"), bytes).unwrap();
        for args in
            [&["run", "job.toml"][..], &["run", "job.toml", "--set=source={type=\"csv\",path=\"in.csv\"}"]]
        {
            let ended = folder.strandline(args);
            let text = ended.stderr() + &ended.stdout();
            assert!(!text.contains(['\0', '\u{1b}', '\u{fffd}']), "{text:?}");
            if ended.code() != 0 {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_and_a_dangling_link_in_a_directory_are_left_out() {
    use std::process::Command;

    let folder = Folder::new(&JOB.replace("in.csv", "in"));
    folder.write("in/a.csv", "user,note\nann,x\n");
    std::os::unix::fs::symlink("nowhere", folder.path("in/b.csv")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.path("in/c.csv")).status().unwrap().success());
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(folder.results("out").len(), 1);
    for name in ["b.csv", "c.csv"] {
        assert!(ended.stderr().contains(name), "{name}: {}", ended.stderr());
    }
}
