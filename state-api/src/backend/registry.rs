//! The states of one backend in the order of their registration, and the checks that all backends share.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::BackendScope;
use crate::schema::{StateMeta, StateSchema};
use crate::{CheckpointId, Error, ErrorKind, Result};

/// The identity of a registered state: its backend, and its position there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateId {
    registry: u32,
    index: u32,
}

impl StateId {
    /// Returns the position of the state in the order of registration.
    #[inline]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl fmt::Display for StateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.index)
    }
}

/// What a [`StateRegistry`] needs to know about a state.
pub trait RegisteredState {
    /// Returns the schema: the state and the forms that it reads.
    fn schema(&self) -> &StateSchema;

    /// Returns the names of the state's Rust types, for errors.
    fn types(&self) -> &'static str;
}

/// The states of one backend. `S` is the backend's own type for a state of any kind, usually a `dyn` trait.
///
/// Every registry has an identity, which its [`StateId`]s carry: the registry refuses a handle of another
/// backend, even if types and position agree.
#[derive(Debug)]
pub struct StateRegistry<S: ?Sized> {
    id: u32,
    scope: BackendScope,
    states: Vec<Box<S>>,
    /// The names of the states, which stay readable while a state is borrowed.
    names: Vec<String>,
    /// The states of the restored snapshot that no registered state claims.
    orphans: Vec<StateMeta>,
    newest: Option<CheckpointId>,
    writer_taken: bool,
}

impl<S: RegisteredState + ?Sized> StateRegistry<S> {
    /// Creates an empty registry of the backend for `scope`.
    pub fn new(scope: BackendScope) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (states, names, orphans) = (Vec::new(), Vec::new(), Vec::new());
        Self { id, scope, states, names, orphans, newest: None, writer_taken: false }
    }

    /// Returns the scope of the backend.
    #[inline]
    pub fn scope(&self) -> &BackendScope {
        &self.scope
    }

    /// Registers the state that `make` creates, or returns the identity of the state that already has its
    /// name. `same` returns whether a registered state has the wanted Rust types.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the name is empty, when a state of other types has it, or
    /// when a restore has already met a state of this name; the errors of `make`.
    pub fn register(
        &mut self,
        schema: &StateSchema,
        types: &'static str,
        same: impl FnOnce(&S) -> bool,
        make: impl FnOnce(&BackendScope) -> Result<Box<S>>,
    ) -> Result<StateId> {
        let name = &schema.meta.name;
        if name.is_empty() {
            return Err(self.scope.locate(Error::invalid("a state needs a name")));
        }
        if self.orphans.iter().any(|orphan| orphan.name == *name) {
            let message =
                "the state was registered after it was restored; register it when the operator opens";
            return Err(self.scope.locate(Error::invalid(message)).with("state", name));
        }
        if let Some(index) = self.names.iter().position(|known| known == name) {
            let known = &*self.states[index];
            if known.schema() == schema && same(known) {
                return Ok(self.state_id(index));
            }
            return Err(self.conflict(known, schema, types));
        }
        let state = make(&self.scope)?;
        Ok(self.push(state))
    }

    /// Adds a state without a handle, for example one that the backend carries along unread.
    pub fn push(&mut self, state: Box<S>) -> StateId {
        self.names.push(state.schema().meta.name.clone());
        self.states.push(state);
        self.state_id(self.states.len() - 1)
    }

    fn state_id(&self, index: usize) -> StateId {
        StateId { registry: self.id, index: index as u32 }
    }

    fn conflict(&self, known: &S, wanted: &StateSchema, types: &'static str) -> Error {
        let form = |schema: &StateSchema, types: &str| {
            let StateMeta { kind, schema_version, .. } = &schema.meta;
            format!(
                "{kind} of {types} (codec {}, version {schema_version})",
                schema.meta.stored_value_codec()
            )
        };
        let message = "a state of this name is registered with another kind or other types; use another name";
        self.scope
            .locate(Error::invalid(message))
            .with("state", &wanted.meta.name)
            .with("registered", form(known.schema(), known.types()))
            .with("wanted", form(wanted, types))
    }

    /// Returns the state of a handle.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a handle of another backend.
    #[inline]
    pub fn get(&self, id: StateId) -> Result<&S> {
        match self.states.get(id.index()) {
            Some(state) if id.registry == self.id => Ok(state),
            _ => Err(self.foreign_handle()),
        }
    }

    /// Returns the state of a handle mutably.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    #[inline]
    pub fn get_mut(&mut self, id: StateId) -> Result<&mut S> {
        if id.registry != self.id || id.index() >= self.states.len() {
            return Err(self.foreign_handle());
        }
        Ok(&mut self.states[id.index()])
    }

    /// Returns the state of a handle and its location, for an error that occurs while the state is borrowed.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    #[inline]
    pub fn get_located(&mut self, id: StateId) -> Result<(&mut S, StateLocation<'_>)> {
        if id.registry != self.id || id.index() >= self.states.len() {
            return Err(self.foreign_handle());
        }
        let location = StateLocation { scope: &self.scope, names: &self.names, index: id.index };
        Ok((&mut self.states[id.index()], location))
    }

    /// Returns the error for a handle of another backend, or for a handle whose types are not those of the
    /// state.
    #[cold]
    pub fn foreign_handle(&self) -> Error {
        foreign_handle(&self.scope)
    }

    /// Returns an iterator over all states in the order of registration.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &S> {
        self.states.iter().map(|state| &**state)
    }

    /// Returns a mutable iterator over all states in the order of registration.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = &mut S> {
        self.states.iter_mut().map(|state| &mut **state)
    }

    /// Returns the state at a position in the order of registration.
    pub fn at(&self, index: usize) -> Option<&S> {
        self.states.get(index).map(|state| &**state)
    }

    /// Returns the state at a position in the order of registration, mutably.
    pub fn at_mut(&mut self, index: usize) -> Option<&mut S> {
        self.states.get_mut(index).map(|state| &mut **state)
    }

    /// Returns the number of states.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Returns whether no state is registered.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Returns the schemas of all states.
    pub fn schemas(&self) -> Vec<StateSchema> {
        self.iter().map(|state| state.schema().clone()).collect()
    }

    /// Returns the position of the state that takes over a stored one, by its name or a former name.
    pub fn claimant(&self, stored: &StateMeta) -> Option<usize> {
        self.states.iter().position(|state| state.schema().is_called(&stored.name))
    }

    /// Records one stored form of a state that no registered state claims, and returns its position among the
    /// [orphans](Self::orphans); a later registration of the name fails. `above` is the position of the next
    /// older form of the same state in the same snapshot: the position is behind it, so that each snapshot
    /// has its forms in the order of the orphans.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when the state was recorded with another kind, or with other
    /// codecs of key, namespace or map key: then the entries cannot be those of one state.
    pub fn add_orphan(&mut self, stored: &StateMeta, above: Option<usize>) -> Result<usize> {
        if let Some(known) = self.orphans.iter().find(|known| known.name == stored.name) {
            let described = stored.check_addressed_as(known);
            described.map_err(|_| {
                let message = "two snapshots describe a state differently that the job does not have: restore a \
                               checkpoint in which they agree, or register the state";
                Error::new(ErrorKind::Incompatible, message).with("state", &stored.name)
            })?;
        }
        let from = above.map_or(0, |above| above + 1);
        let known = (from..self.orphans.len()).find(|index| self.orphans[*index] == *stored);
        Ok(known.unwrap_or_else(|| {
            self.orphans.push(stored.clone());
            self.orphans.len() - 1
        }))
    }

    /// Returns the stored states that no registered state claims, each in every form that it has in the
    /// restored snapshots.
    pub fn orphans(&self) -> &[StateMeta] {
        &self.orphans
    }

    /// Returns the name of each stored state that no registered state claims, once.
    pub fn orphan_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for orphan in &self.orphans {
            if !names.contains(&orphan.name) {
                names.push(orphan.name.clone());
            }
        }
        names
    }

    /// Records that a snapshot of `checkpoint` is prepared.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when `checkpoint` is not above the newest one.
    pub fn begin_checkpoint(&mut self, checkpoint: CheckpointId) -> Result<()> {
        if let Some(newest) = self.newest.filter(|newest| *newest >= checkpoint) {
            let message = "a snapshot of this or a later checkpoint was prepared before";
            return Err(Error::invalid(message)
                .with("operator", &self.scope.operator)
                .with("checkpoint", checkpoint)
                .with("newest", newest));
        }
        self.newest = Some(checkpoint);
        Ok(())
    }

    /// Records that the snapshot writer is handed out.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the writer was handed out before.
    pub fn take_writer(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.writer_taken, true) {
            return Err(self.scope.locate(Error::invalid("the snapshot writer was taken before")));
        }
        Ok(())
    }

    /// Checks that the backend may be restored. `used` is whether the backend knows of earlier use.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the backend holds state, was restored before, or has
    /// handed out its writer.
    pub fn begin_restore(&self, used: bool) -> Result<()> {
        let message = if self.writer_taken {
            "the snapshot writer was taken before the restore; restore first"
        } else if used || self.newest.is_some() || !self.orphans.is_empty() {
            "only an empty, unused backend can be restored"
        } else {
            return Ok(());
        };
        Err(self.scope.locate(Error::invalid(message)))
    }
}

/// The location of a state, for errors.
#[derive(Clone, Copy, Debug)]
pub struct StateLocation<'a> {
    scope: &'a BackendScope,
    names: &'a [String],
    index: u32,
}

impl StateLocation<'_> {
    /// Adds state, operator and subtask to an error.
    #[cold]
    pub fn locate(&self, error: Error) -> Error {
        let name = self.names.get(self.index as usize).map_or("", String::as_str);
        self.scope.locate(error.with("state", name))
    }

    /// Returns the error for a handle whose types are not those of the state.
    #[cold]
    pub fn foreign_handle(&self) -> Error {
        foreign_handle(self.scope)
    }
}

fn foreign_handle(scope: &BackendScope) -> Error {
    scope.locate(Error::invalid(
        "the state handle belongs to another backend: use the one that this backend returned at registration",
    ))
}
