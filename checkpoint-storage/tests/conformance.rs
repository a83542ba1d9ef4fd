//! The behaviour suite of `strandline-conformance`, on a local disk and in memory.

#![allow(clippy::unwrap_used)]

use strandline_checkpoint_storage::Storage;

mod memory {
    use super::Storage;

    strandline_conformance::storage_tests!(|| {
        let storage = Storage::in_memory().unwrap();
        move || storage.clone()
    });
}

mod local_disk {
    use super::Storage;

    strandline_conformance::storage_tests!(|| {
        let dir = tempfile::TempDir::new().unwrap();
        // A handle for each who opens it, as in different processes.
        move || Storage::in_dir(dir.path().join("job")).unwrap()
    });
}
