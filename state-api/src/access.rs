//! Access to the state of one key, through handles.

mod folding;
mod list;
mod map;
mod timers;
mod value;

pub use folding::{AggregatingAccess, ReducingAccess};
pub use list::{Elements, ListAccess};
pub use map::MapAccess;
pub use timers::TimerAccess;
pub use value::ValueAccess;

use crate::backend::{At, BackendScope, KeyedBackend, StateId};
use crate::state::Lifespan;
use crate::time::StateTime;
use crate::{Error, Keyed, Result, StateKey};

/// A handle of a registered state of any kind. The handle types of this crate implement the trait.
pub trait StateHandle: Copy {
    /// The type that addresses an entry beside the key; `()` where the state has no namespaces.
    type Namespace: StateKey;

    /// The access that the handle opens at one key and namespace.
    type Access<'a, B: KeyedBackend + 'a>;

    /// Returns the identity of the registered state, for backends.
    fn state_id(&self) -> StateId;

    #[doc(hidden)]
    fn access<B: KeyedBackend>(self, entry: Entry<'_, B, Self::Namespace>) -> Self::Access<'_, B>;
}

/// All state of one key.
///
/// A state with a time-to-live has the same accesses as any other; they hide expired values, unless its
/// [`Visibility`](crate::Visibility) shows them.
///
/// ```
/// # use strandline_state_api::{KeyScope, KeyedBackend, Result, ValueState};
/// use strandline_state_api::backend::KeyedBackendExt;
///
/// fn count<B>(backend: &mut B, counts: ValueState<u64>, word: &String) -> Result<u64>
/// where
///     B: KeyedBackend<Key = String>,
/// {
///     backend.at(word).state(counts).update_or_default(|n| { *n += 1; *n })
/// }
/// ```
///
/// # Two states of one key
///
/// An access borrows the scope, and with it the backend, so two states cannot be borrowed at once:
///
/// ```compile_fail,E0499
/// # use strandline_state_api::{KeyScope, KeyedBackend, ListState, Result, ValueState};
/// fn report<B: KeyedBackend>(
///     mut key: KeyScope<'_, B>,
///     name: ValueState<String>,
///     seen: ListState<u64>,
/// ) -> Result<String> {
///     let seen = key.state(seen).get()?;
///     let name = key.state(name).get()?; // `seen` is still borrowed
///     Ok(format!("{name:?} {}", seen.len()))
/// }
/// ```
///
/// Copy from what one state lends the part that you need, before you access the other. Where that is large,
/// take the value, which moves it, and put it back:
///
/// ```
/// # use strandline_state_api::{KeyScope, KeyedBackend, ListState, Result, ValueState};
/// fn report<B: KeyedBackend>(
///     mut key: KeyScope<'_, B>,
///     name: ValueState<String>,
///     seen: ListState<u64>,
/// ) -> Result<String> {
///     let len = key.state(seen).get()?.len();
///     Ok(format!("{:?} {len}", key.state(name).get()?))
/// }
///
/// fn append_all<B: KeyedBackend>(
///     mut key: KeyScope<'_, B>,
///     text: ValueState<String>,
///     words: ListState<String>,
/// ) -> Result<()> {
///     let mut whole = key.state(text).take()?.unwrap_or_default();
///     for word in key.state(words).get()?.iter() {
///         whole.push_str(word);
///     }
///     key.state(text).put(whole)
/// }
/// ```
#[derive(Debug)]
pub struct KeyScope<'a, B: KeyedBackend> {
    backend: &'a mut B,
    key: Keyed<'a, B::Key>,
    admission: Admission,
}

/// Whether accesses to a key are allowed; where they are not, every access fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Granted,
    /// Another subtask owns the key.
    ForeignKey,
    /// The host has not restored the backend yet.
    NotRestored,
}

impl<'a, B: KeyedBackend> KeyScope<'a, B> {
    /// Opens the state of `key` in `backend`. Every access fails with [`Invalid`](crate::ErrorKind::Invalid)
    /// when `key` belongs to another subtask.
    #[inline]
    pub fn new(backend: &'a mut B, key: Keyed<'a, B::Key>) -> Self {
        let owned = backend.scope().key_groups.contains(key.group());
        let admission = if owned { Admission::Granted } else { Admission::ForeignKey };
        Self { backend, key, admission }
    }

    /// Opens the state of `key` in a backend that the host has yet to restore: every access fails with
    /// [`Invalid`](crate::ErrorKind::Invalid).
    pub fn before_restore(backend: &'a mut B, key: Keyed<'a, B::Key>) -> Self {
        Self { backend, key, admission: Admission::NotRestored }
    }

    /// Returns the key.
    #[inline]
    pub fn key(&self) -> &'a B::Key {
        self.key.key()
    }

    /// Opens a state without a namespace.
    #[inline]
    pub fn state<S: StateHandle<Namespace = ()>>(&mut self, state: S) -> S::Access<'_, B> {
        self.state_in(state, &())
    }

    /// Opens a state in a namespace.
    #[inline]
    pub fn state_in<'s, S: StateHandle>(
        &'s mut self,
        state: S,
        namespace: &'s S::Namespace,
    ) -> S::Access<'s, B> {
        let Self { backend, key, admission } = self;
        state.access(Entry { backend, at: At { key: *key, namespace }, admission: *admission })
    }

    /// Returns the scope of the backend.
    pub(crate) fn backend_scope(&self) -> &BackendScope {
        self.backend.scope()
    }

    /// Opens a state without a namespace, so that what it lends outlives the scope:
    ///
    /// ```
    /// # use strandline_state_api::{KeyedBackend, Result, ValueState};
    /// use strandline_state_api::backend::KeyedBackendExt;
    ///
    /// fn longest<B: KeyedBackend>(backend: &mut B, key: &B::Key, names: ValueState<String>) -> Result<usize> {
    ///     let name = backend.at(key).into_state(names).get()?;
    ///     Ok(name.map_or(0, String::len))
    /// }
    /// ```
    #[inline]
    pub fn into_state<S: StateHandle<Namespace = ()>>(self, state: S) -> S::Access<'a, B> {
        self.into_state_in(state, &())
    }

    /// Opens a state in a namespace, so that what it lends outlives the scope.
    #[inline]
    pub fn into_state_in<S: StateHandle>(self, state: S, namespace: &'a S::Namespace) -> S::Access<'a, B> {
        let Self { backend, key, admission } = self;
        state.access(Entry { backend, at: At { key, namespace }, admission })
    }

    /// Returns the whole backend, for work beyond this key.
    pub fn backend(&mut self) -> &mut B {
        self.backend
    }
}

/// The address of an access, and the backend that it borrows.
#[doc(hidden)]
#[derive(Debug)]
pub struct Entry<'a, B: KeyedBackend, N> {
    backend: &'a mut B,
    at: At<'a, B::Key, N>,
    admission: Admission,
}

impl<'a, B: KeyedBackend, N> Entry<'a, B, N> {
    /// Returns the backend and the address if the access is allowed.
    #[inline]
    fn open(self) -> Result<(&'a mut B, At<'a, B::Key, N>)> {
        if self.admission != Admission::Granted {
            return Err(refusal(self.backend.scope(), self.at.key, self.admission));
        }
        Ok((self.backend, self.at))
    }

    /// Opens the entry of a state: returns the backend, the address, the state's identity and lifespan, and the time by
    /// which its values expire, if they do.
    #[inline]
    #[expect(clippy::type_complexity, reason = "the parts of an access, which each access takes apart")]
    fn open_for<L: Lifespan>(
        self,
        id: StateId,
        lifespan: L,
    ) -> Result<(&'a mut B, At<'a, B::Key, N>, StateId, L, StateTime)> {
        let (backend, at) = self.open()?;
        let clock = if L::EXPIRES { *backend.clock() } else { StateTime::UNKNOWN };
        Ok((backend, at, id, lifespan, clock))
    }
}

// Not a method of `Entry`: these arguments fit into registers, so an access that is allowed does not write
// its entry to the stack.
#[cold]
fn refusal<K: StateKey>(scope: &BackendScope, key: Keyed<'_, K>, admission: Admission) -> Error {
    match admission {
        Admission::NotRestored => {
            scope.locate(Error::invalid("state is accessed before the restore: restore first"))
        }
        Admission::Granted | Admission::ForeignKey => scope.foreign_key(key),
    }
}
