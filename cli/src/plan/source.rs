//! Builds the source of a job.

use std::sync::Arc;

use strandline_connectors::keys::KeyStream;
use strandline_connectors::{
    CsvFiles, Decode, FileFormat, FileSource, Framing, JsonLines, Row, TextLines, Throttled,
};
use strandline_runtime::Pipeline;
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Batch, Result, Timestamp};

use super::{Counters, Flow};
use crate::jobfile::{Files, SourceKind, SourceSpec};

/// Adds the source of `spec` to a pipeline.
pub(super) fn source<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    spec: &SourceSpec,
    counters: &mut Counters,
) -> Result<Flow<F>> {
    let (files, format) = match &spec.kind {
        SourceKind::Keys(config) => {
            let stream = Throttled::new(KeyStream::new(config.clone())?, spec.rate);
            return Ok(Flow::Keys(pipeline.source("source", stream)));
        }
        SourceKind::Text(files) => (files, RowFormat::Text(TextLines)),
        SourceKind::Csv { files, delimiter, header, quoted_newlines } => {
            let format = CsvFiles::new(spec.columns.clone()).delimiter(*delimiter).header(*header);
            (files, RowFormat::Csv(format.quoted_newlines(*quoted_newlines)))
        }
        SourceKind::Json(files) => (files, RowFormat::Json(JsonLines::new(spec.columns.clone()))),
    };
    let Files { path, split_size, on_bad_record } = files;
    let source = FileSource::new(path, format).split_size(*split_size).on_bad_record(*on_bad_record);
    let skipped = source.clone();
    counters.skipped = Some(Arc::new(move || skipped.skipped()));
    let rows = pipeline.source("source", Throttled::new(source, spec.rate));
    let Some(time) = spec.event_time else { return Ok(Flow::Rows(rows)) };
    let time_of = move |row: &Row| row.get(time).as_int().and_then(Timestamp::from_stored);
    Ok(Flow::Rows(rows.timestamps(spec.watermark_delay, time_of)))
}

/// The formats of job files as one type, so that the compiler sees one source of files.
#[derive(Clone)]
enum RowFormat {
    Text(TextLines),
    Csv(CsvFiles),
    Json(JsonLines),
}

impl FileFormat for RowFormat {
    type Record = Row;
    type Decoder = RowDecoder;

    fn framing(&self) -> Framing {
        match self {
            Self::Text(format) => format.framing(),
            Self::Csv(format) => format.framing(),
            Self::Json(format) => format.framing(),
        }
    }

    fn has_header(&self) -> bool {
        match self {
            Self::Text(format) => format.has_header(),
            Self::Csv(format) => format.has_header(),
            Self::Json(format) => format.has_header(),
        }
    }

    fn decoder(&self, header: &[u8]) -> Result<RowDecoder, String> {
        Ok(match self {
            Self::Text(format) => RowDecoder::Text(format.decoder(header)?),
            Self::Csv(format) => RowDecoder::Csv(Box::new(format.decoder(header)?)),
            Self::Json(format) => RowDecoder::Json(format.decoder(header)?),
        })
    }
}

/// The decoder of a [`RowFormat`].
enum RowDecoder {
    Text(<TextLines as FileFormat>::Decoder),
    Csv(Box<<CsvFiles as FileFormat>::Decoder>),
    Json(<JsonLines as FileFormat>::Decoder),
}

impl Decode<Row> for RowDecoder {
    #[inline]
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<Row>) -> Result<(), String> {
        match self {
            Self::Text(decoder) => decoder.decode(bytes, output),
            Self::Csv(decoder) => decoder.decode(bytes, output),
            Self::Json(decoder) => decoder.decode(bytes, output),
        }
    }
}
