//! One value in the state of a group.

use std::cmp::Ordering;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use strandline_connectors::{Moment, Value};

/// One value in the state of a group: a [`Value`], which but for timestamps has the same stored form, or a
/// sum that no value holds. The wide form makes sums independent of the order of the rows, and averages
/// exact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum Slot {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(CompactString),
    /// A sum of integers beyond 64 bits: its upper half and its lower.
    Wide(i64, u64),
    Timestamp(Moment),
}

impl From<Value> for Slot {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(v) => Self::Bool(v),
            Value::Int(v) => Self::Int(v),
            Value::UInt(v) => Self::UInt(v),
            Value::Float(v) => Self::Float(v),
            Value::Text(v) => Self::Text(v),
            Value::Timestamp(v) => Self::Timestamp(v),
        }
    }
}

impl Slot {
    /// Adds one to a count.
    #[inline]
    pub(super) fn increment(&mut self) {
        if let Self::UInt(count) = self {
            *count += 1;
        }
    }

    /// Adds a number to a sum of numbers of its type.
    #[inline]
    pub(super) fn add(&mut self, value: &Value) {
        *self = match (&*self, value) {
            (Self::Null, value) => value.clone().into(),
            (Self::Int(a), Value::Int(b)) => match a.checked_add(*b) {
                Some(sum) => Self::Int(sum),
                None => wide(i128::from(*a) + i128::from(*b)),
            },
            (Self::UInt(a), Value::UInt(b)) => match a.checked_add(*b) {
                Some(sum) => Self::UInt(sum),
                None => wide(i128::from(*a) + i128::from(*b)),
            },
            (Self::Wide(high, low), Value::Int(b)) => {
                let sum = narrow(*high, *low).saturating_add(i128::from(*b));
                i64::try_from(sum).map_or_else(|_| wide(sum), Self::Int)
            }
            (Self::Wide(high, low), Value::UInt(b)) => {
                wide(narrow(*high, *low).saturating_add(i128::from(*b)))
            }
            (Self::Float(a), b) => Self::Float(a + b.as_float().unwrap_or(f64::NAN)),
            // The types of the columns exclude it.
            _ => return,
        };
    }

    /// Adds another sum of numbers of its type.
    pub(super) fn merge(&mut self, other: &Self) {
        *self = match (&*self, other) {
            (_, Self::Null) => return,
            (Self::Null, other) => other.clone(),
            (Self::Float(a), Self::Float(b)) => Self::Float(a + b),
            (Self::UInt(a), Self::UInt(b)) => match a.checked_add(*b) {
                Some(sum) => Self::UInt(sum),
                None => wide(i128::from(*a) + i128::from(*b)),
            },
            // A wide sum of integers without a sign never fits into those with one.
            (a, b) => {
                let (Some(a), Some(b)) = (a.integer(), b.integer()) else { return };
                let sum = a.saturating_add(b);
                i64::try_from(sum).map_or_else(|_| wide(sum), Self::Int)
            }
        };
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Self::Int(v) => Some(i128::from(*v)),
            Self::UInt(v) => Some(i128::from(*v)),
            Self::Wide(high, low) => Some(narrow(*high, *low)),
            _ => None,
        }
    }

    /// As [`keep`](Self::keep), of a value that was kept elsewhere.
    pub(super) fn keep_slot(&mut self, other: &Self, wanted: Ordering) {
        if let Ok(value) = other.value()
            && !value.is_null()
        {
            self.keep(value, wanted);
        }
    }

    /// Keeps the value where it is on the `wanted` side of the one before.
    #[inline]
    pub(super) fn keep(&mut self, value: Value, wanted: Ordering) {
        let ordering = match (&value, &*self) {
            (_, Self::Null) => wanted,
            (Value::Int(a), Self::Int(b)) => a.cmp(b),
            (Value::UInt(a), Self::UInt(b)) => a.cmp(b),
            (Value::Float(a), Self::Float(b)) => order_of_floats(*a, *b),
            (Value::Text(a), Self::Text(b)) => a.cmp(b),
            (Value::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            // The types of the columns exclude it.
            _ => Ordering::Equal,
        };
        if ordering == wanted {
            *self = value.into();
        }
    }

    /// The value, or the sum that no value holds.
    pub(super) fn value(&self) -> Result<Value, i128> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(v) => Value::Bool(*v),
            Self::Int(v) => Value::Int(*v),
            Self::UInt(v) => Value::UInt(*v),
            Self::Float(v) => Value::Float(*v),
            Self::Text(v) => Value::Text(v.clone()),
            Self::Timestamp(v) => Value::Timestamp(*v),
            Self::Wide(high, low) => return Err(narrow(*high, *low)),
        })
    }

    /// The sum as a mean.
    pub(super) fn divided_by(&self, count: Option<&Self>) -> Value {
        let Some(Self::UInt(count @ 1..)) = count else { return Value::Null };
        let sum = match self {
            Self::Int(v) => *v as f64,
            Self::UInt(v) => *v as f64,
            Self::Float(v) => *v,
            Self::Wide(high, low) => narrow(*high, *low) as f64,
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::Timestamp(_) => return Value::Null,
        };
        Value::Float(sum / *count as f64)
    }
}

fn wide(sum: i128) -> Slot {
    Slot::Wide((sum >> 64) as i64, sum as u64)
}

fn narrow(high: i64, low: u64) -> i128 {
    i128::from(high) << 64 | i128::from(low)
}

/// The order of floats for minima and maxima, whatever the order of the rows: -0 before 0, and NaN behind all
/// numbers. All NaNs are one. (Spark and PostgreSQL: NaN is the greatest.)
pub(super) fn order_of_floats(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(&b),
        (a, b) => a.cmp(&b),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strandline_state_api::{Codec, SerdeCodec};

    use super::*;

    fn folded(values: &[Value], mut fold: impl FnMut(&mut Slot, Value)) -> Slot {
        let mut slot = Slot::default();
        values.iter().for_each(|value| fold(&mut slot, value.clone()));
        slot
    }

    fn extreme() -> impl Strategy<Value = i64> {
        prop_oneof![any::<i64>(), Just(i64::MAX), Just(i64::MIN), Just(1), Just(-1)]
    }

    fn floats() -> impl Strategy<Value = f64> {
        let special = [f64::NAN, -f64::NAN, 0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 1.5];
        prop_oneof![any::<f64>(), proptest::sample::select(special.to_vec())]
    }

    proptest! {
        #[test]
        fn sums_do_not_depend_on_the_order(
            (mut numbers, shuffled) in proptest::collection::vec(extreme(), 1..20)
                .prop_flat_map(|numbers| (Just(numbers.clone()), Just(numbers).prop_shuffle())),
        ) {
            let sum = |numbers: &[i64]| {
                let values: Vec<_> = numbers.iter().map(|n| Value::Int(*n)).collect();
                folded(&values, |slot, value| slot.add(&value))
            };
            prop_assert_eq!(sum(&numbers), sum(&shuffled));
            let exact: i128 = numbers.iter().map(|n| i128::from(*n)).sum();
            prop_assert_eq!(sum(&numbers).value(), i64::try_from(exact).map(Value::Int).map_err(|_| exact));
            numbers.iter_mut().for_each(|n| *n &= i64::MAX);
            let values: Vec<_> = numbers.iter().map(|n| Value::UInt(2 * *n as u64)).collect();
            let exact: i128 = numbers.iter().map(|n| 2 * i128::from(*n)).sum();
            let sum = folded(&values, |slot, value| slot.add(&value));
            prop_assert_eq!(sum.value(), u64::try_from(exact).map(Value::UInt).map_err(|_| exact));
            let mean = sum.divided_by(Some(&Slot::UInt(numbers.len() as u64)));
            prop_assert_eq!(mean, Value::Float(exact as f64 / numbers.len() as f64));
        }

        /// Sliding windows merge what their panes have.
        #[test]
        fn merged_parts_are_the_whole(
            numbers in proptest::collection::vec(extreme(), 0..20), at: prop::sample::Index, unsigned: bool,
        ) {
            let value = |n: &i64| if unsigned { Value::UInt(2 * (*n & i64::MAX) as u64) } else { Value::Int(*n) };
            let values: Vec<_> = numbers.iter().map(value).collect();
            let (left, right) = values.split_at(at.index(values.len() + 1));
            let merged = |add: fn(&mut Slot, Value), merge: fn(&mut Slot, &Slot)| {
                let mut merged = folded(left, add);
                merge(&mut merged, &folded(right, add));
                (merged, folded(&values, add))
            };
            let (sum, of_all) = merged(|slot, value| slot.add(&value), Slot::merge);
            prop_assert_eq!(sum, of_all);
            for wanted in [Ordering::Less, Ordering::Greater] {
                let (least, of_all) = match wanted {
                    Ordering::Less => merged(
                        |slot, value| slot.keep(value, Ordering::Less),
                        |slot, other| slot.keep_slot(other, Ordering::Less),
                    ),
                    _ => merged(
                        |slot, value| slot.keep(value, Ordering::Greater),
                        |slot, other| slot.keep_slot(other, Ordering::Greater),
                    ),
                };
                prop_assert_eq!(least, of_all);
            }
        }

        #[test]
        fn minima_and_maxima_of_floats_do_not_depend_on_the_order(
            (floats, shuffled) in proptest::collection::vec(floats(), 1..12)
                .prop_flat_map(|floats| (Just(floats.clone()), Just(floats).prop_shuffle())),
            wanted in proptest::sample::select(vec![Ordering::Less, Ordering::Greater]),
        ) {
            let kept = |floats: &[f64]| {
                let values: Vec<_> = floats.iter().map(|v| Value::Float(*v)).collect();
                match folded(&values, |slot, value| slot.keep(value, wanted)) {
                    Slot::Float(v) if v.is_nan() => "NaN".to_owned(),
                    Slot::Float(v) => format!("{:x}", v.to_bits()),
                    other => format!("{other:?}"),
                }
            };
            prop_assert_eq!(kept(&floats), kept(&shuffled));
            if floats.iter().any(|v| v.is_nan()) && wanted == Ordering::Greater {
                prop_assert_eq!(kept(&floats), "NaN");
            }
        }

        /// Older checkpoints hold values, and newer ones do wherever a value is enough.
        #[test]
        fn the_stored_form_is_that_of_values(number: i64, float in -1e9f64..1e9, text in "[a-c]{0,40}") {
            let values = [
                Value::Null, Value::Bool(true), Value::Int(number), Value::UInt(number as u64),
                Value::Float(float), Value::text(&text),
            ];
            for value in values {
                let (mut of_value, mut of_slot) = (Vec::new(), Vec::new());
                let slot = Slot::from(value.clone());
                Codec::<Value>::encode(&SerdeCodec, &value, &mut of_value).unwrap();
                Codec::<Slot>::encode(&SerdeCodec, &slot, &mut of_slot).unwrap();
                prop_assert_eq!(&of_value, &of_slot);
                prop_assert_eq!(Codec::<Slot>::decode(&SerdeCodec, &of_value).unwrap(), slot);
            }
        }
    }

    #[test]
    fn a_wide_sum_comes_back_into_the_range_of_its_type() {
        let mut slot = Slot::default();
        for n in [i64::MAX, i64::MAX, i64::MIN, i64::MIN, 7] {
            slot.add(&Value::Int(n));
        }
        assert_eq!(slot, Slot::Int(5));
        assert_eq!(size_of::<Slot>(), 24);
    }
}
