//! The tables of a storage, as a catalogue of DataFusion.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::prelude::SessionContext;
use futures::FutureExt;
use strandline_checkpoint_storage::Storage;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};
use strandline_state_reader::{At, CheckpointReader, Decoders, OperatorElement, OperatorStateInfo};

use crate::diff::StateDiff;
use crate::error::external;
use crate::keyed::KeyedTable;
use crate::layout::of_elements;
use crate::listed::ListedTable;
use crate::metadata::{self, Viewed};
use crate::names;

/// The checkpoints of a job as a catalogue: a cheap handle.
///
/// The schema with the job's name has the tables of the checkpoint that is looked at: one for each keyed state, timer
/// service and operator state, and those that describe the checkpoint. The schema `job@7` has those of checkpoint 7; it
/// is opened when a query names it, and lists its tables from then on.
///
/// The tables are read-only. A table is called `operator/state`; a shorter name that only one state has finds it, too.
/// Nothing keeps a checkpoint from being swept while it is read: see [`CheckpointReader`].
#[derive(Clone, Debug)]
pub struct StateCatalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    checkpoint: CheckpointReader,
    storage: Option<Storage>,
    /// The checkpoints that there were when the catalogue was opened.
    known: BTreeSet<CheckpointId>,
    current: Arc<StateSchema>,
    others: Mutex<BTreeMap<CheckpointId, Arc<StateSchema>>>,
}

impl StateCatalog {
    /// Opens the checkpoints of a storage, to look at one of them.
    ///
    /// # Errors
    /// Those of [`CheckpointReader::open`].
    pub async fn open(storage: &Storage, at: At) -> Result<Self> {
        Self::open_with(storage, at, Decoders::default()).await
    }

    /// Opens the checkpoints of a storage with decoders of your own codecs.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(storage: &Storage, at: At, decoders: Decoders) -> Result<Self> {
        let checkpoint = CheckpointReader::open_with(storage, at, decoders).await?;
        let history = storage.history().await?;
        let known = history.completed.iter().map(|completed| completed.checkpoint).collect();
        Ok(Self::build(checkpoint, Some(storage.clone()), known))
    }

    /// The catalogue of a snapshot that is in no log, such as the live state of a running job, beside the checkpoints
    /// of the job's storage.
    ///
    /// # Errors
    /// Those of [`Storage::history`].
    pub async fn beside(snapshot: CheckpointReader, storage: &Storage) -> Result<Self> {
        let history = storage.history().await?;
        let known = history.completed.iter().map(|completed| completed.checkpoint).collect();
        Ok(Self::build(snapshot, Some(storage.clone()), known))
    }

    /// The catalogue of one snapshot, whatever store it is in.
    pub fn of_checkpoint(checkpoint: CheckpointReader) -> Self {
        Self::build(checkpoint, None, BTreeSet::new())
    }

    fn build(checkpoint: CheckpointReader, storage: Option<Storage>, known: BTreeSet<CheckpointId>) -> Self {
        let current = Arc::new(StateSchema::opened(checkpoint.clone(), storage.clone()));
        Self(Arc::new(Inner { checkpoint, storage, known, current, others: Mutex::default() }))
    }

    /// Registers the catalogue in a context under a name, and the table function `state_diff`.
    pub fn register(&self, context: &SessionContext, name: &str) {
        context.register_catalog(name, Arc::new(self.clone()));
        context.register_udtf("state_diff", Arc::new(StateDiff::new(self.clone())));
    }

    /// Returns the checkpoint that is looked at.
    pub fn checkpoint(&self) -> &CheckpointReader {
        &self.0.checkpoint
    }

    /// Returns the storage; `None` for the catalogue of one snapshot.
    pub fn storage(&self) -> Option<&Storage> {
        self.0.storage.as_ref()
    }

    /// Returns the name of the schema with the tables of the checkpoint that is looked at: that of the job.
    pub fn schema_name(&self) -> &str {
        &self.0.checkpoint.manifest().job
    }

    /// Opens another checkpoint of the storage.
    ///
    /// # Errors
    /// Those of [`CheckpointReader::open`]; [`Invalid`](ErrorKind::Invalid) for the catalogue of one snapshot.
    pub async fn checkpoint_at(&self, id: CheckpointId) -> Result<CheckpointReader> {
        if id == self.0.checkpoint.id() {
            return Ok(self.0.checkpoint.clone());
        }
        self.at(id).open().await
    }

    /// Returns the tables of the checkpoint that is looked at.
    pub(crate) fn current(&self) -> &StateSchema {
        &self.0.current
    }

    /// Returns the error for a table that the schema does not have: with the nearest names.
    pub(crate) fn unknown(&self, name: &str) -> Error {
        let wanted = name.to_lowercase();
        let close = |known: &&str| strsim::jaro_winkler(known, &wanted) > CLOSE;
        if let Some(similar) = metadata::names().find(close) {
            let message = format!("there is no table {name:?}; did you mean {similar:?}?");
            return Error::new(ErrorKind::NotFound, message);
        }
        match self.0.checkpoint.state(name) {
            Err(error) => error,
            Ok(state) => {
                Error::new(ErrorKind::NotFound, "the schema has no such table").with("state", state.path())
            }
        }
    }

    fn at(&self, id: CheckpointId) -> Arc<StateSchema> {
        let mut others = self.0.others.lock().unwrap_or_else(PoisonError::into_inner);
        let decoders = self.0.checkpoint.decoders().clone();
        let schema = || StateSchema::closed(id, self.0.storage.clone(), decoders);
        Arc::clone(others.entry(id).or_insert_with(|| Arc::new(schema())))
    }
}

impl CatalogProvider for StateCatalog {
    fn schema_names(&self) -> Vec<String> {
        let job = self.schema_name();
        let others = self.0.known.iter().map(|id| format!("{job}@{id}"));
        std::iter::once(job.to_owned()).chain(others).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let rest = name.strip_prefix(self.schema_name())?;
        if rest.is_empty() {
            return Some(Arc::clone(&self.0.current) as _);
        }
        let id = rest.strip_prefix('@')?.parse().ok()?;
        Some(self.at(CheckpointId(id)) as _)
    }
}

/// How similar to the name of a metadata table a name is that was meant to be it: a letter too many, too few, or wrong.
const CLOSE: f64 = 0.94;

/// The tables of one checkpoint, which is opened when it is needed.
pub(crate) struct StateSchema {
    at: At,
    storage: Option<Storage>,
    decoders: Decoders,
    opened: Mutex<Option<CheckpointReader>>,
    /// Tables and views of the session.
    created: Mutex<BTreeMap<String, Arc<dyn TableProvider>>>,
}

impl StateSchema {
    fn opened(checkpoint: CheckpointReader, storage: Option<Storage>) -> Self {
        let (at, decoders) = (At::Checkpoint(checkpoint.id()), checkpoint.decoders().clone());
        Self { at, storage, decoders, opened: Mutex::new(Some(checkpoint)), created: Mutex::default() }
    }

    fn closed(id: CheckpointId, storage: Option<Storage>, decoders: Decoders) -> Self {
        let at = At::Checkpoint(id);
        Self { at, storage, decoders, opened: Mutex::default(), created: Mutex::default() }
    }

    fn if_opened(&self) -> Option<CheckpointReader> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn open(&self) -> Result<CheckpointReader> {
        if let Some(opened) = self.if_opened() {
            return Ok(opened);
        }
        let Some(storage) = &self.storage else {
            return Err(Error::invalid("one snapshot is looked at, which is in no log: there is no other"));
        };
        let opened = CheckpointReader::open_with(storage, self.at, self.decoders.clone()).await?;
        let mut slot = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(slot.get_or_insert(opened).clone())
    }

    fn created(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether a name is one of the checkpoint, and not of a table or view of the session.
    pub(crate) async fn has_stored(&self, name: &str) -> bool {
        self.created(name).is_none() && matches!(self.find(name).await, Ok(Some(_)))
    }

    /// Returns the table with a name, if there is one.
    ///
    /// # Errors
    /// Those of opening the checkpoint; [`Invalid`](ErrorKind::Invalid) when several states have the name.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(created) = self.created(name) {
            return Ok(Some(created));
        }
        let checkpoint = self.open().await?;
        let viewed = Viewed { checkpoint: checkpoint.clone(), storage: self.storage.clone() };
        if let Some(table) = metadata::table(name, &viewed) {
            return Ok(Some(table));
        }
        match checkpoint.state(name) {
            Ok(state) => Ok(Some(Arc::new(KeyedTable::new(&checkpoint, state)))),
            Err(error) => match names::operator_state(&checkpoint, name) {
                Some(state) => Ok(Some(elements(&checkpoint, state))),
                None if error.kind() == ErrorKind::NotFound => Ok(None),
                None => Err(error),
            },
        }
    }
}

/// The table of an operator state.
fn elements(checkpoint: &CheckpointReader, state: OperatorStateInfo) -> Arc<ListedTable> {
    let columns = of_elements(&state);
    let named: Vec<_> =
        columns.iter().map(|column| (column.name.clone(), column.data_type.clone())).collect();
    let checkpoint = checkpoint.clone();
    Arc::new(ListedTable::new(named, move || {
        let rows = checkpoint.operator_elements(&state).and_then(|elements| {
            let row = |element: &OperatorElement| {
                columns.iter().map(|column| column.of_element(element)).collect::<Result<Vec<_>>>()
            };
            elements.iter().map(row).collect()
        });
        async move { rows }.boxed()
    }))
}

#[async_trait]
impl SchemaProvider for StateSchema {
    fn table_names(&self) -> Vec<String> {
        let Some(checkpoint) = self.if_opened() else { return Vec::new() };
        let mut all: Vec<String> = checkpoint.states().iter().map(|state| state.path()).collect();
        let lists = checkpoint.operator_states();
        all.extend(lists.iter().map(|state| names::of_operator_state(&checkpoint, state)));
        all.extend(metadata::names().map(str::to_owned));
        all.extend(self.created.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned());
        all
    }

    async fn table(&self, name: &str) -> Planned<Option<Arc<dyn TableProvider>>> {
        self.find(name).await.map_err(external)
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Planned<Option<Arc<dyn TableProvider>>> {
        if self.table_exist(&name) {
            return Err(DataFusionError::Execution(format!("there is a table {name:?} already")));
        }
        Ok(self.created.lock().unwrap_or_else(PoisonError::into_inner).insert(name, table))
    }

    fn deregister_table(&self, name: &str) -> Planned<Option<Arc<dyn TableProvider>>> {
        let removed = self.created.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if removed.is_none() && self.table_exist(name) {
            let message = format!("{name:?} is a table of the checkpoint, which nothing changes");
            return Err(DataFusionError::Execution(message));
        }
        Ok(removed)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

impl fmt::Debug for StateSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSchema").field("at", &self.at).finish_non_exhaustive()
    }
}
