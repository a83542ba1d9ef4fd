//! Lists in operator state.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::registered::{AnyState, Meta, Registered};
use super::{OperatorStateEntry, Redistribution};
use crate::{Codec, Result, SerdeCodec};

/// What a list in operator state is (Flink: `OperatorStateStore.getListState`).
pub struct OperatorListDescriptor<T> {
    name: String,
    redistribution: Redistribution,
    codec: Arc<dyn Codec<T>>,
    schema_version: u32,
}

impl<T: Serialize + DeserializeOwned + 'static> OperatorListDescriptor<T> {
    /// A list that is split among the subtasks on a change of parallelism.
    pub fn split(name: impl Into<String>) -> Self {
        Self::new(name.into(), Redistribution::Split)
    }

    /// A list of which every subtask gets all at every restore (Flink: `getUnionListState`).
    ///
    /// Each subtask stores its whole list, so what all of them keep is there once for each of them at the next restore, and
    /// grows by that factor every time. Keep what this subtask needs when the operator
    /// [opens](crate::Open::operator_state).
    pub fn union(name: impl Into<String>) -> Self {
        Self::new(name.into(), Redistribution::Union)
    }

    fn new(name: String, redistribution: Redistribution) -> Self {
        Self { name, redistribution, codec: Arc::new(SerdeCodec), schema_version: 1 }
    }
}

impl<T: 'static> OperatorListDescriptor<T> {
    /// Takes a codec of your own.
    #[must_use]
    pub fn codec(mut self, codec: impl Codec<T>) -> Self {
        self.codec = Arc::new(codec);
        self
    }

    /// Sets the version of the element's schema (1 unless set); stored with snapshots.
    #[must_use]
    pub fn schema_version(mut self, version: u32) -> Self {
        self.schema_version = version;
        self
    }

    pub(super) fn meta(&self) -> Meta {
        Meta {
            name: self.name.clone(),
            redistribution: self.redistribution,
            codec: self.codec.id(),
            schema_version: self.schema_version,
            types: std::any::type_name::<T>(),
        }
    }
}

impl<T> Clone for OperatorListDescriptor<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            redistribution: self.redistribution,
            codec: Arc::clone(&self.codec),
            schema_version: self.schema_version,
        }
    }
}

impl<T> fmt::Debug for OperatorListDescriptor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorListDescriptor({}, {:?})", self.name, self.redistribution)
    }
}

/// A list that is registered with an [`OperatorStateStore`](super::OperatorStateStore); good for that store only.
pub struct OperatorListState<T> {
    pub(super) index: usize,
    element: PhantomData<fn() -> T>,
}

impl<T> OperatorListState<T> {
    pub(super) fn new(index: usize) -> Self {
        Self { index, element: PhantomData }
    }
}

impl<T> Clone for OperatorListState<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OperatorListState<T> {}

impl<T> fmt::Debug for OperatorListState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorListState(#{})", self.index)
    }
}

/// A list and how its elements are written.
pub(super) struct List<T> {
    meta: Meta,
    codec: Arc<dyn Codec<T>>,
    elements: Vec<T>,
}

impl<T: 'static> List<T> {
    pub(super) fn decode<'e>(
        descriptor: &OperatorListDescriptor<T>,
        meta: Meta,
        stored: impl Iterator<Item = &'e Vec<u8>>,
    ) -> Result<Self> {
        let codec = Arc::clone(&descriptor.codec);
        let elements: Result<_> = stored.map(|bytes| codec.decode(bytes)).collect();
        let elements = elements.map_err(|error| error.with("operator state", &meta.name))?;
        Ok(Self { meta, codec, elements })
    }
}

impl<T: Send + 'static> AnyState for List<T> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn entry(&self) -> Result<OperatorStateEntry> {
        let mut elements = Vec::with_capacity(self.elements.len());
        for element in &self.elements {
            let mut bytes = Vec::new();
            self.codec.encode(element, &mut bytes)?;
            elements.push(bytes);
        }
        Ok(self.meta.entry(elements))
    }
}

/// The lists in the operator state of one subtask.
#[derive(Debug, Default)]
pub struct OperatorLists(pub(super) Registered);

impl OperatorLists {
    /// Lends the elements.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the handle is of another store.
    pub fn get<T: Send + 'static>(&self, state: OperatorListState<T>) -> Result<&[T]> {
        self.0.get::<List<T>>(state.index).map(|list| list.elements.as_slice())
    }

    /// Lends the elements for any change.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_mut<T: Send + 'static>(&mut self, state: OperatorListState<T>) -> Result<&mut Vec<T>> {
        self.0.get_mut::<List<T>>(state.index).map(|list| &mut list.elements)
    }
}
