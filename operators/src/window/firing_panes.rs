//! The panes of a key whose windows fire.

use strandline_state_api::{KeyScope, KeyedBackend, MapState, Result, TimeWindow};

use super::folds::Folds;
use super::grid::Grid;
use crate::Aggregate;

/// So many new panes of a window are looked up one by one; for more of them all panes are read.
const MOST_LOOK_UPS: i64 = 4;

/// The panes of a key, while its windows fire in the order of time.
pub(super) struct FiringPanes<A> {
    /// Those of the window that fired last, where windows are [folded](Self::FOLDS).
    folds: Folds<A>,
    /// The panes from the first of these windows on, in the order of time, once they have been read.
    panes: Vec<(i64, A)>,
    is_read: bool,
    /// The starts of panes that no later window has.
    expired: Vec<i64>,
}

/// A window that fires.
pub(super) struct Computed<R> {
    /// `None` for a window without panes.
    pub(super) value: Option<R>,
    /// Whether it is the first window of a pane.
    pub(super) begins: bool,
    /// Whether it is the last window of a pane.
    pub(super) expires: bool,
    /// The next window that has a pane.
    pub(super) next: Option<TimeWindow>,
}

/// What computes windows: the aggregate, where they begin and end, and their panes.
type Of<'a, G> = (&'a G, Grid, MapState<i64, <G as Aggregate>::Accumulator>);

impl<A: Clone + Send + 'static> FiringPanes<A> {
    /// Whether each window is computed from the folds of the one before: where accumulators own no memory. Folds of
    /// collections would hold each element many times.
    pub(super) const FOLDS: bool = !std::mem::needs_drop::<A>();

    pub(super) const fn new() -> Self {
        Self { folds: Folds::new(), panes: Vec::new(), is_read: false, expired: Vec::new() }
    }

    /// Begins with another key, or again after panes have changed.
    pub(super) fn begin(&mut self) {
        self.folds.clear();
        self.panes.clear();
        self.expired.clear();
        self.is_read = false;
    }

    /// Returns the folds, to replace or to keep them.
    pub(super) fn folds(&mut self) -> &mut Folds<A> {
        &mut self.folds
    }

    /// Returns the starts of the panes that no window has any more.
    pub(super) fn take_expired(&mut self) -> impl Iterator<Item = i64> {
        self.expired.drain(..)
    }

    pub(super) fn has_read_more_than(&self, panes: usize) -> bool {
        self.panes.len() > panes
    }

    /// Reads the panes of a key from `start` on, unless they have been read.
    pub(super) fn read<B: KeyedBackend>(
        &mut self,
        state: MapState<i64, A>,
        start: i64,
        scope: &mut KeyScope<'_, B>,
    ) -> Result<()> {
        if std::mem::replace(&mut self.is_read, true) {
            return Ok(());
        }
        let panes = &mut self.panes;
        panes.clear();
        scope.state(state).for_each(|pane, accumulator| {
            if *pane >= start {
                panes.push((*pane, accumulator.clone()));
            }
            Ok(())
        })?;
        if !panes.is_sorted_by_key(|(pane, _)| *pane) {
            panes.sort_unstable_by_key(|(pane, _)| *pane);
        }
        Ok(())
    }

    /// Returns the first pane from `start` on, of those that have been read.
    pub(super) fn first_from(&self, start: i64) -> Option<i64> {
        self.panes.get(self.position(start)).map(|(pane, _)| *pane)
    }

    /// Returns the window behind `window` that is the next with a pane, of those that have been read.
    pub(super) fn next_with_pane(&self, grid: Grid, window: TimeWindow) -> Option<TimeWindow> {
        self.first_from(grid.start_behind(window)).and_then(|first| grid.next_with(window, first))
    }

    /// Computes a window of panes that have been read.
    pub(super) fn merged<G>(&self, aggregate: &G, window: TimeWindow) -> Result<Option<G::Out>>
    where
        G: Aggregate<Accumulator = A>,
    {
        let panes = self.between(window.start, window.end);
        merge(aggregate, panes.iter().map(|(_, pane)| pane.clone()))
    }

    /// Computes the next window that fires. `is_due` returns whether another one fires now.
    pub(super) fn compute<B: KeyedBackend, G>(
        &mut self,
        of: Of<'_, G>,
        window: TimeWindow,
        is_due: impl Fn(TimeWindow) -> bool,
        scope: &mut KeyScope<'_, B>,
    ) -> Result<Computed<G::Out>>
    where
        G: Aggregate<Accumulator = A>,
    {
        if Self::FOLDS { self.slide(of, window, scope) } else { self.take(of, window, is_due, scope) }
    }

    /// Computes a window from the folds of the one before.
    fn slide<B: KeyedBackend, G>(
        &mut self,
        (aggregate, grid, state): Of<'_, G>,
        window: TimeWindow,
        scope: &mut KeyScope<'_, B>,
    ) -> Result<Computed<G::Out>>
    where
        G: Aggregate<Accumulator = A>,
    {
        let (behind, last_slide) = (grid.start_behind(window), grid.last_slide(window));
        let follows = self.folds.precede(window.end, grid.slide);
        if follows && (self.is_read || grid.slide / grid.pane <= MOST_LOOK_UPS) {
            let mut start = last_slide;
            while start < window.end {
                let pane = if self.is_read {
                    self.between(start, start.saturating_add(1)).first().map(|(_, pane)| pane.clone())
                } else {
                    scope.state(state).get(&start)?.cloned()
                };
                if let Some(pane) = pane {
                    self.folds.add(aggregate, start, pane)?;
                }
                start = start.saturating_add(grid.pane);
            }
            self.folds.ends_at(window.end);
        } else {
            self.read(state, window.start, scope)?;
            self.turn(aggregate, window.start, window.end)?;
        }
        let begins = self.folds.newest() >= last_slide;
        let value = self.folds.result(aggregate)?;
        let before = self.expired.len();
        if !self.folds.expire(behind, &mut self.expired) {
            self.read(state, window.start, scope)?;
            self.note_expired(window.start, behind);
            self.turn(aggregate, behind, window.end)?;
        }
        let expires = self.expired.len() > before;
        let next = if self.folds.newest() >= behind {
            Some(grid.next(window)).filter(|next| next.end > window.end)
        } else {
            self.read(state, window.start, scope)?;
            self.next_with_pane(grid, window)
        };
        Ok(Computed { value, begins, expires, next })
    }

    /// Computes a window from all its panes; takes them where no other window fires now.
    fn take<B: KeyedBackend, G>(
        &mut self,
        (aggregate, grid, state): Of<'_, G>,
        window: TimeWindow,
        is_due: impl Fn(TimeWindow) -> bool,
        scope: &mut KeyScope<'_, B>,
    ) -> Result<Computed<G::Out>>
    where
        G: Aggregate<Accumulator = A>,
    {
        self.read(state, window.start, scope)?;
        let before = self.expired.len();
        self.note_expired(window.start, grid.start_behind(window));
        let expires = self.expired.len() > before;
        let begins = !self.between(grid.last_slide(window), window.end).is_empty();
        let next = self.next_with_pane(grid, window);
        let value = if next.is_some_and(is_due) {
            self.merged(aggregate, window)?
        } else {
            let (from, to) = (self.position(window.start), self.position(window.end));
            self.is_read = false;
            merge(aggregate, self.panes.drain(from..to).map(|(_, pane)| pane))?
        };
        Ok(Computed { value, begins, expires, next })
    }

    /// Folds the panes from `start` to `end` anew.
    fn turn<G>(&mut self, aggregate: &G, start: i64, end: i64) -> Result<()>
    where
        G: Aggregate<Accumulator = A>,
    {
        let (from, to) = (self.position(start), self.position(end));
        self.folds.turn(aggregate, self.panes.get(from..to).unwrap_or_default(), end)
    }

    fn note_expired(&mut self, start: i64, behind: i64) {
        let (from, to) = (self.position(start), self.position(behind));
        self.expired.extend(self.panes.get(from..to).into_iter().flatten().map(|(pane, _)| *pane));
    }

    /// Returns the position of the first pane from `start` on.
    fn position(&self, start: i64) -> usize {
        self.panes.partition_point(|(pane, _)| *pane < start)
    }

    fn between(&self, start: i64, end: i64) -> &[(i64, A)] {
        self.panes.get(self.position(start)..self.position(end)).unwrap_or_default()
    }
}

/// Merges panes in the order of time, and computes the result if there are any.
fn merge<G: Aggregate>(
    aggregate: &G,
    mut panes: impl Iterator<Item = G::Accumulator>,
) -> Result<Option<G::Out>> {
    let Some(mut all) = panes.next() else { return Ok(None) };
    for pane in panes {
        aggregate.merge(&mut all, pane)?;
    }
    aggregate.result(&all).map(Some)
}
