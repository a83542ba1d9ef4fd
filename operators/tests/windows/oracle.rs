//! What windows must emit, computed from their definition: each record is compared with every window, and no
//! state is ever dropped.

use std::collections::BTreeMap;

use strandline_state_api::TimeDomain;

use crate::script::{Emitted, Key, Played, START, Script};

/// The windows of a test.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Sliding { size: i64, slide: i64, offset: i64 },
    Session { gap: Gap },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Gap {
    Fixed(i64),
    /// The gap of a record, from its value.
    OfValue,
}

impl Gap {
    pub(crate) fn of(self, value: i64) -> i64 {
        match self {
            Self::Fixed(gap) => gap,
            Self::OfValue => 1 + value.rem_euclid(12),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Definition {
    pub(crate) shape: Shape,
    pub(crate) domain: TimeDomain,
    pub(crate) lateness: i64,
    /// Fires early after so many records.
    pub(crate) records: Option<u64>,
    pub(crate) purging: bool,
}

#[derive(Clone, Debug)]
struct Window {
    key: Key,
    start: i64,
    end: i64,
    values: Vec<i64>,
    pending: u64,
    fired: bool,
}

struct Oracle {
    of: Definition,
    now: i64,
    open: Vec<Window>,
    emitted: Vec<Emitted>,
}

/// Computes what the windows emit, in order of comparison.
pub(crate) fn expected(of: Definition, script: &Script) -> Vec<Emitted> {
    let now = if of.domain == TimeDomain::Event { i64::MIN } else { START };
    let mut oracle = Oracle { of, now, open: Vec::new(), emitted: Vec::new() };
    script
        .play(|played| {
            match played {
                Played::Record { key, time, value } => {
                    let time = if of.domain == TimeDomain::Event { time } else { oracle.now };
                    oracle.record(key, time, value);
                }
                Played::Clock(clock) if of.domain == TimeDomain::Event => {
                    oracle.advance(clock - script.delay);
                }
                Played::Clock(clock) => oracle.advance(clock),
                Played::Interrupt(_) => {}
            }
            Ok(())
        })
        .unwrap();
    oracle.advance(i64::MAX);
    oracle.emitted.sort();
    oracle.emitted
}

impl Oracle {
    fn fires(&self, end: i64) -> i64 {
        if self.of.domain == TimeDomain::Event { end - 1 } else { end }
    }

    fn closed(&self, end: i64) -> bool {
        self.fires(end) + self.of.lateness <= self.now
    }

    fn record(&mut self, key: Key, time: i64, value: i64) {
        let mut windows = Vec::new();
        match self.of.shape {
            Shape::Sliding { size, slide, offset } => {
                let from = (time - offset).div_euclid(slide) * slide + offset;
                let starts = (0..).map(|n| from - n * slide).take_while(|start| start + size > time);
                let open: Vec<_> = starts.filter(|start| !self.closed(start + size)).collect();
                for start in open {
                    windows.push(self.window(key, start, start + size));
                }
            }
            Shape::Session { gap } => {
                let (mut start, mut end) = (time, time + gap.of(value));
                let touching: Vec<_> = (0..self.open.len())
                    .filter(|index| {
                        let window = &self.open[*index];
                        window.key == key && window.start <= end && start <= window.end
                    })
                    .collect();
                if touching.is_empty() && self.closed(end) {
                    // Too late.
                } else {
                    let mut merged: Vec<_> = touching.iter().rev().map(|n| self.open.remove(*n)).collect();
                    merged.sort_by_key(|window| window.start);
                    let (mut values, mut pending) = (Vec::new(), 0);
                    for window in merged {
                        start = start.min(window.start);
                        end = end.max(window.end);
                        values.extend(window.values);
                        pending += window.pending;
                    }
                    let fired = self.fires(end) <= self.now;
                    self.open.push(Window { key, start, end, values, pending, fired });
                    windows.push(self.open.len() - 1);
                }
            }
        }
        if windows.is_empty() {
            self.emitted.push(Emitted::Late { key, value });
        }
        for index in windows {
            let firing = {
                let fired = self.fires(self.open[index].end) <= self.now;
                let window = &mut self.open[index];
                window.values.push(value);
                window.pending += 1;
                window.fired = fired;
                let full = self.of.records.is_some_and(|records| window.pending >= records);
                if fired { Some("late") } else { full.then_some("early") }
            };
            if let Some(firing) = firing {
                self.fire(index, firing);
            }
        }
    }

    /// The index of an aligned window, which is made if there is none.
    fn window(&mut self, key: Key, start: i64, end: i64) -> usize {
        let found = self.open.iter().position(|w| (w.key, w.start, w.end) == (key, start, end));
        found.unwrap_or_else(|| {
            self.open.push(Window { key, start, end, values: Vec::new(), pending: 0, fired: false });
            self.open.len() - 1
        })
    }

    fn fire(&mut self, index: usize, firing: &'static str) {
        let window = &mut self.open[index];
        window.pending = 0;
        if window.values.is_empty() {
            return;
        }
        let mut values = window.values.clone();
        values.sort_unstable();
        let (key, start, end) = (window.key, window.start, window.end);
        if self.of.purging {
            window.values.clear();
        }
        self.emitted.push(Emitted::Result { key, start, end, values, firing });
    }

    fn advance(&mut self, now: i64) {
        self.now = self.now.max(now);
        for index in 0..self.open.len() {
            if !self.open[index].fired && self.fires(self.open[index].end) <= self.now {
                self.open[index].fired = true;
                self.fire(index, "on time");
            }
        }
        let open = std::mem::take(&mut self.open);
        self.open = open.into_iter().filter(|window| !self.closed(window.end)).collect();
    }
}

/// Counts what differs, for the message of a failure.
pub(crate) fn difference(actual: &[Emitted], expected: &[Emitted]) -> String {
    let mut counts: BTreeMap<&Emitted, i64> = BTreeMap::new();
    actual.iter().for_each(|emitted| *counts.entry(emitted).or_default() += 1);
    expected.iter().for_each(|emitted| *counts.entry(emitted).or_default() -= 1);
    counts.retain(|_, count| *count != 0);
    counts.iter().map(|(emitted, count)| format!("{count:+} {emitted:?}\n")).collect()
}
