//! The table of every kind of state: its sorted cells.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use strandline_snapshot_format::whole::{EntryAddress, WholeTable};
use strandline_state_api::backend::{
    At, Lists, Maps, StoredValues, TimerEntry, Timers, Values, Verdict, encoded_range,
};
use strandline_state_api::{Result, StateKey, Timestamp};

/// A state of the kind `S` whose cells have the contents `C`.
pub struct Cells<S, C> {
    kind: S,
    cells: BTreeMap<EntryAddress, C>,
    /// What the last read that removed something lent.
    lent: Option<C>,
}

/// The kind of [`Cells`] that are values.
pub struct OfValues;
/// The kind of [`Cells`] that are lists, with the form of their elements.
pub struct OfLists<T>(pub StoredValues<T>);
/// The kind of [`Cells`] that are entries of maps with keys of type `MK`.
pub struct OfMaps<MK>(pub PhantomData<MK>);
/// The kind of [`Cells`] that are timers.
pub struct OfTimers;

impl<S, C> Cells<S, C> {
    pub fn new(kind: S) -> Self {
        Self { kind, cells: BTreeMap::new(), lent: None }
    }

    fn get_if(
        &mut self,
        at: &EntryAddress,
        judge: impl FnOnce(&C) -> Verdict,
        refresh: impl FnOnce(&mut C),
    ) -> Option<&C> {
        let verdict = self.cells.get(at).map_or(Verdict::Keep, judge);
        match verdict {
            Verdict::Keep => self.cells.get(at),
            Verdict::Refresh => self.cells.get_mut(at).map(|content| {
                refresh(content);
                &*content
            }),
            Verdict::LendOnce | Verdict::Remove => {
                self.lent = self.cells.remove(at).filter(|_| verdict == Verdict::LendOnce);
                self.lent.as_ref()
            }
        }
    }
}

impl<S: Send + 'static, C: Send + 'static> WholeTable for Cells<S, C> {
    type Content = C;

    fn len(&self) -> usize {
        self.cells.len()
    }

    fn insert(&mut self, at: EntryAddress, content: C) {
        self.cells.insert(at, content);
    }

    fn for_each(&self, visit: &mut dyn FnMut(&EntryAddress, &C) -> Result<()>) -> Result<()> {
        self.cells.iter().try_for_each(|(at, content)| visit(at, content))
    }
}

impl<'b, K: StateKey, N: StateKey, V: Send + 'static> Values<'b, K, N, V> for &'b mut Cells<OfValues, V> {
    fn get_if(
        self,
        at: At<'_, K, N>,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        Ok(Cells::get_if(self, &EntryAddress::of(at), judge, refresh))
    }

    fn change<R>(self, at: At<'_, K, N>, change: impl FnOnce(&mut Option<V>) -> R) -> Result<R> {
        let at = EntryAddress::of(at);
        let mut stored = self.cells.remove(&at);
        let result = change(&mut stored);
        self.cells.extend(stored.map(|value| (at, value)));
        Ok(result)
    }

    fn for_each(self, mut visit: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()> {
        for (at, value) in &self.cells {
            visit(&K::decode(&at.key)?, &N::decode(&at.namespace)?, value)?;
        }
        Ok(())
    }
}

impl<T: 'static> OfLists<T> {
    /// Copies an element, which need not be `Clone`.
    fn copy(&self, element: &T) -> Result<T> {
        let mut encoded = Vec::new();
        self.0.encode(element, &mut encoded)?;
        self.0.decode(&encoded)
    }
}

impl<'b, K: StateKey, N: StateKey, T: Send + 'static> Lists<'b, K, N, T>
    for &'b mut Cells<OfLists<T>, Vec<T>>
{
    fn get(self, at: At<'_, K, N>) -> Result<&'b [T]> {
        Ok(self.cells.get(&EntryAddress::of(at)).map_or(&[], Vec::as_slice))
    }

    fn get_if(self, at: At<'_, K, N>, judge: impl Fn(&T) -> Verdict) -> Result<&'b [T]> {
        let at = EntryAddress::of(at);
        let Some(list) = self.cells.get_mut(&at) else { return Ok(&[]) };
        let lends = list.iter().any(|element| judge(element) == Verdict::LendOnce);
        if lends {
            let kept = list.iter().filter(|element| judge(element) == Verdict::Keep);
            let kept = kept.map(|element| self.kind.copy(element)).collect::<Result<_>>()?;
            let mut shown = std::mem::replace(list, kept);
            shown.retain(|element| judge(element) != Verdict::Remove);
            self.lent = Some(shown);
        } else {
            list.retain(|element| judge(element) == Verdict::Keep);
        }
        if list.is_empty() {
            self.cells.remove(&at);
        }
        let shown = if lends { self.lent.as_ref() } else { self.cells.get(&at) };
        Ok(shown.map_or(&[], Vec::as_slice))
    }

    fn append(self, at: At<'_, K, N>, elements: impl IntoIterator<Item = T>) -> Result<()> {
        let mut elements = elements.into_iter().peekable();
        if elements.peek().is_some() {
            self.cells.entry(EntryAddress::of(at)).or_default().extend(elements);
        }
        Ok(())
    }

    fn put(self, at: At<'_, K, N>, elements: Vec<T>) -> Result<()> {
        self.cells.remove(&EntryAddress::of(at));
        self.append(at, elements)
    }

    fn take(self, at: At<'_, K, N>) -> Result<Vec<T>> {
        Ok(self.cells.remove(&EntryAddress::of(at)).unwrap_or_default())
    }
}

impl<MK: StateKey, V> Cells<OfMaps<MK>, V> {
    /// Returns the addresses of all entries of one map.
    fn of_map<K: StateKey, N: StateKey>(&self, at: At<'_, K, N>) -> Vec<EntryAddress> {
        let first = EntryAddress::of(at);
        let entries = self.cells.range(first.clone()..).map(|(address, _)| address);
        entries.take_while(|at| at.key == first.key && at.namespace == first.namespace).cloned().collect()
    }
}

impl<'b, K, N, MK, V> Maps<'b, K, N, MK, V> for &'b mut Cells<OfMaps<MK>, V>
where
    K: StateKey,
    N: StateKey,
    MK: StateKey,
    V: Send + 'static,
{
    fn get_if(
        self,
        at: At<'_, K, N>,
        map_key: &MK,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        Ok(Cells::get_if(self, &EntryAddress::of_entry(at, map_key), judge, refresh))
    }

    fn put(self, at: At<'_, K, N>, map_key: MK, value: V) -> Result<()> {
        self.cells.insert(EntryAddress::of_entry(at, &map_key), value);
        Ok(())
    }

    fn modify<R>(
        self,
        at: At<'_, K, N>,
        map_key: MK,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let at = EntryAddress::of_entry(at, &map_key);
        let judge = |value: &V| if keep(value) { Verdict::Keep } else { Verdict::Remove };
        Cells::get_if(self, &at, judge, |_| ());
        Ok(change(self.cells.entry(at).or_insert_with(initial)))
    }

    fn take(self, at: At<'_, K, N>, map_key: &MK) -> Result<Option<V>> {
        Ok(self.cells.remove(&EntryAddress::of_entry(at, map_key)))
    }

    fn for_each(self, at: At<'_, K, N>, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        self.range(at, .., visit)
    }

    fn range(
        self,
        at: At<'_, K, N>,
        range: impl RangeBounds<MK>,
        mut visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        let bounds = encoded_range(&range);
        for address in self.of_map(at).iter().filter(|address| bounds.contains(&address.map_key)) {
            visit(&MK::decode(&address.map_key)?, &self.cells[address])?;
        }
        Ok(())
    }

    fn clear(self, at: At<'_, K, N>) -> Result<bool> {
        let all = self.of_map(at);
        self.cells.retain(|address, _| all.binary_search(address).is_err());
        Ok(!all.is_empty())
    }
}

fn timer<K: StateKey, N: StateKey>(at: &EntryAddress) -> Result<TimerEntry<K, N>> {
    let (key, namespace) = (K::decode(&at.key)?, N::decode(&at.namespace)?);
    Ok(TimerEntry { time: Timestamp::from_millis(at.time), key, hash: at.key_hash(), namespace })
}

impl<K: StateKey, N: StateKey> Timers<'_, K, N> for &mut Cells<OfTimers, ()> {
    fn register(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool> {
        Ok(self.cells.insert(EntryAddress::of_timer(at, time), ()).is_none())
    }

    fn delete(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool> {
        Ok(self.cells.remove(&EntryAddress::of_timer(at, time)).is_some())
    }

    fn pop(self, up_to: Timestamp) -> Result<Option<TimerEntry<K, N>>> {
        let first = self.cells.first_entry().filter(|cell| cell.key().time <= up_to.as_millis());
        first.map(|cell| timer(&cell.remove_entry().0)).transpose()
    }

    fn next(self) -> Result<Option<Timestamp>> {
        Ok(self.cells.first_key_value().map(|(at, ())| Timestamp::from_millis(at.time)))
    }

    fn for_each(self, mut visit: impl FnMut(&TimerEntry<K, N>) -> Result<()>) -> Result<()> {
        self.cells.keys().try_for_each(|at| visit(&timer(at)?))
    }
}
