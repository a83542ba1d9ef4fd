//! The summaries of sinks on their way into the report.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use strandline_state_api::OperatorId;

use crate::sink::{Figure, Summary};

/// A [`Summary`] of any type.
trait AnySummary: Any + Send {
    /// Adds the summary of another subtask of the same sink.
    fn add_any(&mut self, other: Box<dyn AnySummary>);

    fn figures(&self) -> Vec<Figure>;
}

impl<S: Summary> AnySummary for S {
    fn add_any(&mut self, other: Box<dyn AnySummary>) {
        // The subtasks of one sink have summaries of one type.
        if let Ok(other) = (other as Box<dyn Any>).downcast() {
            self.add(*other);
        }
    }

    fn figures(&self) -> Vec<Figure> {
        Summary::figures(self)
    }
}

/// What a task hands in when its job is over: the summaries of its sinks.
#[derive(Default)]
pub(crate) struct TaskSummary {
    sinks: BTreeMap<OperatorId, Box<dyn AnySummary>>,
}

impl TaskSummary {
    /// Adds the summary of one subtask of a sink.
    pub(crate) fn add(&mut self, sink: &OperatorId, summary: impl Summary) {
        self.add_boxed(sink.clone(), Box::new(summary));
    }

    fn add_boxed(&mut self, sink: OperatorId, summary: Box<dyn AnySummary>) {
        match self.sinks.get_mut(&sink) {
            Some(sum) => sum.add_any(summary),
            None => {
                self.sinks.insert(sink, summary);
            }
        }
    }

    /// Adds what another task handed in.
    pub(crate) fn append(&mut self, other: Self) {
        for (sink, summary) in other.sinks {
            self.add_boxed(sink, summary);
        }
    }

    /// The figures of `sink`, those of all its subtasks added up.
    pub(crate) fn figures(&self, sink: &OperatorId) -> Vec<Figure> {
        self.sinks.get(sink).map_or_else(Vec::new, |summary| summary.figures())
    }
}

impl fmt::Debug for TaskSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.sinks.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum and the greatest of what subtasks saw.
    #[derive(Default)]
    struct Seen {
        records: u64,
        longest: u64,
    }

    impl Summary for Seen {
        fn add(&mut self, other: Self) {
            self.records += other.records;
            self.longest = self.longest.max(other.longest);
        }

        fn figures(&self) -> Vec<Figure> {
            vec![Figure::count("records", self.records), Figure::bytes("longest", self.longest)]
        }
    }

    #[test]
    fn summaries_add_up_by_the_rule_of_their_sink() {
        let id = |id: &str| OperatorId::new(id).unwrap();
        let mut all = TaskSummary::default();
        for (records, longest) in [(2, 7), (3, 5)] {
            let mut task = TaskSummary::default();
            task.add(&id("seen"), Seen { records, longest });
            task.add(&id("silent"), ());
            all.append(task);
        }
        let figures: Vec<_> = all.figures(&id("seen")).iter().map(Figure::to_string).collect();
        assert_eq!(figures, ["records 5", "longest 7"]);
        assert_eq!(all.figures(&id("silent")), []);
        assert_eq!(all.figures(&id("absent")), []);
    }
}
