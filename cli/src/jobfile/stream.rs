//! What is known of the rows between two steps.

use std::collections::BTreeSet;

use strandline_connectors::Column;

use super::columns::{Columns, Input};

/// Whose rows they are: those of a source or of a step, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Source(usize),
    Step(usize),
}

/// What is known of the rows of a source or a step, also where there are mistakes in it.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) columns: Columns,
    /// Whether rows have event times.
    pub(super) timed: bool,
    /// Whether these are timestamps, and not milliseconds.
    pub(super) moments: bool,
    /// The column for whether a row comes or goes, where rows are changes of a result.
    pub(super) changes: Option<usize>,
    /// For each column the one of a source in whose place it is.
    places: Vec<Option<Place>>,
}

/// A column of a source.
#[derive(Clone, Copy, Debug)]
struct Place {
    source: usize,
    column: usize,
    /// Whether the value is still that of the source.
    has_value: bool,
}

/// The columns that steps and sinks need of each source.
#[derive(Debug)]
pub(super) struct Needs(Vec<BTreeSet<usize>>);

impl Stream {
    /// The rows of the source with this number.
    pub(super) fn of_source(source: usize, input: &Input) -> Self {
        let columns = input.columns.clone();
        let place = |column| Some(Place { source, column, has_value: true });
        let places = (0..columns.known.len()).map(place).collect();
        Self { columns, timed: input.timed, moments: input.moments, changes: None, places }
    }

    /// Rows of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self { changes: None, places: Vec::new(), ..Self::of_source(0, &Input::unknown()) }
    }

    /// Other rows with the same times.
    pub(super) fn with_columns(&self, columns: Columns) -> Self {
        Self { columns, timed: self.timed, moments: self.moments, changes: None, places: Vec::new() }
    }

    /// The column at `index` gets another value; one behind the last is new.
    pub(super) fn compute(&mut self, index: usize, column: Column) {
        self.places.resize(self.columns.known.len(), None);
        match self.columns.known.get_mut(index) {
            Some(before) => *before = column,
            None => self.columns.known.push(column),
        }
        if let Some(Some(place)) = self.places.get_mut(index) {
            place.has_value = false;
        }
        if self.changes == Some(index) {
            self.changes = None;
        }
    }
}

impl Needs {
    pub(super) fn new(sources: usize) -> Self {
        Self(vec![BTreeSet::new(); sources])
    }

    /// Notes that these columns of `stream` are used.
    pub(super) fn columns(&mut self, stream: &Stream, used: &[usize]) {
        let places = used.iter().filter_map(|index| stream.places.get(*index).copied().flatten());
        places.filter(|place| place.has_value).for_each(|place| self.note(place));
    }

    /// Notes that whole rows of `stream` are used, with their columns in their order.
    pub(super) fn rows(&mut self, stream: &Stream) {
        stream.places.iter().flatten().for_each(|place| self.note(*place));
    }

    fn note(&mut self, place: Place) {
        if let Some(columns) = self.0.get_mut(place.source) {
            columns.insert(place.column);
        }
    }

    /// What is needed of each source.
    pub(super) fn of_sources(&self) -> Vec<Vec<usize>> {
        self.0.iter().map(|columns| columns.iter().copied().collect()).collect()
    }
}
