//! Groups and joins by windows, on the operators of windows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strandline_connectors::{Moment, Row, RowKey, Value};
use strandline_operators::Either;
use strandline_operators::window::{
    CountWindow, CountWindows, Firing as Fired, TimeWindows, Trigger, WindowOutput, Windows as Cut,
};
use strandline_runtime::{Emitter, KeyedStream, Stream};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Error, Result, SerdeCodec, TimeWindow};

use super::fold::{Fold, Results};
use super::key::GroupKey as _;
use super::{Counters, Flow};
use crate::jobfile::{Computes, Firing, GREATEST_GAP, Group, Shape, Windows};

/// A record with its key on the way to windows.
pub(super) type Keyed<F> = KeyedStream<F, RowKey, Either<Row, Row>>;

/// The result of a window.
pub(super) struct Closed {
    key: RowKey,
    /// The borders of a window of time.
    window: Option<TimeWindow>,
    fired: Fired,
    pub(super) results: Results,
}

/// Adds windows, or one for all time, behind `records`; the records that come too late are the second stream.
pub(super) fn windows<F: BackendFactory>(
    records: Keyed<F>,
    id: &str,
    windows: Option<Windows>,
    firing: Firing,
    fold: Fold,
) -> Stream<F, Result<Closed, Either<Row, Row>>> {
    let time = |window: TimeWindow| Some(window);
    let Some(Windows { shape, offset }) = windows else {
        return cut(records, id, triggered(TimeWindows::global(), firing), fold, |_| None);
    };
    match shape {
        Shape::Tumbling(size) => {
            let windows = TimeWindows::tumbling(duration(size)).offset(duration(offset));
            cut(records, id, configured(windows, firing), fold, time)
        }
        Shape::Sliding { size, slide } => {
            let windows = TimeWindows::sliding(duration(size), duration(slide)).offset(duration(offset));
            cut(records, id, configured(windows, firing), fold, time)
        }
        Shape::Session { gap } => {
            cut(records, id, configured(TimeWindows::session(duration(gap)), firing), fold, time)
        }
        Shape::SessionBy { .. } => {
            let windows = TimeWindows::session_by(gap_behind);
            cut(records, id, configured(windows, firing), fold, time)
        }
        Shape::Rows { size, slide } => {
            cut(records, id, CountWindows::sliding(size, slide), fold, |_: CountWindow| None)
        }
    }
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

/// The gap of a record, which stands behind its values.
fn gap_behind(record: &Either<Row, Row>) -> Duration {
    let (Either::Left(row) | Either::Right(row)) = record;
    duration(row.0.last().and_then(gap_of).unwrap_or(1))
}

/// The gap that a value stands for, in milliseconds.
fn gap_of(value: &Value) -> Option<i64> {
    let millis = match value {
        Value::Int(millis) => *millis,
        Value::UInt(millis) => i64::try_from(*millis).ok()?,
        _ => return None,
    };
    (1..=GREATEST_GAP).contains(&millis).then_some(millis)
}

/// Keeps the rows that have a gap in the column.
fn with_gaps<F: BackendFactory>(
    rows: Stream<F, Row>,
    column: usize,
    group: &Group,
    skip: bool,
) -> Stream<F, Row> {
    let name = group.input.get(column).map(|column| column.name.clone()).unwrap_or_default();
    rows.try_flat_map(move |row, out| {
        match gap_of(row.get(column)) {
            Some(_) => out.emit(row),
            None if skip => out.count_left_out(),
            None => {
                let message =
                    "the gap of a session is a number of milliseconds, at least 1 and at most 100 years";
                let error = Error::invalid(message).with("column", &name);
                return Err(error.with("value", row.get(column)));
            }
        }
        Ok(())
    })
}

fn configured<S>(windows: TimeWindows<S>, firing: Firing) -> TimeWindows<S> {
    let windows = triggered(windows, firing);
    if firing.in_processing_time { windows.in_processing_time() } else { windows }
}

/// Late records are always emitted: they are counted behind the operator, and perhaps kept.
fn triggered<S>(windows: TimeWindows<S>, firing: Firing) -> TimeWindows<S> {
    let mut trigger = Trigger::at_end();
    if let Some(interval) = firing.every.map(duration) {
        trigger = match firing.in_processing_time {
            true => trigger.every(interval),
            false => trigger.every_in_event_time(interval),
        };
    }
    if let Some(rows) = firing.rows {
        trigger = trigger.after_records(rows);
    }
    if firing.purging {
        trigger = trigger.purging();
    }
    windows.trigger(trigger).allowed_lateness(duration(firing.lateness)).emit_late()
}

fn cut<F: BackendFactory, W: Cut<Either<Row, Row>>>(
    records: Keyed<F>,
    id: &str,
    windows: W,
    fold: Fold,
    borders: fn(W::Window) -> Option<TimeWindow>,
) -> Stream<F, Result<Closed, Either<Row, Row>>> {
    let output = records.process(id, move |ctx| windows.open(&fold, ctx));
    output.map(move |output| match output {
        WindowOutput::Result(result) => Ok(Closed {
            key: result.key,
            window: borders(result.window),
            fired: result.firing,
            results: result.value,
        }),
        WindowOutput::Late(late) => Err(late.record),
    })
}

/// What makes rows of the windows of a group.
#[derive(Debug)]
struct Rows {
    moments: bool,
    /// Whether the rows have a column for what made their window fire.
    has_firing: bool,
    /// The columns of top rows behind the rank.
    rest: Vec<usize>,
    late: Arc<AtomicU64>,
    /// Whether results that no column holds are counted and left out; otherwise they fail the job.
    skip: bool,
}

/// Adds the windows of `group` behind `flow`, and returns their rows and, where the group keeps them, those that
/// came late.
pub(super) fn group<F: BackendFactory>(
    flow: Flow<F>,
    group: &Group,
    counters: &mut Counters,
    skip: bool,
) -> (Stream<F, Row>, Option<Stream<F, Row>>) {
    let fold = Fold::of_group(group);
    let rows = Arc::new(Rows {
        moments: group.moments,
        has_firing: group.firing.is_repeated(),
        rest: match &group.computes {
            Computes::Top(top) => top.rest.clone(),
            Computes::Aggregates(_) => Vec::new(),
        },
        late: counters.late_of(&group.id),
        skip,
    });
    let (of_keys, of_values) = (group.keys.clone(), fold.clone());
    let mut rows_in = flow.rows();
    if let Some(Windows { shape: Shape::SessionBy { column }, .. }) = group.windows {
        rows_in = with_gaps(rows_in, column, group, skip);
    }
    let records = rows_in.key_by(move |row| {
        let key = RowKey::of(&row, &of_keys);
        (key, Either::Left(of_values.value(row)))
    });
    let (of, without) = (Arc::clone(&rows), fold.clone());
    let output = windows(records.codec(SerdeCodec), &group.id, group.windows, group.firing, fold);
    let (closed, late) = output.partition(move |closed| {
        closed.map_err(|record| {
            of.late.fetch_add(1, Ordering::Relaxed);
            let (Either::Left(row) | Either::Right(row)) = record;
            without.without_gap(row)
        })
    });
    let results = closed.try_flat_map(move |closed, out| rows.of(closed, out));
    (results, group.keeps_late.then_some(late))
}

impl Rows {
    /// Hands the rows of a window to `out`.
    fn of(&self, closed: Closed, out: &mut Emitter<'_, Row>) -> Result<()> {
        let Closed { key, window, fired, results } = closed;
        let mut row = Row::with_capacity(key.0.len() + 8);
        row.0.extend(key.0);
        let keys = row.0.len();
        if let Some(window) = window {
            row.0.extend(borders(window, self.moments));
        }
        if self.has_firing {
            row.push(Value::text(match fired {
                Fired::Early => "early",
                Fired::OnTime => "on-time",
                Fired::Late => "late",
            }));
        }
        match results {
            Results::Values(Ok(values)) => {
                row.0.extend(values.0);
                out.emit(row);
            }
            Results::Values(Err(_)) if self.skip => out.count_left_out(),
            Results::Values(Err(overflow)) => {
                let error = overflow.of_key(row.0.get(..keys).unwrap_or_default());
                return Err(match window {
                    Some(window) => error.with("window", window.start),
                    None => error,
                });
            }
            Results::Rows(top) => {
                for (rank, top) in (1..).zip(top) {
                    let mut ranked = row.clone();
                    ranked.push(Value::UInt(rank));
                    ranked.0.extend(self.rest.iter().map(|index| top.get(*index).clone()));
                    out.emit(ranked);
                }
            }
            Results::Joined(_) => {}
        }
        Ok(())
    }
}

/// The borders of a window, as values of their columns.
pub(super) fn borders(window: TimeWindow, moments: bool) -> [Value; 2] {
    [window.start, window.end].map(|millis| {
        let moment = Moment::from_nanos(i128::from(millis) * 1_000_000).filter(|_| moments);
        moment.map_or(Value::Int(millis), Value::Timestamp)
    })
}

impl Closed {
    /// The borders of the window of time, and what was joined in it.
    pub(super) fn joined(self) -> Option<(TimeWindow, Vec<strandline_operators::join::Joined<Row, Row>>)> {
        match self.results {
            Results::Joined(joined) => Some((self.window?, joined)),
            Results::Values(_) | Results::Rows(_) => None,
        }
    }
}
