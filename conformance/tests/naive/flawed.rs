//! A table of any kind with one flaw.

use std::ops::RangeBounds;

use strandline_state_api::backend::{At, Lists, Maps, TimerEntry, Timers, Values, Verdict};
use strandline_state_api::{Result, StateKey, Timestamp};

use super::broken::Flaw;

/// Passes everything on to the table of another backend, except for the flaw.
pub struct Flawed<T> {
    pub table: T,
    pub flaw: Flaw,
}

impl<T> Flawed<T> {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    /// Returns the verdict that replaces this one.
    fn verdict(flaw: Flaw, verdict: Verdict) -> Verdict {
        match (flaw, verdict) {
            (Flaw::LentStays, Verdict::LendOnce) | (Flaw::ReadsDoNotRefresh, Verdict::Refresh) => {
                Verdict::Keep
            }
            (_, verdict) => verdict,
        }
    }

    /// Returns the namespace that replaces this one.
    fn namespace<N: StateKey>(&self, namespace: &N) -> N {
        let mixed = self.has(Flaw::NamespacesMix).then(|| N::decode(&[]).ok()).flatten();
        mixed.unwrap_or_else(|| namespace.clone())
    }
}

/// Calls a method of the inner table with the namespace that replaces that of `$at`.
macro_rules! pass_on {
    ($self:ident.$method:ident($at:ident $(, $arg:expr)*)) => {{
        let namespace = &$self.namespace($at.namespace);
        $self.table.$method(At { namespace, ..$at } $(, $arg)*)
    }};
}

impl<'b, K: StateKey, N: StateKey, V: Send + 'static, T: Values<'b, K, N, V>> Values<'b, K, N, V>
    for Flawed<T>
{
    fn get_if(
        self,
        at: At<'_, K, N>,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        let flaw = self.flaw;
        pass_on!(self.get_if(at, |value| Self::verdict(flaw, judge(value)), refresh))
    }

    fn change<R>(self, at: At<'_, K, N>, change: impl FnOnce(&mut Option<V>) -> R) -> Result<R> {
        pass_on!(self.change(at, change))
    }

    fn modify<R>(
        self,
        at: At<'_, K, N>,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let keeps_all = self.has(Flaw::ModifyKeepsExpired);
        pass_on!(self.modify(at, |value| keeps_all || keep(value), initial, change))
    }

    fn merge(self, at: At<'_, K, N>, value: V, combine: impl FnOnce(&mut V, V)) -> Result<()> {
        if self.has(Flaw::MergeReplaces) {
            return self.put(at, value);
        }
        pass_on!(self.merge(at, value, combine))
    }

    fn clear(self, at: At<'_, K, N>) -> Result<bool> {
        if self.has(Flaw::ValueStays) {
            return Ok(self.get(at)?.is_some());
        }
        pass_on!(self.clear(at))
    }

    fn for_each(self, visit: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()> {
        self.table.for_each(visit)
    }
}

impl<'b, K: StateKey, N: StateKey, E: Send + 'static, T: Lists<'b, K, N, E>> Lists<'b, K, N, E>
    for Flawed<T>
{
    fn get(self, at: At<'_, K, N>) -> Result<&'b [E]> {
        pass_on!(self.get(at))
    }

    fn get_if(self, at: At<'_, K, N>, judge: impl Fn(&E) -> Verdict) -> Result<&'b [E]> {
        let flaw = self.flaw;
        pass_on!(self.get_if(at, |element| Self::verdict(flaw, judge(element))))
    }

    fn append(self, at: At<'_, K, N>, elements: impl IntoIterator<Item = E>) -> Result<()> {
        pass_on!(self.append(at, elements))
    }

    fn put(self, at: At<'_, K, N>, mut elements: Vec<E>) -> Result<()> {
        if self.has(Flaw::ListKeepsOne) {
            if elements.is_empty() {
                return Ok(());
            }
            elements.truncate(1);
        }
        pass_on!(self.put(at, elements))
    }

    fn take(self, at: At<'_, K, N>) -> Result<Vec<E>> {
        let loses_last = self.has(Flaw::TakeLosesLast);
        let mut taken = pass_on!(self.take(at))?;
        if loses_last {
            taken.pop();
        }
        Ok(taken)
    }

    fn clear(self, at: At<'_, K, N>) -> Result<bool> {
        pass_on!(self.clear(at))
    }
}

impl<'b, K, N, MK, V, T> Maps<'b, K, N, MK, V> for Flawed<T>
where
    K: StateKey,
    N: StateKey,
    MK: StateKey,
    V: Send + 'static,
    T: Maps<'b, K, N, MK, V>,
{
    fn get_if(
        self,
        at: At<'_, K, N>,
        map_key: &MK,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        let flaw = self.flaw;
        pass_on!(self.get_if(at, map_key, |value| Self::verdict(flaw, judge(value)), refresh))
    }

    fn put(self, at: At<'_, K, N>, map_key: MK, value: V) -> Result<()> {
        pass_on!(self.put(at, map_key, value))
    }

    fn modify<R>(
        self,
        at: At<'_, K, N>,
        map_key: MK,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let keeps_all = self.has(Flaw::ModifyKeepsExpired);
        pass_on!(self.modify(at, map_key, |value| keeps_all || keep(value), initial, change))
    }

    fn take(self, at: At<'_, K, N>, map_key: &MK) -> Result<Option<V>> {
        pass_on!(self.take(at, map_key))
    }

    fn for_each(self, at: At<'_, K, N>, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        pass_on!(self.for_each(at, visit))
    }

    fn range(
        self,
        at: At<'_, K, N>,
        range: impl RangeBounds<MK>,
        visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        pass_on!(self.range(at, range, visit))
    }

    fn clear(self, at: At<'_, K, N>) -> Result<bool> {
        if self.has(Flaw::MapEntryStays) {
            // The map seems to be cleared, and keeps all its entries.
            return Ok(!self.is_empty(at)?);
        }
        pass_on!(self.clear(at))
    }
}

impl<'b, K: StateKey, N: StateKey, T: Timers<'b, K, N>> Timers<'b, K, N> for Flawed<T> {
    fn register(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool> {
        let all_new = self.has(Flaw::TimerNotDeduplicated);
        Ok(pass_on!(self.register(at, time))? || all_new)
    }

    fn delete(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool> {
        pass_on!(self.delete(at, time))
    }

    fn pop(self, up_to: Timestamp) -> Result<Option<TimerEntry<K, N>>> {
        let excluded = i64::from(self.has(Flaw::TimerBoundExcluded));
        self.table.pop(up_to.plus_millis(-excluded))
    }

    fn next(self) -> Result<Option<Timestamp>> {
        self.table.next()
    }

    fn for_each(self, visit: impl FnMut(&TimerEntry<K, N>) -> Result<()>) -> Result<()> {
        self.table.for_each(visit)
    }
}
