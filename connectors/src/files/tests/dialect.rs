//! CSV and JSON lines: what the sinks write comes back, and other writers and readers agree.

use std::io::Write;

use super::*;
use crate::file_sink::{CsvRows, JsonRows, WriteRecords};
use crate::row::Moment;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a, \"\r\n\t'é\u{feff}]{1,6}", Just("null".to_owned()), any::<String>()]
}

fn value(column: &Column) -> BoxedStrategy<Value> {
    let value = match column.kind {
        ColumnType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        ColumnType::Int => any::<i64>().prop_map(Value::Int).boxed(),
        ColumnType::UInt => any::<u64>().prop_map(Value::UInt).boxed(),
        ColumnType::Float => {
            prop_oneof![any::<f64>(), Just(-0.0), Just(f64::MAX), Just(f64::MIN_POSITIVE / 4.0)]
                .prop_map(Value::Float)
                .boxed()
        }
        ColumnType::Timestamp => {
            let nanos = -377_705_023_201_000_000_000i128..=253_402_207_200_999_999_999;
            nanos.prop_map(|nanos| Value::Timestamp(Moment::from_nanos(nanos).unwrap())).boxed()
        }
        ColumnType::Text => text().prop_map(|text| Value::text(&text)).boxed(),
    };
    if column.nullable { prop_oneof![3 => value, 1 => Just(Value::Null)].boxed() } else { value }
}

fn schema() -> impl Strategy<Value = Vec<Column>> {
    let kind = proptest::sample::select(ColumnType::NAMES.map(|(_, kind)| kind).to_vec());
    proptest::collection::vec((kind, any::<bool>(), "[a-c,\"\n é]{0,3}"), 1..5).prop_map(|columns| {
        let column = |(i, (kind, nullable, name)): (usize, (ColumnType, bool, String))| Column {
            name: format!("{name}{i}"),
            kind,
            nullable,
        };
        columns.into_iter().enumerate().map(column).collect()
    })
}

/// Columns, and rows of them.
fn table() -> impl Strategy<Value = (Vec<Column>, Vec<Row>)> {
    schema().prop_flat_map(|columns| {
        let row: Vec<_> = columns.iter().map(value).collect();
        let row = row.prop_map(|values| values.into_iter().collect::<Row>());
        (Just(columns), proptest::collection::vec(row, 0..12))
    })
}

fn written(format: &impl WriteRecords<Row>, rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::new();
    format.header(&mut out);
    rows.iter().for_each(|row| format.write(row, &mut out).unwrap());
    out
}

/// Rows as text in which floats have all their bits, so that NaN equals itself.
fn exact(rows: &[Row]) -> Vec<String> {
    let value = |value: &Value| match value {
        Value::Float(v) if v.is_nan() => "NaN".to_owned(),
        Value::Float(v) => format!("{:016x}", v.to_bits()),
        other => format!("{other:?}"),
    };
    rows.iter().map(|row| row.0.iter().map(value).collect::<Vec<_>>().join("|")).collect()
}

fn read_back(format: impl FileFormat<Record = Row>, bytes: &[u8], split_size: u64) -> Result<Vec<Row>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    all(&FileSource::new(file.path(), format).split_size(split_size))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(256)))]

    #[test]
    fn csv_that_the_sink_writes_comes_back(
        (columns, rows) in table(),
        header: bool,
        split_size in 1u64..200,
    ) {
        let names = columns.iter().map(|column| column.name.as_str());
        let format = if header { CsvRows::with_header(names) } else { CsvRows::new() };
        let bytes = written(&format, &rows);
        let back = CsvFiles::new(columns).header(header).quoted_newlines(true);
        prop_assert_eq!(exact(&read_back(back, &bytes, split_size).unwrap()), exact(&rows));
    }

    #[test]
    fn json_lines_that_the_sink_writes_come_back((columns, mut rows) in table(), split_size in 1u64..200) {
        // JSON has no NaN and no infinities: they become null.
        for value in rows.iter_mut().flat_map(|row| &mut row.0) {
            if let Value::Float(v) = value && !v.is_finite() {
                *v = 0.5;
            }
        }
        let names = columns.iter().map(|column| column.name.as_str());
        let bytes = written(&JsonRows::new(names), &rows);
        let back = read_back(JsonLines::new(columns), &bytes, split_size).unwrap();
        prop_assert_eq!(exact(&back), exact(&rows));
    }

    /// What another writer makes of fields, in any of its styles, another reader and ours read alike.
    #[test]
    fn other_writers_and_readers_agree(
        records in proptest::collection::vec(proptest::collection::vec(text(), 3), 0..12),
        style in proptest::sample::select(vec![
            ::csv::QuoteStyle::Always, ::csv::QuoteStyle::Necessary, ::csv::QuoteStyle::NonNumeric,
        ]),
        crlf: bool,
        delimiter in proptest::sample::select(vec![b',', b';', b'\t']),
    ) {
        let end = if crlf { ::csv::Terminator::CRLF } else { ::csv::Terminator::Any(b'\n') };
        let mut writer = ::csv::WriterBuilder::new()
            .quote_style(style).terminator(end).delimiter(delimiter).from_writer(Vec::new());
        for record in &records {
            writer.write_record(record).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        prop_assume!(!bytes.starts_with("\u{feff}".as_bytes()));
        let mut reader =
            ::csv::ReaderBuilder::new().has_headers(false).delimiter(delimiter).from_reader(bytes.as_slice());
        let theirs: Vec<Vec<String>> = reader
            .records()
            .map(|record| record.unwrap().iter().map(str::to_owned).collect())
            .collect();
        let columns = ["a", "b", "c"].map(|name| Column::new(name, ColumnType::Text)).to_vec();
        let format = CsvFiles::new(columns).header(false).delimiter(delimiter).quoted_newlines(true);
        let ours: Vec<Vec<String>> = read_back(format, &bytes, u64::MAX)
            .unwrap()
            .iter()
            .map(|row| row.0.iter().map(|value| value.as_text().unwrap().to_owned()).collect())
            .collect();
        prop_assert_eq!(&ours, &records);
        prop_assert_eq!(ours, theirs);
    }
}

/// Null and empty text, and what stands for them in each place.
#[test]
fn null_is_an_empty_field_and_empty_text_is_a_pair_of_quotes() {
    let column = |kind, nullable| Column { name: "v".into(), kind, nullable };
    let (text, number) = (ColumnType::Text, ColumnType::Int);
    for (kind, nullable, field, wanted) in [
        (text, true, "", Ok(Value::Null)),
        (text, true, "\"\"", Ok(Value::text(""))),
        (text, false, "", Ok(Value::text(""))),
        (text, false, "\"\"", Ok(Value::text(""))),
        (number, true, "", Ok(Value::Null)),
        (number, true, "\"\"", Ok(Value::Null)),
        (number, true, "\"7\"", Ok(Value::Int(7))),
        (
            number,
            false,
            "",
            Err("column \"v\": expected int, found \"\"; declare it nullable if values may be missing"),
        ),
    ] {
        let format = CsvFiles::new(vec![column(kind, nullable)]);
        let read = read_back(format, format!("v,w\n{field},x\n").as_bytes(), u64::MAX);
        let read = read.map(|rows| rows[0].get(0).clone()).map_err(|error| error.message().to_owned());
        assert_eq!(read, wanted.map_err(str::to_owned), "{field:?} as {kind}, nullable {nullable}");
    }
    // In a file of one column a blank line is a null where that may be; otherwise it is left out.
    for (nullable, wanted) in [
        (true, vec![Value::text("a"), Value::Null, Value::text("b")]),
        (false, vec![Value::text("a"), Value::text("b")]),
    ] {
        let rows = read_back(CsvFiles::new(vec![column(text, nullable)]), b"v\na\n\nb\n", u64::MAX).unwrap();
        assert_eq!(rows.iter().map(|row| row.get(0).clone()).collect::<Vec<_>>(), wanted);
    }
}
