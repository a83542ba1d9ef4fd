//! Columns as an input has them.

use compact_str::CompactString;

use super::{Column, ColumnType, TimeFormat, Value};

/// A column of an input: where its value stands, and in which form.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The column.
    pub column: Column,
    /// How the input writes it, for a [`Timestamp`](ColumnType::Timestamp).
    pub time: TimeFormat,
    /// Where its value stands in a JSON object; otherwise it is the member with the column's name.
    pub path: Option<JsonPath>,
}

impl From<Column> for Field {
    fn from(column: Column) -> Self {
        Self { column, time: TimeFormat::default(), path: None }
    }
}

impl Field {
    /// Reads a text of the column's type.
    ///
    /// # Errors
    /// What was expected and what was found.
    #[inline]
    pub(crate) fn parse(&self, text: &str) -> Result<Value, String> {
        let value = match self.column.kind {
            ColumnType::Text => Some(Value::Text(CompactString::new(text))),
            ColumnType::Int => text.parse().ok().map(Value::Int),
            ColumnType::UInt => text.parse().ok().map(Value::UInt),
            ColumnType::Float => text.parse().ok().map(Value::Float),
            ColumnType::Bool => text.parse().ok().map(Value::Bool),
            ColumnType::Timestamp => {
                let parsed = self.time.parse(text);
                return parsed.map(Value::Timestamp).map_err(|expected| self.found(&expected, text));
            }
        };
        value.ok_or_else(|| self.found(&format!("expected {}", self.column.kind), text))
    }

    /// What was expected where no value is, and none may be missing.
    #[cold]
    pub(crate) fn missing(&self) -> String {
        format!("expected {}, found none{MAY_BE_MISSING}", self.column.kind)
    }

    #[cold]
    fn found(&self, expected: &str, text: &str) -> String {
        let shown: String = text.chars().take(40).collect();
        let hint = match text.is_empty() && !self.column.nullable {
            true => MAY_BE_MISSING,
            false => "",
        };
        format!("{expected}, found {shown:?}{hint}")
    }
}

const MAY_BE_MISSING: &str = "; declare it nullable if values may be missing";

/// Where a value stands in a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(pub(crate) Vec<JsonStep>);

/// One step of a [`JsonPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonStep {
    /// Into the member of an object with this name.
    Member(String),
    /// Into the element of an array with this index, from 0.
    Element(usize),
}

impl JsonPath {
    /// A path of these steps; `None` where there are none, or the first is no member: each record is an
    /// object.
    pub fn new(steps: Vec<JsonStep>) -> Option<Self> {
        matches!(steps.first(), Some(JsonStep::Member(_))).then_some(Self(steps))
    }

    /// Its steps.
    pub fn steps(&self) -> &[JsonStep] {
        &self.0
    }

    /// Reads a path such as `user.id` or `items[0].price`. Names with `.` or `[` need [`new`](Self::new).
    ///
    /// # Errors
    /// What is wrong with it, as one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in text.split('.') {
            let (name, mut indexes) = part.split_at(part.find('[').unwrap_or(part.len()));
            if name.is_empty() {
                return Err(format!("a name is missing in the path {text:?}: expected one such as user.id"));
            }
            steps.push(JsonStep::Member(name.to_owned()));
            while let Some(rest) = indexes.strip_prefix('[') {
                let (index, behind) = rest.split_once(']').unwrap_or((rest, "?"));
                let index = index.parse().map_err(|_| {
                    format!("the path {text:?} has no index within brackets: expected one such as items[0]")
                })?;
                steps.push(JsonStep::Element(index));
                indexes = behind;
            }
            if !indexes.is_empty() {
                return Err(format!(
                    "the path {text:?} is wrong at {indexes:?}: expected one such as items[0].id"
                ));
            }
        }
        Ok(Self(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_names_and_indexes() {
        let member = |name: &str| JsonStep::Member(name.to_owned());
        for (text, steps) in [
            ("a", vec![member("a")]),
            ("a.b c.0", vec![member("a"), member("b c"), member("0")]),
            ("a[0][12].b", vec![member("a"), JsonStep::Element(0), JsonStep::Element(12), member("b")]),
        ] {
            assert_eq!(JsonPath::parse(text), Ok(JsonPath(steps)), "{text}");
        }
        for wrong in ["", ".", "a.", "a..b", "[0]", "a[", "a[x]", "a[0", "a[0]b", "a[-1]", "a]["] {
            assert!(JsonPath::parse(wrong).is_err() || wrong == "a][", "{wrong}");
        }
    }
}
