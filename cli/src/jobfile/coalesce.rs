//! The step `coalesce`.

use strandline_connectors::Column;

use super::columns::Columns;
use super::problem::Problem;
use super::section::{self, Section};
use super::step::{Step, StepParser};
use super::stream::Stream;
use super::tree::Node;

/// Takes the changes of each key that come within a time together.
#[derive(Clone, Debug)]
pub(crate) struct Coalesce {
    /// The operator id, by which a resumed job finds its state.
    pub(crate) id: String,
    /// In milliseconds.
    pub(crate) every: i64,
    pub(crate) keys: Vec<(usize, Column)>,
    /// Whether the time is that of the clock, and not that of the rows.
    pub(crate) processing: bool,
    /// The column for whether a row comes or goes.
    pub(crate) changes: usize,
    /// The columns of its rows.
    pub(crate) input: Vec<Column>,
}

impl StepParser<'_> {
    pub(super) fn coalesce(
        &self,
        value: &Node,
        section: &Section<'_>,
        id: Option<String>,
    ) -> (Option<Step>, Stream) {
        let every = self.problems.ok(section::millis(value, "the time of `coalesce`"));
        let none = ("these changes have no key", "expected at least one column");
        let keys = self.each(section, "by", none, &mut Columns::default(), |item, text| {
            let kept = self.kept_column(item, text)?;
            if self.stream.changes == Some(kept.0.0) {
                let message = "changes of one row would have several keys";
                return Err(Problem::new(&item.location, message, "expected another column than `change`"));
            }
            Ok(kept)
        });
        let processing = section.word("time") == Some("processing");
        if !processing && !self.stream.timed {
            let label = "expected `time = \"processing\"`, or `event_time = \"column\"` in [source] and no earlier \
                         step that emits at the end";
            self.problems.add(Problem::new(&value.location, "these changes have no event times", label));
        }
        let changes = self.stream.changes;
        if changes.is_none() && !self.stream.columns.others {
            let label = "expected rows with the column `change`, as `deduplicate` and `top` with `emit = \"changes\"` \
                         and a join of all rows have them";
            self.problems.add(Problem::new(&value.location, "there are no changes to take together", label));
        }
        let mut after = self.stream.clone();
        after.timed &= !processing;
        let input = self.columns().to_vec();
        let step = id.zip(every).zip(changes).map(|((id, every), changes)| {
            Step::Coalesce(Coalesce { id, every, keys, processing, changes, input })
        });
        (step, after)
    }
}
