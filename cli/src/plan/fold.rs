//! What windows compute: aggregates, top rows, joins.

use strandline_connectors::Row;
use strandline_operators::join::{Joined, WindowJoin};
use strandline_operators::{Aggregate, Either};
use strandline_state_api::schema::Description;
use strandline_state_api::{Codec, Error, Evolution, Result, SerdeCodec};

use super::accumulator::{Accumulators, Aggregates, GroupCodec, Overflow};
use super::layout::Layout;
use super::order::Order;
use crate::jobfile::{Computes, Group, Join, Shape, Top, Windows};

/// The aggregate of all windows of job files. It is one type for all that they compute, as each operator type
/// costs seconds of compile time. Rows of a group come as [`Either::Left`].
#[derive(Clone)]
pub(super) struct Fold {
    what: What,
    /// The column of a row that has its gap in a session; the gap then travels behind the values.
    gap: Option<usize>,
    codec: FoldCodec,
}

#[derive(Clone)]
enum What {
    /// `whole` is whether whole rows come, and not only the arguments of the aggregates.
    Aggregates {
        aggregates: Aggregates,
        whole: bool,
    },
    Top {
        n: usize,
        order: Order,
    },
    Join(WindowJoin<Row, Row>),
}

/// What a window keeps.
#[derive(Clone, Debug)]
pub(super) enum Folded {
    Accumulators(Accumulators),
    /// The top rows, the greatest first.
    Rows(Vec<Row>),
    /// The rows of both inputs.
    Sides((Vec<Row>, Vec<Row>)),
}

/// What a window computes.
#[derive(Clone, Debug)]
pub(super) enum Results {
    /// The values of aggregates, unless a column cannot hold one of them.
    Values(Result<Row, Overflow>),
    /// The top rows, the greatest first.
    Rows(Vec<Row>),
    Joined(Vec<Joined<Row, Row>>),
}

impl Fold {
    pub(super) fn of_group(group: &Group) -> Self {
        let gap = match group.windows {
            Some(Windows { shape: Shape::SessionBy { column }, .. }) => Some(column),
            _ => None,
        };
        match &group.computes {
            Computes::Aggregates(_) => Self {
                gap,
                what: What::Aggregates { aggregates: Aggregates::new(group), whole: group.keeps_late },
                codec: FoldCodec::Accumulators(GroupCodec::new(group)),
            },
            Computes::Top(top) => Self {
                gap,
                what: What::Top { n: top.n, order: Order::new(top) },
                codec: FoldCodec::Rows(layout_of_top(group, top)),
            },
        }
    }

    pub(super) fn of_join(join: &Join, layout: Layout) -> Self {
        Self { what: What::Join(WindowJoin::new(join.kind)), gap: None, codec: FoldCodec::Sides(layout) }
    }

    /// What of a row travels beside its key.
    pub(super) fn value(&self, row: Row) -> Row {
        let gap = self.gap.map(|column| row.get(column).clone());
        let mut value = match &self.what {
            What::Aggregates { aggregates, whole: false } => aggregates.arguments(&row),
            _ => row,
        };
        value.0.extend(gap);
        value
    }

    /// The value without the gap of its row.
    pub(super) fn without_gap(&self, mut value: Row) -> Row {
        if self.gap.is_some() {
            value.0.pop();
        }
        value
    }
}

/// The layout of the rows that a group keeps.
pub(super) fn layout_of_top(group: &Group, top: &Top) -> Layout {
    let windows = group.windows.map_or_else(String::new, |windows| format!(" in {windows}"));
    let by = top
        .by
        .iter()
        .map(|(_, column, least)| format!("{}{}", column.name, if *least { " asc" } else { "" }));
    let what = format!("top {} by {}{windows}", top.n, by.collect::<Vec<_>>().join(","));
    Layout::new(what).columns("key", group.keys.iter().map(|(_, column)| column)).columns("of", &group.input)
}

impl Aggregate for Fold {
    type In = Either<Row, Row>;
    type Accumulator = Folded;
    type Out = Results;

    fn storage(&self) -> Evolution<Folded> {
        Evolution::first(1, self.codec.clone())
    }

    fn create(&self) -> Folded {
        match &self.what {
            What::Aggregates { aggregates, .. } => Folded::Accumulators(aggregates.initial()),
            What::Top { .. } => Folded::Rows(Vec::new()),
            What::Join(join) => Folded::Sides(join.create()),
        }
    }

    #[inline]
    fn add(&self, folded: &mut Folded, record: Either<Row, Row>) -> Result<()> {
        match (&self.what, folded, record) {
            (What::Aggregates { aggregates, whole }, Folded::Accumulators(folded), Either::Left(row)) => {
                let row = self.without_gap(row);
                let arguments = if *whole { aggregates.arguments(&row) } else { row };
                aggregates.add(arguments, folded)
            }
            (What::Top { n, order }, Folded::Rows(rows), Either::Left(row)) => {
                add_to_top(rows, self.without_gap(row), *n, order);
                Ok(())
            }
            (What::Join(join), Folded::Sides(sides), record) => join.add(sides, record),
            _ => Err(of_another_kind()),
        }
    }

    fn merge(&self, folded: &mut Folded, other: Folded) -> Result<()> {
        match (&self.what, folded, other) {
            (
                What::Aggregates { aggregates, .. },
                Folded::Accumulators(folded),
                Folded::Accumulators(other),
            ) => aggregates.merge(folded, &other),
            (What::Top { n, order }, Folded::Rows(rows), Folded::Rows(other)) => {
                other.into_iter().for_each(|row| add_to_top(rows, row, *n, order));
                Ok(())
            }
            (What::Join(join), Folded::Sides(sides), Folded::Sides(other)) => join.merge(sides, other),
            _ => Err(of_another_kind()),
        }
    }

    fn result(&self, folded: &Folded) -> Result<Results> {
        match (&self.what, folded) {
            (What::Aggregates { aggregates, .. }, Folded::Accumulators(folded)) => {
                let mut row = Row::with_capacity(aggregates.width());
                let appended = aggregates.append_to(folded, &mut row);
                Ok(Results::Values(appended.map(|()| row)))
            }
            (What::Top { .. }, Folded::Rows(rows)) => Ok(Results::Rows(rows.clone())),
            (What::Join(join), Folded::Sides(sides)) => join.result(sides).map(Results::Joined),
            _ => Err(of_another_kind()),
        }
    }
}

/// Of equals the first to come stays before the others.
fn add_to_top(rows: &mut Vec<Row>, row: Row, n: usize, order: &Order) {
    let index = rows.partition_point(|other| order.compare(other, &row).is_ge());
    if index < n {
        rows.insert(index, row);
        rows.truncate(n);
    }
}

#[cold]
fn of_another_kind() -> Error {
    Error::corrupt("the state of a window is of another kind than what the step computes")
}

/// How the state of windows is stored.
#[derive(Clone, Debug)]
enum FoldCodec {
    Accumulators(GroupCodec),
    Rows(Layout),
    Sides(Layout),
}

impl Codec<Folded> for FoldCodec {
    fn id(&self) -> String {
        match self {
            Self::Accumulators(codec) => Codec::<Accumulators>::id(codec),
            Self::Rows(layout) | Self::Sides(layout) => layout.name().to_owned(),
        }
    }

    fn encode(&self, value: &Folded, out: &mut Vec<u8>) -> Result<()> {
        match value {
            Folded::Accumulators(accumulators) => SerdeCodec.encode(accumulators, out),
            Folded::Rows(rows) => SerdeCodec.encode(rows, out),
            Folded::Sides(sides) => SerdeCodec.encode(sides, out),
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<Folded> {
        Ok(match self {
            Self::Accumulators(_) => Folded::Accumulators(SerdeCodec.decode(bytes)?),
            Self::Rows(_) => Folded::Rows(SerdeCodec.decode(bytes)?),
            Self::Sides(_) => Folded::Sides(SerdeCodec.decode(bytes)?),
        })
    }

    fn description(&self) -> Option<Description> {
        match self {
            Self::Accumulators(codec) => Codec::<Accumulators>::description(codec),
            Self::Rows(_) | Self::Sides(_) => None,
        }
    }
}
