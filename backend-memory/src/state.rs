//! What the backend needs of a state of any kind.

use std::any::Any;
use std::fmt::Debug;

use strandline_state_api::format::{EntryRef, StateKind, StateMeta};
use strandline_state_api::{Error, Result, StateKey};

use crate::record::Layout;

/// A state behind a handle. Accesses go to the concrete type; only what spans all states goes through this.
pub(crate) trait AnyState: Any + Debug + Send {
    fn meta(&self) -> &StateMeta;

    fn layout(&self) -> Layout;

    /// Entries as users count them.
    fn entries(&self) -> u64;

    /// Entries of the table, and how many of them changed since the last cut.
    fn load(&self) -> (usize, usize);

    /// Ends the epoch.
    fn cut(&mut self, full: bool);

    /// Forgets all cuts that are not drained.
    fn abandon(&mut self);

    /// Moves entries of the oldest cut to `out`; true when it is drained.
    fn drain(&mut self, budget: &mut usize, out: &mut Vec<Vec<u8>>) -> Result<bool>;

    /// Takes a put of a restored snapshot.
    fn restore(&mut self, entry: &EntryRef<'_>) -> Result<()>;
}

/// How a state is described in snapshots.
pub(crate) fn meta<K: StateKey, N: StateKey>(
    name: &str,
    kind: StateKind,
    sub_codec: String,
    value_codec: String,
    schema_version: u32,
) -> StateMeta {
    StateMeta {
        key_codec: K::codec(),
        namespace_codec: N::codec(),
        sub_codec,
        value_codec,
        schema_version,
        ..StateMeta::new(name, kind)
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
