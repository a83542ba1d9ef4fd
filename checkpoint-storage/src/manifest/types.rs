//! The types of an operator's state, in the manifest.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strandline_state_api::schema::{Description, StateSchema, StateTypes};
use strandline_state_api::{Codec, SerdeCodec};

/// The types of the state of one operator, as far as the names of codecs do not reveal them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperatorTypes {
    /// Those of keyed states and timers, in every form that the job reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keyed: Vec<StateTypes>,
    /// Those of operator states. The codec is that of elements or of the values of a map.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operator_state: Vec<StateTypes>,
    /// That of the positions of a source.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "Description::deserialize_known")]
    pub positions: Option<Description>,
    /// That of the committables of a sink.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "Description::deserialize_known")]
    pub committables: Option<Description>,
}

impl OperatorTypes {
    /// Returns the types of the states that a subtask has registered: with its backend, and with its [operator
    /// state](strandline_state_api::host::OperatorStateStore::types).
    pub fn of_states(keyed: &[StateSchema], operator_state: Vec<StateTypes>) -> Self {
        let described = keyed.iter().flat_map(|schema| &schema.types).filter(|types| !types.is_empty());
        Self { keyed: described.cloned().collect(), operator_state, ..Self::default() }
    }

    /// Returns the types of a source whose positions are of type `P`.
    pub fn of_positions<P: Serialize + DeserializeOwned + 'static>() -> Self {
        Self { positions: Codec::<P>::description(&SerdeCodec), ..Self::default() }
    }

    /// Returns the types of a source whose positions are described so.
    pub fn with_positions(positions: Description) -> Self {
        Self { positions: Some(positions), ..Self::default() }
    }

    /// Returns the types of a sink whose committables are of type `C`.
    pub fn of_committables<C: Serialize + DeserializeOwned + 'static>() -> Self {
        Self { committables: Codec::<C>::description(&SerdeCodec), ..Self::default() }
    }

    /// Returns whether nothing is described.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another subtask of the operator describes.
    pub(crate) fn add(&mut self, other: &Self) {
        for (known, more) in
            [(&mut self.keyed, &other.keyed), (&mut self.operator_state, &other.operator_state)]
        {
            for types in more {
                if !known.iter().any(|known| known.is_of(types)) {
                    known.push(types.clone());
                }
            }
        }
        self.positions = self.positions.take().or_else(|| other.positions.clone());
        self.committables = self.committables.take().or_else(|| other.committables.clone());
    }
}
