//! Identities that all crates share: checkpoints and operators.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The number of a checkpoint: starts at 1 and strictly increases over the life of a job, across all
/// restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckpointId(pub u64);

impl CheckpointId {
    /// The first checkpoint of a new job.
    pub const FIRST: Self = Self(1);

    /// Returns the checkpoint after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name that the author of a job gives to a stateful operator; a restore finds the operator's state by
/// this name (Flink's `uid`).
///
/// An id has 1 to 120 ASCII letters, digits, `-`, `_` or `.` and does not start with a dot, so it can be part
/// of a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperatorId(Arc<str>);

impl OperatorId {
    /// Checks a name and takes it as an id.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the name breaks the rule above.
    pub fn new(name: &str) -> Result<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 120 || name.starts_with('.') || !name.chars().all(legal) {
            return Err(Error::invalid(format!(
                "{name:?} is no operator id: use 1 to 120 letters, digits, '-', '_' or '.', not starting \
                 with '.'"
            )));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for OperatorId {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(&name)
    }
}

impl From<OperatorId> for String {
    fn from(id: OperatorId) -> Self {
        id.0.as_ref().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_ids_are_file_name_safe() {
        for good in ["count", "a", "window-sum_2.b"] {
            assert_eq!(OperatorId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".hidden", "a/b", "a b", "zähler", &"x".repeat(121)] {
            assert!(OperatorId::new(bad).is_err(), "{bad:?}");
        }
    }
}
