//! One key of one state, looked up between two batches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use strandline_checkpoint_protocol::Term;
use strandline_checkpoint_storage::{Manifest, OperatorSnapshot, OperatorTypes, SubtaskSnapshot};
use strandline_snapshot_format::{EntryRef, Op, SegmentKind, SegmentWriter, WriterOptions};
use strandline_state_api::backend::{BackendScope, EncodedEntry};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{KeyedSnapshot, SnapshotPart};
use strandline_state_api::{CheckpointId, Error, ErrorKind, KeyGroup, KeyHash, OperatorId, Result};

use crate::live::{LiveState, LiveStore};
use crate::request::Requester;
use crate::sync::lock;

/// A key that somebody looks up. A drop without an answer is one.
#[derive(Debug)]
pub(crate) struct LookUp {
    operator: OperatorId,
    state: String,
    key: Vec<u8>,
    group: KeyGroup,
    requester: Mutex<Option<Requester<LiveState>>>,
}

/// Entries of one key: by namespace and map key, as segments have them.
#[derive(Debug, Default)]
pub(crate) struct Found(BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>>);

impl Found {
    pub(crate) fn add(&mut self, entry: &EncodedEntry<'_>) {
        let at = (entry.namespace.to_vec(), entry.map_key.to_vec());
        self.0.insert(at, entry.value.to_vec());
    }
}

impl LookUp {
    pub(crate) fn new(
        operator: OperatorId,
        state: String,
        key: Vec<u8>,
        requester: Requester<LiveState>,
    ) -> Self {
        let group = KeyGroup::of(KeyHash::of_encoded(&key));
        Self { operator, state, key, group, requester: Mutex::new(Some(requester)) }
    }

    pub(crate) fn operator(&self) -> &OperatorId {
        &self.operator
    }

    pub(crate) fn state(&self) -> &str {
        &self.state
    }

    /// The encoded key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether a subtask has the key.
    pub(crate) fn is_at(&self, scope: &BackendScope) -> bool {
        scope.operator == self.operator && scope.key_groups.contains(self.group)
    }

    pub(crate) fn answer(&self, answer: Result<LiveState>) {
        if let Some(requester) = lock(&self.requester).take() {
            requester.answer(answer);
        }
    }

    /// Makes the answer of what a subtask found.
    pub(crate) fn state_of(
        &self,
        scope: &BackendScope,
        meta: StateMeta,
        found: &Found,
        types: &Arc<OperatorTypes>,
    ) -> Result<LiveState> {
        let store = Arc::new(LiveStore::new(Term(0), CheckpointId(0), u64::MAX, None));
        let states = vec![meta];
        let mut keyed = KeyedSnapshot { states: states.clone(), ..KeyedSnapshot::default() };
        if !found.0.is_empty() {
            let mut writer = SegmentWriter::new(states, SegmentKind::Base, WriterOptions::default())?;
            for ((namespace, sub), value) in &found.0 {
                let entry = EntryRef::new(self.group, 0, Op::Put, &self.key);
                writer.push(EntryRef { namespace, sub, value, ..entry })?;
            }
            let finished = writer.finish()?;
            let segment = store.hold(finished.bytes)?;
            keyed.parts.push(SnapshotPart::portable(segment, finished.key_groups));
        }
        let mut subtask = SubtaskSnapshot::new(scope.subtask, scope.key_groups);
        subtask.keyed = keyed;
        let (id, subtasks) = (self.operator.clone(), vec![subtask]);
        let operators =
            vec![OperatorSnapshot { id, parallelism: 1, subtasks, types: OperatorTypes::clone(types) }];
        let manifest = Manifest { operators, ..Manifest::new(CheckpointId(0), Term(0), "") };
        Ok(LiveState::new(manifest, store))
    }
}

impl Drop for LookUp {
    fn drop(&mut self) {
        let message = "no subtask answers: the operator has no keyed state, or the job restarts";
        let error = Error::new(ErrorKind::Unavailable, message);
        self.answer(Err(error.with("operator", &self.operator).with("state", &self.state)));
    }
}
