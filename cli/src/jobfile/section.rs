//! Typed access to the tables of a job file.
//!
//! A mistake is noted and the reading goes on, so that one run finds all of them: an accessor returns `None`
//! for a key that is missing, and for one whose value is wrong and was noted.

use std::time::Duration;

use super::keys::{self, Absent, Kind, Table, Word};
use super::problem::{self, Location, Problem, Problems};
use super::tree::{Member, Node, TreeValue};

/// A table whose keys are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    node: &'a Node,
    members: &'a [Member],
    table: &'static Table,
    pub(super) problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// Opens `node` as a section with one set of keys, and notes those that do not belong there.
    pub(super) fn new(node: &'a Node, table: &'static Table, problems: &'a Problems) -> Option<Self> {
        Self::with(node, table, None, problems)
    }

    /// Opens `node` as the variant that its key `by` names, or as `default` where it names none: the word and
    /// the section.
    pub(super) fn choose(
        node: &'a Node,
        section: &'static keys::Section,
        default: Option<&'static str>,
        problems: &'a Problems,
    ) -> Option<(&'static str, Self)> {
        let keys::Section::ByWord { what, by, words, variants, .. } = section else { return None };
        let members = problems.ok(members(node, what))?;
        let chosen = match (members.iter().find(|member| member.key == *by), default) {
            (Some(member), _) => {
                let word = problems.ok(text(&member.node))?;
                let found = variants.iter().find(|(known, _)| *known == word);
                found.ok_or_else(|| {
                    let known: Vec<_> = variants.iter().map(|(known, _)| *known).collect();
                    Problem::unknown(&member.node.location, words, word, &known)
                })
            }
            (None, Some(default)) => {
                variants.iter().find(|(known, _)| *known == default).ok_or_else(Problem::follows)
            }
            (None, None) => Err(Problem::missing(&node.location, what, by)),
        };
        let (word, table) = problems.ok(chosen)?;
        Some((word, Self::with(node, table, Some(by), problems)?))
    }

    /// Opens `node` as the variant whose key it has: that key, its value and the section.
    pub(super) fn choose_by_key(
        node: &'a Node,
        section: &'static keys::Section,
        problems: &'a Problems,
    ) -> Option<(&'static str, &'a Node, Self)> {
        let keys::Section::ByKey { what, words, variants } = section else { return None };
        let members = problems.ok(members(node, what))?;
        let known: Vec<_> = variants.iter().map(|(key, _)| *key).collect();
        let chosen = members.iter().find_map(|member| {
            let (key, table) = variants.iter().find(|(key, _)| *key == member.key)?;
            Some((*key, &member.node, table))
        });
        let chosen = chosen.ok_or_else(|| match members.iter().find(|member| !is_common(&member.key)) {
            Some(member) => Problem::unknown(&member.location, words, &member.key, &known),
            None => {
                let label = format!("expected {}", problem::one_of(&known));
                Problem::new(&node.location, format!("this {words} does nothing"), label)
            }
        });
        let (key, value, table) = problems.ok(chosen)?;
        Some((key, value, Self::with(node, table, None, problems)?))
    }

    fn with(
        node: &'a Node,
        table: &'static Table,
        by: Option<&'static str>,
        problems: &'a Problems,
    ) -> Option<Self> {
        let members = problems.ok(members(node, table.what))?;
        let known: Vec<_> = by.into_iter().chain(table.keys().map(|key| key.name)).collect();
        let mut meant = Vec::new();
        for member in members.iter().filter(|member| !known.contains(&member.key.as_str())) {
            meant.extend(problem::nearest(&member.key, &known));
            let problem = Problem::unknown(&member.location, "key", &member.key, &known);
            problems.add(problem.of(table.what).structural());
        }
        for key in table.keys().filter(|key| matches!(key.absent, Absent::Mistake)) {
            if !members.iter().any(|member| member.key == key.name) && !meant.contains(&key.name) {
                problems.add(Problem::missing(&node.location, table.what, key.name));
            }
        }
        Some(Self { node, members, table, problems })
    }

    pub(super) fn location(&self) -> &'a Location {
        &self.node.location
    }

    /// The value of a key. One that must not be missing was noted when the section was opened.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.table.key(key).is_some(), "`{key}` is not declared for {}", self.table.what);
        self.members.iter().find(|member| member.key == key).map(|member| &member.node)
    }

    /// The location of the value of a key; of the section where it is missing.
    pub(super) fn location_of(&self, key: &str) -> &'a Location {
        self.get(key).map_or(self.location(), |node| &node.location)
    }

    /// Whether the key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// As [`has`](Self::has), for a key that not all tables of its kind declare.
    pub(super) fn declares_and_has(&self, key: &str) -> bool {
        self.table.key(key).is_some() && self.has(key)
    }

    fn read<T>(&self, key: &str, read: impl FnOnce(&'a Node) -> Result<T, Problem>) -> Option<T> {
        self.problems.ok(read(self.get(key)?))
    }

    fn kind(&self, key: &str) -> Option<Kind> {
        self.table.key(key).map(|key| key.kind)
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.read(key, text)
    }

    /// The texts of a key that takes one or several.
    pub(super) fn texts(&self, key: &str) -> Vec<(&'a str, &'a Node)> {
        self.get(key).map(|node| texts(node, self.problems)).unwrap_or_default()
    }

    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        self.read(key, |node| match node.value {
            TreeValue::Bool(value) => Ok(value),
            _ => Err(node.unexpected("`true` or `false`")),
        })
    }

    /// An integer within the bounds of its key.
    pub(super) fn integer(&self, key: &str) -> Option<u64> {
        let Some(Kind::Integer(least, most)) = self.kind(key) else { return None };
        self.read(key, |node| {
            let wrong = |rule: String, label: &str| Err(Problem::new(&node.location, rule, label));
            match node.value {
                TreeValue::Integer(value) => match u64::try_from(value) {
                    Ok(value) if (least..=most).contains(&value) => Ok(value),
                    Ok(value) if value > most => wrong(format!("`{key}` is at most {most}"), "this is more"),
                    _ => wrong(format!("`{key}` is at least {least}"), "this is less"),
                },
                _ => Err(node.unexpected("an integer")),
            }
        })
    }

    /// As [`integer`](Self::integer), where the bounds are within 32 bits.
    pub(super) fn small_integer(&self, key: &str) -> Option<u32> {
        self.integer(key).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
    }

    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        self.read(key, duration)
    }

    /// A number within the bounds of its key.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        let Some(Kind::Number(least, most)) = self.kind(key) else { return None };
        self.read(key, |node| {
            let number = match node.value {
                TreeValue::Float(number) => number,
                TreeValue::Integer(number) => number as f64,
                _ => f64::NAN,
            };
            let expected = match most {
                f64::MAX => format!("a number of at least {least}"),
                most => format!("a number from {least} to {most}"),
            };
            let fits = (least..=most).contains(&number);
            fits.then_some(number).ok_or_else(|| node.unexpected(&expected))
        })
    }

    /// A size in bytes: an integer, or text like "16 MiB".
    pub(super) fn size(&self, key: &str) -> Option<u64> {
        let Some(Kind::Size(least)) = self.kind(key) else { return None };
        self.read(key, |node| {
            let size = match &node.value {
                TreeValue::Integer(bytes) => u64::try_from(*bytes).ok(),
                TreeValue::Text(text) => bytes(text),
                _ => None,
            };
            let expected = format!("a size of at least {}, for example \"16 MiB\"", size_text(least));
            size.filter(|&size| size >= least).ok_or_else(|| node.unexpected(&expected))
        })
    }

    /// One of the words of its key.
    pub(super) fn word(&self, key: &str) -> Option<&'static str> {
        let Some(Kind::Word(words)) = self.kind(key) else { return None };
        self.read(key, |node| word(node, key, words))
    }
}

/// Whether steps of all kinds have the key.
fn is_common(key: &str) -> bool {
    ["from", "name", "id"].contains(&key)
}

fn members<'a>(node: &'a Node, what: &str) -> Result<&'a [Member], Problem> {
    match &node.value {
        TreeValue::Table(members) => Ok(members),
        _ => Err(node.unexpected(&format!("a table that describes {what}"))),
    }
}

fn word(node: &Node, key: &str, words: &'static [Word]) -> Result<&'static str, Problem> {
    let text = text(node)?;
    let found = words.iter().find(|word| word.name == text);
    found.map(|word| word.name).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|word| word.name).collect();
        Problem::unknown(&node.location, &format!("value of `{key}`:"), text, &known)
    })
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

/// A duration in whole milliseconds, of which there is at least one; `what` is what lasts so long.
pub(super) fn millis(node: &Node, what: &str) -> Result<i64, Problem> {
    let duration = duration(node)?;
    let wrong = |message: String, label: &str| Err(Problem::new(&node.location, message, label));
    match i64::try_from(duration.as_millis()) {
        Ok(0) => wrong(format!("{what} is at least 1 ms long"), "this is less"),
        Err(_) => wrong(format!("{what} is not longer than time"), "expected a shorter one"),
        Ok(ms) if Duration::from_millis(ms.unsigned_abs()) != duration => {
            wrong(format!("{what} is a whole number of milliseconds long"), "this is not")
        }
        Ok(ms) => Ok(ms),
    }
}

/// A time in milliseconds that may lie before another: "-5m".
pub(super) fn signed_millis(node: &Node) -> Result<i64, Problem> {
    let text = text(node)?.trim_start();
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let of = Node::new(node.location.clone(), TreeValue::Text(rest.to_owned()));
    let millis = i64::try_from(duration(&of)?.as_millis()).unwrap_or(i64::MAX);
    Ok(if negative { -millis } else { millis })
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
pub(super) fn texts<'a>(node: &'a Node, problems: &Problems) -> Vec<(&'a str, &'a Node)> {
    match &node.value {
        TreeValue::Text(text) => vec![(text, node)],
        TreeValue::Array(items) => {
            items.iter().filter_map(|item| Some((problems.ok(text(item))?, item))).collect()
        }
        _ => {
            problems.add(node.unexpected("a string or an array of strings"));
            Vec::new()
        }
    }
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, shift) = UNITS.into_iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The units of sizes, with the powers of two that they stand for.
pub(crate) const UNITS: [(&str, u32); 5] = [("", 0), ("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30)];

/// A size in the largest unit in which it is whole.
pub(crate) fn size_text(bytes: u64) -> String {
    match UNITS.into_iter().rev().find(|(_, shift)| bytes.trailing_zeros() >= *shift && bytes >> shift > 0) {
        _ if bytes == 1 => "1 byte".into(),
        Some((unit, shift)) if shift > 0 => format!("{} {unit}", bytes >> shift),
        _ => format!("{bytes} bytes"),
    }
}
