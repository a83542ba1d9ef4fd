//! The step `deduplicate`.

use std::time::Duration;

use strandline_connectors::{Column, ColumnType};

use super::columns::Columns;
use super::group::Emit;
use super::problem::Problem;
use super::section::{self, Section};
use super::step::{Step, StepParser};
use super::stream::Stream;
use super::tree::Node;

/// Keeps one row of each key.
#[derive(Clone, Debug)]
pub(crate) struct Deduplicate {
    /// The operator id, by which a resumed job finds its state.
    pub(crate) id: String,
    pub(crate) keys: Vec<(usize, Column)>,
    /// Whether the last row stays, and not the first.
    pub(crate) last: bool,
    pub(crate) emit: Emit,
    pub(crate) ttl: Option<Duration>,
    /// The columns of its rows.
    pub(crate) input: Vec<Column>,
}

impl StepParser<'_> {
    pub(super) fn deduplicate(
        &self,
        value: &Node,
        section: &Section<'_>,
        id: Option<String>,
    ) -> (Option<Step>, Stream) {
        let none = ("these rows have no key", "expected at least one column");
        let keys = self.each(section, "deduplicate", none, &mut Columns::default(), |item, text| {
            self.kept_column(item, text)
        });
        let last = section.word("keep") == Some("last");
        let emit = if section.word("emit") == Some("changes") { Emit::Changes } else { Emit::End };
        let ttl = ttl(section);
        if !self.stream.timed {
            let label =
                "expected `event_time = \"column\"` in [source], and no earlier step that emits at the end";
            let message = "the first and the last row need event times";
            self.problems.add(Problem::new(&value.location, message, label));
        }
        if let (Some(node), true) = (section.get("ttl"), last && emit == Emit::End) {
            let label = "leave this out, or emit \"changes\"";
            let message = "a last row that is emitted at the end of the input must not be forgotten before";
            self.problems.add(Problem::new(&node.location, message, label));
        }
        let mut after = self.stream.clone();
        match emit {
            Emit::Changes => {
                let mut columns = after.columns.clone();
                self.push(&mut columns, Column::new("change", ColumnType::Text), value);
                if columns.known.len() > after.columns.known.len() {
                    let index = after.columns.known.len();
                    after.compute(index, Column::new("change", ColumnType::Text));
                    after.changes = Some(index);
                }
            }
            // The last rows come when event time is far beyond them.
            Emit::End => after.timed &= !last,
        }
        let input = self.columns().to_vec();
        (id.map(|id| Step::Deduplicate(Deduplicate { id, keys, last, emit, ttl, input })), after)
    }
}

/// The time-to-live of a section.
pub(super) fn ttl(section: &Section<'_>) -> Option<Duration> {
    let node = section.get("ttl")?;
    let millis = section.problems.ok(section::millis(node, "a time-to-live"))?;
    Some(Duration::from_millis(millis.unsigned_abs()))
}
