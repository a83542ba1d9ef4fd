//! A minimal backend, which has only values: hash maps, and a snapshot of everything each time. Read it
//! before you write a backend of your own; `docs/backends.md` walks through it.

#![allow(missing_docs, missing_debug_implementations, unreachable_pub)]

use std::collections::HashMap;

use strandline_snapshot_format::whole::{EntryAddress, WholeStates, WholeTable};
use strandline_state_api::backend::*;
use strandline_state_api::schema::StateSchema;
use strandline_state_api::{KeyGroupRange, Keyed, KeyedBackend, Result, StateKey};

/// The values of one state.
pub struct Table<V> {
    values: HashMap<EntryAddress, V>,
    /// The value that the last read removed and lent.
    lent: Option<V>,
}

/// What snapshots and restores need.
impl<V: Send + 'static> WholeTable for Table<V> {
    type Content = V;

    fn len(&self) -> usize {
        self.values.len()
    }

    fn insert(&mut self, at: EntryAddress, value: V) {
        self.values.insert(at, value);
    }

    fn for_each(&self, visit: &mut dyn FnMut(&EntryAddress, &V) -> Result<()>) -> Result<()> {
        self.values.iter().try_for_each(|(at, value)| visit(at, value))
    }
}

/// What operators need, for one access to a value.
impl<'b, K: StateKey, N: StateKey, V: Send + 'static> Values<'b, K, N, V> for &'b mut Table<V> {
    fn get_if(
        self,
        at: At<'_, K, N>,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        let at = EntryAddress::of(at);
        match self.values.get(&at).map_or(Verdict::Keep, judge) {
            Verdict::Keep => {}
            Verdict::Refresh => self.values.get_mut(&at).map_or((), refresh),
            removal => {
                self.lent = self.values.remove(&at).filter(|_| removal == Verdict::LendOnce);
                return Ok(self.lent.as_ref());
            }
        }
        Ok(self.values.get(&at))
    }

    fn change<R>(self, at: At<'_, K, N>, change: impl FnOnce(&mut Option<V>) -> R) -> Result<R> {
        let at = EntryAddress::of(at);
        let mut stored = self.values.remove(&at);
        let result = change(&mut stored);
        self.values.extend(stored.map(|value| (at, value)));
        Ok(result)
    }

    fn for_each(self, mut visit: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()> {
        let mut all = self.values.iter();
        all.try_for_each(|(at, value)| visit(&K::decode(&at.key)?, &N::decode(&at.namespace)?, value))
    }
}

/// The backend: its states, which know scope and clock and take the snapshots.
pub struct ValuesOnly<K>(WholeStates<K>);

impl<K: StateKey> KeyedBackend for ValuesOnly<K> {
    type Key = K;
    type Values<'b, V: Send + 'static, N: StateKey> = &'b mut Table<V>;
    type Lists<'b, T: Send + 'static, N: StateKey> = Unsupported;
    type Maps<'b, MK: StateKey, V: Send + 'static, N: StateKey> = Unsupported;
    type Timers<'b, N: StateKey> = Unsupported;

    fn scope(&self) -> &BackendScope {
        self.0.scope()
    }

    fn clock(&mut self) -> &mut StateTime {
        self.0.clock()
    }

    fn schemas(&self) -> Vec<StateSchema> {
        self.0.schemas()
    }

    fn entries(&self) -> u64 {
        self.0.entries()
    }

    fn register_values<V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        self.0.register::<N, _>(values, Table { values: HashMap::new(), lent: None })
    }

    fn values<V: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<&mut Table<V>> {
        self.0.table::<N, _>(state)
    }

    fn for_each_key<N: StateKey>(
        &mut self,
        state: StateId,
        key_groups: KeyGroupRange,
        visit: impl FnMut(Keyed<'_, K>, &N) -> Result<()>,
    ) -> Result<()> {
        self.0.for_each_key(state, key_groups, visit)
    }
}

impl<K: StateKey> DelegateSnapshots for ValuesOnly<K> {
    type Delegate = WholeStates<K>;

    fn delegate(&mut self) -> &mut WholeStates<K> {
        &mut self.0
    }
}

/// Creates the backends.
#[derive(Clone, Debug)]
pub struct ValuesOnlyFactory;

impl BackendFactory for ValuesOnlyFactory {
    type Backend<K: StateKey> = ValuesOnly<K>;

    fn name(&self) -> &'static str {
        "values-only"
    }

    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<ValuesOnly<K>> {
        Ok(ValuesOnly(WholeStates::new(scope)))
    }
}

mod suite {
    use strandline_conformance::{Capabilities, backend_tests};

    const CAPABILITIES: Capabilities =
        Capabilities { incremental: false, cleans_up: false, ..Capabilities::ALL };

    backend_tests!(super::ValuesOnlyFactory, CAPABILITIES, kinds: [values]);
}
