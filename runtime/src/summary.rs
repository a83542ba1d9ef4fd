//! The summaries of sinks on their way into the report.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use strandline_state_api::{Codec, OperatorId, SerdeCodec};

use crate::sink::{Figure, Summary};

/// A [`Summary`] of any type.
trait AnySummary: Any + Send {
    /// Adds the summary of another subtask of the same sink.
    fn add_any(&mut self, other: Box<dyn AnySummary>);

    /// As [`add_any`](Self::add_any), of a subtask in another process.
    fn add_encoded(&mut self, other: &[u8]);

    fn encoded(&self) -> Vec<u8>;

    fn figures(&self) -> Vec<Figure>;
}

impl<S: Summary> AnySummary for S {
    fn add_any(&mut self, other: Box<dyn AnySummary>) {
        // The subtasks of one sink have summaries of one type.
        if let Ok(other) = (other as Box<dyn Any>).downcast() {
            self.add(*other);
        }
    }

    fn add_encoded(&mut self, other: &[u8]) {
        match SerdeCodec.decode(other) {
            Ok(other) => self.add(other),
            Err(error) => tracing::warn!(%error, "the summary of a sink in another process cannot be read"),
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = SerdeCodec.encode(self, &mut bytes) {
            tracing::warn!(%error, "the summary of a sink cannot be encoded");
        }
        bytes
    }

    fn figures(&self) -> Vec<Figure> {
        Summary::figures(self)
    }
}

/// What a task hands in when its job is over: the summaries of its sinks.
#[derive(Default)]
pub(crate) struct TaskSummary {
    sinks: BTreeMap<OperatorId, Box<dyn AnySummary>>,
    /// Those of sinks in other processes, until one of this process is here to read them.
    of_others: Vec<(OperatorId, Vec<u8>)>,
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
        self.of_others.extend(other.of_others);
        let sinks = &mut self.sinks;
        self.of_others.retain(|(sink, summary)| match sinks.get_mut(sink) {
            Some(sum) => {
                sum.add_encoded(summary);
                false
            }
            None => true,
        });
    }

    /// As bytes, for another process.
    pub(crate) fn encoded(&self) -> Vec<(OperatorId, Vec<u8>)> {
        self.sinks.iter().map(|(sink, summary)| (sink.clone(), summary.encoded())).collect()
    }

    /// What another process has [encoded](Self::encoded). It is read once it is
    /// [appended](Self::append) to a summary of the same sinks.
    pub(crate) fn of_encoded(of_others: Vec<(OperatorId, Vec<u8>)>) -> Self {
        Self { sinks: BTreeMap::new(), of_others }
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
    use serde::{Deserialize, Serialize};

    use super::*;

    /// The sum and the greatest of what subtasks saw.
    #[derive(Default, Serialize, Deserialize)]
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

    #[test]
    fn summaries_of_another_process_add_up_by_the_same_rule() {
        let id = OperatorId::new("seen").unwrap();
        let of_task = |records, longest| {
            let mut task = TaskSummary::default();
            task.add(&id, Seen { records, longest });
            task
        };
        let elsewhere = |records, longest| TaskSummary::of_encoded(of_task(records, longest).encoded());
        let mut all = TaskSummary::default();
        all.append(elsewhere(2, 7));
        all.append(of_task(3, 5));
        all.append(elsewhere(4, 6));
        let figures: Vec<_> = all.figures(&id).iter().map(Figure::to_string).collect();
        assert_eq!(figures, ["records 9", "longest 7"]);
    }
}
