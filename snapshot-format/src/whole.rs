//! A kit for simple backends, whose snapshots hold all state each time.
//!
//! A backend of this kind implements its accesses on tables of its own ([`Values`] and so on), gives them to
//! [`WholeStates`], and leaves to this what remains: registration, the clock, walks over keys, snapshots at
//! their cut, the filter of expired values in full ones, states that no descriptor claims, and the restore
//! with its migrations. The barrier costs an encoding of all state, and each snapshot stores everything:
//! small state can afford both.
//!
//! The module `guide` of the crate `strandline-conformance` walks through such a backend.
//!
//! [`Values`]: strandline_state_api::backend::Values

mod address;
mod form;
mod restore;
mod snapshot;

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::marker::PhantomData;

use strandline_state_api::backend::{
    AcceptedForm, BackendScope, RegisteredState, StateId, StateRegistry, StateTime, StoredValues,
};
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::{CheckpointId, KeyGroup, KeyGroupRange, Keyed, Result, StateKey, Ttl};

pub use address::EntryAddress;
use form::{Elements, Form, Times};
pub use snapshot::{WholeSnapshot, WholeWriter};

/// The entries of one state, as a backend keeps them: values, lists, map entries, or timers.
pub trait WholeTable: Send + 'static {
    /// The content of an entry: a value, the elements of a list, the value of a map entry, `()` for a timer.
    type Content: Send + 'static;

    /// Counts the entries.
    fn len(&self) -> usize;

    /// Returns whether there is no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an entry of a restored snapshot; each comes once.
    fn insert(&mut self, at: EntryAddress, content: Self::Content);

    /// Visits every entry, in arbitrary order; stops at the first error.
    ///
    /// # Errors
    /// Those of `visit`.
    fn for_each(&self, visit: &mut dyn FnMut(&EntryAddress, &Self::Content) -> Result<()>) -> Result<()>;
}

/// The states of one backend for keys of type `K`, with their snapshots.
///
/// A backend forwards the methods of [`KeyedBackend`](strandline_state_api::KeyedBackend) that are not about
/// one table to those of the same name here, and its snapshots by
/// [`DelegateSnapshots`](strandline_state_api::backend::DelegateSnapshots).
pub struct WholeStates<K> {
    states: StateRegistry<dyn AnyState>,
    /// The entries of stored states that no registered state claims; every snapshot holds them.
    orphans: WholeSnapshot,
    /// The snapshots under way; those that could not be encoded fail when they advance.
    prepared: VecDeque<(CheckpointId, Result<WholeSnapshot>)>,
    clock: StateTime,
    key: PhantomData<fn() -> K>,
}

impl<K: StateKey> WholeStates<K> {
    /// Creates the empty states of the backend for `scope`.
    pub fn new(scope: BackendScope) -> Self {
        Self {
            states: StateRegistry::new(scope),
            orphans: WholeSnapshot::default(),
            prepared: VecDeque::new(),
            clock: StateTime::UNKNOWN,
            key: PhantomData,
        }
    }

    /// Returns the scope of the backend.
    pub fn scope(&self) -> &BackendScope {
        self.states.scope()
    }

    /// Lends the clock of the backend.
    pub fn clock(&mut self) -> &mut StateTime {
        &mut self.clock
    }

    /// Returns the schemas of all states, in the order of registration.
    pub fn schemas(&self) -> Vec<StateSchema> {
        self.states.schemas()
    }

    /// Counts the entries of all states.
    pub fn entries(&self) -> u64 {
        self.states.iter().map(|state| state.entries() as u64).sum()
    }

    /// Registers a value state or a map state with namespaces of type `N`, whose entries `table` keeps. Where
    /// the state is registered already, the call returns its identity and drops `table`.
    ///
    /// # Errors
    /// Those of [`StateRegistry::register`].
    pub fn register<N: StateKey, T: WholeTable>(
        &mut self,
        values: StoredValues<T::Content>,
        table: T,
    ) -> Result<StateId> {
        self.add::<N, T>(values, table)
    }

    /// Registers a list state, like [`register`](Self::register).
    ///
    /// # Errors
    /// Those of [`StateRegistry::register`].
    pub fn register_lists<N: StateKey, E: Send + 'static, T: WholeTable<Content = Vec<E>>>(
        &mut self,
        elements: StoredValues<E>,
        table: T,
    ) -> Result<StateId> {
        self.add::<N, T>(Elements(elements), table)
    }

    /// Registers a timer service, like [`register`](Self::register).
    ///
    /// # Errors
    /// Those of [`StateRegistry::register`].
    pub fn register_timers<N: StateKey, T: WholeTable<Content = ()>>(
        &mut self,
        schema: StateSchema,
        table: T,
    ) -> Result<StateId> {
        self.add::<N, T>(Times::new::<N>(schema), table)
    }

    fn add<N: StateKey, T: WholeTable>(&mut self, form: impl Form<T::Content>, table: T) -> Result<StateId> {
        let (schema, types) = (form.schema().clone(), form.types());
        let state = State { form, table, newest: None, namespace: PhantomData::<fn() -> N> };
        self.states.register(
            &schema,
            types,
            |known| known.types_of_table() == TypeId::of::<(N, T)>(),
            |_| Ok(Box::new(state)),
        )
    }

    /// Returns the table of a state that was registered with these types.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) for a handle of another backend or of other
    /// types.
    pub fn table<N: StateKey, T: WholeTable>(&mut self, state: StateId) -> Result<&mut T> {
        let (found, location) = self.states.get_located(state)?;
        let table = (found.types_of_table() == TypeId::of::<(N, T)>()).then(|| found.table());
        table.and_then(<dyn Any>::downcast_mut).ok_or_else(|| location.foreign_handle())
    }

    /// Visits every key and namespace of a state whose key group lies in `key_groups`, each once; stops at
    /// the first error.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) for a handle of another backend, and those of
    /// `visit`.
    pub fn for_each_key<N: StateKey>(
        &self,
        state: StateId,
        key_groups: KeyGroupRange,
        mut visit: impl FnMut(Keyed<'_, K>, &N) -> Result<()>,
    ) -> Result<()> {
        let mut keys = BTreeSet::new();
        self.states.get(state)?.addresses(&mut |at| {
            if key_groups.contains(KeyGroup::of(at.key_hash())) {
                keys.insert((at.key_hash(), at.key.clone(), at.namespace.clone()));
            }
        })?;
        for (hash, key, namespace) in &keys {
            visit(Keyed::with_hash(&K::decode(key)?, *hash), &N::decode(namespace)?)?;
        }
        Ok(())
    }
}

impl<K> fmt::Debug for WholeStates<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WholeStates").field("prepared", &self.prepared.len()).finish_non_exhaustive()
    }
}

/// Visits entries in the form of the snapshot format.
type VisitStored<'v> = &'v mut dyn FnMut(&EntryAddress, &[u8]) -> Result<()>;

/// A state of any types.
trait AnyState: RegisteredState + Send {
    /// Returns the identity of the types of namespace and table.
    fn types_of_table(&self) -> TypeId;
    fn table(&mut self) -> &mut dyn Any;
    fn entries(&self) -> usize;
    fn ttl(&self) -> Option<&Ttl>;
    fn addresses(&self, visit: &mut dyn FnMut(&EntryAddress)) -> Result<()>;
    fn stored(&self, visit: VisitStored<'_>) -> Result<()>;
    /// Prepares to restore entries that are stored as `stored`.
    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm>;
    fn restore(&mut self, at: EntryAddress, form: AcceptedForm, stored: &[u8]) -> Result<()>;
    /// Appends elements of another form to the list that was restored last.
    fn restore_more(&mut self, form: AcceptedForm, stored: &[u8]) -> Result<()>;
    /// Ends the restore of one snapshot.
    fn end_restore(&mut self);
}

/// A table, and the form that its entries have in snapshots.
struct State<N, F, T: WholeTable> {
    form: F,
    table: T,
    /// The entry that was restored last, to which more may come.
    newest: Option<(EntryAddress, T::Content)>,
    namespace: PhantomData<fn() -> N>,
}

impl<N: StateKey, T: WholeTable, F: Form<T::Content>> RegisteredState for State<N, F, T> {
    fn schema(&self) -> &StateSchema {
        self.form.schema()
    }

    fn types(&self) -> &'static str {
        self.form.types()
    }
}

impl<N: StateKey, T: WholeTable, F: Form<T::Content>> AnyState for State<N, F, T> {
    fn types_of_table(&self) -> TypeId {
        TypeId::of::<(N, T)>()
    }

    fn table(&mut self) -> &mut dyn Any {
        &mut self.table
    }

    fn entries(&self) -> usize {
        self.table.len()
    }

    fn ttl(&self) -> Option<&Ttl> {
        self.form.ttl()
    }

    fn addresses(&self, visit: &mut dyn FnMut(&EntryAddress)) -> Result<()> {
        self.table.for_each(&mut |at, _| {
            visit(at);
            Ok(())
        })
    }

    fn stored(&self, visit: VisitStored<'_>) -> Result<()> {
        let mut encoded = Vec::new();
        self.table.for_each(&mut |at, content| {
            encoded.clear();
            self.form.encode(content, &mut encoded)?;
            visit(at, &encoded)
        })
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        self.form.accept(stored)
    }

    fn restore(&mut self, at: EntryAddress, form: AcceptedForm, stored: &[u8]) -> Result<()> {
        self.end_restore();
        N::decode(&at.namespace)?;
        self.newest = Some((at, self.form.decode(form, stored)?));
        Ok(())
    }

    fn restore_more(&mut self, form: AcceptedForm, stored: &[u8]) -> Result<()> {
        match &mut self.newest {
            Some((_, list)) => self.form.append(list, form, stored),
            None => Ok(()),
        }
    }

    fn end_restore(&mut self) {
        if let Some((at, content)) = self.newest.take() {
            self.table.insert(at, content);
        }
    }
}
