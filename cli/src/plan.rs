//! From a job file to a pipeline.

mod accumulator;
mod group;
mod key;
mod operators;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strandline_connectors::keys::{GAMMA, KeyStream, mix};
use strandline_connectors::{
    CsvFiles, CsvRows, DiscardSink, FileFormat, FileSink, FileSinkConfig, FileSource, JsonLines, JsonRows,
    Row, StdoutSink, TextLines, Throttled, Value, WriteRecords,
};
use strandline_runtime::source::{Source, SourceFactory};
use strandline_runtime::{Pipeline, Stream};
use strandline_state_api::{BackendFactory, NO_TIMESTAMP, Result};

use crate::jobfile::{Emit, Function, Group, Job, SinkFormat, SinkSpec, SourceKind, SourceSpec, Step};
use operators::Shape;

/// A pipeline, and what it counts that the report of the runtime does not.
#[derive(Debug)]
pub(crate) struct Plan<F> {
    pub(crate) pipeline: Pipeline<F>,
    pub(crate) counters: Counters,
}

/// What is left out on purpose.
#[derive(Clone, Default)]
pub(crate) struct Counters {
    late: Arc<AtomicU64>,
    skipped: Option<Arc<dyn Fn() -> u64 + Send + Sync>>,
}

impl Counters {
    /// Records that came after their window had closed; those of attempts that failed are counted too.
    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Records that could not be decoded.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.as_ref().map_or(0, |skipped| skipped())
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").field("late", &self.late()).field("skipped", &self.skipped()).finish()
    }
}

/// Rows on their way; or, as long as nothing wants them as rows, something smaller.
enum Flow<F> {
    Rows(Stream<F, Row>),
    /// The keys of a key stream.
    Keys(Stream<F, u64>),
    /// Integer keys with their counts.
    Counts(Stream<F, (u64, u64)>, Arc<Shape>),
}

impl<F: BackendFactory> Flow<F> {
    fn rows(self) -> Stream<F, Row> {
        match self {
            Self::Rows(rows) => rows,
            Self::Keys(keys) => keys.map(|key| [Value::UInt(key)].into_iter().collect()),
            Self::Counts(counts, shape) => counts.map(move |(key, count)| shape.count(&key, count)),
        }
    }
}

/// Builds the pipeline of `job` on `backend`.
///
/// # Errors
/// What the connectors refuse.
pub(crate) fn plan<F: BackendFactory>(job: &Job, backend: F) -> Result<Plan<F>> {
    let pipeline = Pipeline::new(&job.settings.name, backend);
    let mut counters = Counters::default();
    let mut flow = source(&pipeline, &job.source, &mut counters)?;
    for step in &job.steps {
        flow = match step {
            Step::Filter(condition) => {
                let condition = Arc::new(condition.clone());
                Flow::Rows(flow.rows().filter(move |row| condition.holds(row)))
            }
            Step::Project(columns) => {
                let columns: Arc<[usize]> = columns.as_slice().into();
                Flow::Rows(flow.rows().map(move |row| columns.iter().map(|&i| row.get(i).clone()).collect()))
            }
            Step::Words(column) => Flow::Rows(words(flow.rows(), *column)),
            Step::Group(group) => group::group(flow, group, &counters.late),
        };
    }
    sink(flow, job)?;
    Ok(Plan { pipeline, counters })
}

fn source<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    spec: &SourceSpec,
    counters: &mut Counters,
) -> Result<Flow<F>> {
    let columns = spec.columns.clone();
    let rows = match &spec.kind {
        SourceKind::Keys(config) => {
            let stream = KeyStream::new(config.clone())?;
            return Ok(Flow::Keys(throttled(pipeline, stream, spec.rate)));
        }
        SourceKind::Text(_) => files(pipeline, spec, TextLines, counters),
        SourceKind::Csv { delimiter, header, quoted_newlines, .. } => {
            let format = CsvFiles::new(columns).delimiter(*delimiter).header(*header);
            files(pipeline, spec, format.quoted_newlines(*quoted_newlines), counters)
        }
        SourceKind::Json(_) => files(pipeline, spec, JsonLines::new(columns), counters),
    };
    let Some(time) = spec.event_time else { return Ok(Flow::Rows(rows)) };
    let delay = i64::try_from(spec.watermark_delay.as_millis()).unwrap_or(i64::MAX);
    Ok(Flow::Rows(rows.timestamps(delay, move |row: &Row| row.get(time).as_int().unwrap_or(NO_TIMESTAMP))))
}

fn files<F: BackendFactory, R: FileFormat<Record = Row>>(
    pipeline: &Pipeline<F>,
    spec: &SourceSpec,
    format: R,
    counters: &mut Counters,
) -> Stream<F, Row> {
    let mut source =
        FileSource::new(spec.files().map(|files| files.path.clone()).unwrap_or_default(), format);
    if let Some(files) = spec.files() {
        source = source.split_size(files.split_size).on_bad_record(files.on_bad_record);
    }
    let skipped = source.clone();
    counters.skipped = Some(Arc::new(move || skipped.skipped()));
    throttled(pipeline, source, spec.rate)
}

fn throttled<F, S>(
    pipeline: &Pipeline<F>,
    source: S,
    rate: Option<u64>,
) -> Stream<F, <S::Source as Source>::Out>
where
    F: BackendFactory,
    S: SourceFactory,
    S::Source: 'static,
{
    match rate {
        Some(rate) => pipeline.source("source", Throttled::new(source, rate)),
        None => pipeline.source("source", source),
    }
}

/// Words are separated by ASCII white space.
fn words<F: BackendFactory>(rows: Stream<F, Row>, column: usize) -> Stream<F, Row> {
    let separates = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
    rows.flat_map(move |row, out| {
        let text = row.get(column).as_text().unwrap_or_default();
        for word in text.split(separates).filter(|word| !word.is_empty()) {
            out.emit([Value::text(word)].into_iter().collect());
        }
    })
}

fn sink<F: BackendFactory>(flow: Flow<F>, job: &Job) -> Result<()> {
    let names = || job.output.iter().map(|column| column.name.as_str());
    match &job.sink {
        SinkSpec::Files { directory, format } => match format {
            SinkFormat::Csv { header: false } => file_sink(flow.rows(), directory, CsvRows::new())?,
            SinkFormat::Csv { header: true } => {
                file_sink(flow.rows(), directory, CsvRows::with_header(names()))?;
            }
            SinkFormat::Json => file_sink(flow.rows(), directory, JsonRows::new(names()))?,
        },
        SinkSpec::Stdout(SinkFormat::Csv { .. }) => {
            flow.rows().sink("sink", StdoutSink::new(CsvRows::new()));
        }
        SinkSpec::Stdout(SinkFormat::Json) => {
            flow.rows().sink("sink", StdoutSink::new(JsonRows::new(names())));
        }
        SinkSpec::Discard { checksum } => match flow {
            Flow::Counts(counts, _) => {
                counts.sink("sink", discard(*checksum, |&(key, count)| checksum_of(key, count)));
            }
            flow => flow.rows().sink("sink", discard(*checksum, checksum_of_row)),
        },
    }
    Ok(())
}

fn discard<T>(checksum: bool, of: fn(&T) -> u64) -> DiscardSink<T> {
    if checksum { DiscardSink::with_checksum(of) } else { DiscardSink::new() }
}

fn file_sink<F: BackendFactory>(
    rows: Stream<F, Row>,
    directory: &std::path::Path,
    format: impl WriteRecords<Row>,
) -> Result<()> {
    rows.sink("sink", FileSink::new(FileSinkConfig::new(directory), format)?);
    Ok(())
}

/// What a key and its count add to the checksum of a key stream.
fn checksum_of(key: u64, count: u64) -> u64 {
    mix(key.wrapping_mul(GAMMA).wrapping_add(count))
}

fn checksum_of_row(row: &Row) -> u64 {
    let [key, count] = [0, 1].map(|column| row.get(column).as_uint().unwrap_or(0));
    checksum_of(key, count)
}

/// Whether a group counts rows and nothing else.
fn counts_only(group: &Group) -> bool {
    let [only] = group.aggregates.as_slice() else { return false };
    group.window_ms.is_none() && only.function == Function::Count && only.column.is_none()
}

/// Whether a group tells each change.
fn tells_changes(group: &Group) -> bool {
    group.window_ms.is_none() && group.emit == Emit::Changes
}
