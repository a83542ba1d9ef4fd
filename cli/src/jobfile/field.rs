//! The columns of a source.

use strandline_connectors::{Column, ColumnType, Field, JsonPath, JsonStep, RegexLines, TimeFormat};

use super::problem::Problem;
use super::section::{self, Section};
use super::tree::{Node, TreeValue};

/// Reads columns: each is `name`, `name:type` or `name:type?`, or a table with more about it. `nested` is
/// whether values stand within others, so that columns may have paths.
pub(super) fn parse_all(node: &Node, nested: bool) -> Result<Vec<Field>, Problem> {
    let items = match &node.value {
        TreeValue::Array(items) => items.as_slice(),
        TreeValue::Text(_) | TreeValue::Table(_) => std::slice::from_ref(node),
        _ => return Err(node.unexpected("a column, or an array of columns")),
    };
    let mut fields: Vec<Field> = Vec::new();
    for item in items {
        let field = match &item.value {
            TreeValue::Text(text) => column(item, text)?.into(),
            TreeValue::Table(_) => table(item, nested)?,
            _ => return Err(item.unexpected("a column as \"name:type\" or as a table")),
        };
        if fields.iter().any(|other| other.column.name == field.column.name) {
            let message = format!("two columns are named `{}`", field.column.name);
            return Err(Problem::new(&item.location, message, "this is the second"));
        }
        if let Some(other) = fields.iter().find(|other| nested && within(other, &field)) {
            let message = format!(
                "the columns `{}` and `{}` read the same value",
                other.column.name, field.column.name
            );
            return Err(Problem::new(&item.location, message, "this is the second"));
        }
        fields.push(field);
    }
    if fields.is_empty() {
        return Err(Problem::new(&node.location, "the source has no columns", "expected at least one"));
    }
    Ok(fields)
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

/// `name`, `name:type` or `name:type?`.
fn column(item: &Node, text: &str) -> Result<Column, Problem> {
    let (name, kind) = text.rsplit_once(':').unwrap_or((text, "text"));
    let (kind, nullable) = column_type(item, kind, name.len() + 1)?;
    let name = name.trim();
    if name.is_empty() {
        return Err(item.unexpected("the name of a column"));
    }
    Ok(Column { name: name.to_owned(), kind, nullable })
}

/// A type, with `?` behind it where values may be missing; `begin` is where it stands in the string.
fn column_type(item: &Node, text: &str, begin: usize) -> Result<(ColumnType, bool), Problem> {
    let (kind, nullable) = text.strip_suffix('?').map_or((text, false), |kind| (kind, true));
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
fn table(item: &Node, nested: bool) -> Result<Field, Problem> {
    let known = ["name", "type", "format", "zone", "path"];
    let section = Section::new(item, "a column", if nested { &known } else { &known[..4] })?;
    let named = section.required("name")?;
    let name = section::text(named)?.trim();
    if name.is_empty() {
        return Err(named.unexpected("the name of a column"));
    }
    let (kind, nullable) = match section.optional("type") {
        Some(node) => column_type(node, section::text(node)?, 0)?,
        None => (ColumnType::Text, false),
    };
    let (format, zone) = (section.optional("format"), section.optional("zone"));
    let time = match format.or(zone) {
        None => TimeFormat::default(),
        Some(node) if kind != ColumnType::Timestamp => {
            let label = "expected `type = \"timestamp\"` beside it";
            return Err(Problem::new(&node.location, "only a timestamp has a format and a zone", label));
        }
        Some(node) => {
            let text = section.text("format")?.unwrap_or("iso");
            TimeFormat::new(text, section.text("zone")?).map_err(|wrong| {
                Problem::new(&node.location, wrong, "this is how the input writes its timestamps")
            })?
        }
    };
    let path = section.optional("path").map(path).transpose()?;
    Ok(Field { column: Column { name: name.to_owned(), kind, nullable }, time, path })
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
pub(super) fn pattern(section: &Section<'_>) -> Result<(String, Vec<Field>), Problem> {
    let node = section.required("pattern")?;
    let pattern = section::text(node)?;
    let wrong = |message: String| Problem::new(&node.location, message, "the pattern of the source");
    let groups = RegexLines::groups(pattern).map_err(wrong)?;
    let fields = match section.optional("columns") {
        Some(node) => {
            let fields = parse_all(node, false)?;
            RegexLines::new(pattern, fields.clone()).map_err(|message| {
                Problem::new(&node.location, message, "each column is a named group of the pattern")
            })?;
            fields
        }
        None if groups.is_empty() => {
            return Err(wrong("the pattern has no named groups, such as (?<status>[0-9]+)".to_owned()));
        }
        None => groups.into_iter().map(Field::from).collect(),
    };
    RegexLines::new(pattern, fields.clone()).map_err(wrong)?;
    Ok((pattern.to_owned(), fields))
}
