//! What changed in a state between two checkpoints: the table function `state_diff`.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result as Planned;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{Stream, StreamExt, stream};
use strandline_state_api::schema::DataType;
use strandline_state_api::{CheckpointId, Error, ErrorKind, KeyGroup, KeyGroupRange, Result, Timestamp};
use strandline_state_reader::{Collect, EncodedRow, Parts, Scan, StatePart, StoredState, Value};

use crate::StateCatalog;
use crate::error::external;
use crate::layout::{Column, Origin, of_state, schema};
use crate::scan::Cells;

/// Rows in one chunk of a side, and their encoded bytes; one row may have more.
const CHUNK_ROWS: usize = 1024;
const CHUNK_BYTES: usize = 1 << 20;

/// `state_diff('operator', 'state', from, to)`: the rows that were added, removed and changed.
#[derive(Debug)]
pub(crate) struct StateDiff(StateCatalog);

impl StateDiff {
    pub(crate) fn new(catalog: StateCatalog) -> Self {
        Self(catalog)
    }
}

impl TableFunctionImpl for StateDiff {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Planned<Arc<dyn TableProvider>> {
        let (operator, state, from, to) = arguments(args.exprs()).map_err(external)?;
        let path = format!("{operator}/{state}");
        // The types are those of the checkpoint that is looked at.
        let known = self.0.checkpoint().state(&path).map_err(external)?.clone();
        let columns: Arc<[Column]> = columns(&known).into();
        Ok(Arc::new(DiffTable {
            catalog: self.0.clone(),
            known,
            from,
            to,
            schema: schema(&columns),
            columns,
        }))
    }
}

fn arguments(args: &[Expr]) -> Result<(String, String, CheckpointId, CheckpointId)> {
    let text = |arg: &Expr| match arg {
        Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::Utf8View(text), _) => text.clone(),
        _ => None,
    };
    let id = |arg: &Expr| match arg {
        Expr::Literal(ScalarValue::Int64(Some(id)), _) => u64::try_from(*id).ok().map(CheckpointId),
        Expr::Literal(ScalarValue::UInt64(Some(id)), _) => Some(CheckpointId(*id)),
        _ => None,
    };
    let read = match args {
        [operator, state, from, to] => text(operator).zip(text(state)).zip(id(from).zip(id(to))),
        _ => None,
    };
    let ((operator, state), (from, to)) = read.ok_or_else(|| {
        Error::invalid(
            "state_diff takes two names and two numbers: state_diff('operator', 'state', from, to)",
        )
    })?;
    Ok((operator, state, from, to))
}

/// What changed, which entry it is, and its value before and after.
fn columns(state: &StoredState) -> Vec<Column> {
    let made = |name: &str, of: &DataType| {
        let (data_type, stored) = (of.clone(), of.clone());
        Column { name: name.to_owned(), data_type, stored, origin: Origin::Subtask }
    };
    let mut columns = vec![made("change", &DataType::Text)];
    columns.extend(of_state(state).into_iter().filter(|column| column.origin.is_identity()));
    if let Some(value) = state.value() {
        columns.extend(["before", "after"].map(|name| made(name, value.data_type())));
    }
    for index in 1..columns.len() {
        while columns[..index].iter().any(|column| column.name == columns[index].name) {
            columns[index].name.push('_');
        }
    }
    columns
}

#[derive(Debug)]
struct DiffTable {
    catalog: StateCatalog,
    known: StoredState,
    from: CheckpointId,
    to: CheckpointId,
    columns: Arc<[Column]>,
    schema: SchemaRef,
}

impl DiffTable {
    /// A scan of the state in a checkpoint; `None` if it did not have the state.
    async fn side(&self, id: CheckpointId) -> Result<Option<Scan>> {
        let checkpoint = self.catalog.checkpoint_at(id).await?;
        let state = match checkpoint.state(&self.known.path()) {
            Ok(state) => state,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let types = |state: &StoredState| {
            let of = |part: Option<&StatePart>| part.map(|part| part.data_type().clone());
            [of(Some(state.key())), of(state.namespace()), of(state.map_key()), of(state.value())]
        };
        if state.kind() != self.known.kind() || types(state) != types(&self.known) {
            let message = "the state has other types than in the checkpoint that is looked at, so they cannot be \
                           compared: look at a checkpoint between whose types changed";
            let error = Error::new(ErrorKind::Incompatible, message).with("state", state.path());
            return Err(error.with("checkpoint", id));
        }
        Ok(Some(checkpoint.scan(state)))
    }
}

#[async_trait]
impl TableProvider for DiffTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        let from = self.side(self.from).await.map_err(external)?;
        let to = self.side(self.to).await.map_err(external)?;
        let count = u32::try_from(session.config().target_partitions()).unwrap_or(1).max(1);
        let partition = |number| -> Arc<dyn PartitionStream> {
            let range = KeyGroupRange::of_subtask(number, count);
            let narrowed = |scan: &Option<Scan>| scan.clone().map(|scan| scan.key_groups(range));
            let (columns, schema) = (Arc::clone(&self.columns), Arc::clone(&self.schema));
            let state = self.known.clone();
            Arc::new(Compared { sides: [narrowed(&from), narrowed(&to)], state, columns, schema })
        };
        let partitions: Vec<Arc<dyn PartitionStream>> = (0..count).map(partition).collect();
        let schema = Arc::clone(&self.schema);
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, projection, [], false, limit)?))
    }
}

/// The comparison of a range of key groups.
struct Compared {
    sides: [Option<Scan>; 2],
    state: StoredState,
    columns: Arc<[Column]>,
    schema: SchemaRef,
}

impl fmt::Debug for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compared").field("state", &self.state.path()).finish_non_exhaustive()
    }
}

impl PartitionStream for Compared {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let walk = Walk {
            before: Side::new(self.sides[0].clone()),
            after: Side::new(self.sides[1].clone()),
            has_value: self.state.value().is_some(),
            columns: Arc::clone(&self.columns),
            schema: Arc::clone(&self.schema),
            cells: Cells::new(self.columns.len()),
            max_rows: context.session_config().batch_size(),
        };
        let batches = stream::try_unfold(walk, |mut walk| async move {
            let batch = walk.next_batch().await.map_err(external)?;
            Ok(batch.map(|batch| (batch, walk)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// Walks over both sides, which have the same order.
struct Walk {
    before: Side,
    after: Side,
    has_value: bool,
    columns: Arc<[Column]>,
    schema: SchemaRef,
    cells: Cells,
    max_rows: usize,
}

impl Walk {
    async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while !self.cells.is_full(self.max_rows) {
            let order = match (self.before.peek().await?, self.after.peek().await?) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.place().cmp(&after.place()),
            };
            let before = if order.is_le() { self.before.take() } else { None };
            let after = if order.is_ge() { self.after.take() } else { None };
            self.compare(before.as_ref(), after.as_ref())?;
        }
        self.cells.take(&self.schema, &self.columns)
    }

    /// Adds a row for an entry that is not the same on both sides.
    fn compare(&mut self, before: Option<&Owned>, after: Option<&Owned>) -> Result<()> {
        let is_same_form =
            self.before.state().zip(self.after.state()).is_some_and(|(a, b)| a.forms().eq(b.forms()));
        let change = match (before, after) {
            (Some(before), Some(after)) => {
                let is_same = before.value == after.value && before.form == after.form && is_same_form;
                if is_same || !self.has_value {
                    return Ok(());
                }
                "changed"
            }
            (Some(_), None) => "removed",
            (None, _) => "added",
        };
        let decode = |row: Option<&Owned>, side: &Side, parts| match (row, side.state()) {
            (Some(row), Some(state)) => row.encoded().decode(state, parts).map(Some),
            _ => Ok(None),
        };
        let (old, new) = (decode(before, &self.before, Parts::ALL)?, decode(after, &self.after, Parts::ALL)?);
        let value =
            |row: &Option<strandline_state_reader::Row>| row.as_ref().and_then(|row| row.value.clone());
        if change == "changed" && value(&old) == value(&new) {
            return Ok(());
        }
        let Some(entry) = new.as_ref().or(old.as_ref()) else { return Ok(()) };
        let identity = self.columns.iter().filter(|column| column.origin.is_identity());
        let mut row = vec![Ok(Value::Text(change.to_owned()))];
        row.extend(identity.map(|column| column.of_row(entry)));
        if self.has_value {
            row.extend([value(&old), value(&new)].map(|value| Ok(value.unwrap_or_default())));
        }
        let bytes = [before, after].into_iter().flatten().map(Owned::bytes).sum();
        self.cells.push(row, bytes)
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Vec<Owned>>> + Send>>;

/// The rows of one checkpoint.
struct Side {
    state: Option<StoredState>,
    chunks: Option<Chunks>,
    ready: VecDeque<Owned>,
}

impl Side {
    fn new(scan: Option<Scan>) -> Self {
        let state = scan.as_ref().map(|scan| scan.state().clone());
        let chunks = scan.map(|scan| Box::pin(scan.collect_with(Chunk::default())) as _);
        Self { state, chunks, ready: VecDeque::new() }
    }

    fn state(&self) -> Option<&StoredState> {
        self.state.as_ref()
    }

    async fn peek(&mut self) -> Result<Option<&Owned>> {
        while self.ready.is_empty() {
            let Some(chunks) = &mut self.chunks else { return Ok(None) };
            match chunks.next().await {
                Some(chunk) => self.ready.extend(chunk?),
                None => self.chunks = None,
            }
        }
        Ok(self.ready.front())
    }

    fn take(&mut self) -> Option<Owned> {
        self.ready.pop_front()
    }
}

/// An encoded row.
#[derive(Debug)]
struct Owned {
    subtask: u32,
    key_group: KeyGroup,
    time: Option<Timestamp>,
    key: Vec<u8>,
    namespace: Vec<u8>,
    map_key: Vec<u8>,
    index: Option<u64>,
    value: Vec<u8>,
    form: usize,
}

impl Owned {
    /// What scans are in the order of.
    fn place(&self) -> (KeyGroup, Option<Timestamp>, [&[u8]; 3], Option<u64>) {
        (self.key_group, self.time, [&self.key, &self.namespace, &self.map_key], self.index)
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.namespace.len() + self.map_key.len() + self.value.len()
    }

    fn encoded(&self) -> EncodedRow<'_> {
        EncodedRow {
            subtask: self.subtask,
            key_group: self.key_group,
            key: &self.key,
            namespace: &self.namespace,
            map_key: &self.map_key,
            index: self.index,
            value: &self.value,
            form: self.form,
            stamp: None,
            time: self.time,
        }
    }
}

/// Collects encoded rows.
#[derive(Default)]
struct Chunk {
    rows: Vec<Owned>,
    bytes: usize,
}

impl Collect for Chunk {
    type Batch = Vec<Owned>;

    fn push(&mut self, row: &EncodedRow<'_>) -> Result<()> {
        let row = Owned {
            subtask: row.subtask,
            key_group: row.key_group,
            time: row.time,
            key: row.key.to_vec(),
            namespace: row.namespace.to_vec(),
            map_key: row.map_key.to_vec(),
            index: row.index,
            value: row.value.to_vec(),
            form: row.form,
        };
        self.bytes += row.bytes();
        self.rows.push(row);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES
    }

    fn take(&mut self) -> Result<Option<Vec<Owned>>> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        Ok((!rows.is_empty()).then_some(rows))
    }
}
