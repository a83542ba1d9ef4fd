//! The columns of a source.

use strandline_connectors::{Column, ColumnType, Field, JsonPath, JsonStep, RegexLines, TimeFormat};

use super::columns::Columns;
use super::keys;
use super::problem::{Problem, Problems};
use super::section::Section;
use super::tree::{Node, TreeValue};

/// The columns of a source, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) known: Vec<Field>,
    /// Whether there may be others, because of a mistake that was noted.
    pub(super) others: bool,
}

impl Fields {
    /// Nothing is known of them.
    pub(super) fn unknown() -> Self {
        Self { known: Vec::new(), others: true }
    }

    pub(super) fn columns(&self) -> Columns {
        let known = self.known.iter().map(|field| field.column.clone()).collect();
        Columns { known, others: self.others }
    }
}

impl FromIterator<Column> for Fields {
    fn from_iter<I: IntoIterator<Item = Column>>(columns: I) -> Self {
        Self { known: columns.into_iter().map(Field::from).collect(), others: false }
    }
}

/// Reads columns: each is `name`, `name?`, `name:type` or `name:type?`, or a table with more about it. `nested`
/// is whether values stand within others, so that columns may have paths.
pub(super) fn parse_all(node: &Node, nested: bool, problems: &Problems) -> Fields {
    let items = match &node.value {
        TreeValue::Array(items) => items.as_slice(),
        TreeValue::Text(_) | TreeValue::Table(_) => std::slice::from_ref(node),
        _ => {
            problems.add(node.unexpected("a column, or an array of columns"));
            return Fields::unknown();
        }
    };
    if items.is_empty() {
        problems.add(Problem::new(&node.location, "the source has no columns", "expected at least one"));
    }
    let mut fields = Fields::default();
    for item in items {
        let field = match &item.value {
            TreeValue::Text(text) => problems.ok(column(item, text)).map(Field::from),
            TreeValue::Table(_) => table(item, nested, problems),
            _ => {
                problems.add(item.unexpected("a column as \"name:type\" or as a table"));
                None
            }
        };
        let Some(field) = field else {
            fields.others = true;
            continue;
        };
        match problems.ok(distinct(&fields.known, &field, item, nested)) {
            Some(()) => fields.known.push(field),
            None => fields.others |= !fields.known.iter().any(|known| known.column.name == field.column.name),
        }
    }
    fields.others |= fields.known.is_empty();
    fields
}

/// Refuses a field with the name or the value of another.
fn distinct(fields: &[Field], field: &Field, item: &Node, nested: bool) -> Result<(), Problem> {
    let second = |message| Err(Problem::new(&item.location, message, "this is the second"));
    if fields.iter().any(|other| other.column.name == field.column.name) {
        return second(format!("two columns are named `{}`", field.column.name));
    }
    match fields.iter().find(|other| nested && within(other, field)) {
        Some(other) => second(format!(
            "the columns `{}` and `{}` read the same value",
            other.column.name, field.column.name
        )),
        None => Ok(()),
    }
}

/// Whether the value of one column lies within that of the other.
fn within(a: &Field, b: &Field) -> bool {
    let steps = |field: &Field| match &field.path {
        Some(path) => path.steps().to_vec(),
        None => vec![JsonStep::Member(field.column.name.clone())],
    };
    let (a, b) = (steps(a), steps(b));
    a.starts_with(&b) || b.starts_with(&a)
}

/// `name`, `name?`, `name:type` or `name:type?`.
fn column(item: &Node, text: &str) -> Result<Column, Problem> {
    let (name, kind) = match (text.rsplit_once(':'), text.trim_end().strip_suffix('?')) {
        (Some(both), _) => both,
        (None, Some(name)) => (name, "text?"),
        (None, None) => (text, "text"),
    };
    let (kind, nullable) = column_type(item, kind, name.len() + 1)?;
    match name.trim() {
        "" => Err(item.unexpected("the name of a column")),
        name => Ok(Column { name: name.to_owned(), kind, nullable }),
    }
}

/// A type, with `?` behind it where values may be missing; `begin` is where it stands in the string.
fn column_type(item: &Node, text: &str, begin: usize) -> Result<(ColumnType, bool), Problem> {
    let (kind, nullable) = text.trim_end().strip_suffix('?').map_or((text, false), |kind| (kind, true));
    match ColumnType::NAMES.into_iter().find(|(known, _)| *known == kind.trim()) {
        Some((_, kind)) => Ok((kind, nullable)),
        None => {
            let names = ColumnType::NAMES.map(|(name, _)| name);
            Err(Problem::unknown(&item.part(begin..begin + kind.len()), "type", kind, &names)
                .help("write columns as \"name:type\", with \"?\" behind it where values may be missing"))
        }
    }
}

/// A table with `name`, `type`, `format` and `zone` of a timestamp, and `path`.
fn table(item: &Node, nested: bool, problems: &Problems) -> Option<Field> {
    let keys = if nested { &keys::JSON_COLUMN } else { &keys::COLUMN };
    let section = Section::new(item, keys.only()?, problems)?;
    let name = section.text("name").map(str::trim);
    if let (Some(""), Some(node)) = (name, section.get("name")) {
        problems.add(node.unexpected("the name of a column"));
    }
    let kind = match section.get("type") {
        Some(node) => section.text("type").map(|text| column_type(node, text, 0)),
        None => Some(Ok((ColumnType::Text, false))),
    };
    let kind = kind.and_then(|kind| problems.ok(kind));
    let time = problems.ok(time_format(&section, kind.map(|(kind, _)| kind)));
    let path = if nested { section.get("path") } else { None };
    let path = path.map(|node| problems.ok(self::path(node)));
    let (kind, nullable) = kind?;
    let name = name.filter(|name| !name.is_empty())?.to_owned();
    let path = match path {
        Some(path) => Some(path?),
        None => None,
    };
    Some(Field { column: Column { name, kind, nullable }, time: time?, path })
}

/// How the input writes the timestamps of a column.
fn time_format(section: &Section<'_>, kind: Option<ColumnType>) -> Result<TimeFormat, Problem> {
    let Some(node) = section.get("format").or(section.get("zone")) else { return Ok(TimeFormat::default()) };
    if kind.is_some_and(|kind| kind != ColumnType::Timestamp) {
        let label = "expected `type = \"timestamp\"` beside it";
        return Err(Problem::new(&node.location, "only a timestamp has a format and a zone", label));
    }
    TimeFormat::new(section.text("format").unwrap_or("iso"), section.text("zone"))
        .map_err(|wrong| Problem::new(&node.location, wrong, "this is how the input writes its timestamps"))
}

/// `"user.id"`, `"items[0].price"` or `["user", "an unusual.name", 0]`.
fn path(node: &Node) -> Result<JsonPath, Problem> {
    let example = "a path such as \"user.id\", \"items[0].price\" or [\"items\", 0, \"price\"]";
    match &node.value {
        TreeValue::Text(text) => JsonPath::parse(text)
            .map_err(|wrong| Problem::new(&node.location, wrong, format!("expected {example}"))),
        TreeValue::Array(items) => {
            let step = |item: &Node| match &item.value {
                TreeValue::Text(name) => Ok(JsonStep::Member(name.clone())),
                TreeValue::Integer(index) => usize::try_from(*index)
                    .map(JsonStep::Element)
                    .map_err(|_| item.unexpected("an index from 0")),
                _ => Err(item.unexpected("the name of a member, or an index")),
            };
            let steps = items.iter().map(step).collect::<Result<_, _>>()?;
            JsonPath::new(steps).ok_or_else(|| node.unexpected(example))
        }
        _ => Err(node.unexpected(example)),
    }
}

/// The pattern of a source that splits lines, and its columns: those that are listed, or all its groups.
pub(super) fn pattern(section: &Section<'_>) -> (Option<String>, Fields) {
    let problems = section.problems;
    let listed = section.get("columns").map(|node| (node, parse_all(node, false, problems)));
    let Some((node, pattern)) = section.get("pattern").zip(section.text("pattern")) else {
        return (None, listed.map_or_else(Fields::unknown, |(_, fields)| fields));
    };
    let wrong = |message: String| Problem::new(&node.location, message, "the pattern of the source");
    let Some(groups) = problems.ok(RegexLines::groups(pattern).map_err(wrong)) else {
        return (None, listed.map_or_else(Fields::unknown, |(_, fields)| fields));
    };
    let (fields, fits) = match listed {
        Some((node, fields)) => {
            let fits = RegexLines::new(pattern, fields.known.clone()).map_err(|message| {
                Problem::new(&node.location, message, "each column is a named group of the pattern")
            });
            (fields, fits.map(drop))
        }
        None if groups.is_empty() => {
            let none = "the pattern has no named groups, such as (?<status>[0-9]+)";
            (Fields::unknown(), Err(wrong(none.to_owned())))
        }
        None => {
            let fields = Fields { known: groups.into_iter().map(Field::from).collect(), others: false };
            let fits = RegexLines::new(pattern, fields.known.clone()).map_err(wrong);
            (fields, fits.map(drop))
        }
    };
    (problems.ok(fits).map(|()| pattern.to_owned()), fields)
}
