//! What manifests of version 1 keep in operator state: positions, committables and timestamp assigners.
//!
//! The executor wrote each as a union list with the codec `bytes` under a name of its own. An entry that
//! differs in any of these is an operator's, whatever its name: it stays where it is.

use std::collections::BTreeMap;

use strandline_state_api::host::{OperatorStateEntry, Redistribution};
use strandline_state_api::{Error, Result, Timestamp};

use super::{Manifest, SubtaskSnapshot};

const POSITIONS: &str = "positions";
const COMMITTABLES: &str = "pending";
const ASSIGNERS: &str = "strandline.timestamps";

/// Moves the executor's entries to their fields.
pub(super) fn upgrade(manifest: &mut Manifest) -> Result<()> {
    for operator in &mut manifest.operators {
        for subtask in &mut operator.subtasks {
            upgrade_subtask(subtask)
                .map_err(|error| error.with("operator", &operator.id).with("subtask", subtask.subtask))?;
        }
    }
    Ok(())
}

fn upgrade_subtask(subtask: &mut SubtaskSnapshot) -> Result<()> {
    let mut assigners = BTreeMap::new();
    for entry in std::mem::take(&mut subtask.operator_state) {
        match entry.name.as_str() {
            POSITIONS if is_of_executor(&entry) => subtask.positions.extend(entry.elements),
            COMMITTABLES if is_of_executor(&entry) => subtask.committables.extend(entry.elements),
            ASSIGNERS if is_of_executor(&entry) => {
                for element in &entry.elements {
                    let (place, greatest) = decode_assigner(element)
                        .ok_or_else(|| Error::corrupt("the state of a timestamp assigner cannot be read"))?;
                    assigners.insert(place, greatest);
                }
            }
            _ => subtask.operator_state.push(entry),
        }
    }
    for (place, greatest) in assigners {
        // Places count the assigners of one chain: they are small, and a file with a valid checksum was
        // written by us.
        subtask.assigners.resize(usize::from(place), None);
        subtask.assigners.push(greatest);
    }
    Ok(())
}

fn is_of_executor(entry: &OperatorStateEntry) -> bool {
    (entry.redistribution, entry.codec.as_str(), entry.schema_version) == (Redistribution::Union, "bytes", 1)
}

/// The place (4 bytes, little-endian) and the timestamp (8 bytes, little-endian); the least number stands for
/// none.
fn decode_assigner(element: &[u8]) -> Option<(u16, Option<Timestamp>)> {
    let (place, greatest) = element.split_first_chunk::<4>()?;
    let place = u16::try_from(u32::from_le_bytes(*place)).ok()?;
    Some((place, Timestamp::from_stored(i64::from_le_bytes(greatest.try_into().ok()?))))
}
