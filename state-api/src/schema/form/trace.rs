//! Finds out the form of a type: deserializes it from a source that makes values up, and notes what it asks
//! for.
//!
//! One run sees one variant of each enum and one name of each field, and some types refuse the values that are
//! made up. So the type is deserialized again with other decisions until everything is seen, and then once more
//! for each field, without that field, to see whether it may be missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use self::source::{Failure, Source};
use super::{Field, Form};

mod source;

/// The runs after which a type counts as one that cannot be traced.
const MAX_RUNS: usize = 10_000;

/// A place in a value: the steps that lead there.
type Path = String;

/// What a type asked for at a place.
#[derive(Clone, Debug)]
enum Node {
    Leaf(Form),
    Option,
    Seq,
    Map,
    Tuple(usize),
    Struct {
        fields: &'static [&'static str],
        /// The decisions about variants that led here.
        choices: BTreeMap<Path, usize>,
    },
    Enum {
        variants: &'static [&'static str],
        choices: BTreeMap<Path, usize>,
    },
}

/// What has been seen, and what the next run does.
#[derive(Default)]
struct Trace {
    nodes: BTreeMap<Path, Node>,
    /// The variant that each enum gets.
    choices: BTreeMap<Path, usize>,
    /// The variants with which a run passes every place that is not inside another variant.
    settled: BTreeMap<Path, usize>,
    /// Enums of which every variant is seen.
    complete: BTreeSet<Path>,
    /// Variants that contain their own enum.
    endless: BTreeSet<(Path, usize)>,
    /// Options, sequences and maps that stay empty, because what they hold contains them.
    cut: BTreeSet<Path>,
    /// Other names of fields, and the name that errors use.
    aliases: BTreeMap<(Path, &'static str), &'static str>,
    /// Which of the values that can be made up a place gets.
    attempts: BTreeMap<Path, usize>,
    /// A field that is left out, or that nobody knows, in this run.
    omitted: Option<(Path, &'static str)>,
    /// Whether variants are named by their numbers.
    numbered: bool,
    surplus: Option<Path>,
    /// What this run has passed.
    visited: BTreeSet<Path>,
    last_leaf: Path,
    last_key: Option<(Path, &'static str)>,
}

/// Returns the form of a type; `None` when `Deserialize` does not reveal it.
pub(super) fn form_of<T: DeserializeOwned>() -> Option<Form> {
    Trace::default().form_with(outcome::<T>)
}

/// As [`form_of`], for encodings that have numbers of variants instead of names. A type that does not number all
/// of its names, because some name the same variant, has none.
pub(super) fn form_by_position<T: DeserializeOwned>() -> Option<Form> {
    Trace { numbered: true, ..Trace::default() }.form_with(outcome::<T>)
}

/// Deserializes a type once; all else is compiled once for all types.
fn outcome<T: DeserializeOwned>(trace: &mut Trace) -> Result<(), Failure> {
    T::deserialize(Source::new(trace)).map(drop)
}

/// Runs once; `None` when there were too many runs.
type Run<'r> = dyn FnMut(&mut Trace) -> Option<Result<(), Failure>> + 'r;

/// Returns whether `path` lies inside the place `outer`.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| outer.is_empty() || rest.starts_with(['.', '?', '[', '/']))
}

impl Trace {
    fn form_with(mut self, outcome: fn(&mut Self) -> Result<(), Failure>) -> Option<Form> {
        let mut runs = 0;
        let mut run = |trace: &mut Self| {
            runs += 1;
            trace.visited.clear();
            trace.last_key = None;
            let outcome = outcome(trace);
            (runs < MAX_RUNS).then_some(outcome)
        };
        loop {
            match run(&mut self)? {
                Ok(()) if !self.next_variant() => break,
                Ok(()) => {}
                Err(failure) => self.learn(failure)?,
            }
        }
        self.settled.clone_from(&self.choices);
        self.form("", &mut run)
    }

    /// Takes the next variant of an enum that the last run has passed, the innermost first; returns whether
    /// there is one.
    fn next_variant(&mut self) -> bool {
        let pending = self.visited.iter().filter(|path| {
            matches!(self.nodes.get(*path), Some(Node::Enum { .. })) && !self.complete.contains(*path)
        });
        let Some(path) = pending.max_by_key(|path| path.len()).cloned() else { return false };
        self.pass_variant(path);
        true
    }

    /// Ends with the chosen variant of an enum.
    fn pass_variant(&mut self, path: Path) {
        let Some(Node::Enum { variants, .. }) = self.nodes.get(&path) else { return };
        let next = self.choices.get(&path).map_or(0, |chosen| chosen + 1);
        if next < variants.len() {
            self.choices.insert(path, next);
            return;
        }
        // Runs for other places take a variant that ends.
        let ends = (0..variants.len()).find(|variant| !self.endless.contains(&(path.clone(), *variant)));
        self.choices.insert(path.clone(), ends.unwrap_or(0));
        self.complete.insert(path);
    }

    /// Changes the decisions after a run that failed; `None` when no decision helps.
    fn learn(&mut self, failure: Failure) -> Option<()> {
        match failure {
            Failure::Refused => {
                *self.attempts.entry(self.last_leaf.clone()).or_default() += 1;
                Some(())
            }
            Failure::Duplicate(field) => self.learn_alias(field),
            Failure::Endless(path) => self.learn_end(&path),
            Failure::Missing | Failure::Unknown | Failure::Unsupported => None,
        }
    }

    /// The last name that was given names a field that had a value already.
    fn learn_alias(&mut self, field: &'static str) -> Option<()> {
        let (path, given) = self.last_key.clone()?;
        let alias = if given == field {
            // A name before it was another one of the same field. The names of a field stand together.
            let Some(Node::Struct { fields, .. }) = self.nodes.get(&path) else { return None };
            let before = fields.iter().take_while(|name| **name != given);
            *before.filter(|name| !self.aliases.contains_key(&(path.clone(), **name))).last()?
        } else {
            given
        };
        let known = self.aliases.insert((path, alias), field);
        known.is_none().then_some(())
    }

    /// The type at `path` contains itself: what is between stays empty.
    fn learn_end(&mut self, path: &str) -> Option<()> {
        let above = |known: &&Path| is_within(path, known) && self.visited.contains(*known);
        let may_end = |known: &&Path| {
            matches!(self.nodes.get(*known), Some(Node::Option | Node::Seq | Node::Map | Node::Enum { .. }))
        };
        let nearest =
            self.nodes.keys().filter(above).filter(may_end).max_by_key(|known| known.len())?.clone();
        if !matches!(self.nodes.get(&nearest), Some(Node::Enum { .. })) {
            return self.cut.insert(nearest).then_some(());
        }
        if self.complete.contains(&nearest) {
            return None;
        }
        let chosen = self.choices.get(&nearest).copied().unwrap_or_default();
        self.endless.insert((nearest.clone(), chosen));
        self.choices.insert(nearest.clone(), chosen);
        self.pass_variant(nearest);
        Some(())
    }

    /// Puts the form at a place together.
    fn form(&mut self, path: &str, run: &mut Run<'_>) -> Option<Form> {
        let mut at = |trace: &mut Self, step: &str| trace.form(&format!("{path}{step}"), run).map(Box::new);
        Some(match self.nodes.get(path).cloned() {
            None => Form::Any,
            Some(Node::Leaf(form)) => form,
            Some(Node::Option) => Form::Option(at(self, "?")?),
            Some(Node::Seq) => Form::Seq(at(self, "[]")?),
            Some(Node::Map) => Form::Map(at(self, "[key]")?, at(self, "[]")?),
            Some(Node::Tuple(0)) => Form::Unit,
            Some(Node::Tuple(len)) => {
                let forms = (0..len).map(|index| at(self, &format!(".{index}")).map(|form| *form));
                Form::Tuple(forms.collect::<Option<_>>()?)
            }
            Some(Node::Struct { fields, choices }) => return self.struct_form(path, fields, choices, run),
            Some(Node::Enum { variants, choices }) => {
                let mut forms = Vec::new();
                for name in variants {
                    forms.push(((*name).to_owned(), *at(self, &format!("/{name}"))?));
                }
                self.reach(path, choices);
                self.choices.insert(path.to_owned(), variants.len());
                let open = run(self)?.is_ok();
                Form::Enum { variants: forms, open }
            }
        })
    }

    /// Makes the decisions of a run that passes `path`, which `choices` led to.
    fn reach(&mut self, path: &str, choices: BTreeMap<Path, usize>) {
        self.choices.clone_from(&self.settled);
        self.choices.extend(choices.into_iter().filter(|(outer, _)| is_within(path, outer)));
    }

    fn struct_form(
        &mut self,
        path: &str,
        names: &'static [&'static str],
        choices: BTreeMap<Path, usize>,
        run: &mut Run<'_>,
    ) -> Option<Form> {
        let mut fields = Vec::new();
        for &name in names {
            if self.aliases.contains_key(&(path.to_owned(), name)) {
                continue;
            }
            let of_field = names
                .iter()
                .filter(|alias| self.aliases.get(&(path.to_owned(), **alias)).is_some_and(|of| *of == name));
            let names = std::iter::once(name).chain(of_field.copied()).map(str::to_owned).collect();
            let form = self.form(&format!("{path}.{name}"), run)?;
            self.reach(path, choices.clone());
            self.omitted = Some((path.to_owned(), name));
            let optional = !matches!(run(self)?, Err(Failure::Missing));
            self.omitted = None;
            fields.push(Field { names, optional, form });
        }
        self.reach(path, choices);
        self.surplus = Some(path.to_owned());
        let closed = matches!(run(self)?, Err(Failure::Unknown));
        self.surplus = None;
        Some(Form::Struct { fields, closed })
    }
}
