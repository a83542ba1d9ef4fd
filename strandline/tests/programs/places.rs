//! Storages at places where none can be, under a loop and under a pipeline.

use std::time::Duration;

use strandline::prelude::*;

use crate::counting::Counting;
use crate::words;

/// The process of the embedder lives on, and learns which link it is.
#[cfg(unix)]
#[tokio::test]
async fn a_dangling_link_is_an_error_of_the_loop_and_of_the_pipeline() {
    let dir = tempfile::tempdir().unwrap();
    words::write_text(dir.path());
    let link = dir.path().join("checkpoints");
    std::os::unix::fs::symlink(dir.path().join("gone"), &link).unwrap();
    let storage = Storage::in_dir(link.join("job")).unwrap();
    let Err(of_loop) = Counting::open(&storage).await else { panic!("a loop starts behind a dangling link") };
    let config = JobConfig::default().checkpointing(CheckpointConfig::new(storage, Duration::from_millis(5)));
    let pipeline = words::pipeline(dir.path(), None).unwrap();
    let of_pipeline = run_async(&pipeline, config.clone(), &JobControl::new()).await.unwrap_err();
    for error in [of_loop, of_pipeline] {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(link.to_str().unwrap()), "{error}");
    }
    std::fs::create_dir(dir.path().join("gone")).unwrap();
    run_async(&pipeline, config, &JobControl::new()).await.unwrap();
    words::assert_exact(dir.path());
}
