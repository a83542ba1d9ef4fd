//! A completed checkpoint, opened for reading.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use strandline_checkpoint_storage::{CompletedCheckpoint, History, Manifest, OperatorSnapshot, Storage};
use strandline_snapshot_format::{Merge, SegmentHead, SegmentKind};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{KeyedSnapshot, PartFormat, SegmentName, SegmentRef, SegmentStore};
use strandline_state_api::{CheckpointId, Error, ErrorKind, KeyGroupRange, OperatorId, Result};

use crate::find::{ambiguous, unknown};
use crate::source::Source;
use crate::{Decoders, Scan, StoredState};

/// How often the newest checkpoint is chosen anew because a newer one took its place meanwhile.
const ATTEMPTS: usize = 5;

/// Which checkpoint to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// The newest.
    #[default]
    Latest,
    /// This one.
    Checkpoint(CheckpointId),
}

impl FromStr for At {
    type Err = Error;

    /// Reads `latest` or a number.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for any other text.
    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("latest", _) => Ok(Self::Latest),
            (_, Ok(id)) => Ok(Self::Checkpoint(CheckpointId(id))),
            _ => Err(Error::invalid("expected `latest` or the number of a checkpoint").with("found", text)),
        }
    }
}

/// A completed checkpoint, and everything that can be read of it. A cheap handle.
///
/// Opening reads the manifest. Nothing keeps the checkpoint from being swept while it is read, when a running
/// job completes newer ones: a read that meets this fails with an error that names the checkpoint. A savepoint
/// stays.
#[derive(Clone)]
pub struct CheckpointReader(Arc<Inner>);

struct Inner {
    manifest: Manifest,
    /// Where the checkpoint stands in the log of which storage; `None` for one that was never committed.
    committed: Option<(Storage, CompletedCheckpoint)>,
    segments: Arc<dyn SegmentStore>,
    states: Vec<StoredState>,
    decoders: Decoders,
    heads: Mutex<HashMap<SegmentName, SegmentHead>>,
    #[cfg(feature = "rocksdb")]
    natives: crate::native::Natives,
}

impl CheckpointReader {
    /// Opens a checkpoint of a storage.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when the storage has no such checkpoint, or none at all;
    /// [`Corrupt`](ErrorKind::Corrupt) and [`Incompatible`](ErrorKind::Incompatible), with the file, when the
    /// manifest is damaged or newer than this crate; [`Unavailable`](ErrorKind::Unavailable) when the store
    /// fails.
    pub async fn open(storage: &Storage, at: At) -> Result<Self> {
        Self::open_with(storage, at, Decoders::default()).await
    }

    /// Opens a checkpoint with decoders of your own codecs.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(storage: &Storage, at: At, decoders: Decoders) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let history = storage.history().await?;
            let completed = choose(&history, at).map_err(|error| error.with("storage", storage.uri()))?;
            match storage.read_manifest(completed).await {
                Ok(manifest) => {
                    let segments = Arc::new(storage.reader());
                    let committed = Some((storage.clone(), completed.clone()));
                    return Self::build(manifest, committed, segments, decoders).await;
                }
                Err(error)
                    if error.kind() == ErrorKind::NotFound && !storage.is_retained(completed).await? =>
                {
                    if attempt == ATTEMPTS || at != At::Latest {
                        return Err(swept(error).with("checkpoint", completed.checkpoint));
                    }
                    attempt += 1;
                }
                Err(error) => return Err(error.with("checkpoint", completed.checkpoint)),
            }
        }
    }

    /// Opens a snapshot of a job that is in no log: its manifest, and the store of its segments.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn of_manifest(
        manifest: Manifest,
        segments: Arc<dyn SegmentStore>,
        decoders: Decoders,
    ) -> Result<Self> {
        Self::build(manifest, None, segments, decoders).await
    }

    async fn build(
        manifest: Manifest,
        committed: Option<(Storage, CompletedCheckpoint)>,
        segments: Arc<dyn SegmentStore>,
        decoders: Decoders,
    ) -> Result<Self> {
        let mut inner = Inner {
            manifest,
            committed,
            segments,
            states: Vec::new(),
            decoders,
            heads: Mutex::default(),
            #[cfg(feature = "rocksdb")]
            natives: Default::default(),
        };
        inner.states = inner.list_states().await?;
        Ok(Self(Arc::new(inner)))
    }

    /// Returns the number of the checkpoint.
    pub fn id(&self) -> CheckpointId {
        self.0.manifest.checkpoint
    }

    /// Returns the manifest: everything but keyed state.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Returns the decoders that the checkpoint was opened with.
    pub fn decoders(&self) -> &Decoders {
        &self.0.decoders
    }

    /// Returns all keyed states and timer services, by operator in the order of the manifest, and by name.
    pub fn states(&self) -> &[StoredState] {
        &self.0.states
    }

    /// Returns the keyed state with this name: `operator/state`, or the name of the state alone, or that of an
    /// operator that has one state.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) with the nearest names; [`Invalid`](ErrorKind::Invalid) with the
    /// candidates when several states have the name.
    pub fn state(&self, path: &str) -> Result<&StoredState> {
        let is_exact = |state: &&StoredState| {
            path.strip_prefix(state.operator().as_str()).and_then(|rest| rest.strip_prefix('/'))
                == Some(state.name())
        };
        let exact: Vec<_> = self.states().iter().filter(is_exact).collect();
        let called: Vec<_> = match exact.is_empty() {
            true => {
                let is_it = |state: &&StoredState| state.name() == path || state.operator().as_str() == path;
                self.states().iter().filter(is_it).collect()
            }
            false => exact,
        };
        let located = |error: Error| error.with("checkpoint", self.id());
        match called[..] {
            [only] => Ok(only),
            [] => Err(located(unknown("state", path, self.states().iter().map(StoredState::path)))),
            [..] => {
                let candidates: Vec<_> = called.iter().map(|state| state.path()).collect();
                Err(located(ambiguous("state", path, &candidates)))
            }
        }
    }

    /// Returns a scan of a state: of all its rows, unless more is set.
    pub fn scan(&self, state: &StoredState) -> Scan {
        Scan::new(self.clone(), state.clone())
    }

    /// Returns the keyed snapshots of an operator with their subtasks, in the order of their key groups.
    pub(crate) fn snapshots(&self, operator: &OperatorId) -> Vec<(u32, &KeyedSnapshot)> {
        let mut subtasks: Vec<_> =
            self.operator(operator).map_or(Vec::new(), |operator| operator.subtasks.iter().collect());
        subtasks.sort_by_key(|subtask| subtask.key_groups.start());
        subtasks.into_iter().map(|subtask| (subtask.subtask, &subtask.keyed)).collect()
    }

    fn operator(&self, id: &OperatorId) -> Option<&OperatorSnapshot> {
        self.0.manifest.operator(id)
    }

    /// Opens the entries of a snapshot in some key groups; `None` if there are none. They are those of all states,
    /// or of `state` alone.
    pub(crate) async fn source(
        &self,
        state: &str,
        snapshot: &KeyedSnapshot,
        range: KeyGroupRange,
    ) -> Result<Option<Source<'_>>> {
        let mut readers = Vec::with_capacity(snapshot.parts.len());
        for part in &snapshot.parts {
            let groups = part.key_groups.intersect(range);
            if groups.is_empty() {
                continue;
            }
            if let PartFormat::Native(format) = &part.format {
                return self.native_source(format, state, snapshot, range).await;
            }
            let head = self.head(&part.segment).await?;
            if head.index().blocks_in(groups).is_empty() {
                continue;
            }
            readers.push((head.reader(&*self.0.segments), groups));
        }
        if readers.is_empty() {
            return Ok(None);
        }
        Ok(Some(Source::Portable(Box::new(Merge::over(readers, SegmentKind::Base)?))))
    }

    #[cfg(feature = "rocksdb")]
    async fn native_source(
        &self,
        format: &str,
        state: &str,
        snapshot: &KeyedSnapshot,
        range: KeyGroupRange,
    ) -> Result<Option<Source<'_>>> {
        if format != strandline_backend_rocksdb::NATIVE_FORMAT {
            return Err(native(format));
        }
        let opened = self.0.natives.open(snapshot, &*self.0.segments).await?;
        Ok(opened.map(|opened| Source::Native(crate::native::NativeEntries::new(opened, state, range))))
    }

    #[cfg(not(feature = "rocksdb"))]
    async fn native_source(
        &self,
        format: &str,
        state: &str,
        _: &KeyedSnapshot,
        _: KeyGroupRange,
    ) -> Result<Option<Source<'_>>> {
        Err(native(format).with("state", state))
    }

    /// Returns the header and the index of a file, which are read once.
    pub(crate) async fn head(&self, segment: &SegmentRef) -> Result<SegmentHead> {
        match self.0.head(segment).await {
            Ok(head) => Ok(head),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Returns a better error for a file that is missing because the checkpoint was swept; one that was explained
    /// already stays.
    pub(crate) async fn explain(&self, error: Error) -> Error {
        let Some((storage, completed)) = &self.0.committed else { return error };
        if error.kind() != ErrorKind::NotFound || error.context("checkpoint").is_some() {
            return error;
        }
        match storage.is_retained(completed).await {
            Ok(false) => swept(error).with("checkpoint", completed.checkpoint),
            _ => error,
        }
    }
}

impl Inner {
    async fn head(&self, segment: &SegmentRef) -> Result<SegmentHead> {
        let known = self.heads.lock().unwrap_or_else(PoisonError::into_inner).get(&segment.name).cloned();
        if let Some(head) = known {
            return Ok(head);
        }
        let head = SegmentHead::read(&*self.segments, segment).await?;
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.insert(segment.name.clone(), head.clone());
        Ok(head)
    }

    /// Lists the states of all operators. A manifest of an older version does not list them; then the files do.
    async fn list_states(&self) -> Result<Vec<StoredState>> {
        let mut states = Vec::new();
        for operator in &self.manifest.operators {
            let mut by_name: BTreeMap<String, Vec<StateMeta>> = BTreeMap::new();
            for subtask in &operator.subtasks {
                let mut listed = subtask.keyed.states.clone();
                if listed.is_empty() {
                    for part in subtask.keyed.parts.iter().filter(|part| part.format.is_portable()) {
                        listed.extend(self.head(&part.segment).await?.index().states().iter().cloned());
                    }
                }
                for meta in listed {
                    let forms = by_name.entry(meta.name.clone()).or_default();
                    if !forms.contains(&meta) {
                        forms.push(meta);
                    }
                }
            }
            let of_operator = by_name.into_values();
            states.extend(of_operator.filter_map(|forms| {
                StoredState::new(&operator.id, forms, &operator.types.keyed, &self.decoders)
            }));
        }
        Ok(states)
    }
}

impl fmt::Debug for CheckpointReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointReader({})", self.id())
    }
}

fn swept(error: Error) -> Error {
    let message = "the checkpoint was swept while it was read: newer ones took its place; read again, or take a \
                   savepoint, which stays";
    Error::new(ErrorKind::NotFound, message).caused_by(error)
}

fn native(format: &str) -> Error {
    let message = format!(
        "the checkpoint is in the native format {format:?} of a backend: read it with a program that was built \
         with the feature `rocksdb`, or take a savepoint, which is in the portable format"
    );
    Error::new(ErrorKind::Unsupported, message)
}

fn choose(history: &History, at: At) -> Result<&CompletedCheckpoint> {
    let found = match at {
        At::Latest => history.latest(),
        At::Checkpoint(id) => history.find(id),
    };
    if let Some(found) = found {
        return Ok(found);
    }
    if let (Some(slot), At::Latest) = (history.unreadable.first(), at) {
        return Err(slot.error.clone());
    }
    let ids: Vec<_> = history.completed.iter().map(|known| known.checkpoint.to_string()).collect();
    Err(match (at, ids.is_empty()) {
        (_, true) => Error::new(ErrorKind::NotFound, "the storage has no checkpoint yet"),
        (At::Checkpoint(id), false) => {
            let message = format!("there is no checkpoint {id}; there are {}", ids.join(", "));
            Error::new(ErrorKind::NotFound, message)
        }
        (At::Latest, false) => Error::new(ErrorKind::NotFound, "the storage has no checkpoint"),
    })
}
