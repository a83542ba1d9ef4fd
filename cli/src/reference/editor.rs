//! The reference as JSON Schema, for editors.

use serde_json::{Map, Value, json};

use super::heading;
use super::sections;
use crate::jobfile::keys::{self, Absent, Key, Kind, Section, Table};

/// The schema of job files, in draft 7, which editors of TOML understand.
pub(crate) fn schema() -> Value {
    let mut definitions = Map::new();
    for (heading, section) in sections() {
        definitions.insert(name(heading), of_section(section));
    }
    let mut root = of_table(&keys::JOB, None);
    if let Some(members) = root.as_object_mut() {
        members.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
        members.insert("title".into(), "A job of strandline".into());
        members.insert("definitions".into(), definitions.into());
    }
    root
}

/// The name of the definition of a section.
fn name(heading: &str) -> String {
    heading.replace(['[', ']'], "").replace(' ', "-")
}

fn of_section(section: &Section) -> Value {
    match section {
        Section::One(table) => of_table(table, None),
        Section::ByWord { by, absent, variants, .. } => {
            let required = matches!(absent, Absent::Mistake);
            let each: Vec<_> =
                variants.iter().map(|(word, table)| of_table(table, Some((*by, *word, required)))).collect();
            // Where the key may be missing, several variants fit.
            json!({ if required { "oneOf" } else { "anyOf" }: each })
        }
        Section::ByKey { variants, .. } => {
            let each: Vec<_> = variants.iter().map(|(_, table)| of_table(table, None)).collect();
            json!({ "oneOf": each })
        }
    }
}

/// A table; `by` is the key that chooses it, with its word, and whether it must be there.
fn of_table(table: &Table, by: Option<(&str, &str, bool)>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    if let Some((by, word, needed)) = by {
        properties.insert(by.into(), json!({ "const": word, "description": table.about }));
        required.extend(needed.then_some(by));
    }
    for key in table.keys() {
        properties.insert(key.name.into(), of_key(key));
        required.extend(matches!(key.absent, Absent::Mistake).then_some(key.name));
    }
    json!({
        "type": "object",
        "title": table.what,
        "description": table.about,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn of_key(key: &Key) -> Value {
    let mut value = of_kind(&key.kind);
    let what = match key.kind {
        Kind::Text(what) => format!(": {}", without_links(what)),
        Kind::Texts(what) => format!(": each {}", without_links(what)),
        _ => String::new(),
    };
    let absent = match key.absent {
        Absent::Mistake => String::new(),
        Absent::Value(value) => format!(" Default: {value}."),
        Absent::Means(what) => format!(" Without it: {what}."),
    };
    if let Some(members) = value.as_object_mut() {
        if !members.contains_key("$ref") {
            members.insert("description".into(), format!("{}{what}.{absent}", key.about).into());
        }
        if let Some(default) = default(&key.absent) {
            members.insert("default".into(), default);
        }
    }
    value
}

/// Markdown without the targets of its links.
fn without_links(text: &str) -> String {
    let mut parts = text.split("](");
    let first = parts.next().unwrap_or_default();
    let rest = parts.map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
    std::iter::once(first).chain(rest).collect::<String>().replace('[', "")
}

/// The default as JSON.
fn default(absent: &Absent) -> Option<Value> {
    let Absent::Value(text) = absent else { return None };
    let parsed: toml::Table = format!("value = {text}").parse().ok()?;
    serde_json::to_value(parsed.get("value")?).ok()
}

/// Durations as `humantime` reads them, and without the ambiguous `M`.
const DURATION: &str = "^(0|(\\s*[0-9]+(\\.[0-9]+)?\\s*(?!M(\\s|[0-9]|$))[A-Za-zµ]+)+\\s*)$";

fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Number(least, f64::MAX) => json!({ "type": "number", "minimum": least }),
        Kind::Number(least, most) => json!({ "type": "number", "minimum": least, "maximum": most }),
        Kind::Duration => json!({ "type": "string", "pattern": DURATION }),
        Kind::Length => json!({ "anyOf": [
            { "type": "string", "pattern": DURATION },
            { "type": "string", "pattern": "^\\s*[0-9]+\\s*rows?\\s*$" },
        ] }),
        Kind::Interval => {
            let time = json!({ "type": "string", "pattern": format!("^\\s*-?{}", DURATION.trim_start_matches('^')) });
            json!({ "type": "array", "items": time, "minItems": 2, "maxItems": 2 })
        }
        Kind::DurationOr(words) => {
            let duration = json!({ "type": "string", "pattern": DURATION });
            let words = words.iter().map(|word| json!({ "const": word }));
            json!({ "anyOf": words.chain([duration]).collect::<Vec<_>>() })
        }
        Kind::Size(least) => json!({ "anyOf": [
            { "type": "integer", "minimum": least },
            { "type": "string", "pattern": "^\\s*[0-9]+\\s*(B|KiB|MiB|GiB)?\\s*$" },
        ] }),
        Kind::Word(words) => {
            json!({ "enum": words.iter().map(|word| word.name).collect::<Vec<_>>() })
        }
        Kind::Text(_) => json!({ "type": "string", "minLength": 1 }),
        Kind::Texts(_) => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] }),
        Kind::Columns(section) => {
            let column = json!({ "anyOf": [{ "type": "string", "minLength": 1 }, reference(section)] });
            json!({ "anyOf": [
                { "type": "string", "minLength": 1 },
                reference(section),
                { "type": "array", "items": column, "minItems": 1 },
            ] })
        }
        Kind::JsonPath => json!({ "anyOf": [
            { "type": "string", "minLength": 1 },
            { "type": "array", "items": { "type": ["string", "integer"] }, "minItems": 1 },
        ] }),
        Kind::Section(section) => reference(section),
        Kind::Sections(section) => json!({ "type": "array", "items": reference(section) }),
        Kind::OneOrMore(section) => json!({ "anyOf": [
            reference(section),
            { "type": "array", "items": reference(section), "minItems": 1 },
        ] }),
    }
}

fn reference(section: &Section) -> Value {
    json!({ "$ref": format!("#/definitions/{}", name(heading(section))) })
}
