//! Builds the sink of a job.

use strandline_connectors::keys::{GAMMA, mix};
use strandline_connectors::{
    Column, CsvRows, DiscardSink, FileSink, FileSinkConfig, JsonRows, Row, StdoutSink, WriteRecords,
};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Result, SerdeCodec};

use super::Flow;
use crate::jobfile::{SinkFormat, SinkSpec};

/// Ends `flow`, whose rows have these columns, in a sink.
pub(super) fn sink<F: BackendFactory>(
    flow: Flow<F>,
    id: &str,
    spec: &SinkSpec,
    columns: &[Column],
) -> Result<()> {
    let names = || columns.iter().map(|column| column.name.as_str());
    let writer = |format: &SinkFormat| match format {
        SinkFormat::Csv { header: true } => RowWriter::Csv(CsvRows::with_header(names())),
        SinkFormat::Csv { header: false } => RowWriter::Csv(CsvRows::new()),
        SinkFormat::Json => RowWriter::Json(JsonRows::new(names())),
    };
    match spec {
        SinkSpec::Files { directory, format } => {
            let sink = FileSink::new(FileSinkConfig::new(directory.clone()), writer(format))?;
            // Rows of a union come by several chains.
            flow.rows().codec(SerdeCodec).sink(id, sink);
        }
        SinkSpec::Stdout(format) => flow.rows().codec(SerdeCodec).sink(id, StdoutSink::new(writer(format))),
        SinkSpec::Discard { checksum } => match flow {
            Flow::Counts(counts, _) => {
                counts.sink(id, discard(*checksum, |&(key, count)| checksum_of(key, count)));
            }
            flow => flow.rows().codec(SerdeCodec).sink(id, discard(*checksum, checksum_of_row)),
        },
    }
    Ok(())
}

fn discard<T>(checksum: bool, of: fn(&T) -> u64) -> DiscardSink<T> {
    if checksum { DiscardSink::with_checksum(of) } else { DiscardSink::new() }
}

/// The part of a key and its count in the checksum of a key stream.
fn checksum_of(key: u64, count: u64) -> u64 {
    mix(key.wrapping_mul(GAMMA).wrapping_add(count))
}

fn checksum_of_row(row: &Row) -> u64 {
    let [key, count] = [0, 1].map(|column| row.get(column).as_uint().unwrap_or(0));
    checksum_of(key, count)
}

/// The formats of job files as one type, so that the compiler sees one sink of each kind.
#[derive(Clone, Debug)]
enum RowWriter {
    Csv(CsvRows),
    Json(JsonRows),
}

impl WriteRecords<Row> for RowWriter {
    fn extension(&self) -> &'static str {
        match self {
            Self::Csv(format) => format.extension(),
            Self::Json(format) => format.extension(),
        }
    }

    fn header(&self, out: &mut Vec<u8>) {
        match self {
            Self::Csv(format) => format.header(out),
            Self::Json(format) => format.header(out),
        }
    }

    #[inline]
    fn write(&self, record: &Row, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Csv(format) => format.write(record, out),
            Self::Json(format) => format.write(record, out),
        }
    }
}
