//! Results of queries, printed batch by batch.

use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use strandline_state_api::Result;
use strandline_state_sql::datafusion::arrow::array::RecordBatch;
use strandline_state_sql::datafusion::arrow::datatypes::SchemaRef;
use strandline_state_sql::datafusion::arrow::error::ArrowError;
use strandline_state_sql::datafusion::arrow::ipc::writer::StreamWriter;
use strandline_state_sql::datafusion::arrow::json::WriterBuilder;
use strandline_state_sql::datafusion::arrow::json::writer::LineDelimited;
use strandline_state_sql::datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::Failure;
use crate::cli::SqlFormat;
use crate::table::TextTable;
use crate::terminal::{print_bytes, unprintable};

/// Prints the rows of one statement.
pub(super) struct Output {
    schema: SchemaRef,
    form: Form,
}

enum Form {
    /// Of a statement without a result.
    Nothing,
    Table(Option<TextTable>),
    /// Of `EXPLAIN`, whose cells have lines.
    Plans,
    Csv {
        has_header: bool,
    },
    Json,
    Arrow(Option<Box<StreamWriter<Vec<u8>>>>),
    Parquet(Option<Box<ArrowWriter<Vec<u8>>>>),
}

/// How many rows wait in memory until they are part of a Parquet file.
const ROW_GROUP: usize = 128 << 10;

impl Output {
    pub(super) fn new(format: SqlFormat, schema: &SchemaRef) -> Self {
        let form = match format {
            _ if schema.fields().is_empty() => Form::Nothing,
            SqlFormat::Table if is_plan(schema) => Form::Plans,
            SqlFormat::Table => Form::Table(None),
            SqlFormat::Csv => Form::Csv { has_header: false },
            SqlFormat::Json => Form::Json,
            SqlFormat::Arrow => Form::Arrow(None),
            SqlFormat::Parquet => Form::Parquet(None),
        };
        Self { schema: schema.clone(), form }
    }

    pub(super) fn print(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        Ok(self.printed(batch)?)
    }

    fn printed(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.form {
            Form::Nothing => {}
            Form::Table(table) => {
                let names = || self.schema.fields().iter().map(|field| field.name().clone());
                let table = table.get_or_insert_with(|| TextTable::new(names()));
                print_bytes(table.lines(&cells(batch, "NULL")?).as_bytes());
            }
            Form::Plans => {
                for row in cells(batch, "")? {
                    print_bytes(format!("{}\n", row.join("\n").trim_end()).as_bytes());
                }
            }
            Form::Csv { has_header } => {
                let mut writer = csv::Writer::from_writer(Vec::new());
                if !std::mem::replace(has_header, true) {
                    let names = self.schema.fields().iter().map(|field| field.name());
                    writer.write_record(names).map_err(unprintable)?;
                }
                for row in cells(batch, "")? {
                    writer.write_record(&row).map_err(unprintable)?;
                }
                print_bytes(&writer.into_inner().map_err(|e| unprintable(e.into_error()))?);
            }
            Form::Json => {
                let mut lines = Vec::new();
                let mut writer =
                    WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut lines);
                writer.write(batch).and_then(|()| writer.finish()).map_err(unprintable)?;
                print_bytes(&lines);
            }
            Form::Arrow(writer) => {
                let writer = match writer {
                    Some(writer) => writer,
                    none => none.insert(Box::new(
                        StreamWriter::try_new(Vec::new(), &self.schema).map_err(unprintable)?,
                    )),
                };
                writer.write(batch).map_err(unprintable)?;
                print_bytes(&std::mem::take(writer.get_mut()));
            }
            Form::Parquet(writer) => {
                let writer = match writer {
                    Some(writer) => writer,
                    none => none.insert(Box::new(parquet(&self.schema)?)),
                };
                writer.write(batch).map_err(unprintable)?;
                print_bytes(&std::mem::take(writer.inner_mut()));
            }
        }
        Ok(())
    }

    /// Prints what stands behind the rows, or the header where no row came.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let is_begun = match &self.form {
            Form::Table(table) => table.is_some(),
            Form::Csv { has_header } => *has_header,
            Form::Arrow(writer) => writer.is_some(),
            Form::Parquet(writer) => writer.is_some(),
            Form::Nothing | Form::Json | Form::Plans => true,
        };
        if !is_begun {
            self.printed(&RecordBatch::new_empty(self.schema.clone()))?;
        }
        match self.form {
            Form::Arrow(Some(mut writer)) => {
                writer.finish().map_err(unprintable)?;
                print_bytes(writer.get_ref());
            }
            Form::Parquet(Some(writer)) => print_bytes(&writer.into_inner().map_err(unprintable)?),
            _ => {}
        }
        Ok(())
    }
}

fn parquet(schema: &SchemaRef) -> Result<ArrowWriter<Vec<u8>>> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .build();
    ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(unprintable)
}

/// Whether rows are those of `EXPLAIN`.
fn is_plan(schema: &SchemaRef) -> bool {
    schema.fields().iter().map(|field| field.name().as_str()).eq(["plan_type", "plan"])
}

/// The cells of a batch as text, row by row.
pub(super) fn cells(batch: &RecordBatch, null: &str) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::new().with_null(null);
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>().map_err(unprintable)?;
    let cell = |column: &ArrayFormatter<'_>, row| column.value(row).try_to_string().map_err(unprintable);
    let row = |row| columns.iter().map(|column| cell(column, row)).collect();
    (0..batch.num_rows()).map(row).collect()
}
