//! One state of any kind.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;

use strandline_snapshot_format::list;
use strandline_state_api::backend::{At, RegisteredState, StoredValues};
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::{Result, StateKey};

/// Time (of timers, else 0), key, namespace, map key (of maps, else empty), all encoded.
pub type CellAddress = (i64, Vec<u8>, Vec<u8>, Vec<u8>);

/// A value, the elements of a list, the value of a map entry, or `()` for a timer.
pub type Cell = Box<dyn Any + Send>;

/// The conversion of cells from and to bytes.
pub trait CellCodec: Send {
    /// Prepares to decode cells that are stored as `stored`.
    fn accept(&mut self, stored: &StateMeta) -> Result<()>;
    /// Decodes a cell of the form that was accepted last.
    fn decode(&self, bytes: &[u8]) -> Result<Cell>;
    /// Appends the current form of a cell.
    fn encode(&self, cell: &Cell, out: &mut Vec<u8>) -> Result<()>;
    /// Copies a list, whose elements need not be `Clone`.
    fn copy_list(&self, list: &dyn Any) -> Result<Cell> {
        let _ = list;
        Ok(Box::new(()))
    }
}

/// Cells that are values.
pub struct ValueCells<V>(pub StoredValues<V>);

impl<V: Send + 'static> CellCodec for ValueCells<V> {
    fn accept(&mut self, stored: &StateMeta) -> Result<()> {
        self.0.accept(stored).map(drop)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Cell> {
        Ok(Box::new(self.0.decode_stored(bytes)?))
    }

    fn encode(&self, cell: &Cell, out: &mut Vec<u8>) -> Result<()> {
        cell.downcast_ref().map_or(Ok(()), |value| self.0.encode(value, out))
    }
}

/// Cells that are lists.
pub struct ListCells<T>(pub StoredValues<T>);

impl<T: Send + 'static> CellCodec for ListCells<T> {
    fn accept(&mut self, stored: &StateMeta) -> Result<()> {
        self.0.accept(stored).map(drop)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Cell> {
        let elements = list::elements(bytes).map(|element| self.0.decode_stored(element?));
        Ok(Box::new(elements.collect::<Result<Vec<T>>>()?))
    }

    fn encode(&self, cell: &Cell, out: &mut Vec<u8>) -> Result<()> {
        for element in cell.downcast_ref::<Vec<T>>().into_iter().flatten() {
            let mut bytes = Vec::new();
            self.0.encode(element, &mut bytes)?;
            list::push(out, &bytes);
        }
        Ok(())
    }

    fn copy_list(&self, list: &dyn Any) -> Result<Cell> {
        let mut copies = Vec::new();
        for element in list.downcast_ref::<Vec<T>>().into_iter().flatten() {
            let mut bytes = Vec::new();
            self.0.encode(element, &mut bytes)?;
            copies.push(self.0.decode(&bytes)?);
        }
        Ok(Box::new(copies))
    }
}

/// Cells that are timers, whose address is all there is.
pub struct TimerCells(pub StateSchema);

impl CellCodec for TimerCells {
    fn accept(&mut self, stored: &StateMeta) -> Result<()> {
        self.0.compatibility(stored).map(drop)
    }

    fn decode(&self, _: &[u8]) -> Result<Cell> {
        Ok(Box::new(()))
    }

    fn encode(&self, _: &Cell, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

/// One state: its sorted cells, and the conversion of each to bytes.
pub struct Table {
    pub schema: StateSchema,
    pub type_names: &'static str,
    /// Namespace, map key, and the type of the cells, which a handle must have, too.
    pub types: TypeId,
    pub cells: BTreeMap<CellAddress, Cell>,
    /// The cell that the last read removed and lent.
    pub lent: Option<Cell>,
    pub codec: Box<dyn CellCodec>,
}

impl RegisteredState for Table {
    fn schema(&self) -> &StateSchema {
        &self.schema
    }

    fn types(&self) -> &'static str {
        self.type_names
    }
}

/// Returns the encoding of a key, a namespace or a map key.
pub fn bytes(part: &impl StateKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    part.encode(&mut bytes);
    bytes
}

/// Returns the address of a value or a list.
pub fn address<K: StateKey, N: StateKey>(at: At<'_, K, N>) -> CellAddress {
    (0, bytes(at.key.key()), bytes(at.namespace), Vec::new())
}

/// Returns the address of a map entry.
pub fn entry_address<K: StateKey, N: StateKey>(at: At<'_, K, N>, map_key: &impl StateKey) -> CellAddress {
    (0, bytes(at.key.key()), bytes(at.namespace), bytes(map_key))
}
