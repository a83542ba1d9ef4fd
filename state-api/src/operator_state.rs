//! State that belongs to a subtask and not to a key: positions of a source, files that a sink has yet to commit.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Codec, Error, ErrorKind, Result, SerdeCodec};

/// Who gets which elements when the parallelism changes (Flink: `OperatorStateHandle.Mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redistribution {
    /// The elements of all subtasks are split evenly among the new ones.
    Split,
    /// Every new subtask gets all elements of all subtasks.
    Union,
}

/// One operator state of one subtask as it stands in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OperatorStateEntry {
    /// The name of the state, unique within its operator.
    pub name: String,
    /// Who gets the elements after a change of parallelism.
    pub redistribution: Redistribution,
    /// The name of the codec that wrote the elements.
    pub codec: String,
    /// The encoded elements.
    pub elements: Vec<Vec<u8>>,
}

/// What a list in operator state is (Flink: `OperatorStateStore.getListState`, `getUnionListState`).
pub struct OperatorListDescriptor<T> {
    name: String,
    redistribution: Redistribution,
    codec: Arc<dyn Codec<T>>,
}

impl<T: Serialize + DeserializeOwned + 'static> OperatorListDescriptor<T> {
    /// A list that is split among the subtasks on a change of parallelism.
    pub fn split(name: impl Into<String>) -> Self {
        Self { name: name.into(), redistribution: Redistribution::Split, codec: Arc::new(SerdeCodec) }
    }

    /// A list of which every subtask gets all on a change of parallelism.
    pub fn union(name: impl Into<String>) -> Self {
        Self { name: name.into(), redistribution: Redistribution::Union, codec: Arc::new(SerdeCodec) }
    }
}

impl<T: 'static> OperatorListDescriptor<T> {
    /// Takes a codec of your own.
    #[must_use]
    pub fn codec(mut self, codec: impl Codec<T>) -> Self {
        self.codec = Arc::new(codec);
        self
    }
}

impl<T> Clone for OperatorListDescriptor<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), redistribution: self.redistribution, codec: Arc::clone(&self.codec) }
    }
}

impl<T> fmt::Debug for OperatorListDescriptor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorListDescriptor({}, {:?})", self.name, self.redistribution)
    }
}

/// A list that is registered with an [`OperatorStateStore`]; good for that store only.
pub struct OperatorListState<T> {
    index: usize,
    element: PhantomData<fn() -> T>,
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

trait AnyList: Send {
    fn entry(&self) -> Result<OperatorStateEntry>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

struct List<T> {
    descriptor: OperatorListDescriptor<T>,
    elements: Vec<T>,
}

impl<T: Send + 'static> AnyList for List<T> {
    fn entry(&self) -> Result<OperatorStateEntry> {
        let mut elements = Vec::with_capacity(self.elements.len());
        for element in &self.elements {
            let mut bytes = Vec::new();
            self.descriptor.codec.encode(element, &mut bytes)?;
            elements.push(bytes);
        }
        Ok(OperatorStateEntry {
            name: self.descriptor.name.clone(),
            redistribution: self.descriptor.redistribution,
            codec: self.descriptor.codec.id(),
            elements,
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The operator state of one subtask. Small by nature; kept as native values and written whole at every checkpoint.
#[derive(Default)]
pub struct OperatorStateStore {
    lists: Vec<(String, Box<dyn AnyList>)>,
    /// Restored and not registered yet. Kept, and written again.
    restored: Vec<OperatorStateEntry>,
}

impl OperatorStateStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that holds what a checkpoint had; lists come to life as they are registered.
    pub fn restored(entries: Vec<OperatorStateEntry>) -> Self {
        Self { lists: Vec::new(), restored: entries }
    }

    /// Registers a list, with its restored elements if there are any. The same name gives the same list.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the name is taken by a list of another type or redistribution,
    /// [`Incompatible`](ErrorKind::Incompatible) when it was stored with another codec,
    /// [`Corrupt`](ErrorKind::Corrupt) when an element cannot be decoded.
    pub fn register_list<T: Send + 'static>(
        &mut self,
        descriptor: &OperatorListDescriptor<T>,
    ) -> Result<OperatorListState<T>> {
        let name = &descriptor.name;
        if let Some(index) = self.lists.iter().position(|(n, _)| n == name) {
            let known = self.lists[index].1.as_any().downcast_ref::<List<T>>();
            return match known {
                Some(list) if list.descriptor.redistribution == descriptor.redistribution => {
                    Ok(OperatorListState { index, element: PhantomData })
                }
                _ => Err(Error::invalid("an operator state of this name has another type or redistribution")
                    .with("state", name)),
            };
        }
        let mut elements = Vec::new();
        let stored = self.restored.iter().filter(|entry| &entry.name == name);
        for entry in stored {
            if entry.codec != descriptor.codec.id() {
                let message = format!("stored with codec {}, wanted {}", entry.codec, descriptor.codec.id());
                return Err(Error::new(ErrorKind::Incompatible, message).with("state", name));
            }
            for bytes in &entry.elements {
                elements.push(descriptor.codec.decode(bytes).map_err(|e| e.with("state", name))?);
            }
        }
        self.restored.retain(|entry| &entry.name != name);
        self.lists.push((name.clone(), Box::new(List { descriptor: descriptor.clone(), elements })));
        Ok(OperatorListState { index: self.lists.len() - 1, element: PhantomData })
    }

    /// Lends the elements.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the handle is of another store.
    pub fn get<T: Send + 'static>(&self, state: OperatorListState<T>) -> Result<&[T]> {
        let list = self.lists.get(state.index).and_then(|(_, list)| list.as_any().downcast_ref::<List<T>>());
        list.map(|list| list.elements.as_slice()).ok_or_else(foreign_handle)
    }

    /// Lends the elements for any change.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_mut<T: Send + 'static>(&mut self, state: OperatorListState<T>) -> Result<&mut Vec<T>> {
        let list =
            self.lists.get_mut(state.index).and_then(|(_, list)| list.as_any_mut().downcast_mut::<List<T>>());
        list.map(|list| &mut list.elements).ok_or_else(foreign_handle)
    }

    /// All state as it stands in a checkpoint.
    ///
    /// # Errors
    /// When an element cannot be encoded.
    pub fn snapshot(&self) -> Result<Vec<OperatorStateEntry>> {
        let lists = self.lists.iter().map(|(name, list)| list.entry().map_err(|e| e.with("state", name)));
        lists.chain(self.restored.iter().cloned().map(Ok)).collect()
    }
}

impl fmt::Debug for OperatorStateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.lists.iter().map(|(name, _)| name);
        f.debug_list().entries(names.chain(self.restored.iter().map(|entry| &entry.name))).finish()
    }
}

fn foreign_handle() -> Error {
    Error::invalid("the handle belongs to another operator state store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_snapshotted_is_there_again_and_unclaimed_state_stays() {
        let mut store = OperatorStateStore::new();
        let positions =
            store.register_list(&OperatorListDescriptor::<(String, u64)>::split("positions")).unwrap();
        let rules = store.register_list(&OperatorListDescriptor::<String>::union("rules")).unwrap();
        store.get_mut(positions).unwrap().push(("a.csv".into(), 7));
        store.get_mut(rules).unwrap().push("r1".into());
        let snapshot = store.snapshot().unwrap();

        let mut again = OperatorStateStore::restored(snapshot);
        let positions =
            again.register_list(&OperatorListDescriptor::<(String, u64)>::split("positions")).unwrap();
        assert_eq!(again.get(positions).unwrap(), [("a.csv".into(), 7)]);
        let names: Vec<_> = again.snapshot().unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["positions", "rules"], "unclaimed state is written again");
    }

    #[test]
    fn a_name_has_one_type_one_mode_and_one_codec() {
        let mut store = OperatorStateStore::new();
        store.register_list(&OperatorListDescriptor::<u64>::split("a")).unwrap();
        let error = store.register_list(&OperatorListDescriptor::<u64>::union("a")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let mut again = OperatorStateStore::restored(store.snapshot().unwrap());
        let error = again.register_list(&OperatorListDescriptor::<String>::split("a")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
    }
}
