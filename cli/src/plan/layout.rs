//! What the rows are that an operator keeps.

use std::fmt::Write;

use strandline_connectors::Column;
use strandline_state_api::{Codec, KeyedBackend, Open, Result, StateKey, ValueDescriptor};

/// Names keys, columns and what is done with them, as the id of a codec. A checkpoint holds it, so a job never
/// takes the rows of one step for those of another.
#[derive(Clone, Debug)]
pub(super) struct Layout(String);

impl Layout {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// Adds columns with their types under a name.
    pub(super) fn columns<'a>(mut self, name: &str, columns: impl IntoIterator<Item = &'a Column>) -> Self {
        let columns = columns.into_iter().map(|column| {
            format!("{}:{}{}", column.name, column.kind, if column.nullable { "?" } else { "" })
        });
        let _ = write!(self.0, " {name} {}", columns.collect::<Vec<_>>().join(","));
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// Registers a state without values, by which a restore refuses the rows of another layout.
    pub(super) fn register<B: KeyedBackend, N: StateKey>(&self, ctx: &mut Open<'_, B, N>) -> Result<()> {
        ctx.register(&ValueDescriptor::<()>::with_codec("layout", self.clone()))?;
        Ok(())
    }
}

impl Codec<()> for Layout {
    fn id(&self) -> String {
        self.0.clone()
    }

    fn encode(&self, (): &(), _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn decode(&self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}
