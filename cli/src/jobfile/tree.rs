//! TOML as a tree in which everything knows its place.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Documents, Place, Problem};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: TreeValue,
    /// Where the content of a string begins, if it stands in the document as it is, without escapes.
    verbatim: Option<usize>,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug)]
pub(super) enum TreeValue {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// A date, an integer that is too large, and whatever else no option takes.
    Other,
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    fn new(place: Place, value: TreeValue) -> Self {
        Self { place, value, verbatim: None }
    }

    /// The place of a part of a string; of the whole where it has escapes.
    pub(super) fn part(&self, span: Range<usize>) -> Place {
        let document = self.place.document;
        match self.verbatim {
            Some(begin) => Place { document, span: begin + span.start..begin + span.end },
            None => self.place.clone(),
        }
    }

    /// What it is, in TOML's words.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            TreeValue::Text(_) => "a string",
            TreeValue::Integer(_) => "an integer",
            TreeValue::Float(_) => "a float",
            TreeValue::Bool(_) => "a boolean",
            TreeValue::Other => "a value that no option takes",
            TreeValue::Array(_) => "an array",
            TreeValue::Table(_) => "a table",
        }
    }

    /// It is not what was expected.
    pub(super) fn unexpected(&self, expected: &str) -> Problem {
        Problem::new(&self.place, format!("expected {expected}"), format!("this is {}", self.kind()))
    }
}

/// The whole job file, overrides applied.
#[derive(Debug)]
pub(super) struct Tree {
    root: Node,
}

impl Tree {
    pub(super) fn parse(documents: &Documents) -> Result<Self, Problem> {
        let mut root = None;
        for (document, (_, text)) in documents.texts.iter().enumerate() {
            match &mut root {
                None => root = Some(Self::file(document, text)?),
                Some(root) => Self::set(root, document, text)?,
            }
        }
        let nowhere = Place { document: 0, span: 0..0 };
        let root = root.unwrap_or(Node::new(nowhere, TreeValue::Table(Vec::new())));
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    fn file(document: usize, text: &str) -> Result<Node, Problem> {
        let table = DeTable::parse(text).map_err(|e| syntax(document, &e))?;
        // The span of the root is the whole file: mistakes about it are shown at its beginning.
        Ok(Node::new(
            Place { document, span: 0..0 },
            Reader { document, offset: 0, text }.table(table.get_ref()),
        ))
    }

    /// Applies `key.key=value`. A value that is no TOML is taken for text, so that quotes are rarely needed.
    fn set(root: &mut Node, document: usize, text: &str) -> Result<(), Problem> {
        let Some((path, value)) = text.split_once('=') else {
            let place = Place { document, span: 0..text.len() };
            return Err(Problem::new(&place, "an override needs a value", "expected `key=value`"));
        };
        let offset = path.len() + 1;
        let new = match DeValue::parse(value) {
            Ok(parsed) => Reader { document, offset, text }.node(&parsed),
            Err(_) => {
                let place = Place { document, span: offset..text.len() };
                Node { verbatim: Some(offset), ..Node::new(place, TreeValue::Text(value.to_owned())) }
            }
        };
        let key_place = Place { document, span: 0..path.len() };
        let mut node = root;
        for key in path.split('.') {
            node = descend(node, key.trim(), &key_place)?;
        }
        *node = new;
        Ok(())
    }
}

/// The node at `key` within `node`, made if it is not there.
fn descend<'n>(node: &'n mut Node, key: &str, place: &Place) -> Result<&'n mut Node, Problem> {
    let kind = node.kind();
    match &mut node.value {
        TreeValue::Table(entries) => {
            let at = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
                let empty = Node::new(place.clone(), TreeValue::Table(Vec::new()));
                entries.push(Entry { key: key.to_owned(), place: place.clone(), node: empty });
                entries.len() - 1
            });
            entries.get_mut(at).map(|entry| &mut entry.node)
        }
        TreeValue::Array(items) => key.parse::<usize>().ok().and_then(|i| items.get_mut(i)),
        _ => None,
    }
    .ok_or_else(|| {
        let label = format!("`{key}` cannot be looked up in {kind}; elements of arrays have numbers from 0");
        Problem::new(place, "there is nothing of this name to override", label)
    })
}

/// Turns what the TOML library parsed into the tree.
#[derive(Clone, Copy)]
struct Reader<'a> {
    document: usize,
    /// Where in the document the parsed text begins.
    offset: usize,
    text: &'a str,
}

impl Reader<'_> {
    fn place(self, span: Range<usize>) -> Place {
        Place { document: self.document, span: span.start + self.offset..span.end + self.offset }
    }

    fn table(self, table: &DeTable<'_>) -> TreeValue {
        let entry = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| Entry {
            key: key.get_ref().clone().into_owned(),
            place: self.place(key.span()),
            node: self.node(value),
        };
        let mut entries: Vec<_> = table.iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.place.span.start);
        TreeValue::Table(entries)
    }

    fn node(self, value: &Spanned<DeValue<'_>>) -> Node {
        let place = self.place(value.span());
        let mut verbatim = None;
        let value = match value.get_ref() {
            DeValue::String(text) => {
                let raw = self.text.get(place.span.clone()).unwrap_or_default();
                let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
                let inside = raw.get(quotes..raw.len().saturating_sub(quotes));
                verbatim = (inside == Some(text.as_ref())).then_some(place.span.start + quotes);
                TreeValue::Text(text.clone().into_owned())
            }
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                parsed.map_or(TreeValue::Other, TreeValue::Integer)
            }
            DeValue::Float(number) => {
                let parsed = number.as_str().replace('_', "").parse();
                parsed.map_or(TreeValue::Other, TreeValue::Float)
            }
            DeValue::Boolean(value) => TreeValue::Bool(*value),
            DeValue::Datetime(_) => TreeValue::Other,
            DeValue::Array(items) => TreeValue::Array(items.iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => self.table(table),
        };
        Node { place, value, verbatim }
    }
}

fn syntax(document: usize, error: &toml::de::Error) -> Problem {
    let place = Place { document, span: error.span().unwrap_or(0..0) };
    Problem::new(&place, "the job file is not valid TOML", error.message())
}
