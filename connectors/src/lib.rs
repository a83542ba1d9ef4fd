//! Sources and sinks for pipelines of the Strandline runtime.
//!
//! * [`FileSource`] reads [`TextLines`], [`CsvFiles`] and [`JsonLines`] from a file or a directory, in parallel and from
//!   any position; [`Throttled`] bounds how fast a source reads.
//! * [`FileSink`] writes CSV and JSON lines so that each result is in its finished files exactly once; [`StdoutSink`]
//!   prints, [`DiscardSink`] forgets.
//! * [`keys`] makes the stream of keys that benchmarks and tests count.
//!
//! Files and the sinks work on [`Row`], the dynamic record of declarative jobs; the key stream, the file sink and the
//! discarding sink take other types too.

mod file_sink;
mod files;
mod plain_sinks;
mod row;
mod throttle;

pub mod keys;

pub use file_sink::{CsvRows, FileSink, FileSinkConfig, FileSinkSubtask, JsonRows, WriteRecords};
pub use files::{
    CsvFiles, Decode, FileFormat, FileSource, FileSubtask, Framing, JsonLines, OnBadRecord, TextLines,
    first_header,
};
pub use plain_sinks::{DiscardSink, DiscardSubtask, StdoutSink, StdoutSubtask};
pub use row::{Column, ColumnType, Row, RowKey, Value};
pub use throttle::{Throttled, ThrottledSubtask};

/// How many cases a property test runs: `base`, times the variable STRANDLINE_CASES where it is set.
#[cfg(test)]
fn test_cases(base: u32) -> u32 {
    let times = std::env::var("STRANDLINE_CASES").ok().and_then(|times| times.parse::<u32>().ok());
    base.saturating_mul(times.unwrap_or(1))
}
