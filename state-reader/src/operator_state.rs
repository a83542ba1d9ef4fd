//! Operator state: lists, union lists and broadcast maps, and what sources and sinks keep.

use strandline_checkpoint_storage::{OperatorTypes, SubtaskSnapshot};
use strandline_state_api::host::{OperatorStateEntry, Redistribution};
use strandline_state_api::schema::{Description, StateTypes};
use strandline_state_api::{OperatorId, Result};

use crate::{CheckpointReader, Decoder, StatePart, Value};

/// A list, a union list or a broadcast map in the state of an operator.
#[derive(Clone, Debug)]
pub struct OperatorStateInfo {
    /// The operator.
    pub operator: OperatorId,
    /// The name, unique among the operator states of the operator.
    pub name: String,
    /// How its elements move when the parallelism changes, which shows what it is.
    pub redistribution: Redistribution,
    /// The schema version of the elements.
    pub schema_version: u32,
    /// The map keys, if it is a broadcast map.
    pub map_key: Option<StatePart>,
    /// The elements of a list, or the values of a map.
    pub value: StatePart,
}

/// An element of a list, or an entry of a map, of one subtask.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorElement {
    /// The subtask that stored it. Each subtask stores the whole of a broadcast map.
    pub subtask: u32,
    /// The number of the element in the list of the subtask, from 0; of an entry in the order of map keys.
    pub index: u64,
    /// The map key, if it is a broadcast map.
    pub map_key: Option<Value>,
    /// The element, or the value.
    pub value: Value,
}

impl CheckpointReader {
    /// Returns all operator states, by operator in the order of the manifest, and by name.
    pub fn operator_states(&self) -> Vec<OperatorStateInfo> {
        let mut states: Vec<OperatorStateInfo> = Vec::new();
        for operator in &self.manifest().operators {
            let first = states.len();
            for entry in operator.subtasks.iter().flat_map(|subtask| &subtask.operator_state) {
                if !states[first..].iter().any(|known| known.name == entry.name) {
                    states.push(self.describe(&operator.id, entry));
                }
            }
            states[first..].sort_by(|a, b| a.name.cmp(&b.name));
        }
        states
    }

    fn describe(&self, operator: &OperatorId, entry: &OperatorStateEntry) -> OperatorStateInfo {
        let (map_codec, codec) = entry.codecs();
        let decoders = self.decoders();
        let described =
            self.manifest().operator(operator).map_or(&[][..], |known| &known.types.operator_state);
        let of_state = || described.iter().filter(|types| types.state == entry.name);
        let map_key = of_state().find_map(|types| types.map_key.as_ref());
        let is_it =
            |types: &&StateTypes| types.value_codec == codec && types.schema_version == entry.schema_version;
        let value = of_state().find(is_it).and_then(|types| types.value.as_ref());
        OperatorStateInfo {
            operator: operator.clone(),
            name: entry.name.clone(),
            redistribution: entry.redistribution,
            schema_version: entry.schema_version,
            map_key: map_codec.map(|codec| StatePart::new(codec, decoders.of_key(codec, map_key))),
            value: StatePart::new(codec, decoders.of_value(codec, value)),
        }
    }

    /// Returns the positions of a source, one for each split of its input, and their type; none for any other
    /// operator.
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when one is no value of the type.
    pub fn positions(&self, operator: &OperatorId) -> Result<(StatePart, Vec<OperatorElement>)> {
        self.list(operator, |types| types.positions.as_ref(), |subtask| &subtask.positions)
    }

    /// Returns what a sink has yet to commit, and its type; none for any other operator.
    ///
    /// # Errors
    /// As [`positions`](Self::positions).
    pub fn committables(&self, operator: &OperatorId) -> Result<(StatePart, Vec<OperatorElement>)> {
        self.list(operator, |types| types.committables.as_ref(), |subtask| &subtask.committables)
    }

    fn list(
        &self,
        id: &OperatorId,
        described: impl Fn(&OperatorTypes) -> Option<&Description>,
        of: impl Fn(&SubtaskSnapshot) -> &Vec<Vec<u8>>,
    ) -> Result<(StatePart, Vec<OperatorElement>)> {
        let operator = self.manifest().operator(id);
        let description = operator.and_then(|operator| described(&operator.types)).cloned();
        let part = StatePart::new("postcard", description.map_or_else(Decoder::bytes, Decoder::described));
        let mut elements = Vec::new();
        for subtask in operator.into_iter().flat_map(|operator| &operator.subtasks) {
            for (bytes, index) in of(subtask).iter().zip(0..) {
                let value = part.decoder().decode(bytes);
                let value = value.map_err(|error| {
                    let error = error.with("operator", id).with("subtask", subtask.subtask);
                    error.with("element", index).with("checkpoint", self.id())
                })?;
                elements.push(OperatorElement { subtask: subtask.subtask, index, map_key: None, value });
            }
        }
        Ok((part, elements))
    }

    /// Returns the elements of an operator state, subtask by subtask.
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when an element is no value of its type.
    pub fn operator_elements(&self, state: &OperatorStateInfo) -> Result<Vec<OperatorElement>> {
        let Some(operator) = self.manifest().operator(&state.operator) else { return Ok(Vec::new()) };
        let mut elements = Vec::new();
        for subtask in &operator.subtasks {
            let of_state = subtask.operator_state.iter().filter(|entry| entry.name == state.name);
            for (bytes, index) in of_state.flat_map(|entry| &entry.elements).zip(0..) {
                let decoded = state.decode(bytes).map_err(|error| {
                    let path = format_args!("{}/{}", state.operator, state.name);
                    let error = error.with("operator state", path).with("subtask", subtask.subtask);
                    error.with("element", index).with("checkpoint", self.id())
                });
                let (map_key, value) = decoded?;
                elements.push(OperatorElement { subtask: subtask.subtask, index, map_key, value });
            }
        }
        Ok(elements)
    }
}

impl OperatorStateInfo {
    fn decode(&self, bytes: &[u8]) -> Result<(Option<Value>, Value)> {
        let Some(map_key) = &self.map_key else { return Ok((None, self.value.decoder().decode(bytes)?)) };
        let (key, value) = OperatorStateEntry::split_map_entry(bytes)?;
        Ok((Some(map_key.decoder().decode(key)?), self.value.decoder().decode(value)?))
    }
}
