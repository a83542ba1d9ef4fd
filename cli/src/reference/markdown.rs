//! The reference as Markdown.

use std::fmt::Write;

use strandline_connectors::ColumnType;

use super::{heading, sections};
use crate::jobfile::keys::{self, Absent, Key, Kind, Section, Table, Word};
use crate::jobfile::{AGGREGATES, FORMS, FUNCTIONS, UNITS};
use crate::manual::ENVIRONMENT;

/// The sections, keys, types, units, defaults, expressions and functions of job files.
pub(crate) fn markdown() -> String {
    let mut out = String::new();
    out += "## At the top of the file\n\n";
    table(&mut out, &keys::JOB, None);
    for (heading, of) in sections() {
        let _ = write!(out, "\n## `{heading}`\n\n");
        section(&mut out, of);
    }
    values(&mut out);
    expressions(&mut out);
    aggregates(&mut out);
    environment(&mut out);
    out
}

fn section(out: &mut String, of: &Section) {
    match of {
        Section::One(table_of) => {
            let _ = write!(out, "{}\n\n", table_of.about);
            table(out, table_of, None);
        }
        Section::ByWord { by, absent, variants, .. } => {
            let _ = writeln!(out, "The key `{by}` chooses what else there is ({}).", absence(absent));
            for (word, of) in *variants {
                let _ = write!(out, "\n### `{by} = \"{word}\"`\n\n{}\n", of.about);
                if of.keys().next().is_some() {
                    out.push('\n');
                    table(out, of, None);
                }
            }
        }
        Section::ByKey { variants, .. } => {
            *out += "Each step has one of these keys, which is what it does.\n";
            for (key, of) in *variants {
                let _ = write!(out, "\n### `{key}`\n\n{}\n\n", of.about);
                table(out, of, Some(key));
            }
        }
    }
}

/// The keys of a table, `first` before the others.
fn table(out: &mut String, of: &Table, first: Option<&str>) {
    *out += "| key | type | default | what it sets |\n| --- | --- | --- | --- |\n";
    let mut keys: Vec<&Key> = of.keys().collect();
    keys.sort_by_key(|key| first != Some(key.name));
    for Key { name, kind, absent, about } in keys {
        let words = match kind {
            Kind::Word(words) => meanings(words),
            _ => String::new(),
        };
        let _ = writeln!(out, "| `{name}` | {} | {} | {about}{words} |", type_of(kind), absence(absent));
    }
}

fn meanings(words: &[Word]) -> String {
    let each: Vec<_> = words.iter().map(|word| format!("`\"{}\"`: {}", word.name, word.about)).collect();
    format!(". {}", each.join("; "))
}

fn absence(absent: &Absent) -> String {
    match absent {
        Absent::Mistake => "required".into(),
        Absent::Value(value) => format!("`{value}`"),
        Absent::Means(what) => (*what).to_owned(),
    }
}

fn type_of(kind: &Kind) -> String {
    const LARGE: u64 = u32::MAX as u64;
    match kind {
        Kind::Bool => "`true` or `false`".into(),
        Kind::Integer(least, LARGE..) => format!("integer, at least {least}"),
        Kind::Integer(least, most) => format!("integer, {least} to {most}"),
        Kind::Number(least, f64::MAX) => format!("number, at least {least}"),
        Kind::Number(least, most) => format!("number, {least} to {most}"),
        Kind::Duration => "[duration](#values)".into(),
        Kind::Length => "[duration](#values), or a number of rows: `\"100 rows\"`".into(),
        Kind::Interval => {
            "array of two [durations](#values), either with `-` before it: `[\"-5m\", \"1h\"]`".into()
        }
        Kind::DurationOr(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            format!("[duration](#values), or {}", words.join(" or "))
        }
        Kind::Size(_) => "[size](#values)".into(),
        Kind::Word(words) => {
            words.iter().map(|word| format!("`\"{}\"`", word.name)).collect::<Vec<_>>().join(", ")
        }
        Kind::Text(what) => format!("text: {what}"),
        Kind::Texts(what) => format!("text, or an array of texts: each {what}"),
        Kind::Columns(of) => {
            format!("[column](#{}), or an array of them", anchor(heading(of)))
        }
        Kind::JsonPath => {
            "text such as `\"user.id\"` or `\"items[0].price\"`, or an array of names and indexes".into()
        }
        Kind::Section(of) => format!("table, see [`{0}`](#{1})", heading(of), anchor(heading(of))),
        Kind::Sections(of) => format!("tables, see [`{0}`](#{1})", heading(of), anchor(heading(of))),
        Kind::OneOrMore(of) => {
            format!("table, or several as `[{0}]`, see [`{0}`](#{1})", heading(of), anchor(heading(of)))
        }
    }
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
}

fn values(out: &mut String) {
    *out += "\n## Values\n\n";
    *out += "| type | how it is written |\n| --- | --- |\n";
    *out += "| duration | text: numbers with a unit each, for example `\"250ms\"`, `\"10s\"`, `\"1h \
        30m\"`. Units are `ns`, `us`, `ms`, `s`, `m` (minutes), `h`, `d`, `w`, `months` and `y`, and their \
        names; `M` alone is refused, because it is a month to some and a minute to others |\n";
    let units: Vec<_> = UNITS.iter().filter(|(unit, _)| !unit.is_empty()).collect();
    let named: Vec<_> = units.iter().map(|(unit, power)| format!("`{unit}` (2^{power})")).collect();
    let _ = writeln!(
        out,
        "| size | bytes: an integer, or text with a unit, for example `\"16 MiB\"`. Units are {} |",
        named.join(", ")
    );
    *out += "\n### Types of columns\n\n";
    *out += "| type | values |\n| --- | --- |\n";
    for (name, kind) in ColumnType::NAMES {
        let _ = writeln!(out, "| `{name}` | {} |", values_of(kind));
    }
    *out += "\nA `?` behind the type allows missing values (null): nothing in CSV, `null` or no member in \
        JSON.\n";
}

fn values_of(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Bool => "`true` or `false`",
        ColumnType::Int => "integers of 64 bits, with a sign",
        ColumnType::UInt => "integers of 64 bits, without a sign",
        ColumnType::Float => "floating-point numbers of 64 bits",
        ColumnType::Text => "text in UTF-8; the type of a column without one",
        ColumnType::Timestamp => "points in time, to the nanosecond; see [inputs.md](inputs.md)",
    }
}

fn expressions(out: &mut String) {
    *out += "\n## Expressions\n\n";
    *out += "| expression | is |\n| --- | --- |\n";
    for form in &FORMS {
        let forms: Vec<_> = form.forms.iter().map(|form| format!("`{form}`")).collect();
        let _ = writeln!(out, "| {} | {} |", forms.join(", ").replace('|', "\\|"), form.is);
    }
    *out += "\nValues are columns, numbers, text in single quotes (`'it''s'`), `true`, `false` and `null`. \
        A column whose name is no word, or a word of the language, stands in double quotes. `not` binds \
        tighter than `and`, and `and` tighter than `or`. With null as an operand the result is null, as in \
        SQL, and a filter keeps the rows for which its condition is true. What can only go wrong with the \
        values of a row, such as an overflow or a division by zero, is a bad record.\n";
    let calls: Vec<_> = FUNCTIONS.iter().map(|(_, call)| format!("`{call}`")).collect();
    let _ = writeln!(
        out,
        "\nFunctions, which [inputs.md](inputs.md) explains: {}. Arguments at the end may be left out \
         where they name a zone, a format or a number of digits.",
        calls.join(", ")
    );
}

fn environment(out: &mut String) {
    *out += "\n## Environment\n\n";
    *out += "| variable | what it sets |\n| --- | --- |\n";
    for (name, about) in ENVIRONMENT {
        let _ = writeln!(out, "| `{name}` | {about} |");
    }
}

fn aggregates(out: &mut String) {
    *out += "\n## Aggregates\n\n";
    *out += "| aggregate | of | type | is |\n| --- | --- | --- | --- |\n";
    for aggregate in &AGGREGATES {
        let names: Vec<_> = aggregate.names.iter().map(|name| format!("`{name}(column)`")).collect();
        let bare = if aggregate.takes_no_column { "`count`, " } else { "" };
        let _ = writeln!(
            out,
            "| {bare}{} | {} | {} | {} |",
            names.join(", "),
            aggregate.of,
            aggregate.gives,
            aggregate.about
        );
    }
    *out += "\nNulls are left out; of nothing but nulls all but a count are null. The column of an \
        aggregate is named after it, for example `sum_amount`, unless `as` names it: `sum(amount) as \
        total`.\n";
}
