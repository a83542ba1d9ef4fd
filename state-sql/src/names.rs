//! The names of tables.

use strandline_state_reader::{CheckpointReader, OperatorStateInfo};

/// Returns the name of the table of an operator state: `operator/state`, marked where a keyed state has that name, too.
pub(crate) fn of_operator_state(checkpoint: &CheckpointReader, state: &OperatorStateInfo) -> String {
    let path = format!("{}/{}", state.operator, state.name);
    match checkpoint.states().iter().any(|keyed| keyed.path() == path) {
        true => format!("{path}#operator"),
        false => path,
    }
}

/// Returns the operator state with this name: that of its table, or a shorter one that only one has.
pub(crate) fn operator_state(checkpoint: &CheckpointReader, name: &str) -> Option<OperatorStateInfo> {
    let states = checkpoint.operator_states();
    if let Some(found) = states.iter().find(|state| of_operator_state(checkpoint, state) == name) {
        return Some(found.clone());
    }
    let mut found = states.iter().filter(|state| state.name == name || state.operator.as_str() == name);
    found.next().filter(|_| found.next().is_none()).cloned()
}
