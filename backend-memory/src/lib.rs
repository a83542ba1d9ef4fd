//! Keyed state as native Rust values in memory, with incremental snapshots that do not stop the world.
