//! Where snapshots live: segments, manifests, the commit log, retention, sweeping and verification, on files or object stores.
