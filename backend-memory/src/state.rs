//! The methods that the backend needs of a state of any kind.

use std::any::Any;
use std::fmt::Debug;

use strandline_snapshot_format::EntryRef;
use strandline_state_api::backend::{AcceptedForm, RegisteredState, StateTime, StoredValues};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::{Error, KeyGroup, KeyGroupRange, KeyHash, Result, Ttl};

use crate::record::Layout;
use crate::records::Records;

mod list;
mod map;
mod orphan;
mod timers;
mod value;

pub(crate) use list::ListTable;
pub(crate) use map::MapTable;
pub(crate) use orphan::OrphanState;
pub(crate) use timers::TimerTable;
pub(crate) use value::ValueTable;

/// Receives the hash of a key, the key and a namespace, which have the types of the state.
pub(crate) type VisitKey<'a> = &'a mut dyn FnMut(KeyHash, &dyn Any, &dyn Any) -> Result<()>;

/// A state of any kind. An access goes to the concrete type; this trait has the methods that span all states.
//
// `Any` is the first supertrait, so that its methods stand first in the table of virtual methods: the
// downcast of each access then costs no additional load.
pub(crate) trait MemoryState: Any + RegisteredState + Debug + Send {
    /// Returns the description of the state in snapshots.
    fn meta(&self) -> &StateMeta {
        &self.schema().meta
    }

    /// Returns the layout of the state's records.
    fn layout(&self) -> Layout;

    /// Counts the entries as users do: values, lists, map entries, timers.
    fn entries(&self) -> u64;

    /// Returns what a base would hold, and what changed since the last cut: values, elements of lists, map entries.
    fn load(&self) -> (usize, usize);

    /// Counts an access, for [`prefetch`](Self::prefetch).
    fn accessed(&mut self) {}

    /// Prefetches the entries of the keys with these hashes, where most keys that come here are accessed.
    fn prefetch(&mut self, _hashes: &[KeyHash]) {}

    /// Ends the epoch with a cut, which takes all entries if it is `full`.
    fn cut(&mut self, full: bool);

    /// Returns the time-to-live of the values, if they expire.
    fn ttl(&self) -> Option<&Ttl> {
        None
    }

    /// Forgets all cuts that are not drained.
    fn abandon(&mut self);

    /// Moves entries of the oldest cut to `out`; returns whether the cut is drained.
    fn drain(&mut self, budget: &mut usize, out: &mut Records) -> Result<bool>;

    /// Prepares for entries that are stored under `stored`; an error names the state.
    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm>;

    /// Adds an entry of a restored snapshot in an accepted form: a `Put`, or an `Append` to a list that the
    /// snapshot has in an older form.
    fn restore(&mut self, entry: &EntryRef<'_>, form: AcceptedForm) -> Result<()>;

    /// Visits each key and namespace once.
    fn for_each_key(&self, key_groups: KeyGroupRange, visit: VisitKey<'_>) -> Result<()>;

    /// Appends the records of the entries of one key, which has the type of the state.
    fn look_up(&self, key: &dyn Any, hash: KeyHash, out: &mut Vec<u8>) -> Result<()>;

    /// Scans as many entries as `records` records ask for and removes expired ones; returns the number
    /// removed.
    fn clean_up(&mut self, _records: usize, _clock: &StateTime) -> u64 {
        0
    }
}

/// Returns the number of entries that a clean-up scans after `records` records.
fn cleanup_budget<V: 'static>(values: &StoredValues<V>, records: usize) -> usize {
    let per_record = values.ttl().map_or(0, |ttl| ttl.cleanup_options().per_record);
    records.saturating_mul(per_record as usize)
}

/// Returns the key group of a hash as a range.
fn group_of(hash: KeyHash) -> KeyGroupRange {
    let group = u32::from(KeyGroup::of(hash).index());
    KeyGroupRange::new(group, group + 1)
}

/// Returns the key of a look-up.
fn key_of<K: 'static>(key: &dyn Any) -> Result<&K> {
    key.downcast_ref().ok_or_else(|| Error::invalid("the key has another type than those of the state"))
}

/// Keeps the first failure of a codec that occurs where no error can be returned.
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
