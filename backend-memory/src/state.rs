//! What the backend needs of a state of any kind.

use std::any::Any;
use std::fmt::Debug;

use strandline_state_api::format::{EntryRef, StateMeta};
use strandline_state_api::{Error, KeyGroupRange, KeyHash, Result, StateSchema, StateTime, Ttl};

use crate::record::Layout;

/// Is given the hash of a key, the key and a namespace, of the types of the state.
pub(crate) type VisitKey<'a> = &'a mut dyn FnMut(KeyHash, &dyn Any, &dyn Any) -> Result<()>;

/// A state behind a handle. Accesses go to the concrete type; only what spans all states goes through this.
pub(crate) trait AnyState: Any + Debug + Send {
    fn schema(&self) -> &StateSchema;

    fn meta(&self) -> &StateMeta {
        &self.schema().meta
    }

    fn layout(&self) -> Layout;

    /// Entries as users count them.
    fn entries(&self) -> u64;

    /// Entries of the table, and how many of them changed since the last cut.
    fn load(&self) -> (usize, usize);

    /// Ends the epoch.
    fn cut(&mut self, full: bool);

    /// How long values live, if they expire.
    fn ttl(&self) -> Option<Ttl> {
        None
    }

    /// Forgets all cuts that are not drained.
    fn abandon(&mut self);

    /// Moves entries of the oldest cut to `out`; true when it is drained.
    fn drain(&mut self, budget: &mut usize, out: &mut Vec<Vec<u8>>) -> Result<bool>;

    /// Prepares for entries that were stored under `stored`.
    fn accept(&mut self, stored: &StateMeta) -> Result<()>;

    /// Takes a put of a restored snapshot.
    fn restore(&mut self, entry: &EntryRef<'_>) -> Result<()>;

    /// Visits each key and namespace once: the hash of the key, the key, the namespace.
    fn for_each_key(&self, key_groups: KeyGroupRange, visit: VisitKey<'_>) -> Result<()>;

    /// Looks at the entries that `records` records pay for, and removes what has expired; says how many.
    fn clean_up(&mut self, _records: usize, _clock: &StateTime) -> u64 {
        0
    }
}

/// Remembers the first failure of a codec at a place that cannot return it.
#[derive(Debug, Default)]
pub(crate) struct Failure(Option<Error>);

impl Failure {
    #[inline]
    pub(crate) fn note(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.0.get_or_insert(error);
        }
    }

    pub(crate) fn check(&mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), Err)
    }
}
