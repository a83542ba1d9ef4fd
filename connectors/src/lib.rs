//! Sources and sinks for pipelines of the Strandline runtime.
//!
//! * [`FileSource`] reads [`TextLines`], [`CsvFiles`], [`JsonLines`] and [`RegexLines`] from a file or a
//!   directory, in parallel and from any position; [`Throttled`] bounds how fast a source reads.
//! * [`FileSink`] writes CSV and JSON lines so that its finished files hold each result exactly once;
//!   [`StdoutSink`] prints, [`DiscardSink`] drops and counts.
//! * [`keys`] makes the stream of keys that benchmarks and tests count.
//!
//! Files and the sinks work on [`Row`], the dynamic record of declarative jobs; the key stream, the file sink
//! and the discarding sink take other types too.

mod discard_sink;
mod file_sink;
mod files;
mod row;
mod stdout_sink;
mod throttle;

pub mod keys;

pub use discard_sink::{DiscardSink, DiscardSubtask, DiscardSummary, Discarded};
pub use file_sink::{
    CsvRows, FileSink, FileSinkConfig, FileSinkSubtask, FileSinkSummary, JsonRows, OutputPath, PendingFile,
    WriteRecords, check_writable,
};
pub use files::{
    AtEnd, BadRecord, CsvFiles, DeadLetter, Decode, FileFormat, FilePosition, FileSource, FileSubtask,
    Framing, InputPath, Inspection, JsonLines, LetterDecoder, OnBadRecord, RegexLines, TextLines,
    WithDeadLetters, first_header,
};
pub use row::{Column, ColumnType, Field, JsonPath, JsonStep, Moment, Row, RowKey, TimeFormat, Value};
pub use stdout_sink::{PendingText, StdoutSink, StdoutSubtask};
pub use throttle::{Throttled, ThrottledSubtask};

/// Scales the `base` cases of a property test by the variable STRANDLINE_CASES, where it is set.
#[cfg(test)]
fn test_cases(base: u32) -> u32 {
    let times = std::env::var("STRANDLINE_CASES").ok().and_then(|times| times.parse::<u32>().ok());
    base.saturating_mul(times.unwrap_or(1))
}
