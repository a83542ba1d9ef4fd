//! Where a storage is, and how its errors name that.

use std::time::Duration;

use crate::common::{claim, manifest_with};
use strandline_checkpoint_storage::{CommitLog, CommitLogOptions, Storage};
use strandline_state_api::{Error, ErrorKind};

async fn refused(storage: &Storage) -> Error {
    let options = CommitLogOptions::new("test");
    CommitLog::claim(storage, options, CommitLog::random_tokens()).await.expect_err("not refused")
}

fn assert_one_line(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 600, "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_dangling_link_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (link, target) = (dir.path().join("link"), dir.path().join("gone"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    for path in [link.clone(), link.join("below"), link.join("far/below")] {
        let storage = Storage::in_dir(&path).unwrap();
        for error in [
            refused(&storage).await,
            storage.blobs().put("segments/x", vec![1].into()).await.unwrap_err(),
            storage.blobs().len("segments/x").await.unwrap_err(),
            storage.blobs().list("segments").await.unwrap_err(),
            storage.history().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert_one_line(&error, &[link.to_str().unwrap(), target.to_str().unwrap(), "link to nothing"]);
        }
    }
    std::fs::create_dir(&target).unwrap();
    let storage = Storage::in_dir(&link).unwrap();
    claim(&storage).await.log.commit_alone(&manifest_with(&storage, 1, 1, &[b"one"]).await).await.unwrap();
    assert!(target.join("log").is_dir());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_directory_that_cannot_be_created_is_an_error_with_its_name() {
    let storage = Storage::in_dir("/proc/strandline/job").unwrap();
    let error = refused(&storage).await;
    assert_one_line(&error, &["log/", "/proc/strandline/job", "no directory can be created"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("job")] {
        assert_one_line(&refused(&Storage::in_dir(&path).unwrap()).await, &[path.to_str().unwrap()]);
    }
}

#[tokio::test]
async fn a_damaged_file_is_named_with_its_storage() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::in_dir(dir.path()).unwrap();
    let mut log = claim(&storage).await.log;
    let completed = log.commit_alone(&manifest_with(&storage, 1, 1, &[]).await).await.unwrap().completed;
    std::fs::write(dir.path().join("manifest").join(&completed.manifest), "x").unwrap();
    let error = storage.read_manifest(&completed).await.unwrap_err();
    assert_one_line(&error, &[dir.path().to_str().unwrap(), "manifest/"]);
}

async fn lives(storage: Storage) {
    let mut claimed = claim(&storage).await;
    for id in 1..4 {
        claimed.log.commit_alone(&manifest_with(&storage, 1, id, &[b"one"]).await).await.unwrap();
    }
    assert_eq!(storage.history().await.unwrap().completed.len(), 1);
    assert!(!storage.sweep().await.unwrap().deleted.is_empty());
}

/// Every storage, each with a claim and checkpoints, where the executor is not a whole tokio runtime.
fn on_any_executor(storage: impl Fn() -> Storage) {
    futures::executor::block_on(lives(storage()));
    let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
    bare.block_on(lives(storage()));
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    threads.block_on(lives(storage()));
    // The same handle on one runtime after the other.
    let shared = storage();
    bare.block_on(claim(&shared));
    drop(bare);
    threads.block_on(claim(&shared));
    threads.shutdown_background();
    futures::executor::block_on(claim(&shared));
}

#[test]
fn a_storage_needs_nothing_of_its_executor() {
    let dir = tempfile::tempdir().unwrap();
    on_any_executor(|| Storage::in_dir(dir.path().join(format!("{:032x}", fastrand::u128(..)))).unwrap());
    on_any_executor(|| Storage::in_memory().unwrap());
}

#[cfg(feature = "s3")]
mod s3 {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    const KEYS: &str = "access_key_id=AKVISIBLE&secret_access_key=S3CRET%2Fx&session_token=T0KEN";

    fn open(endpoint: &str) -> Storage {
        let uri = format!("s3://the-bucket/a/prefix?endpoint={endpoint}&region=us-east-1&{KEYS}");
        Storage::open(&uri).unwrap()
    }

    /// A server that answers every request by its method: status line, headers, body.
    fn server(answer: impl Fn(&str) -> String + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = BufReader::new(connection.unwrap());
                let (mut request, mut len, mut line) = (String::new(), 0, String::new());
                while connection.read_line(&mut line).unwrap_or(0) > 2 {
                    let header = line.to_lowercase();
                    if let Some(value) = header.strip_prefix("content-length:") {
                        len = value.trim().parse().unwrap();
                    }
                    request += &line;
                    line.clear();
                }
                let _ = connection.read_exact(&mut vec![0; len]);
                let _ = connection.get_mut().write_all(answer(&request).as_bytes());
            }
        });
        format!("http://{address}")
    }

    fn http(status: &str, body: &str) -> String {
        let head = format!("HTTP/1.1 {status}\r\nETag: \"1\"\r\nServer: chatty\r\nConnection: close\r\n");
        format!("{head}Content-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    #[ignore = "needs a server that speaks the protocol of S3: make s3"]
    fn it_needs_nothing_of_its_executor() {
        let uri = std::env::var("STRANDLINE_TEST_S3").unwrap();
        on_any_executor(|| {
            Storage::open(&uri.replace("{}", &format!("{:032x}", fastrand::u128(..)))).unwrap()
        });
    }

    #[tokio::test]
    async fn a_refused_endpoint_is_reported_within_five_seconds_on_one_line() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (storage, start) = (open(&format!("http://{free}")), Instant::now());
        for error in [
            refused(&storage).await,
            storage.history().await.unwrap_err(),
            storage.blobs().put("segments/x", vec![1].into()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert_one_line(&error, &["s3://the-bucket/a/prefix", &free.to_string(), "refused"]);
        }
        assert!(start.elapsed() < Duration::from_secs(15), "{:?} for three", start.elapsed());
    }

    #[tokio::test]
    async fn a_missing_bucket_is_named_without_headers() {
        let body = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>The specified bucket does not \
                    exist</Message></Error>";
        let storage = open(&server(|_| http("404 Not Found", body)));
        for error in [
            refused(&storage).await,
            storage.history().await.unwrap_err(),
            storage.blobs().put("segments/x", vec![1].into()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert_one_line(
                &error,
                &["the-bucket/a/prefix", "NoSuchBucket: The specified bucket does not exist"],
            );
            assert!(!error.to_string().contains("chatty"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_that_ignores_conditions_is_refused_before_anything_is_written() {
        let written = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let puts = written.clone();
        let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        let endpoint = server(move |request| {
            let line = request.lines().next().unwrap_or_default().to_owned();
            match line.split(' ').next() {
                Some("GET") => http("200 OK", empty),
                Some("HEAD") => http("404 Not Found", ""),
                _ => {
                    puts.lock().unwrap().push(line);
                    http("200 OK", "")
                }
            }
        });
        let error = refused(&open(&endpoint)).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_one_line(&error, &["ignores the condition", "the-bucket", "log.probe"]);
        let written = written.lock().unwrap();
        assert!(written.iter().all(|line| line.contains("/log.probe")), "{written:?}");
    }

    #[tokio::test]
    async fn nothing_shows_credentials() {
        let storage = open("http://me:pw@127.0.0.1:9");
        let mut shown = vec![storage.uri().to_owned(), format!("{storage:?} {:?}", storage.blobs())];
        shown.push(format!(
            "{:?} {:?}",
            storage.claims(),
            storage.segments(1, strandline_state_api::CheckpointId(1))
        ));
        shown.push(storage.history().await.unwrap_err().to_string());
        for uri in [
            format!("s3:/bucket?{KEYS}"),
            format!("s4://bucket?{KEYS}"),
            format!("s3://?{KEYS}"),
            format!("s3://bucket?enable_versioning=perhaps&{KEYS}"),
            format!("file://relative?{KEYS}"),
        ] {
            shown.push(format!("{:?}", Storage::open(&uri).unwrap_err()));
        }
        for text in shown {
            for secret in ["AKVISIBLE", "S3CRET", "T0KEN", "me:pw"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}
