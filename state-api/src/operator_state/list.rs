//! Lists in operator state.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::registered::{AnyState, Meta, Registered};
use super::{OperatorStateEntry, Redistribution};
use crate::schema::Decoder;
use crate::{Codec, Evolution, Result, SerdeCodec};

/// Declares a list in operator state (Flink: `OperatorStateStore.getListState`).
pub struct OperatorListDescriptor<T> {
    name: String,
    redistribution: Redistribution,
    pub(super) decoder: Decoder<T>,
}

impl<T: Serialize + DeserializeOwned + 'static> OperatorListDescriptor<T> {
    /// Declares a list that is split among the subtasks when the parallelism changes.
    pub fn split(name: impl Into<String>) -> Self {
        Self::new(name.into(), Redistribution::Split)
    }

    /// Declares a list that every subtask gets whole at every restore (Flink: `getUnionListState`).
    ///
    /// Each subtask stores its whole list, so an element that all of them keep comes back once for each of
    /// them at the next restore, and the list grows by that factor every time. Keep only what this subtask
    /// needs when the operator [opens](crate::Open::operator_state).
    pub fn union(name: impl Into<String>) -> Self {
        Self::new(name.into(), Redistribution::Union)
    }

    fn new(name: String, redistribution: Redistribution) -> Self {
        Self { name, redistribution, decoder: Decoder::new(1, Arc::new(SerdeCodec)) }
    }
}

impl<T: 'static> OperatorListDescriptor<T> {
    /// Sets a codec of your own.
    #[must_use]
    pub fn codec(mut self, codec: impl Codec<T>) -> Self {
        self.decoder.codec = Arc::new(codec);
        self
    }

    /// Sets the version of the element's schema (1 unless set); snapshots store it. A codec that [describes
    /// itself](Codec::is_self_describing) reads lower versions as they are; for others see
    /// [`evolving`](Self::evolving).
    #[must_use]
    pub fn schema_version(mut self, version: u32) -> Self {
        self.decoder.version = version;
        self
    }

    /// Sets codec and version of the elements, and the older versions that a restore migrates.
    #[must_use]
    pub fn evolving(mut self, evolution: Evolution<T>) -> Self {
        let renamed_from = std::mem::take(&mut self.decoder.renamed_from);
        self.decoder = Decoder { renamed_from, ..evolution.0 };
        self
    }

    /// Declares a former name of the list: a restore fills this list with what a snapshot stores under that
    /// name.
    #[must_use]
    pub fn renamed_from(mut self, name: impl Into<String>) -> Self {
        self.decoder.renamed_from.push(name.into());
        self
    }

    pub(super) fn meta(&self) -> Meta {
        let name = (self.name.as_str(), self.redistribution);
        Meta::new(name, (String::new(), None), &self.decoder, std::any::type_name::<T>())
    }
}

impl<T> Clone for OperatorListDescriptor<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), redistribution: self.redistribution, decoder: self.decoder.clone() }
    }
}

impl<T> fmt::Debug for OperatorListDescriptor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorListDescriptor({}, {:?})", self.name, self.redistribution)
    }
}

/// A handle of a list that is registered with an [`OperatorStateStore`](super::OperatorStateStore), valid for
/// that store only.
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

/// A list, and how its elements are stored.
pub(super) struct List<T> {
    meta: Meta,
    decoder: Decoder<T>,
    elements: Vec<T>,
}

impl<T: 'static> List<T> {
    pub(super) fn new(descriptor: &OperatorListDescriptor<T>, meta: Meta) -> Self {
        Self { meta, decoder: descriptor.decoder.clone(), elements: Vec::new() }
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
            self.decoder.codec.encode(element, &mut bytes)?;
            elements.push(bytes);
        }
        Ok(self.meta.entry(elements))
    }

    fn restore(&mut self, entry: &OperatorStateEntry) -> Result<()> {
        let decode = self.decoder.of_version(self.meta.version_of(entry)?);
        for element in &entry.elements {
            self.elements.push(decode(element)?);
        }
        Ok(())
    }
}

/// The lists in the operator state of one subtask.
#[derive(Debug, Default)]
pub struct OperatorLists(pub(super) Registered);

impl OperatorLists {
    /// Lends the elements.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the handle belongs to another store.
    pub fn get<T: Send + 'static>(&self, state: OperatorListState<T>) -> Result<&[T]> {
        self.0.get::<List<T>>(state.index).map(|list| list.elements.as_slice())
    }

    /// Lends the elements mutably.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn get_mut<T: Send + 'static>(&mut self, state: OperatorListState<T>) -> Result<&mut Vec<T>> {
        self.0.get_mut::<List<T>>(state.index).map(|list| &mut list.elements)
    }
}
