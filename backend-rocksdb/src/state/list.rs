//! List states: one value of the database for each list, its elements in sequence as in the portable format,
//! so that an append is a merge.

use strandline_snapshot_format::list;
use strandline_state_api::backend::{AcceptedForm, At, Lists, StoredValues, Verdict};
use strandline_state_api::{Result, StateKey};

use super::Access;
use super::table::{Shape, Table};
use crate::store::{Order, Prefetch, Store};

/// Lists by key and namespace. No stored list is empty.
pub(crate) type ListTable<K, N, T> = Table<K, N, T, Sequence<T>>;

/// A list for each key and namespace.
#[derive(Debug)]
pub struct Sequence<T> {
    lent: Vec<T>,
    /// An element that is encoded.
    element: Vec<u8>,
}

impl<T> Default for Sequence<T> {
    fn default() -> Self {
        Self { lent: Vec::new(), element: Vec::new() }
    }
}

impl<T: Send + 'static> Shape<T> for Sequence<T> {
    const ORDER: Order = Order::Hashed;
    const PREFETCH: Prefetch = Prefetch::Cached;

    fn rewrite(values: &StoredValues<T>, form: AcceptedForm, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if !form.migrates() {
            out.extend_from_slice(stored);
            return Ok(());
        }
        let mut bytes = Vec::new();
        for element in list::elements(stored) {
            bytes.clear();
            values.rewrite(form, element?, &mut bytes)?;
            list::push(out, &bytes);
        }
        Ok(())
    }
}

impl<K: StateKey, N: StateKey, T: Send + 'static> ListTable<K, N, T> {
    fn encode(&mut self, elements: impl IntoIterator<Item = T>) -> Result<()> {
        let Self { values, shape, encoded, .. } = self;
        encoded.clear();
        list::extend(encoded, elements, values, &mut shape.element)
    }

    /// Replaces the current list by those of the lent elements that `judge` keeps.
    #[cold]
    fn write_kept(&mut self, store: &mut Store, judge: impl Fn(&T) -> Verdict) -> Result<()> {
        let Self { values, shape: Sequence { lent, element }, encoded, .. } = self;
        encoded.clear();
        let kept = lent.iter().filter(|element| judge(element) == Verdict::Keep);
        list::extend(encoded, kept, values, element)?;
        self.write_encoded(store)
    }

    /// Sets the current list to the elements that are encoded; an empty list goes.
    fn write_encoded(&mut self, store: &mut Store) -> Result<()> {
        if self.encoded.is_empty() {
            return store.delete(&self.address, Order::Hashed);
        }
        self.addressing.check_size(&self.address, &self.encoded)?;
        store.put(&self.address, Order::Hashed, &self.encoded)
    }

    /// Reads the elements of a key and namespace into those that are lent.
    fn read_elements(&mut self, store: &mut Store, at: At<'_, K, N>) -> Result<()> {
        self.encode_address(at);
        let lent = &mut self.shape.lent;
        lent.clear();
        if let Some(bytes) = store.get(&self.address, Order::Hashed)? {
            for element in list::elements(bytes) {
                lent.push(self.values.decode(element?)?);
            }
        }
        Ok(())
    }
}

impl<'b, K: StateKey, N: StateKey, T: Send + 'static> Lists<'b, K, N, T> for Access<'b, ListTable<K, N, T>> {
    #[inline]
    fn get(self, at: At<'_, K, N>) -> Result<&'b [T]> {
        self.run(|table, store| {
            table.read_elements(store, at)?;
            Ok(table.shape.lent.as_slice())
        })
    }

    fn get_if(self, at: At<'_, K, N>, judge: impl Fn(&T) -> Verdict) -> Result<&'b [T]> {
        self.run(|table, store| {
            table.read_elements(store, at)?;
            if table.shape.lent.iter().any(|element| judge(element) != Verdict::Keep) {
                table.write_kept(store, &judge)?;
                table.shape.lent.retain(|element| judge(element) != Verdict::Remove);
            }
            Ok(table.shape.lent.as_slice())
        })
    }

    #[inline]
    fn append(self, at: At<'_, K, N>, elements: impl IntoIterator<Item = T>) -> Result<()> {
        self.run(|table, store| {
            table.encode(elements)?;
            if table.encoded.is_empty() {
                return Ok(());
            }
            table.encode_address(at);
            table.addressing.check_size(&table.address, &table.encoded)?;
            store.append(&table.address, &table.encoded)
        })
    }

    fn put(self, at: At<'_, K, N>, elements: Vec<T>) -> Result<()> {
        self.run(|table, store| {
            table.encode(elements)?;
            table.encode_address(at);
            table.write_encoded(store)
        })
    }

    fn take(self, at: At<'_, K, N>) -> Result<Vec<T>> {
        self.run(|table, store| {
            table.read_elements(store, at)?;
            if !table.shape.lent.is_empty() {
                store.delete(&table.address, Order::Hashed)?;
            }
            Ok(std::mem::take(&mut table.shape.lent))
        })
    }

    fn clear(self, at: At<'_, K, N>) -> Result<bool> {
        self.run(|table, store| {
            table.encode_address(at);
            table.remove(store)
        })
    }
}
