//! Typed access to the tables of a job file.

use std::time::Duration;

use super::problem::{Location, Problem};
use super::tree::{Member, Node, TreeValue};

/// A table whose keys are known.
#[derive(Debug)]
pub(super) struct Section<'a> {
    node: &'a Node,
    members: &'a [Member],
    what: &'static str,
}

impl<'a> Section<'a> {
    /// Opens `node` as a table that has no other keys than `keys`.
    pub(super) fn new(node: &'a Node, what: &'static str, keys: &[&str]) -> Result<Self, Problem> {
        let section = Self::open(node, what)?;
        match section.members.iter().find(|member| !keys.contains(&member.key.as_str())) {
            Some(member) => Err(Problem::unknown(&member.location, "key", &member.key, keys).of(what)),
            None => Ok(section),
        }
    }

    /// Opens `node` as a table whose keys depend on one of them.
    pub(super) fn open(node: &'a Node, what: &'static str) -> Result<Self, Problem> {
        match &node.value {
            TreeValue::Table(members) => Ok(Self { node, members, what }),
            _ => Err(node.unexpected(&format!("a table that describes {what}"))),
        }
    }

    pub(super) fn location(&self) -> &'a Location {
        &self.node.location
    }

    pub(super) fn members(&self) -> &'a [Member] {
        self.members
    }

    pub(super) fn optional(&self, key: &str) -> Option<&'a Node> {
        self.members.iter().find(|member| member.key == key).map(|member| &member.node)
    }

    pub(super) fn required(&self, key: &str) -> Result<&'a Node, Problem> {
        self.optional(key).ok_or_else(|| {
            let label = format!("expected a key `{key}` here");
            Problem::new(&self.node.location, format!("{} has no `{key}`", self.what), label)
        })
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Problem> {
        self.optional(key).map(text).transpose()
    }

    /// What one of these words stands for; `what` names all of them.
    pub(super) fn word<T: Copy>(
        &self,
        key: &str,
        what: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Problem> {
        let Some(node) = self.optional(key) else { return Ok(None) };
        let text = text(node)?;
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        found.map(Some).ok_or_else(|| Problem::unknown(&node.location, what, text, &known))
    }

    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>, Problem> {
        let read = |node: &Node| match node.value {
            TreeValue::Bool(value) => Ok(value),
            _ => Err(node.unexpected("`true` or `false`")),
        };
        self.optional(key).map(read).transpose()
    }

    /// An integer of at least `least`.
    pub(super) fn integer(&self, key: &str, least: i64) -> Result<Option<u64>, Problem> {
        let read = |node: &Node| match node.value {
            TreeValue::Integer(value) if value >= least.max(0) => Ok(value as u64),
            TreeValue::Integer(_) => {
                let message = format!("`{key}` is at least {least}");
                Err(Problem::new(&node.location, message, "this is less"))
            }
            _ => Err(node.unexpected("an integer")),
        };
        self.optional(key).map(read).transpose()
    }

    /// As [`integer`](Self::integer), for what fits into 32 bits.
    pub(super) fn small_integer(&self, key: &str, least: u32) -> Result<Option<u32>, Problem> {
        let Some(value) = self.integer(key, i64::from(least))? else { return Ok(None) };
        let too_large = |_| {
            let location = self.optional(key).map_or(&self.node.location, |node| &node.location);
            Problem::new(location, format!("`{key}` is at most {}", u32::MAX), "this is more")
        };
        u32::try_from(value).map(Some).map_err(too_large)
    }

    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>, Problem> {
        self.optional(key).map(duration).transpose()
    }

    /// A number of at least `least`.
    pub(super) fn number(&self, key: &str, least: f64) -> Result<Option<f64>, Problem> {
        let Some(node) = self.optional(key) else { return Ok(None) };
        let number = match node.value {
            TreeValue::Float(number) => number,
            TreeValue::Integer(number) => number as f64,
            _ => f64::NAN,
        };
        let fits = number.is_finite() && number >= least;
        fits.then_some(Some(number)).ok_or_else(|| node.unexpected(&format!("a number of at least {least}")))
    }

    /// A share from 0 to `most`.
    pub(super) fn share(&self, key: &str, most: f64) -> Result<Option<f64>, Problem> {
        let Some(node) = self.optional(key) else { return Ok(None) };
        let share = match node.value {
            TreeValue::Float(share) => share,
            TreeValue::Integer(share) => share as f64,
            _ => f64::NAN,
        };
        let fits = (0.0..=most).contains(&share);
        fits.then_some(Some(share)).ok_or_else(|| node.unexpected(&format!("a number from 0 to {most}")))
    }

    /// A size in bytes: an integer, or text like "16 MiB".
    pub(super) fn size(&self, key: &str) -> Result<Option<u64>, Problem> {
        let Some(node) = self.optional(key) else { return Ok(None) };
        let size = match &node.value {
            TreeValue::Integer(bytes) => u64::try_from(*bytes).ok(),
            TreeValue::Text(text) => bytes(text),
            _ => None,
        };
        let expected = "a size of at least 1 byte, for example \"16 MiB\"";
        size.filter(|&size| size > 0).map(Some).ok_or_else(|| node.unexpected(expected))
    }
}

/// The text of a node.
pub(super) fn text(node: &Node) -> Result<&str, Problem> {
    match &node.value {
        TreeValue::Text(text) => Ok(text),
        _ => Err(node.unexpected("a string")),
    }
}

/// The duration in a node, for example "250ms".
pub(super) fn duration(node: &Node) -> Result<Duration, Problem> {
    let example = "expected a duration, for example \"250ms\", \"10s\" or \"1h 30m\"";
    let TreeValue::Text(text) = &node.value else {
        return Err(Problem::new(&node.location, example, format!("this is {}", node.kind())));
    };
    if let Some(at) = bare_capital_m(text) {
        let label = "`M` is a month to some and a minute to others: write `m` for minutes, or `months`";
        return Err(Problem::new(&node.part(at..at + 1), "the unit of this duration is ambiguous", label));
    }
    humantime::parse_duration(text).map_err(|e| Problem::new(&node.location, example, e.to_string()))
}

/// Where a unit is `M` alone.
fn bare_capital_m(text: &str) -> Option<usize> {
    let is_unit = |at: &usize| {
        let letter = |text: Option<&str>, last: bool| {
            let mut chars = text.unwrap_or("").chars();
            if last { chars.next_back() } else { chars.next() }.is_some_and(char::is_alphabetic)
        };
        !letter(text.get(..*at), true) && !letter(text.get(*at + 1..), false)
    };
    text.match_indices('M').map(|(at, _)| at).find(is_unit)
}

/// The text of a node, or of each element of an array.
pub(super) fn texts(node: &Node) -> Result<Vec<(&str, &Node)>, Problem> {
    match &node.value {
        TreeValue::Text(text) => Ok(vec![(text, node)]),
        TreeValue::Array(items) => items.iter().map(|item| Ok((text(item)?, item))).collect(),
        _ => Err(node.unexpected("a string or an array of strings")),
    }
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}
