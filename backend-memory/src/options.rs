//! The options of a backend.

use strandline_snapshot_format::{Compression, FoldOptions};

/// How a backend writes its snapshots.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// Folds the deltas into a new base once they hold this many times the bytes of the base. 1.0 unless set.
    pub fold_ratio: f64,
    /// Folds the deltas into a new base once there are more than this many. 16 unless set.
    pub max_deltas: usize,
    /// Makes the next snapshot a base once at least this share of all entries changed since the last
    /// snapshot: such a base costs less than a delta and a fold. 0.5 unless set; above 1.0 for never.
    pub full_share: f64,
    /// How the backend writes segments.
    pub format: FoldOptions,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { fold_ratio: 1.0, max_deltas: 16, full_share: 0.5, format: FoldOptions::default() }
    }
}

impl MemoryOptions {
    /// The same for segments that no store keeps.
    pub(crate) fn without_compression(&self) -> Self {
        let mut options = self.clone();
        options.format.writer.compression = Compression::None;
        options
    }
}
