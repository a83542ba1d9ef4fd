//! The keys of a job file, declared once: parsing takes names, bounds and words from here, and so do the
//! reference in the documentation and the schema for editors.
//!
//! Whoever adds a key adds it to a table in [`tables`] and reads it in the parser of that section. A test
//! compares each default with what the parser takes for a missing key.

mod tables;

pub(crate) use tables::*;

/// A section of a job file.
#[derive(Debug)]
pub(crate) struct Table {
    /// As messages name it: "a CSV source".
    pub(crate) what: &'static str,
    /// What it is for, in a sentence or two.
    pub(crate) about: &'static str,
    /// Its keys; sections share some of the groups.
    pub(crate) keys: &'static [&'static [Key]],
}

/// A key of a section.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) absent: Absent,
    /// What it sets.
    pub(crate) about: &'static str,
}

/// What holds where a key is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Absent {
    /// It is a mistake.
    Mistake,
    /// This value, as TOML.
    Value(&'static str),
    /// Something that no value of the key expresses.
    Means(&'static str),
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// An integer with its bounds.
    Integer(u64, u64),
    /// A number with its bounds.
    Number(f64, f64),
    /// A time as text, for example "250ms".
    Duration,
    /// The length of windows: a time, or a number of rows ("100 rows").
    Length,
    /// Two times, each perhaps before the other: `["-5m", "1h"]`.
    Interval,
    /// A time as text, or one of these words.
    DurationOr(&'static [&'static str]),
    /// Bytes of at least this many, as an integer or as text with a unit.
    Size(u64),
    /// One of these words.
    Word(&'static [Word]),
    /// Text, which is this.
    Text(&'static str),
    /// Text or an array of texts, each of which is this.
    Texts(&'static str),
    /// A column of a source: text, or a table; or an array of them.
    Columns(&'static Section),
    /// Where a value stands within another: text, or an array of names and indexes.
    JsonPath,
    /// A table.
    Section(&'static Section),
    /// An array of tables.
    Sections(&'static Section),
    /// A table, or an array of tables with names.
    OneOrMore(&'static Section),
}

/// A word that a key takes.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) name: &'static str,
    /// What it means.
    pub(crate) about: &'static str,
}

/// A table of a job file, in one or in several variants.
#[derive(Debug)]
pub(crate) enum Section {
    /// One set of keys.
    One(Table),
    /// The value of the key `by` chooses the set.
    ByWord {
        /// As messages name it: "a source".
        what: &'static str,
        by: &'static str,
        /// As messages name the words: "source type".
        words: &'static str,
        /// The word where the key is missing.
        absent: Absent,
        variants: &'static [(&'static str, Table)],
    },
    /// The key that is there chooses the set.
    ByKey { what: &'static str, words: &'static str, variants: &'static [(&'static str, Table)] },
}

impl Table {
    /// All keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.keys.iter().flat_map(|group| group.iter())
    }

    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

impl Section {
    /// The keys of a section that has one set of them.
    pub(crate) fn only(&self) -> Option<&Table> {
        match self {
            Self::One(table) => Some(table),
            Self::ByWord { .. } | Self::ByKey { .. } => None,
        }
    }

    /// Its variants, each with the word or key that chooses it.
    #[cfg(test)]
    pub(crate) fn variants(&self) -> Vec<(Option<&'static str>, &Table)> {
        match self {
            Self::One(table) => vec![(None, table)],
            Self::ByWord { variants, .. } | Self::ByKey { variants, .. } => {
                variants.iter().map(|(word, table)| (Some(*word), table)).collect()
            }
        }
    }
}
