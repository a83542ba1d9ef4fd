//! The table of every kind of state: its sorted cells, borrowed for one access.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeBounds;

use strandline_state_api::backend::{
    At, Lists, Maps, StateLocation, TimerEntry, Timers, Values, Verdict, encoded_range,
};
use strandline_state_api::{Error, KeyHash, Result, StateKey, Timestamp};

use super::table::{Cell, CellAddress, CellCodec, address, bytes, entry_address};

/// The cells of a state. Kind and types of the handle are checked.
pub struct Cells<'b> {
    pub cells: &'b mut BTreeMap<CellAddress, Cell>,
    /// The cell that the last read removed and lent.
    pub lent: &'b mut Option<Cell>,
    pub codec: &'b dyn CellCodec,
    pub location: StateLocation<'b>,
}

/// Returns the content of a removed cell.
fn content<V: 'static>(cell: Option<Cell>, location: StateLocation<'_>) -> Result<Option<V>> {
    cell.map(|cell| cell.downcast().map(|value| *value).map_err(|_| location.foreign_handle())).transpose()
}

impl<'b> Cells<'b> {
    fn foreign(&self) -> Error {
        self.location.foreign_handle()
    }

    fn get_cell<V: 'static>(
        self,
        at: &CellAddress,
        judge: impl FnOnce(&V) -> Verdict,
    ) -> Result<Option<&'b V>> {
        let Some(value) = self.cells.get(at).and_then(|cell| cell.downcast_ref()) else { return Ok(None) };
        let verdict = judge(value);
        if verdict == Verdict::Keep {
            return Ok(self.cells.get(at).and_then(|cell| cell.downcast_ref()));
        }
        *self.lent = self.cells.remove(at).filter(|_| verdict == Verdict::LendOnce);
        Ok(self.lent.as_ref().and_then(|cell| cell.downcast_ref()))
    }

    fn modify_cell<V: Send + 'static, R>(
        self,
        at: CellAddress,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let foreign = self.foreign();
        if self.cells.get(&at).and_then(|cell| cell.downcast_ref()).is_some_and(|value| !keep(value)) {
            self.cells.remove(&at);
        }
        let cell = self.cells.entry(at).or_insert_with(|| Box::new(initial()));
        cell.downcast_mut().map(change).ok_or(foreign)
    }

    /// Returns the addresses of all entries of one map.
    fn of_map<K: StateKey, N: StateKey>(&self, at: At<'_, K, N>) -> Vec<CellAddress> {
        let first = address(at);
        let (key, namespace) = (first.1.clone(), first.2.clone());
        let entries = self.cells.range(first..).map(|(address, _)| address);
        entries.take_while(|address| address.1 == key && address.2 == namespace).cloned().collect()
    }
}

impl<'b, K: StateKey, N: StateKey, V: Send + 'static> Values<'b, K, N, V> for Cells<'b> {
    fn get_if(self, at: At<'_, K, N>, judge: impl FnOnce(&V) -> Verdict) -> Result<Option<&'b V>> {
        self.get_cell(&address(at), judge)
    }

    fn put(self, at: At<'_, K, N>, value: V) -> Result<()> {
        self.cells.insert(address(at), Box::new(value));
        Ok(())
    }

    fn modify<R>(
        self,
        at: At<'_, K, N>,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.modify_cell(address(at), keep, initial, change)
    }

    fn update(self, at: At<'_, K, N>, change: impl FnOnce(&mut V)) -> Result<bool> {
        Ok(self.cells.get_mut(&address(at)).and_then(|cell| cell.downcast_mut()).map(change).is_some())
    }

    fn merge(self, at: At<'_, K, N>, value: V, combine: impl FnOnce(&mut V, V)) -> Result<()> {
        let foreign = self.foreign();
        match self.cells.entry(address(at)) {
            Entry::Occupied(mut cell) => combine(cell.get_mut().downcast_mut().ok_or(foreign)?, value),
            Entry::Vacant(free) => {
                free.insert(Box::new(value));
            }
        }
        Ok(())
    }

    fn take(self, at: At<'_, K, N>) -> Result<Option<V>> {
        content(self.cells.remove(&address(at)), self.location)
    }

    fn for_each(self, mut visit: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()> {
        for ((_, key, namespace, _), cell) in self.cells.iter() {
            let value = cell.downcast_ref().ok_or_else(|| self.location.foreign_handle())?;
            visit(&K::decode(key)?, &N::decode(namespace)?, value)?;
        }
        Ok(())
    }
}

impl<'b, K: StateKey, N: StateKey, T: Send + 'static> Lists<'b, K, N, T> for Cells<'b> {
    fn get(self, at: At<'_, K, N>) -> Result<&'b [T]> {
        let list = self.get_cell::<Vec<T>>(&address(at), |_| Verdict::Keep)?;
        Ok(list.map_or(&[], Vec::as_slice))
    }

    fn get_if(self, at: At<'_, K, N>, judge: impl Fn(&T) -> Verdict) -> Result<&'b [T]> {
        let Self { cells, lent, codec, .. } = self;
        let Some(list) = cells.get_mut(&address(at)).and_then(|cell| cell.downcast_mut::<Vec<T>>()) else {
            return Ok(&[]);
        };
        let lends = list.iter().any(|element| judge(element) == Verdict::LendOnce);
        if lends {
            let mut shown = codec.copy_list(list)?;
            if let Some(shown) = shown.downcast_mut::<Vec<T>>() {
                shown.retain(|element| judge(element) != Verdict::Remove);
            }
            *lent = Some(shown);
        }
        list.retain(|element| judge(element) == Verdict::Keep);
        if list.is_empty() {
            cells.remove(&address(at));
        }
        if lends {
            return Ok(lent
                .as_ref()
                .and_then(|cell| cell.downcast_ref::<Vec<T>>())
                .map_or(&[], Vec::as_slice));
        }
        Ok(cells.get(&address(at)).and_then(|cell| cell.downcast_ref::<Vec<T>>()).map_or(&[], Vec::as_slice))
    }

    fn append(self, at: At<'_, K, N>, elements: impl IntoIterator<Item = T>) -> Result<()> {
        let mut elements = elements.into_iter().peekable();
        if elements.peek().is_none() {
            return Ok(());
        }
        self.modify_cell(address(at), |_| true, Vec::new, |list| list.extend(elements))
    }

    fn put(self, at: At<'_, K, N>, elements: Vec<T>) -> Result<()> {
        self.cells.remove(&address(at));
        self.append(at, elements)
    }

    fn take(self, at: At<'_, K, N>) -> Result<Vec<T>> {
        Ok(content(self.cells.remove(&address(at)), self.location)?.unwrap_or_default())
    }
}

impl<'b, K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> Maps<'b, K, N, MK, V> for Cells<'b> {
    fn get_if(
        self,
        at: At<'_, K, N>,
        map_key: &MK,
        judge: impl FnOnce(&V) -> Verdict,
    ) -> Result<Option<&'b V>> {
        self.get_cell(&entry_address(at, map_key), judge)
    }

    fn put(self, at: At<'_, K, N>, map_key: MK, value: V) -> Result<()> {
        self.cells.insert(entry_address(at, &map_key), Box::new(value));
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
        self.modify_cell(entry_address(at, &map_key), keep, initial, change)
    }

    fn take(self, at: At<'_, K, N>, map_key: &MK) -> Result<Option<V>> {
        content(self.cells.remove(&entry_address(at, map_key)), self.location)
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
        for address in self.of_map(at) {
            if !bounds.contains(&address.3) {
                continue;
            }
            let value = self.cells.get(&address).and_then(|cell| cell.downcast_ref());
            visit(&MK::decode(&address.3)?, value.ok_or_else(|| self.location.foreign_handle())?)?;
        }
        Ok(())
    }

    fn clear(self, at: At<'_, K, N>) -> Result<bool> {
        let all = self.of_map(at);
        for address in &all {
            self.cells.remove(address);
        }
        Ok(!all.is_empty())
    }
}

fn timer_address<K: StateKey, N: StateKey>(at: At<'_, K, N>, time: Timestamp) -> CellAddress {
    (time.as_millis(), bytes(at.key.key()), bytes(at.namespace), Vec::new())
}

fn timer<K: StateKey, N: StateKey>((time, key, namespace, _): &CellAddress) -> Result<TimerEntry<K, N>> {
    let (hash, key, namespace) = (KeyHash::of_encoded(key), K::decode(key)?, N::decode(namespace)?);
    Ok(TimerEntry { time: Timestamp::from_millis(*time), key, hash, namespace })
}

impl<K: StateKey, N: StateKey> Timers<'_, K, N> for Cells<'_> {
    fn register(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool> {
        Ok(self.cells.insert(timer_address(at, time), Box::new(())).is_none())
    }

    fn delete(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool> {
        Ok(self.cells.remove(&timer_address(at, time)).is_some())
    }

    fn pop(self, up_to: Timestamp) -> Result<Option<TimerEntry<K, N>>> {
        let first = self.cells.first_entry().filter(|cell| cell.key().0 <= up_to.as_millis());
        first.map(|cell| timer(&cell.remove_entry().0)).transpose()
    }

    fn next(self) -> Result<Option<Timestamp>> {
        Ok(self.cells.first_key_value().map(|((time, ..), _)| Timestamp::from_millis(*time)))
    }

    fn for_each(self, mut visit: impl FnMut(&TimerEntry<K, N>) -> Result<()>) -> Result<()> {
        self.cells.keys().try_for_each(|address| visit(&timer(address)?))
    }
}
