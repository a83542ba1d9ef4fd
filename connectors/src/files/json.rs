//! JSON lines.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};
use strandline_state_api::{Batch, Result};

use super::{BadRecord, Decode, FileFormat, Framing};
use crate::row::{ColumnType, Field, JsonStep, Row, Value};

/// Files with one JSON object on each line: each is a row of the wanted columns.
///
/// A column is the member with its name, or stands [deeper](Field::path) in the object. A value that is
/// missing, or null, is null where the column is nullable, and an error otherwise; so is one whose path goes
/// through null, a missing member, or an element behind the end of an array. A path through anything else
/// than objects and arrays is an error. Members that are no column are left out, and so are blank lines. An
/// integer is accepted for a float, not the reverse. Timestamps are text or numbers, by their format.
#[derive(Clone, Debug)]
pub struct JsonLines {
    columns: Arc<[Field]>,
    root: Arc<Branch>,
}

/// What is wanted of a value.
#[derive(Debug, Default)]
struct Branch {
    /// The value is that of this column.
    column: Option<usize>,
    members: Vec<(String, Branch)>,
    elements: Vec<(usize, Branch)>,
}

impl Branch {
    fn add(&mut self, steps: &[JsonStep], column: usize) {
        let [first, rest @ ..] = steps else {
            self.column = Some(column);
            return;
        };
        let next = match first {
            JsonStep::Member(name) => child(&mut self.members, name),
            JsonStep::Element(index) => child(&mut self.elements, index),
        };
        next.add(rest, column);
    }

    /// A column within, for an error.
    fn any_column(&self) -> Option<usize> {
        let within = || self.members.iter().map(|(_, branch)| branch);
        let elements = || self.elements.iter().map(|(_, branch)| branch);
        self.column.or_else(|| within().chain(elements()).find_map(Self::any_column))
    }
}

/// The branch of `key`, which may be new.
fn child<'a, K: Clone + PartialEq>(children: &'a mut Vec<(K, Branch)>, key: &K) -> &'a mut Branch {
    let found = children.iter().position(|(known, _)| known == key);
    let index = found.unwrap_or_else(|| {
        children.push((key.clone(), Branch::default()));
        children.len() - 1
    });
    // It was found, or pushed.
    &mut children[index].1
}

impl JsonLines {
    /// Files whose objects have (at least) these values. No two columns may have one path; one within the
    /// path of another never has a value beside it.
    pub fn new<C: Into<Field>>(columns: Vec<C>) -> Self {
        let columns: Arc<[Field]> = columns.into_iter().map(Into::into).collect();
        let mut root = Branch::default();
        for (index, field) in columns.iter().enumerate() {
            match &field.path {
                Some(path) => root.add(&path.0, index),
                None => root.add(&[JsonStep::Member(field.column.name.clone())], index),
            }
        }
        Self { columns, root: Arc::new(root) }
    }
}

impl FileFormat for JsonLines {
    type Record = Row;
    type Decoder = Self;

    fn layout(&self) -> String {
        "JSON lines".to_owned()
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn decoder(&self, _: &[u8]) -> Result<Self, String> {
        Ok(self.clone())
    }
}

impl Decode<Row> for JsonLines {
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<Row>) -> Result<(), BadRecord> {
        if bytes.trim_ascii().is_empty() {
            return Ok(());
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let current = Cell::new(None);
        let mut row: Row = self.columns.iter().map(|_| Value::Null).collect();
        let mut place = Place { columns: &self.columns, current: &current, row: &mut row };
        let read = BranchSeed { branch: &self.root, place: &mut place }.deserialize(&mut json);
        read.and_then(|()| json.end()).map_err(|e| {
            let wrong = without_line(&e);
            match current.get().and_then(|index: usize| self.columns.get(index)) {
                Some(field) => BadRecord::new(wrong).in_column(&field.column.name),
                None => BadRecord::new(format!("expected a JSON object: {wrong}")),
            }
        })?;
        for (i, field) in self.columns.iter().enumerate() {
            if row.get(i).is_null() && !field.column.nullable {
                return Err(BadRecord::new(field.missing()).in_column(&field.column.name));
            }
        }
        output.push(row, None);
        Ok(())
    }
}

/// The message without its line, which is always 1 here.
fn without_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((text, _)) => format!("{text} at column {}", error.column()),
        None => message,
    }
}

/// The row that is being read.
struct Place<'a> {
    columns: &'a [Field],
    /// The column whose value is being read.
    current: &'a Cell<Option<usize>>,
    row: &'a mut Row,
}

/// Reads a value: into its column, or what lies within it into several.
struct BranchSeed<'a, 'b> {
    branch: &'a Branch,
    place: &'a mut Place<'b>,
}

impl<'de> DeserializeSeed<'de> for BranchSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl BranchSeed<'_, '_> {
    /// The seed of a value within this one.
    fn within<'a, 'b>(place: &'a mut Place<'b>, branch: &'a Branch) -> BranchSeed<'a, 'b> {
        place.current.set(branch.any_column());
        BranchSeed { branch, place }
    }

    /// Sets the column to `value` where the column's type accepts it; the error names `found`.
    fn set<E: serde::de::Error>(
        self,
        found: Unexpected<'_>,
        value: impl FnOnce(&Field) -> Option<Value>,
    ) -> Result<(), E> {
        let column = self.branch.column.and_then(|index| Some((index, self.place.columns.get(index)?)));
        let Some((index, field)) = column else { return Err(E::invalid_type(found, &self)) };
        let Some(value) = value(field) else { return Err(E::invalid_type(found, &self)) };
        if let Some(slot) = self.place.row.0.get_mut(index) {
            *slot = value;
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for BranchSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.branch.column.and_then(|index| self.place.columns.get(index)) {
            Some(Field { column, time, .. }) if column.kind == ColumnType::Timestamp => {
                write!(f, "{} in column {:?}", time.expected().trim_start_matches("expected "), column.name)
            }
            Some(Field { column, .. }) => write!(f, "{} in column {:?}", column.kind, column.name),
            None if self.branch.members.is_empty() => f.write_str("an array"),
            None if self.branch.elements.is_empty() => f.write_str("an object"),
            None => f.write_str("an object or an array"),
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { branch, place } = self;
        if branch.members.is_empty() {
            return Err(M::Error::invalid_type(Unexpected::Map, &BranchSeed { branch, place }));
        }
        while let Some(member) = map.next_key_seed(MemberSeed(&branch.members))? {
            let Some((_, within)) = member.and_then(|index| branch.members.get(index)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            map.next_value_seed(Self::within(&mut *place, within))?;
            place.current.set(None);
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<(), S::Error> {
        let Self { branch, place } = self;
        if branch.elements.is_empty() {
            return Err(S::Error::invalid_type(Unexpected::Seq, &BranchSeed { branch, place }));
        }
        for index in 0.. {
            let item = match branch.elements.iter().find(|(known, _)| *known == index) {
                Some((_, within)) => items.next_element_seed(Self::within(&mut *place, within))?,
                None => items.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            place.current.set(None);
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<(), E> {
        self.set(Unexpected::Bool(v), |field| {
            (field.column.kind == ColumnType::Bool).then_some(Value::Bool(v))
        })
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<(), E> {
        self.set(Unexpected::Signed(v), |field| match field.column.kind {
            ColumnType::Int => Some(Value::Int(v)),
            ColumnType::UInt => u64::try_from(v).ok().map(Value::UInt),
            ColumnType::Float => Some(Value::Float(v as f64)),
            ColumnType::Timestamp => field.time.parse_number(v.into()).map(Value::Timestamp),
            ColumnType::Bool | ColumnType::Text => None,
        })
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<(), E> {
        self.set(Unexpected::Unsigned(v), |field| match field.column.kind {
            ColumnType::Int => i64::try_from(v).ok().map(Value::Int),
            ColumnType::UInt => Some(Value::UInt(v)),
            ColumnType::Float => Some(Value::Float(v as f64)),
            ColumnType::Timestamp => field.time.parse_number(v.into()).map(Value::Timestamp),
            ColumnType::Bool | ColumnType::Text => None,
        })
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<(), E> {
        self.set(Unexpected::Float(v), |field| match field.column.kind {
            ColumnType::Float => Some(Value::Float(v)),
            // The shortest text that stands for the number is what was written, up to 15 digits.
            ColumnType::Timestamp if field.time.is_number() => {
                field.time.parse(&v.to_string()).ok().map(Value::Timestamp)
            }
            _ => None,
        })
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<(), E> {
        self.set(Unexpected::Str(v), |field| match field.column.kind {
            ColumnType::Text => Some(Value::text(v)),
            ColumnType::Timestamp => field.time.parse(v).ok().map(Value::Timestamp),
            _ => None,
        })
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The name of a member, as the index of its branch.
struct MemberSeed<'a>(&'a [(String, Branch)]);

impl<'de> DeserializeSeed<'de> for MemberSeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for MemberSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|(known, _)| known == name))
    }
}
