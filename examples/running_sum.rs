//! A stateful operator in a query engine that has none: a running sum for each user, as a node of a DataFusion plan
//! over a stream without end. Its state is in checkpoints with the position of the stream, so a process that dies goes
//! on where it was.
//!
//! ```text
//! cargo run -p strandline-examples --features sql --bin running-sum
//! ```
//!
//! The table `sums` of the catalogue is the host of the operator. Its plan reads the plan of `events`; SQL above it
//! filters and projects. Every so many rows the node takes a checkpoint: operator and backend are those that the
//! executor runs, the manifest is one that every other tool reads.

use std::fmt;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use strandline::operators::{Reduce, Running, RunningAggregate};
use strandline::prelude::*;
use strandline::sql::datafusion;
use strandline::state::backend::{
    BackendFactory, BackendScope, Progress, RestoreSnapshot, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline::state::host::KeyedProcess;
use strandline::state::{CheckpointId, KeyGroupRange, Keyed, OperatorId};
use strandline::storage::{
    CommitLog, CommitLogOptions, Manifest, OperatorSnapshot, OperatorTypes, RecoverOptions, SubtaskSnapshot,
    decode_positions, encode_each,
};

use datafusion::arrow::array::{Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion::prelude::{SessionConfig, SessionContext};

const JOB: &str = "running-sums";
const OPERATOR: &str = "sums";
const ROWS_PER_CHECKPOINT: u64 = 10_000;
const ROWS_PER_BATCH: u64 = 512;

type Process = KeyedProcess<RunningAggregate<String, Sum>, MemoryBackend<String>>;
type Sum = Reduce<i64, fn(&mut i64, i64)>;

/// The operator with its state, and where it commits it.
struct Hosted {
    process: Process,
    writer: <MemoryBackend<String> as SnapshotSource>::Writer,
    storage: Storage,
    log: CommitLog,
    restored_from: Option<CheckpointId>,
    next: CheckpointId,
    /// How many rows of the stream are in the state.
    position: u64,
    rows: u64,
}

impl Hosted {
    /// Claims the storage, and restores the newest checkpoint.
    async fn open(storage: &Storage) -> Result<Self> {
        let id = OperatorId::new(OPERATOR)?;
        storage.belong_to(JOB, None).await?;
        let claimed =
            CommitLog::claim(storage, CommitLogOptions::new(JOB), CommitLog::random_tokens()).await?;
        let next = claimed.next_checkpoint();
        let recovered = storage.recover(RecoverOptions::default()).await?.restored;
        let backend = MemoryBackend::factory().create::<String>(BackendScope::new(id.clone(), 0, 1))?;
        let add: fn(&mut i64, i64) = |sum, more| *sum += more;
        let mut process = Process::open(|ctx| Running::new(Reduce::new(add)).open(ctx), backend, Vec::new())?;
        let (mut position, mut restored_from) = (0, None);
        if let Some(recovered) = recovered {
            let assignment = recovered.manifest.assign(1)?;
            if let Some(operator) = assignment.operators.get(&id) {
                let segments = storage.segments(assignment.term, assignment.checkpoint);
                process.backend_mut().restore(&operator.subtasks[0].keyed, &segments).await?;
                position = decode_positions::<u64>(&operator.positions)?.first().copied().unwrap_or(0);
            }
            restored_from = Some(assignment.checkpoint);
        }
        let writer = process.backend_mut().take_writer()?;
        let (storage, log) = (storage.clone(), claimed.log);
        Ok(Self { process, writer, storage, log, restored_from, next, position, rows: 0 })
    }

    /// The new sum of each row's user.
    async fn batch(&mut self, batch: &RecordBatch, schema: &SchemaRef) -> Planned<RecordBatch> {
        let column = |index: usize| batch.column(index).as_any();
        let (Some(positions), Some(users), Some(cents)) = (
            column(0).downcast_ref::<UInt64Array>(),
            column(1).downcast_ref::<StringArray>(),
            column(2).downcast_ref::<Int64Array>(),
        ) else {
            return Err(DataFusionError::Plan("events are position, user and cents".into()));
        };
        let mut changes = strandline::state::Batch::new();
        for row in 0..batch.num_rows() {
            let user = users.value(row).to_owned();
            self.process
                .process(Keyed::new(&user), cents.value(row), None, &mut changes)
                .map_err(external)?;
            self.position = positions.value(row) + 1;
        }
        self.rows += batch.num_rows() as u64;
        if self.rows >= ROWS_PER_CHECKPOINT {
            self.rows = 0;
            self.checkpoint().await.map_err(external)?;
        }
        // Where a sum changes, the operator takes the old one back before it adds the new one.
        let sums = changes.drain().filter_map(|(change, _)| change.is_addition().then(|| change.into_row()));
        let (users, sums): (Vec<String>, Vec<i64>) = sums.unzip();
        let columns: Vec<Arc<dyn Array>> =
            vec![Arc::new(StringArray::from(users)), Arc::new(Int64Array::from(sums))];
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }

    /// Stores state and position together.
    async fn checkpoint(&mut self) -> Result<()> {
        let checkpoint = self.next;
        self.next = checkpoint.next();
        let term = self.log.term();
        let backend = self.process.backend_mut();
        backend.prepare(checkpoint, SnapshotKind::Incremental)?;
        let prepared = loop {
            if let Progress::Ready(_, prepared) = backend.advance(usize::MAX)? {
                break prepared;
            }
        };
        let types = OperatorTypes::of_states(&backend.schemas(), self.process.operator_state().types());
        let mut snapshot = SubtaskSnapshot::new(0, KeyGroupRange::of_subtask(0, 1));
        snapshot.keyed = self.writer.commit(prepared, &self.storage.segments(term, checkpoint)).await?;
        snapshot.positions = encode_each(&[self.position])?;
        let id = OperatorId::new(OPERATOR)?;
        let operator = OperatorSnapshot { id, parallelism: 1, subtasks: vec![snapshot], types };
        let manifest = Manifest {
            restored_from: self.restored_from,
            operators: vec![operator],
            ..Manifest::new(checkpoint, term, JOB)
        };
        self.log.commit_alone(&manifest).await?;
        self.storage.sweep().await.map(drop)
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The table of running sums over the table of events.
struct Sums {
    events: Arc<dyn TableProvider>,
    schema: SchemaRef,
    /// Taken by the one scan that runs.
    hosted: Arc<tokio::sync::Mutex<Hosted>>,
}

#[async_trait::async_trait]
impl TableProvider for Sums {
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
        _: Option<usize>,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        let input = self.events.scan(session, None, &[], None).await?;
        let node: Arc<dyn ExecutionPlan> =
            Arc::new(SumsExec::new(input, Arc::clone(&self.schema), Arc::clone(&self.hosted)));
        let Some(projection) = projection else { return Ok(node) };
        let column = |index: &usize| {
            let name = self.schema.field(*index).name().clone();
            let expr = Arc::new(datafusion::physical_expr::expressions::Column::new(&name, *index));
            ProjectionExpr { expr, alias: name }
        };
        Ok(Arc::new(ProjectionExec::try_new(projection.iter().map(column).collect::<Vec<_>>(), node)?))
    }
}

/// The node of the plan.
#[derive(Debug)]
struct SumsExec {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    hosted: Arc<tokio::sync::Mutex<Hosted>>,
    properties: Arc<PlanProperties>,
}

impl SumsExec {
    fn new(
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        hosted: Arc<tokio::sync::Mutex<Hosted>>,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Unbounded { requires_infinite_memory: false },
        ));
        Self { input, schema, hosted, properties }
    }

    /// The same node over another input.
    fn over(&self, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Planned<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else {
            return Err(DataFusionError::Internal("running sums need an input".into()));
        };
        Ok(Arc::new(Self::new(input, Arc::clone(&self.schema), Arc::clone(&self.hosted))))
    }
}

impl ExecutionPlan for SumsExec {
    fn name(&self) -> &'static str {
        "SumsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// One operator owns all keys, so all its input comes in one partition.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Planned<TreeNodeRecursion>,
    ) -> Planned<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        self.over(children)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        self.over(children)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Planned<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (hosted, of_batches) = (Arc::clone(&self.hosted), Arc::clone(&self.schema));
        let sums = input.and_then(move |batch| {
            let (hosted, schema) = (Arc::clone(&hosted), Arc::clone(&of_batches));
            async move { hosted.lock().await.batch(&batch, &schema).await }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), sums)))
    }
}

/// Events from a position on, without end: what a broker would give.
#[derive(Debug)]
struct Events {
    from: u64,
    schema: SchemaRef,
}

fn event(n: u64) -> (String, i64) {
    (format!("user-{}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58), (n % 90) as i64 + 10)
}

impl PartitionStream for Events {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let batches = stream::iter((self.from..).step_by(ROWS_PER_BATCH as usize)).map(move |from| {
            let positions: Vec<u64> = (from..from + ROWS_PER_BATCH).collect();
            let (users, cents): (Vec<_>, Vec<_>) = positions.iter().map(|n| event(*n)).unzip();
            let columns: Vec<Arc<dyn Array>> = vec![
                Arc::new(UInt64Array::from(positions)),
                Arc::new(StringArray::from(users)),
                Arc::new(Int64Array::from(cents)),
            ];
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the operator at row {}", self.position)
    }
}

impl fmt::Debug for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "running sums over {:?}", self.events)
    }
}

impl DisplayAs for SumsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SumsExec")
    }
}

/// Queries until so many batches have come, and stops as by a crash; returns the last sum that it saw of a user, and
/// how many rows were read before.
async fn query(
    storage: &Storage,
    user: &str,
    batches: usize,
) -> Result<(i64, u64), Box<dyn std::error::Error>> {
    let hosted = Hosted::open(storage).await?;
    let position = hosted.position;
    let column = |name, kind| Field::new(name, kind, false);
    let schema = |fields: Vec<Field>| -> SchemaRef { Arc::new(Schema::new(fields)) };
    let (user_column, cents) = (column("user", DataType::Utf8), column("cents", DataType::Int64));
    let events = schema(vec![column("position", DataType::UInt64), user_column.clone(), cents]);
    let stream = Arc::new(Events { from: position, schema: Arc::clone(&events) });
    let events = Arc::new(StreamingTable::try_new(events, vec![stream])?.with_infinite_table(true));
    let hosted = Arc::new(tokio::sync::Mutex::new(hosted));
    let sums = Sums { events, schema: schema(vec![user_column, column("sum", DataType::Int64)]), hosted };

    // A filter hands on batches of this size, of which this user has one in some thousand rows.
    let context = SessionContext::new_with_config(SessionConfig::new().with_batch_size(64));
    context.register_table("sums", Arc::new(sums))?;
    let found = context.sql(&format!("SELECT sum FROM sums WHERE \"user\" = '{user}'")).await?;
    let mut found = found.execute_stream().await?.take(batches);
    let mut last = 0;
    while let Some(batch) = found.try_next().await? {
        let sums = batch.column(0).as_any().downcast_ref::<Int64Array>();
        last = sums.and_then(|sums| sums.iter().flatten().last()).unwrap_or(last);
    }
    Ok((last, position))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let storage = Storage::open("memory://")?;
    let user = "user-7";
    let mut before = 0;
    for run in 0..3 {
        let (sum, position) = query(&storage, user, 10).await?;
        println!("from row {position} on: {user} comes to {sum}");
        if position < before || (run > 0 && position == 0) {
            return Err("it did not go on from its checkpoint".into());
        }
        before = position;
        // A sum without a gap and without a row twice is that of some prefix of the stream.
        let mut all = (0..).map(event).filter(|(of, _)| of == user).scan(0, |all, (_, cents)| {
            *all += cents;
            Some(*all)
        });
        if all.find(|known| *known >= sum) != Some(sum) {
            return Err(format!("{sum} is no sum of {user}").into());
        }
    }
    println!("all sums are exact");
    Ok(())
}
