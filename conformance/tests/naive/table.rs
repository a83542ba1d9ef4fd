//! One state of any kind.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::Arc;

use strandline_state_api::format::{StateMeta, list};
use strandline_state_api::{Codec, Decoder, Keyed, Reading, Result, StateKey, StateSchema};

/// Time (of timers, else 0), key, namespace, map key (of maps, else empty).
pub type Address = (i64, Vec<u8>, Vec<u8>, Vec<u8>);

/// A value, the elements of a list, the value of a map entry, or nothing for a timer.
pub type Cell = Box<dyn Any + Send>;

type Encode = Box<dyn Fn(&Cell, &mut Vec<u8>) -> Result<()> + Send + Sync>;
type Decode = Box<dyn Fn(&StateMeta, &[u8]) -> Result<Cell> + Send + Sync>;

/// One state: its cells in order, and how they become bytes.
pub struct Table {
    pub schema: StateSchema,
    /// Namespace, map key, and the type of the cells: what a handle must have, too.
    pub types: TypeId,
    pub cells: BTreeMap<Address, Cell>,
    pub encode: Encode,
    /// Reads what was stored under a description.
    pub decode: Decode,
}

/// The encoded form of a key, a namespace or a map key.
pub fn bytes(part: &impl StateKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    part.encode(&mut bytes);
    bytes
}

pub fn address<K: StateKey>(time: i64, key: Keyed<'_, K>, namespace: &impl StateKey, sub: &[u8]) -> Address {
    (time, bytes(key.key()), bytes(namespace), sub.to_vec())
}

impl Table {
    /// Cells that are values of type `V`.
    pub fn of_values<N: StateKey, MK: StateKey, V: Send + 'static>(
        schema: StateSchema,
        codec: &Arc<dyn Codec<V>>,
        decoder: &Decoder<V>,
    ) -> Self {
        let (encoder, plain, decoder) = (Arc::clone(codec), Arc::clone(codec), decoder.clone());
        let wanted = schema.meta.clone();
        Self {
            schema,
            types: TypeId::of::<(N, MK, V)>(),
            cells: BTreeMap::new(),
            encode: Box::new(move |cell, out| match cell.downcast_ref() {
                Some(value) => encoder.encode(value, out),
                None => Ok(()),
            }),
            decode: Box::new(move |stored, bytes| {
                Ok(match decoder.reading(stored, &wanted)? {
                    Reading::AsIs => Box::new(plain.decode(bytes)?),
                    Reading::Migrate(migration) => Box::new(migration.decode(bytes)?),
                })
            }),
        }
    }

    /// Cells that are lists of type `T`.
    pub fn of_lists<N: StateKey, T: Send + 'static>(
        schema: StateSchema,
        codec: &Arc<dyn Codec<T>>,
        decoder: &Decoder<T>,
    ) -> Self {
        let (encoder, plain, decoder) = (Arc::clone(codec), Arc::clone(codec), decoder.clone());
        let wanted = schema.meta.clone();
        Self {
            schema,
            types: TypeId::of::<(N, (), Vec<T>)>(),
            cells: BTreeMap::new(),
            encode: Box::new(move |cell, out| {
                for element in cell.downcast_ref::<Vec<T>>().into_iter().flatten() {
                    let mut bytes = Vec::new();
                    encoder.encode(element, &mut bytes)?;
                    list::push(out, &bytes);
                }
                Ok(())
            }),
            decode: Box::new(move |stored, bytes| {
                let reading = decoder.reading(stored, &wanted)?;
                let elements = list::elements(bytes).map(|element| match &reading {
                    Reading::AsIs => plain.decode(element?),
                    Reading::Migrate(migration) => migration.decode(element?),
                });
                Ok(Box::new(elements.collect::<Result<Vec<T>>>()?))
            }),
        }
    }

    /// Cells that are timers, which are all address.
    pub fn of_timers<N: StateKey>(meta: StateMeta) -> Self {
        Self {
            schema: StateSchema::plain(meta),
            types: TypeId::of::<(N, (), ())>(),
            cells: BTreeMap::new(),
            encode: Box::new(|_, _| Ok(())),
            decode: Box::new(|_, _| Ok(Box::new(()))),
        }
    }

    pub fn meta(&self) -> &StateMeta {
        &self.schema.meta
    }

    /// The cells of one key and namespace: all entries of its map.
    pub fn of_key<K: StateKey>(
        &self,
        key: Keyed<'_, K>,
        namespace: &impl StateKey,
    ) -> impl Iterator<Item = (&Address, &Cell)> {
        let from = address(0, key, namespace, &[]);
        let (key, namespace) = (from.1.clone(), from.2.clone());
        self.cells.range(from..).take_while(move |(at, _)| at.1 == key && at.2 == namespace)
    }
}
