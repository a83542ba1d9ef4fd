//! The plan that reads a keyed state: ranges of key groups, each as a stream of batches.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, StatisticsArgs,
};
use futures::StreamExt;
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, Result};
use strandline_state_reader::{Collect, EncodedRow, Parts, Row, Scan, StoredState, Typed, Value};

use crate::arrow::array;
use crate::error::external;
use crate::flat::FlatRows;
use crate::layout::{Column, Origin, parts};

/// Encoded bytes in one batch; one row may have more.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
/// Values, and parts of values, in one batch; one row may have more.
const BATCH_VALUES: usize = 1 << 20;

/// Reads some columns of a keyed state.
#[derive(Debug)]
pub(crate) struct StateScan {
    partitions: Vec<Scan>,
    columns: Arc<[Column]>,
    /// Only rows of this namespace.
    namespace: Option<Value>,
    schema: SchemaRef,
    counted: Counted,
    properties: Arc<PlanProperties>,
}

/// What the indices of the files show.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// The number of rows, if it is exact.
    pub(crate) rows: Option<u64>,
    /// The first and the last key groups that have a row.
    pub(crate) groups: Option<KeyGroupRange>,
}

impl StateScan {
    pub(crate) fn new(
        partitions: Vec<Scan>,
        columns: Vec<Column>,
        namespace: Option<Value>,
        counted: Counted,
    ) -> Self {
        let schema = crate::layout::schema(&columns);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let properties = Arc::new(properties);
        Self { partitions, columns: columns.into(), namespace, schema, counted, properties }
    }
}

impl DisplayAs for StateScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.partitions.first().map(|scan| scan.state().path()).unwrap_or_default();
        let columns: Vec<_> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let decoded = parts(&*self.columns);
        write!(
            f,
            "StateScan: state={state}, columns=[{}], decodes_value={}, partitions={}",
            columns.join(", "),
            decoded.value,
            self.partitions.len()
        )
    }
}

impl ExecutionPlan for StateScan {
    fn name(&self) -> &'static str {
        "StateScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Planned<TreeNodeRecursion>,
    ) -> Planned<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Planned<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Planned<SendableRecordBatchStream> {
        let Some(scan) = self.partitions.get(partition).cloned() else {
            return Err(DataFusionError::Internal(format!("a scan of state has no partition {partition}")));
        };
        let mut parts = parts(&*self.columns);
        parts.namespace |= self.namespace.is_some();
        let flat = match self.namespace {
            None => FlatRows::new(scan.state(), &self.columns, parts),
            Some(_) => None,
        };
        let values = || {
            let (state, namespace) = (scan.state().clone(), self.namespace.clone());
            let (columns, cells) = (Arc::clone(&self.columns), Cells::new(self.columns.len()));
            RowsOf::Values(ValueRows { state, columns, parts, namespace, cells })
        };
        let batches = Batches {
            rows: flat.map_or_else(values, RowsOf::Flat),
            schema: Arc::clone(&self.schema),
            max_rows: context.session_config().batch_size(),
        };
        let batches = scan.collect_with(batches).map(|batch| batch.map_err(external));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Planned<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if args.partition().is_some() {
            return Ok(Arc::new(statistics));
        }
        if let Some(rows) = self.counted.rows.and_then(|rows| usize::try_from(rows).ok()) {
            statistics.num_rows = Precision::Exact(rows);
        }
        if let Some(groups) = self.counted.groups.filter(|groups| !groups.is_empty()) {
            let exact = |group: u32| {
                Precision::Exact(ScalarValue::UInt16(Some(u16::try_from(group).unwrap_or(u16::MAX))))
            };
            for (column, statistics) in self.columns.iter().zip(&mut statistics.column_statistics) {
                if column.origin == Origin::KeyGroup && column.stored == column.data_type {
                    statistics.min_value = exact(groups.start());
                    statistics.max_value = exact(groups.end() - 1);
                    statistics.null_count = Precision::Exact(0);
                }
            }
        }
        Ok(Arc::new(statistics))
    }
}

/// Values by column, of some rows.
#[derive(Debug)]
pub(crate) struct Cells {
    columns: Vec<Vec<Value>>,
    rows: usize,
    bytes: usize,
    values: usize,
}

impl Cells {
    pub(crate) fn new(columns: usize) -> Self {
        Self { columns: vec![Vec::new(); columns], rows: 0, bytes: 0, values: 0 }
    }

    /// Adds a row that took so many encoded bytes.
    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = Result<Value>>, bytes: usize) -> Result<()> {
        for (column, value) in self.columns.iter_mut().zip(row) {
            let value = value?;
            self.values += count(&value);
            column.push(value);
        }
        self.rows += 1;
        self.bytes += bytes;
        Ok(())
    }

    pub(crate) fn is_full(&self, max_rows: usize) -> bool {
        self.rows >= max_rows || self.bytes >= BATCH_BYTES || self.values >= BATCH_VALUES
    }

    /// Takes the rows as a batch; `None` if there are none.
    pub(crate) fn take(&mut self, schema: &SchemaRef, columns: &[Column]) -> Result<Option<RecordBatch>> {
        let taken = std::mem::replace(self, Self::new(self.columns.len()));
        if taken.rows == 0 {
            return Ok(None);
        }
        let arrays = taken.columns.iter().zip(columns).map(|(values, column)| {
            let values: Vec<_> = values.iter().map(Some).collect();
            array(&column.data_type, &values).map_err(|error| error.with("column", &column.name))
        });
        batch(schema, arrays.collect::<Result<_>>()?, taken.rows).map(Some)
    }
}

/// Makes a batch, which may have no column.
pub(crate) fn batch(schema: &SchemaRef, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map_err(|e| Error::new(ErrorKind::Internal, "rows do not make a batch").caused_by(e))
}

/// The parts of a value.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::List(values) | Value::Record(values) => values.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|(key, value)| count(key) + count(value)).sum(),
        Value::Variant(_, value) => count(value),
        _ => 0,
    }
}

/// Collects rows into batches.
struct Batches {
    rows: RowsOf,
    schema: SchemaRef,
    max_rows: usize,
}

/// The rows of a batch.
enum RowsOf {
    /// Whose columns have no parts.
    Flat(FlatRows),
    /// Any others.
    Values(ValueRows),
}

/// Rows whose columns may have parts.
struct ValueRows {
    state: StoredState,
    columns: Arc<[Column]>,
    parts: Parts,
    namespace: Option<Value>,
    cells: Cells,
}

impl Collect for Batches {
    type Batch = RecordBatch;

    #[inline]
    fn push(&mut self, row: &EncodedRow<'_>) -> Result<()> {
        match &mut self.rows {
            RowsOf::Flat(rows) => rows.push(row),
            RowsOf::Values(rows) => rows.push(row),
        }
    }

    fn is_full(&self) -> bool {
        match &self.rows {
            RowsOf::Flat(rows) => rows.is_full(self.max_rows),
            RowsOf::Values(rows) => rows.cells.is_full(self.max_rows),
        }
    }

    fn take(&mut self) -> Result<Option<RecordBatch>> {
        match &mut self.rows {
            RowsOf::Flat(rows) => rows.take(&self.schema),
            RowsOf::Values(rows) => rows.cells.take(&self.schema, &rows.columns),
        }
    }
}

impl ValueRows {
    fn push(&mut self, row: &EncodedRow<'_>) -> Result<()> {
        let bytes = row.key.len() + row.namespace.len() + row.map_key.len() + row.value.len();
        let row = row.decode(&self.state, self.parts)?;
        if self.namespace.is_some() && row.namespace != self.namespace {
            return Ok(());
        }
        let cells = self.columns.iter().map(|column| {
            column.of_row(&row).map_err(|error| described(error, &column.name, &self.state, &row))
        });
        self.cells.push(cells, bytes)
    }
}

/// Adds to an error where the value is that a column does not hold. The scan adds the key.
#[cold]
fn described(error: Error, column: &str, state: &StoredState, row: &Row) -> Error {
    let error = error.with("column", column);
    match (&row.value, state.value()) {
        (Some(value), Some(part)) => {
            let shown: String = Typed::new(value, part.data_type()).to_string().chars().take(200).collect();
            error.with("value", shown)
        }
        _ => error,
    }
}
