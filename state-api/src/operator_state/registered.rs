//! States of any type under their names.

use std::any::Any;
use std::fmt;

use super::{OperatorStateEntry, Redistribution};
use crate::{Error, Result};

/// The description of a wanted or a registered state, for comparison.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) redistribution: Redistribution,
    pub(super) codec: String,
    pub(super) schema_version: u32,
    /// The Rust types, for errors.
    pub(super) types: &'static str,
}

impl Meta {
    pub(super) fn entry(&self, elements: Vec<Vec<u8>>) -> OperatorStateEntry {
        OperatorStateEntry {
            name: self.name.clone(),
            redistribution: self.redistribution,
            codec: self.codec.clone(),
            schema_version: self.schema_version,
            elements,
        }
    }
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { redistribution, codec, schema_version, types, .. } = self;
        write!(f, "{redistribution} of {types} (codec {codec}, schema version {schema_version})")
    }
}

/// A state whose types are hidden.
pub(super) trait AnyState: Any + Send {
    fn meta(&self) -> &Meta;

    /// Encodes the state as a checkpoint stores it.
    fn entry(&self) -> Result<OperatorStateEntry>;

    /// Adds the encoded elements of a checkpoint.
    fn restore(&mut self, elements: &[Vec<u8>]) -> Result<()>;
}

/// States in the order of registration; a handle holds an index into them.
#[derive(Default)]
pub(super) struct Registered(Vec<Box<dyn AnyState>>);

impl Registered {
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|state| state.meta().name == name)
    }

    pub(super) fn metas(&self) -> impl Iterator<Item = &Meta> {
        self.0.iter().map(|state| state.meta())
    }

    pub(super) fn push(&mut self, state: impl AnyState) -> usize {
        self.0.push(Box::new(state));
        self.0.len() - 1
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut dyn AnyState> {
        self.0.iter_mut().map(|state| &mut **state as &mut dyn AnyState)
    }

    pub(super) fn get<S: AnyState>(&self, index: usize) -> Result<&S> {
        let state = self.0.get(index).map(|state| state.as_ref() as &dyn Any);
        state.and_then(|state| state.downcast_ref()).ok_or_else(foreign_handle)
    }

    pub(super) fn get_mut<S: AnyState>(&mut self, index: usize) -> Result<&mut S> {
        let state = self.0.get_mut(index).map(|state| state.as_mut() as &mut dyn Any);
        state.and_then(|state| state.downcast_mut()).ok_or_else(foreign_handle)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Result<OperatorStateEntry>> {
        let entry = |state: &dyn AnyState| {
            state.entry().map_err(|error| error.with("operator state", &state.meta().name))
        };
        self.0.iter().map(move |state| entry(state.as_ref()))
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.metas().map(|meta| &meta.name)).finish()
    }
}

fn foreign_handle() -> Error {
    Error::invalid(
        "the handle belongs to another operator state store: use the one that the store returned at \
         registration",
    )
}
