//! What values, lists and maps have in common: entries of the database with values that are encoded, may be
//! stored in an older form, and may expire.

use std::fmt;
use std::marker::PhantomData;

use strandline_snapshot_format::unexpired;
use strandline_state_api::backend::{
    AcceptedForm, At, Demand, EncodedEntry, RegisteredState, StateTime, StoredValues, Verdict,
};
use strandline_state_api::schema::{StateKind, StateMeta, StateSchema};
use strandline_state_api::{KeyGroup, KeyGroupRange, KeyHash, Result, StateKey, Ttl};

use super::{RocksState, VisitKey};
use crate::layout::{Addressing, Layout, Parts, start, successor};
use crate::store::{Order, Prefetch, Store};

/// What sets a kind of state apart, and what it keeps between accesses: above all what it lends.
pub trait Shape<V>: Default + Send + 'static {
    /// How its entries are looked up.
    const ORDER: Order;

    /// What a prefetch of a key takes at most.
    const PREFETCH: Prefetch = Prefetch::Nothing;

    /// The width of its map keys; 0 where there are none.
    const MAP_KEY_WIDTH: Option<usize> = Some(0);

    /// Appends the current form of a value in an accepted form to `out`.
    fn rewrite(values: &StoredValues<V>, form: AcceptedForm, stored: &[u8], out: &mut Vec<u8>) -> Result<()>
    where
        V: 'static,
    {
        values.rewrite(form, stored, out)
    }
}

/// The entries of a state by key and namespace.
pub struct Table<K, N, V, X> {
    pub(super) addressing: Addressing,
    pub(super) key_groups: KeyGroupRange,
    pub(super) values: StoredValues<V>,
    pub(super) shape: X,
    /// The address of the current access.
    pub(super) address: Vec<u8>,
    pub(super) encoded: Vec<u8>,
    /// Where the next clean-up starts; `None` at the beginning.
    cursor: Option<Vec<u8>>,
    /// Counts all accesses, which find what the write-back table has.
    accesses: Demand,
    /// Counts those that also need what it lacks: a value that is replaced unread does not.
    reads: Demand,
    types: PhantomData<fn() -> (K, N)>,
}

impl<K: StateKey, N: StateKey, V: Send + 'static, X: Shape<V>> Table<K, N, V, X> {
    pub(crate) fn new(values: StoredValues<V>, id: u16, key_groups: KeyGroupRange) -> Self {
        let layout = Layout::of::<K, N>(values.meta().kind, X::MAP_KEY_WIDTH);
        Self {
            addressing: Addressing { id, layout },
            key_groups,
            values,
            shape: X::default(),
            address: Vec::new(),
            encoded: Vec::new(),
            cursor: None,
            accesses: Demand::default(),
            reads: Demand::default(),
            types: PhantomData,
        }
    }

    /// Makes the entry of a key and namespace the current one, for an access. A map key may follow.
    #[inline]
    pub(super) fn encode_address(&mut self, at: At<'_, K, N>) {
        self.accesses.access();
        self.addressing.encode_address(at, &mut self.address);
    }

    /// Reads the current entry.
    #[inline]
    pub(super) fn read(&mut self, store: &mut Store) -> Result<Option<V>> {
        self.reads.access();
        match store.get(&self.address, X::ORDER)? {
            Some(bytes) => self.values.decode(bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the current entry, refreshes it, removes it, or reads and removes it, as `judge` decides.
    #[inline]
    pub(super) fn read_if(
        &mut self,
        store: &mut Store,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<V>> {
        let Some(mut value) = self.read(store)? else { return Ok(None) };
        match judge(&value) {
            Verdict::Keep => {}
            Verdict::Refresh => {
                refresh(&mut value);
                self.write(store, &value)?;
            }
            Verdict::LendOnce => store.delete(&self.address, X::ORDER)?,
            Verdict::Remove => {
                store.delete(&self.address, X::ORDER)?;
                return Ok(None);
            }
        }
        Ok(Some(value))
    }

    /// Sets the current entry.
    #[inline]
    pub(super) fn write(&mut self, store: &mut Store, value: &V) -> Result<()> {
        self.encoded.clear();
        self.values.encode(value, &mut self.encoded)?;
        self.addressing.check_size(&self.address, &self.encoded)?;
        store.put(&self.address, X::ORDER, &self.encoded)
    }

    /// Changes the current entry with one read and one write.
    #[inline]
    pub(super) fn modify<R>(
        &mut self,
        store: &mut Store,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let mut value = self.read(store)?.filter(keep).unwrap_or_else(initial);
        let returned = change(&mut value);
        self.write(store, &value)?;
        Ok(returned)
    }

    /// Removes and returns the current entry.
    pub(super) fn take(&mut self, store: &mut Store) -> Result<Option<V>> {
        let found = self.read(store)?;
        if found.is_some() {
            store.delete(&self.address, X::ORDER)?;
        }
        Ok(found)
    }

    /// Removes the current entry without decoding it; returns whether one existed.
    pub(super) fn remove(&self, store: &mut Store) -> Result<bool> {
        let exists = store.contains(&self.address, X::ORDER)?;
        if exists {
            store.delete(&self.address, X::ORDER)?;
        }
        Ok(exists)
    }
}

impl<K: StateKey, N: StateKey, V: Send + 'static, X: Shape<V>> RegisteredState for Table<K, N, V, X> {
    fn schema(&self) -> &StateSchema {
        self.values.schema()
    }

    fn types(&self) -> &'static str {
        self.values.types()
    }
}

impl<K: StateKey, N: StateKey, V: Send + 'static, X: Shape<V>> RocksState for Table<K, N, V, X> {
    fn addressing(&self) -> Addressing {
        self.addressing
    }

    fn set_addressing(&mut self, addressing: Addressing) {
        self.addressing = addressing;
    }

    fn announce(&mut self, keys: usize) -> Prefetch {
        // With a namespace, the key alone does not determine the address.
        if N::WIDTH != Some(0) {
            return Prefetch::Nothing;
        }
        let (accessed, read) = (self.accesses.announce(keys), self.reads.announce(keys));
        let wanted = if read {
            Prefetch::Database
        } else if accessed {
            Prefetch::Cached
        } else {
            Prefetch::Nothing
        };
        wanted.min(X::PREFETCH)
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        self.values.accept(stored)
    }

    fn rewrite(&self, form: AcceptedForm, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
        X::rewrite(&self.values, form, stored, out)
    }

    fn ttl(&self) -> Option<&Ttl> {
        self.values.ttl()
    }

    fn for_each_key(
        &mut self,
        store: &mut Store,
        key_groups: KeyGroupRange,
        visit: VisitKey<'_>,
    ) -> Result<()> {
        let Addressing { id, layout } = self.addressing;
        // The entries of a map stand together.
        let mut last: Option<(Vec<u8>, Vec<u8>)> = None;
        store.scan_state(id, key_groups, X::ORDER, |address, _| {
            let parts = layout.split(address)?;
            let same =
                |(key, namespace): &(Vec<u8>, Vec<u8>)| *key == *parts.key && *namespace == *parts.namespace;
            if last.as_ref().is_some_and(same) {
                return Ok(true);
            }
            let (key, namespace) = (K::decode(&parts.key)?, N::decode(&parts.namespace)?);
            visit(KeyHash::of_encoded(&parts.key), &key, &namespace)?;
            last = Some((parts.key.into_owned(), parts.namespace.into_owned()));
            Ok(true)
        })
    }

    fn look_up(
        &mut self,
        store: &mut Store,
        key: &[u8],
        visit: &mut dyn FnMut(EncodedEntry<'_>) -> Result<()>,
    ) -> Result<()> {
        let Addressing { id, layout } = self.addressing;
        let mut from = Vec::new();
        start(id, KeyGroup::of(KeyHash::of_encoded(key)), &mut from);
        layout.push_key(key, &mut from);
        store.scan(&from, successor(&from).as_deref(), X::ORDER, |address, value| {
            let Parts { key: of, namespace, sub } = layout.split(address)?;
            if *of == *key {
                visit(EncodedEntry { namespace: &namespace, map_key: &sub, value })?;
            }
            Ok(true)
        })
    }

    /// Where compactions drop what has expired, only shortens the lists that these have met: others cost no
    /// reads.
    fn clean_up(&mut self, store: &mut Store, records: usize, clock: &StateTime) -> Result<u64> {
        let Some(ttl) = self.values.ttl() else { return Ok(0) };
        let (id, kind, cleanup) = (self.addressing.id, self.values.meta().kind, ttl.cleanup_options());
        let mut unexpired = |value: &[u8], part: &mut Vec<u8>| unexpired(ttl, kind, value, clock, part);
        if cleanup.in_compactions {
            let lists = match kind {
                StateKind::List => store.database().expiries.take_lists(id, records),
                _ => return Ok(0),
            };
            return lists.iter().map(|list| store.clean_one(list, X::ORDER, &mut unexpired)).sum();
        }
        let budget = records.saturating_mul(cleanup.per_record as usize);
        if budget == 0 {
            return Ok(0);
        }
        let from = self.cursor.take();
        let (removed, next) = store.clean_some(id, from.as_deref(), X::ORDER, budget, unexpired)?;
        self.cursor = next;
        Ok(removed)
    }
}

impl<K, N, V: 'static, X> fmt::Debug for Table<K, N, V, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { values, addressing, .. } = self;
        f.debug_struct("Table")
            .field("values", values)
            .field("addressing", addressing)
            .finish_non_exhaustive()
    }
}
