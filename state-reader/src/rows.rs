//! What a scan returns.

use strandline_state_api::{KeyGroup, Result, Timestamp};

use crate::{StoredState, Value};

/// Which parts of a row are decoded. A scan skips the others, so that a scan of keys decodes no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The key.
    pub key: bool,
    /// The namespace.
    pub namespace: bool,
    /// The map key.
    pub map_key: bool,
    /// The value, the list element or the accumulator.
    pub value: bool,
}

impl Parts {
    /// All parts.
    pub const ALL: Self = Self { key: true, namespace: true, map_key: true, value: true };
    /// No part: for counting. A row still has its key group, list index, stamp and time.
    pub const NONE: Self = Self { key: false, namespace: false, map_key: false, value: false };
}

/// An entry of a state, or one element of a list, as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct EncodedRow<'a> {
    /// The subtask that stored it.
    pub subtask: u32,
    /// The key group of the key.
    pub key_group: KeyGroup,
    /// The encoded key.
    pub key: &'a [u8],
    /// The encoded namespace; empty when the state has none.
    pub namespace: &'a [u8],
    /// The encoded map key; empty unless the state is a map.
    pub map_key: &'a [u8],
    /// The number of the element in its list, from 0; `None` unless the state is a list.
    pub index: Option<u64>,
    /// The encoded value, without its stamp; empty when the state has none.
    pub value: &'a [u8],
    /// In which of the [forms](StoredState::forms) of the state the value is stored.
    pub form: usize,
    /// When the time-to-live of the value was last reset; `None` when it has no time-to-live, or no time was
    /// known.
    pub stamp: Option<Timestamp>,
    /// When the timer is due; `None` unless the state is a timer service.
    pub time: Option<Timestamp>,
}

/// An entry of a state, or one element of a list, decoded. What the scan does not
/// [ask for](crate::Scan::parts), and what the state does not have, is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The subtask that stored it.
    pub subtask: u32,
    /// The key group of the key.
    pub key_group: KeyGroup,
    /// The key.
    pub key: Option<Value>,
    /// The namespace.
    pub namespace: Option<Value>,
    /// The map key.
    pub map_key: Option<Value>,
    /// The number of the element in its list, from 0.
    pub index: Option<u64>,
    /// The value, the list element or the accumulator.
    pub value: Option<Value>,
    /// When the time-to-live of the value was last reset.
    pub stamp: Option<Timestamp>,
    /// When the timer is due.
    pub time: Option<Timestamp>,
}

impl EncodedRow<'_> {
    /// Decodes some parts of a row of `state`.
    ///
    /// # Errors
    /// Those of [`Decoder::decode`](crate::Decoder::decode);
    /// [`Incompatible`](strandline_state_api::ErrorKind::Incompatible) for a value of an older version that the
    /// newest type does not read.
    pub fn decode(&self, state: &StoredState, parts: Parts) -> Result<Row> {
        let decoded = |wanted: bool, part: Option<&crate::StatePart>, bytes: &[u8]| {
            part.filter(|_| wanted).map(|part| part.decoder().decode(bytes)).transpose()
        };
        let value =
            (parts.value && state.value().is_some()).then(|| state.decode_value(self.form, self.value));
        Ok(Row {
            subtask: self.subtask,
            key_group: self.key_group,
            key: decoded(parts.key, Some(state.key()), self.key)?,
            namespace: decoded(parts.namespace, state.namespace(), self.namespace)?,
            map_key: decoded(parts.map_key, state.map_key(), self.map_key)?,
            index: self.index,
            value: value.transpose()?,
            stamp: self.stamp,
            time: self.time,
        })
    }
}

/// Collects the rows of a scan into batches of a form of its own: columns, for example.
pub trait Collect: Send + 'static {
    /// A batch.
    type Batch: Send + 'static;

    /// Adds a row.
    ///
    /// # Errors
    /// An error ends the scan; the scan adds operator, state, checkpoint and key to it.
    fn push(&mut self, row: &EncodedRow<'_>) -> Result<()>;

    /// Returns whether the batch is large enough to be handed out.
    fn is_full(&self) -> bool;

    /// Takes the batch; `None` when there is no row in it.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    fn take(&mut self) -> Result<Option<Self::Batch>>;
}

/// Rows in one batch.
const BATCH_ROWS: usize = 1024;
/// Encoded bytes in one batch; one row may have more.
const BATCH_BYTES: usize = 1 << 20;

/// Collects decoded rows.
#[derive(Debug)]
pub(crate) struct Rows {
    state: StoredState,
    parts: Parts,
    rows: Vec<Row>,
    bytes: usize,
}

impl Rows {
    pub(crate) fn new(state: StoredState, parts: Parts) -> Self {
        Self { state, parts, rows: Vec::new(), bytes: 0 }
    }
}

impl Collect for Rows {
    type Batch = Vec<Row>;

    fn push(&mut self, row: &EncodedRow<'_>) -> Result<()> {
        self.rows.push(row.decode(&self.state, self.parts)?);
        self.bytes += row.key.len() + row.namespace.len() + row.map_key.len() + row.value.len();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    fn take(&mut self) -> Result<Option<Vec<Row>>> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        Ok((!rows.is_empty()).then_some(rows))
    }
}

/// Counts rows.
#[derive(Debug, Default)]
pub(crate) struct Counter(pub(crate) u64);

impl Collect for Counter {
    type Batch = u64;

    #[inline]
    fn push(&mut self, _: &EncodedRow<'_>) -> Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn is_full(&self) -> bool {
        false
    }

    fn take(&mut self) -> Result<Option<u64>> {
        Ok(Some(std::mem::take(&mut self.0)))
    }
}
