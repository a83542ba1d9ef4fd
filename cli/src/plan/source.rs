//! Builds the source of a job.

use std::ops::RangeInclusive;
use std::sync::Arc;

use strandline_connectors::keys::KeyStream;
use strandline_connectors::{
    BadRecord, CsvFiles, DeadLetter, Decode, FileFormat, FileSink, FileSinkConfig, FileSource, Framing,
    Inspection, JsonLines, JsonRows, OnBadRecord, OutputPath, RegexLines, Row, TextLines, Throttled,
    WithDeadLetters,
};
use strandline_runtime::{Pipeline, Stream};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Batch, Error, ErrorKind, Result, Timestamp};

use super::rows::{RowStep, apply_all};
use super::{BadRecords, Counters, Flow};
use crate::jobfile::{BadRecordPolicy, Fault, Files, Job, SourceKind, SourceSpec};

/// Adds a source of `job` to a pipeline; it runs `steps` on its records.
pub(super) fn source<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    job: &Job,
    spec: &SourceSpec,
    steps: Arc<[RowStep]>,
    counters: &mut Counters,
) -> Result<Flow<F>> {
    if let SourceKind::Keys(config) = &spec.kind {
        let stream = Throttled::new(KeyStream::new(config.clone())?, spec.rate);
        return Ok(Flow::Keys(pipeline.source(&spec.id, stream)));
    }
    let Some((files, text)) = format(spec)? else {
        return Err(Error::new(ErrorKind::Internal, "a source has neither files nor keys"));
    };
    let fused = !steps.is_empty();
    let format = RowFormat { text, time: event_time(job, spec).map(Arc::new), steps };
    let rows = match &files.bad_records {
        BadRecordPolicy::Fail => plain(pipeline, spec, files, format, OnBadRecord::Fail, counters),
        BadRecordPolicy::Skip => plain(pipeline, spec, files, format, OnBadRecord::Skip, counters),
        BadRecordPolicy::Keep(directory) => {
            with_dead_letters(pipeline, spec, files, format, directory, counters)?
        }
    };
    Ok(Flow::Rows(if fused { RowStep::Live.add_to(rows, false) } else { rows }))
}

/// Looks at the files of a source of a job without reading them.
///
/// # Errors
/// When they cannot be listed.
pub(crate) fn inspect(job: &Job, spec: &SourceSpec) -> Result<Inspection> {
    let Some((files, text)) = format(spec)? else { return Ok(Inspection::default()) };
    let format = RowFormat { text, time: event_time(job, spec).map(Arc::new), steps: Arc::default() };
    file_source(files, format, OnBadRecord::Fail, &mut Counters::default()).inspect()
}

/// The files of a source, and their format.
fn format(spec: &SourceSpec) -> Result<Option<(&Files, TextFormat)>> {
    Ok(Some(match &spec.kind {
        SourceKind::Keys(_) => return Ok(None),
        SourceKind::Text(files) => (files, TextFormat::Text(TextLines)),
        SourceKind::Csv { files, delimiter, header, quoted_newlines } => {
            let format = CsvFiles::new(spec.fields.clone()).delimiter(*delimiter).header(*header);
            (files, TextFormat::Csv(format.quoted_newlines(*quoted_newlines)))
        }
        SourceKind::Json(files) => (files, TextFormat::Json(JsonLines::new(spec.fields.clone()))),
        SourceKind::Regex { files, pattern } => {
            let format = RegexLines::new(pattern, spec.fields.clone()).map_err(Error::invalid)?;
            (files, TextFormat::Regex(Box::new(format)))
        }
    }))
}

fn plain<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    spec: &SourceSpec,
    files: &Files,
    format: RowFormat,
    on_bad_record: OnBadRecord,
    counters: &mut Counters,
) -> Stream<F, Row> {
    let mut source = file_source(files, format, on_bad_record, counters);
    if let Some(time_of) = time_of(spec) {
        source = source.event_time(spec.watermarks, time_of);
    }
    pipeline.source(&spec.id, Throttled::new(source, spec.rate))
}

fn with_dead_letters<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    spec: &SourceSpec,
    files: &Files,
    format: RowFormat,
    directory: &OutputPath,
    counters: &mut Counters,
) -> Result<Stream<F, Row>> {
    let mut source = file_source(files, WithDeadLetters(format), OnBadRecord::Keep, counters);
    if let Some(time_of) = time_of(spec) {
        source = source.event_time(spec.watermarks, move |record| record.as_ref().ok().and_then(&time_of));
    }
    let records = pipeline.source(&spec.id, Throttled::new(source, spec.rate));
    let (rows, letters) = records.partition(|record| record);
    let columns = DeadLetter::columns();
    let format = JsonRows::new(columns.iter().map(|column| column.name.as_str()));
    let sink = FileSink::new(FileSinkConfig::new(directory.clone()), format)?;
    letters.map(DeadLetter::into_row).sink(&spec.dead_letters_id(), sink);
    Ok(rows)
}

fn file_source<F: FileFormat>(
    files: &Files,
    format: F,
    on_bad_record: OnBadRecord,
    counters: &mut Counters,
) -> FileSource<F> {
    let source = FileSource::new(files.path.clone(), format)
        .moved_from(files.moved_from.clone())
        .split_size(files.split_size)
        .max_record(files.max_record)
        .on_bad_record(on_bad_record)
        .at_end(files.at_end);
    let bad = source.clone();
    let kept = on_bad_record == OnBadRecord::Keep;
    counters.bad.push(Arc::new(move || BadRecords {
        count: bad.bad_records(),
        first: bad.first_bad_record(),
        kept,
    }));
    source
}

/// The event time of a row, where the job has them.
fn time_of(spec: &SourceSpec) -> Option<impl Fn(&Row) -> Option<Timestamp> + Send + Sync + 'static> {
    let index = spec.event_time?;
    Some(move |row: &Row| row.get(index).as_event_time())
}

/// The column of event times, and which of them the windows of the job can hold.
#[derive(Debug)]
struct TimeColumn {
    index: usize,
    name: String,
    range: RangeInclusive<i64>,
}

fn event_time(job: &Job, spec: &SourceSpec) -> Option<TimeColumn> {
    let index = spec.event_time?;
    let name = spec.columns.get(index)?.name.clone();
    // The window around a time begins and ends within its own length; a second one, within one more.
    let reach = job.steps.iter().map(|placed| placed.step.reach());
    let margin = reach.fold(1_i64, i64::saturating_add).saturating_mul(2);
    let range = i64::MIN.saturating_add(margin)..=i64::MAX.saturating_sub(margin);
    Some(TimeColumn { index, name, range })
}

impl TimeColumn {
    /// Checks the row that was decoded last.
    #[inline]
    fn check(&self, output: &mut Batch<Row>) -> Result<(), BadRecord> {
        let row = output.records().last();
        let time = row.map(|row| row.get(self.index));
        match time {
            Some(time)
                if !time.as_event_time().is_some_and(|time| self.range.contains(&time.as_millis())) =>
            {
                let reason = format!(
                    "the event time {time} is out of range: expected milliseconds from {} to {}",
                    self.range.start(),
                    self.range.end()
                );
                remove_last(output);
                Err(BadRecord::new(reason).in_column(&self.name))
            }
            _ => Ok(()),
        }
    }
}

/// Removes the last row of a batch.
#[cold]
fn remove_last(output: &mut Batch<Row>) {
    let (mut rows, mut times) = std::mem::take(output).into_columns();
    rows.pop();
    times.pop();
    *output = Batch::from_columns(rows, times);
}

/// The rows of a job file's source, each with an event time if the job has them.
#[derive(Clone)]
struct RowFormat {
    text: TextFormat,
    time: Option<Arc<TimeColumn>>,
    /// The steps that run within the source.
    steps: Arc<[RowStep]>,
}

/// The decoder of a [`RowFormat`].
struct RowDecoder {
    text: TextDecoder,
    time: Option<Arc<TimeColumn>>,
    steps: Arc<[RowStep]>,
    decoded: Batch<Row>,
    rows: Vec<Row>,
}

impl FileFormat for RowFormat {
    type Record = Row;
    type Decoder = RowDecoder;

    fn framing(&self) -> Framing {
        self.text.framing()
    }

    fn layout(&self) -> String {
        self.text.layout()
    }

    fn has_header(&self) -> bool {
        self.text.has_header()
    }

    fn decoder(&self, header: &[u8]) -> Result<RowDecoder, String> {
        let (text, time, steps) = (self.text.decoder(header)?, self.time.clone(), Arc::clone(&self.steps));
        Ok(RowDecoder { text, time, steps, decoded: Batch::new(), rows: Vec::new() })
    }
}

impl Decode<Row> for RowDecoder {
    #[inline]
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<Row>) -> Result<(), BadRecord> {
        if !self.steps.is_empty() {
            return self.decode_and_step(bytes, output);
        }
        let before = output.len();
        self.text.decode(bytes, output)?;
        match &self.time {
            Some(time) if output.len() > before => time.check(output),
            _ => Ok(()),
        }
    }
}

impl RowDecoder {
    /// A row that a step drops, or that becomes none, leaves one without columns, which still has its event
    /// time and counts as read.
    fn decode_and_step(&mut self, bytes: &[u8], output: &mut Batch<Row>) -> Result<(), BadRecord> {
        self.decoded.clear();
        self.text.decode(bytes, &mut self.decoded)?;
        if let (Some(time), 1..) = (&self.time, self.decoded.len()) {
            time.check(&mut self.decoded)?;
        }
        for (row, _) in self.decoded.drain() {
            let time = self.time.as_ref().and_then(|time| row.get(time.index).as_event_time());
            self.rows.clear();
            let stepped = apply_all(&self.steps, row, &mut |row| self.rows.push(row));
            stepped.map_err(|fault| failed(&fault))?;
            if self.rows.is_empty() {
                output.push(Row::default(), time);
            }
            self.rows.drain(..).for_each(|row| output.push(row, time));
        }
        Ok(())
    }
}

#[cold]
fn failed(fault: &Fault) -> BadRecord {
    let bad = BadRecord::new(fault.to_string());
    match fault.column() {
        Some(column) => bad.in_column(column),
        None => bad,
    }
}

/// The formats of job files as one type, so that the compiler sees one source of files.
#[derive(Clone)]
enum TextFormat {
    Text(TextLines),
    Csv(CsvFiles),
    Json(JsonLines),
    Regex(Box<RegexLines>),
}

impl FileFormat for TextFormat {
    type Record = Row;
    type Decoder = TextDecoder;

    fn framing(&self) -> Framing {
        match self {
            Self::Text(format) => format.framing(),
            Self::Csv(format) => format.framing(),
            Self::Json(format) => format.framing(),
            Self::Regex(format) => format.framing(),
        }
    }

    fn layout(&self) -> String {
        match self {
            Self::Text(format) => format.layout(),
            Self::Csv(format) => format.layout(),
            Self::Json(format) => format.layout(),
            Self::Regex(format) => format.layout(),
        }
    }

    fn has_header(&self) -> bool {
        match self {
            Self::Text(format) => format.has_header(),
            Self::Csv(format) => format.has_header(),
            Self::Json(format) => format.has_header(),
            Self::Regex(format) => format.has_header(),
        }
    }

    fn decoder(&self, header: &[u8]) -> Result<TextDecoder, String> {
        Ok(match self {
            Self::Text(format) => TextDecoder::Text(format.decoder(header)?),
            Self::Csv(format) => TextDecoder::Csv(Box::new(format.decoder(header)?)),
            Self::Json(format) => TextDecoder::Json(format.decoder(header)?),
            Self::Regex(format) => TextDecoder::Regex(Box::new(format.decoder(header)?)),
        })
    }
}

/// The decoder of a [`TextFormat`].
enum TextDecoder {
    Text(<TextLines as FileFormat>::Decoder),
    Csv(Box<<CsvFiles as FileFormat>::Decoder>),
    Json(<JsonLines as FileFormat>::Decoder),
    Regex(Box<RegexLines>),
}

impl Decode<Row> for TextDecoder {
    #[inline]
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<Row>) -> Result<(), BadRecord> {
        match self {
            Self::Text(decoder) => decoder.decode(bytes, output),
            Self::Csv(decoder) => decoder.decode(bytes, output),
            Self::Json(decoder) => decoder.decode(bytes, output),
            Self::Regex(decoder) => decoder.decode(bytes, output),
        }
    }
}
