//! The filters of a query, as far as a scan of state understands them.
//!
//! A scan may return rows that do not pass: the query filters them again. So what is not understood is left out.

use std::collections::HashMap;
use std::ops::Bound;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use strandline_state_api::schema::{DataType, Encoding};
use strandline_state_api::{KeyGroup, KeyGroupRange};
use strandline_state_reader::{KeyFilter, Scan, StatePart, Value};

use crate::layout::{Column, Origin};

/// Keys of several columns are looked up one by one up to so many.
const MAX_KEYS: usize = 4096;

/// What a filter asks of one column.
#[derive(Clone, Debug)]
struct Constraint {
    column: String,
    filter: KeyFilter,
}

/// Returns whether a scan may make use of a filter.
pub(crate) fn is_useful(columns: &[Column], filter: &Expr) -> bool {
    constraints(filter).iter().any(|of| {
        let column = columns.iter().find(|column| column.name == of.column);
        column.is_some_and(|of| matches!(of.origin, Origin::Key(_) | Origin::MapKey(_) | Origin::KeyGroup))
    })
}

/// Narrows a scan to rows that can pass all filters.
pub(crate) fn narrow(scan: Scan, columns: &[Column], filters: &[Expr]) -> Scan {
    let all: Vec<Constraint> = filters.iter().flat_map(constraints).collect();
    let of = |origin: Origin| {
        let column = columns.iter().find(|column| column.origin == origin);
        let of_column = column.map(|column| all.iter().filter(move |of| of.column == column.name));
        of_column.into_iter().flatten().map(|of| &of.filter)
    };
    let mut narrowed = scan;
    for filter in of(Origin::KeyGroup) {
        narrowed = narrowed.key_groups(groups(filter));
    }
    let (key, map_key) = (narrowed.state().key().clone(), narrowed.state().map_key().cloned());
    for filter in of_part(&key, |field| of(Origin::Key(field)).cloned().collect()) {
        // One that cannot be encoded is no key of the state, or of a codec that nobody can encode.
        narrowed = narrowed.clone().keys(&filter).unwrap_or(narrowed);
    }
    let Some(map_key) = map_key else { return narrowed };
    for filter in of_part(&map_key, |field| of(Origin::MapKey(field)).cloned().collect()) {
        narrowed = narrowed.clone().map_keys(&filter).unwrap_or(narrowed);
    }
    narrowed
}

/// Returns the filters on a part of a row. If the part has several columns, there is one when each of them must be
/// one of some values.
fn of_part(part: &StatePart, of: impl Fn(Option<usize>) -> Vec<KeyFilter>) -> Vec<KeyFilter> {
    let is_known = match part.decoder().encoding() {
        Some(encoding) => matches!(
            encoding,
            Encoding::Ordered | Encoding::BigEndian | Encoding::LittleEndian | Encoding::RowKey
        ),
        // A decoder of a user's own for bytes takes bytes as the encoded key.
        None => part.decoder().is_unknown() || *part.data_type() != DataType::Bytes,
    };
    if !is_known || has_float(part.data_type()) {
        return Vec::new();
    }
    let fields = match part.data_type() {
        DataType::Struct(fields) if !fields.is_empty() => fields.len(),
        _ => return of(None),
    };
    if fields == 1 {
        let mut filters = of(Some(0));
        filters.extend(of(None));
        return filters;
    }
    let mut records = vec![Vec::new()];
    for field in 0..fields {
        let values = of(Some(field)).into_iter().find_map(|filter| match filter {
            KeyFilter::In(values) => Some(values),
            KeyFilter::Range(..) => None,
        });
        let Some(values) = values.filter(|values| values.len() * records.len() <= MAX_KEYS) else {
            return of(None);
        };
        let with = |record: &Vec<Value>| {
            let record = record.clone();
            values
                .iter()
                .map(move |value| [&record[..], std::slice::from_ref(value)].concat())
                .collect::<Vec<_>>()
        };
        records = records.iter().flat_map(with).collect();
    }
    vec![KeyFilter::In(records.into_iter().map(Value::Record).collect())]
}

/// Whether SQL may compare a part of the type in another way than its bytes.
fn has_float(of: &DataType) -> bool {
    match of {
        DataType::Float { .. } => true,
        DataType::Option(of) => has_float(of),
        DataType::Tuple(parts) => parts.iter().any(has_float),
        DataType::Struct(fields) => fields.iter().any(|field| has_float(&field.data_type)),
        _ => false,
    }
}

/// Returns what a filter asks of single columns; it may ask for more.
fn constraints(filter: &Expr) -> Vec<Constraint> {
    let one = |column: &str, filter| vec![Constraint { column: column.to_owned(), filter }];
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            [constraints(left), constraints(right)].concat()
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => either(left, right),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (&**left, &**right) {
            (Expr::Column(column), Expr::Literal(literal, _)) => {
                compared(*op, literal).map_or(Vec::new(), |filter| one(&column.name, filter))
            }
            (Expr::Literal(literal, _), Expr::Column(column)) => {
                let filter = op.swap().and_then(|op| compared(op, literal));
                filter.map_or(Vec::new(), |filter| one(&column.name, filter))
            }
            _ => Vec::new(),
        },
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = &**expr else { return Vec::new() };
            let values = list.iter().map(|item| match item {
                Expr::Literal(literal, _) => value(literal),
                _ => None,
            });
            let values = values.collect::<Option<Vec<_>>>();
            values.map_or(Vec::new(), |values| one(&column.name, KeyFilter::In(values)))
        }
        Expr::Between(Between { expr, negated: false, low, high }) => match (&**expr, &**low, &**high) {
            (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) => {
                let (Some(low), Some(high)) = (value(low), value(high)) else { return Vec::new() };
                one(&column.name, KeyFilter::Range(Bound::Included(low), Bound::Included(high)))
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The columns that must be one of some values whichever side holds.
fn either(left: &Expr, right: &Expr) -> Vec<Constraint> {
    let mut right: HashMap<String, KeyFilter> =
        constraints(right).into_iter().map(|of| (of.column, of.filter)).collect();
    let both = constraints(left).into_iter().filter_map(|of| match (of.filter, right.remove(&of.column)?) {
        (KeyFilter::In(mut values), KeyFilter::In(more)) => {
            values.extend(more);
            Some(Constraint { column: of.column, filter: KeyFilter::In(values) })
        }
        _ => None,
    });
    both.collect()
}

/// The keys that compare to a value so.
fn compared(op: Operator, literal: &ScalarValue) -> Option<KeyFilter> {
    let value = value(literal)?;
    Some(match op {
        Operator::Eq => KeyFilter::equal(value),
        Operator::Lt => KeyFilter::Range(Bound::Unbounded, Bound::Excluded(value)),
        Operator::LtEq => KeyFilter::Range(Bound::Unbounded, Bound::Included(value)),
        Operator::Gt => KeyFilter::Range(Bound::Excluded(value), Bound::Unbounded),
        Operator::GtEq => KeyFilter::Range(Bound::Included(value), Bound::Unbounded),
        _ => return None,
    })
}

fn value(literal: &ScalarValue) -> Option<Value> {
    Some(match literal {
        ScalarValue::Boolean(v) => Value::Bool((*v)?),
        ScalarValue::Int8(v) => Value::Int((*v)?.into()),
        ScalarValue::Int16(v) => Value::Int((*v)?.into()),
        ScalarValue::Int32(v) => Value::Int((*v)?.into()),
        ScalarValue::Int64(v) => Value::Int((*v)?),
        ScalarValue::UInt8(v) => Value::UInt((*v)?.into()),
        ScalarValue::UInt16(v) => Value::UInt((*v)?.into()),
        ScalarValue::UInt32(v) => Value::UInt((*v)?.into()),
        ScalarValue::UInt64(v) => Value::UInt((*v)?),
        ScalarValue::Decimal256(v, _, 0) => Value::BigInt((*v)?.to_i128()?),
        ScalarValue::Utf8(v) | ScalarValue::Utf8View(v) | ScalarValue::LargeUtf8(v) => {
            Value::Text(v.clone()?)
        }
        ScalarValue::Binary(v) | ScalarValue::BinaryView(v) | ScalarValue::LargeBinary(v) => {
            Value::Bytes(v.clone()?)
        }
        ScalarValue::TimestampNanosecond(v, _) => Value::Timestamp((*v)?.into()),
        _ => return None,
    })
}

/// The key groups from the least to the greatest that pass.
fn groups(filter: &KeyFilter) -> KeyGroupRange {
    let index = |value: &Value| match value {
        Value::Int(v) => Some(u32::try_from(*v).unwrap_or(if *v < 0 { 0 } else { KeyGroup::COUNT })),
        Value::UInt(v) => Some(u32::try_from(*v).unwrap_or(KeyGroup::COUNT)),
        _ => None,
    };
    let bound = |bound: &Bound<Value>| match bound {
        Bound::Included(value) | Bound::Excluded(value) => index(value),
        Bound::Unbounded => None,
    };
    let (first, last) = match filter {
        KeyFilter::In(values) => {
            let Some(found) = values.iter().map(index).collect::<Option<Vec<_>>>() else {
                return KeyGroupRange::ALL;
            };
            (found.iter().min().copied(), found.iter().max().copied())
        }
        KeyFilter::Range(from, to) => (bound(from), bound(to)),
    };
    KeyGroupRange::new(first.unwrap_or(0), last.map_or(KeyGroup::COUNT, |last| last.saturating_add(1)))
}
