//! TOML as a tree in which each key and value has its location.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Documents, Location, Problem, Problems};

/// A value and its location.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) location: Location,
    pub(super) value: TreeValue,
    /// Where the content of a string begins, if the document has it as it is, without escapes.
    verbatim: Option<usize>,
}

/// The value of a [`Node`].
#[derive(Clone, Debug)]
pub(super) enum TreeValue {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// A date, an integer that is too large, and whatever else no option takes.
    Other,
    Array(Vec<Node>),
    Table(Vec<Member>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) location: Location,
    pub(super) node: Node,
}

impl Node {
    pub(super) fn new(location: Location, value: TreeValue) -> Self {
        Self { location, value, verbatim: None }
    }

    /// The location of a part of a string; of the whole where it has escapes.
    pub(super) fn part(&self, span: Range<usize>) -> Location {
        let document = self.location.document;
        match self.verbatim {
            Some(begin) => Location { document, span: begin + span.start..begin + span.end },
            None => self.location.clone(),
        }
    }

    fn find(&self, key: &str) -> Option<&Member> {
        match &self.value {
            TreeValue::Table(members) => members.iter().find(|member| member.key == key),
            _ => None,
        }
    }

    /// Whether it is a table with this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The text at a key of a table.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        match &self.find(key)?.node.value {
            TreeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The tables in a value that is one table or an array of them.
    pub(super) fn tables(&self) -> &[Self] {
        match &self.value {
            TreeValue::Array(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// The location of the value of a key in a table; of the table where it is missing.
    pub(super) fn member(&self, key: &str) -> &Location {
        self.find(key).map_or(&self.location, |member| &member.node.location)
    }

    /// Its type, in TOML's words.
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

    /// The problem of a value that does not fit.
    pub(super) fn unexpected(&self, expected: &str) -> Problem {
        Problem::new(&self.location, format!("expected {expected}"), format!("this is {}", self.kind()))
    }
}

/// The whole job file, overrides applied.
#[derive(Debug)]
pub(super) struct Tree {
    root: Node,
}

impl Tree {
    pub(super) fn parse(documents: &Documents, problems: &Problems) -> Self {
        let nowhere = Location { document: 0, span: 0..0 };
        let mut root = Node::new(nowhere, TreeValue::Table(Vec::new()));
        for (document, (_, text)) in documents.texts.iter().enumerate() {
            if document == 0 {
                root = Self::file(document, text, problems);
            } else {
                problems.ok(Self::set(&mut root, document, text));
            }
        }
        Self { root }
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    fn file(document: usize, text: &str, problems: &Problems) -> Node {
        let (table, errors) = DeTable::parse_recoverable(text);
        errors.iter().for_each(|error| problems.add_syntax(syntax(document, error)));
        // The span of the root is the whole file: a report shows a mistake about it at its beginning.
        Node::new(
            Location { document, span: 0..0 },
            Reader { document, offset: 0, text }.table(table.get_ref()),
        )
    }

    /// Applies `key.key=value`. A value that is no TOML counts as text, so that quotes are rarely needed.
    fn set(root: &mut Node, document: usize, text: &str) -> Result<(), Problem> {
        let Some((path, value)) = text.split_once('=') else {
            let location = Location { document, span: 0..text.len() };
            return Err(Problem::new(&location, "an override needs a value", "expected `key=value`"));
        };
        let offset = path.len() + 1;
        let new = match DeValue::parse(value) {
            Ok(parsed) => Reader { document, offset, text }.node(&parsed),
            Err(_) => {
                let location = Location { document, span: offset..text.len() };
                Node { verbatim: Some(offset), ..Node::new(location, TreeValue::Text(value.to_owned())) }
            }
        };
        let key_location = Location { document, span: 0..path.len() };
        let mut node = root;
        for key in path.split('.') {
            node = descend(node, key.trim(), &key_location)?;
        }
        *node = new;
        Ok(())
    }
}

/// The node at `key` within `node`; adds an empty one where it is missing.
fn descend<'n>(node: &'n mut Node, key: &str, location: &Location) -> Result<&'n mut Node, Problem> {
    let kind = node.kind();
    match &mut node.value {
        TreeValue::Table(members) => {
            let at = members.iter().position(|member| member.key == key).unwrap_or_else(|| {
                let empty = Node::new(location.clone(), TreeValue::Table(Vec::new()));
                members.push(Member { key: key.to_owned(), location: location.clone(), node: empty });
                members.len() - 1
            });
            members.get_mut(at).map(|member| &mut member.node)
        }
        TreeValue::Array(items) => {
            let named = |items: &[Node]| items.iter().position(|item| item.text_of("name") == Some(key));
            let index = named(items).or_else(|| key.parse().ok());
            index.and_then(|index| items.get_mut(index))
        }
        _ => None,
    }
    .ok_or_else(|| {
        let label = format!(
            "`{key}` cannot be looked up in {kind}; elements of arrays have numbers from 0, or the names that they have"
        );
        Problem::new(location, "there is nothing of this name to override", label)
    })
}

/// Builds the tree from the values of the TOML library.
#[derive(Clone, Copy)]
struct Reader<'a> {
    document: usize,
    /// Where in the document the parsed text begins.
    offset: usize,
    text: &'a str,
}

impl Reader<'_> {
    fn location(self, span: Range<usize>) -> Location {
        Location { document: self.document, span: span.start + self.offset..span.end + self.offset }
    }

    fn table(self, table: &DeTable<'_>) -> TreeValue {
        let member = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| Member {
            key: key.get_ref().clone().into_owned(),
            location: self.location(key.span()),
            node: self.node(value),
        };
        let mut members: Vec<_> = table.iter().map(member).collect();
        members.sort_by_key(|member| member.location.span.start);
        TreeValue::Table(members)
    }

    fn node(self, value: &Spanned<DeValue<'_>>) -> Node {
        let location = self.location(value.span());
        let mut verbatim = None;
        let value = match value.get_ref() {
            DeValue::String(text) => {
                let raw = self.text.get(location.span.clone()).unwrap_or_default();
                let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
                let inside = raw.get(quotes..raw.len().saturating_sub(quotes));
                verbatim = (inside == Some(text.as_ref())).then_some(location.span.start + quotes);
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
        Node { location, value, verbatim }
    }
}

fn syntax(document: usize, error: &toml::de::Error) -> Problem {
    let location = Location { document, span: error.span().unwrap_or(0..0) };
    Problem::new(&location, "the job file is not valid TOML", error.message())
}
