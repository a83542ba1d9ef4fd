//! test
#![cfg(feature = "storage")]
mod memory {
    use strandline_checkpoint_storage::Storage;
    strandline_conformance::storage_tests!(|| {
        let storage = Storage::in_memory().unwrap();
        move || storage.clone()
    });
}
mod local {
    use strandline_checkpoint_storage::Storage;
    strandline_conformance::storage_tests!(|| {
        let dir = tempfile::tempdir().unwrap();
        move || Storage::in_dir(dir.path().join("job")).unwrap()
    });
}
