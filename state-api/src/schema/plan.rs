//! The restore plan: what a restore does with every operator and state of a checkpoint, before anything is
//! read.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Compatibility, StateMeta, StateSchema};
use crate::{Error, ErrorKind, OperatorId, Result};

/// The states of one operator as a program declares them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorSchema {
    /// The id of the operator.
    pub id: OperatorId,
    /// The former ids of the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renamed_from: Vec<OperatorId>,
    /// The keyed states of the operator.
    #[serde(default)]
    pub states: Vec<StateSchema>,
}

/// All operators of a program that have state. This is plain data: a build can write it to a file and compare
/// it with a checkpoint before the program is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSchema {
    /// The operators.
    pub operators: Vec<OperatorSchema>,
}

/// One operator of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOperator {
    /// The id of the operator.
    pub id: OperatorId,
    /// The keyed states of the operator, as far as the checkpoint lists them, each in every form that its
    /// values are stored in: unchanged values keep the form of an older program.
    pub states: Vec<StateMeta>,
    /// Whether a job without this operator loses state.
    pub has_state: bool,
}

/// What a restore does with an operator or a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The restore takes the stored form as it is.
    Mapped,
    /// The restore turns the stored values into values of the current form.
    Migrated {
        /// The stored schema version.
        from: u32,
        /// The schema version of the program.
        to: u32,
    },
    /// The checkpoint has no such operator or state, which starts empty.
    New,
    /// The program has no such operator or state, and `allowed` names it. The restore drops an operator, and
    /// keeps a state as it is.
    OrphanAllowed,
    /// The program has no such operator or state, so the start is refused.
    Orphan,
    /// The restore is impossible for this reason, so the start is refused.
    Refused(Refusal),
}

/// Why a restore is impossible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is stored and what is wanted.
    pub difference: String,
    /// What the author of the program can do about it; empty where that follows.
    pub advice: String,
}

impl Refusal {
    pub(crate) fn new(difference: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { difference: difference.into(), advice: advice.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.advice.as_str() {
            "" => f.write_str(&self.difference),
            advice => write!(f, "{}; {advice}", self.difference),
        }
    }
}

/// A line of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The operator, by its id in the program.
    pub operator: OperatorId,
    /// One of the operator's states; `None` for the operator itself.
    pub state: Option<String>,
    /// The name in the checkpoint, if it differs.
    pub stored_as: Option<String>,
    /// What the restore does with the operator or state.
    pub fate: Fate,
}

/// What a restore does with every operator and state of a checkpoint or a program (Flink:
/// `StateAssignmentOperation`, KG-08 and KG-09).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestorePlan {
    /// The lines by operator, each operator followed by its states.
    pub lines: Vec<Planned>,
}

impl JobSchema {
    /// Declares that operator `new` was called `old` before.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the program has no operator `new`.
    pub fn rename(&mut self, old: &OperatorId, new: &OperatorId) -> Result<()> {
        let operator = self.operators.iter_mut().find(|operator| operator.id == *new).ok_or_else(|| {
            Error::invalid("an operator is declared to be renamed, and the job has none of the new id")
                .with("old id", old)
                .with("new id", new)
        })?;
        operator.renamed_from.push(old.clone());
        Ok(())
    }

    /// Compares the program with a checkpoint. `allowed` names orphans that are intended: operators by their
    /// id, states as `operator/state`.
    pub fn plan(&self, stored: &[StoredOperator], allowed: &BTreeSet<String>) -> RestorePlan {
        let mut lines = Vec::new();
        let is_source = |schema: &OperatorSchema, stored: &StoredOperator| {
            schema.id == stored.id || schema.renamed_from.contains(&stored.id)
        };
        for schema in &self.operators {
            let sources: Vec<_> = stored.iter().filter(|stored| is_source(schema, stored)).collect();
            let mut line = |state, stored_as, fate| {
                lines.push(Planned { operator: schema.id.clone(), state, stored_as, fate });
            };
            let [source] = sources[..] else {
                let fate = match sources.len() {
                    0 => Fate::New,
                    _ => Fate::Refused(Refusal::new("the checkpoint has it under several of its names", "")),
                };
                line(None, None, fate);
                continue;
            };
            let old_id = (source.id != schema.id).then(|| source.id.to_string());
            line(None, old_id, Fate::Mapped);
            for (state, stored_as, fate) in schema.states_of(source, allowed) {
                line(Some(state), stored_as, fate);
            }
        }
        for stored in stored.iter().filter(|stored| stored.has_state) {
            if self.operators.iter().any(|schema| is_source(schema, stored)) {
                continue;
            }
            let fate = if allowed.contains(stored.id.as_str()) { Fate::OrphanAllowed } else { Fate::Orphan };
            lines.push(Planned { operator: stored.id.clone(), state: None, stored_as: None, fate });
        }
        RestorePlan { lines }
    }
}

impl OperatorSchema {
    fn states_of(
        &self,
        source: &StoredOperator,
        allowed: &BTreeSet<String>,
    ) -> Vec<(String, Option<String>, Fate)> {
        let mut fates = Vec::new();
        for schema in &self.states {
            let name = schema.meta.name.clone();
            let found: Vec<_> = source.states.iter().filter(|meta| schema.is_called(&meta.name)).collect();
            let (stored_as, fate) = match found[..] {
                [] => (None, Fate::New),
                [meta, ref others @ ..] if others.iter().all(|other| other.name == meta.name) => {
                    ((meta.name != name).then(|| meta.name.clone()), fate(schema, &found))
                }
                _ => (
                    None,
                    Fate::Refused(Refusal::new("the checkpoint has it under several of its names", "")),
                ),
            };
            fates.push((name, stored_as, fate));
        }
        for (index, meta) in source.states.iter().enumerate() {
            let is_known = source.states[..index].iter().any(|known| known.name == meta.name);
            if !is_known && !self.states.iter().any(|schema| schema.is_called(&meta.name)) {
                let is_allowed = allowed.contains(&format!("{}/{}", self.id, meta.name));
                let fate = if is_allowed { Fate::OrphanAllowed } else { Fate::Orphan };
                fates.push((meta.name.clone(), None, fate));
            }
        }
        fates
    }
}

/// Returns what a restore does with a state that is stored in these forms.
fn fate(schema: &StateSchema, forms: &[&StateMeta]) -> Fate {
    let (to, mut oldest) = (schema.meta.schema_version, None);
    for form in forms {
        match schema.checked(form) {
            Ok(Compatibility::AsIs) => {}
            Ok(Compatibility::Migrated) => {
                let version = form.schema_version;
                oldest = Some(oldest.map_or(version, |older: u32| older.min(version)));
            }
            Err(refusal) => return Fate::Refused(refusal),
        }
    }
    oldest.map_or(Fate::Mapped, |from| Fate::Migrated { from, to })
}

impl RestorePlan {
    /// Checks whether the job may start.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) for the first line that refuses the start; the message
    /// advises what to do.
    pub fn check(&self) -> Result<()> {
        let refusing = |line: &&Planned| matches!(line.fate, Fate::Orphan | Fate::Refused(_));
        let Some(line) = self.lines.iter().find(refusing) else { return Ok(()) };
        let message = match (&line.fate, &line.state) {
            (Fate::Refused(why), _) => why.to_string(),
            (_, None) => format!(
                "the checkpoint has state of an operator that the job does not have; give the operator its \
                 old id back, declare that it was renamed, or allow the orphan \"{}\", which drops its state",
                line.operator
            ),
            (_, Some(state)) => format!(
                "the checkpoint has a state that the operator does not register; register it, declare that \
                 it was renamed, or allow the orphan \"{}/{state}\", which keeps it unused",
                line.operator
            ),
        };
        let error = Error::new(ErrorKind::Incompatible, message).with("operator", &line.operator);
        Err(match &line.state {
            Some(state) => error.with("state", state),
            None => error,
        })
    }

    /// Returns whether the restore takes everything as it is, and nothing is new.
    pub fn is_plain(&self) -> bool {
        self.lines.iter().all(|line| line.fate == Fate::Mapped && line.stored_as.is_none())
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapped => f.write_str("as it is"),
            Self::Migrated { from, to } if from == to => f.write_str("migrated"),
            Self::Migrated { from, to } => write!(f, "migrated from version {from} to {to}"),
            Self::New => f.write_str("new, starts empty"),
            Self::OrphanAllowed => f.write_str("orphan, allowed"),
            Self::Orphan => f.write_str("ORPHAN: the job does not have it"),
            Self::Refused(why) => write!(f, "REFUSED: {why}"),
        }
    }
}

impl fmt::Display for RestorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |line: &Planned| match &line.state {
            Some(state) => format!("  {state}"),
            None => line.operator.to_string(),
        };
        let width = self.lines.iter().map(|line| name(line).chars().count()).max().unwrap_or(0);
        for (index, line) in self.lines.iter().enumerate() {
            let end = if index + 1 == self.lines.len() { "" } else { "\n" };
            let stored_as = line.stored_as.as_ref().map(|name| format!(" (stored as {name})"));
            write!(f, "{:<width$}  {}{}{end}", name(line), line.fate, stored_as.unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ReadableForm, StateKind};

    fn id(id: &str) -> OperatorId {
        OperatorId::new(id).unwrap()
    }

    fn meta(name: &str, version: u32) -> StateMeta {
        StateMeta { schema_version: version, ..StateMeta::new(name, StateKind::Value) }
    }

    fn stored(name: &str, states: Vec<StateMeta>) -> StoredOperator {
        StoredOperator { id: id(name), states, has_state: true }
    }

    fn schema(name: &str, states: Vec<StateSchema>) -> OperatorSchema {
        OperatorSchema { id: id(name), renamed_from: Vec::new(), states }
    }

    fn plan(schema: OperatorSchema, stored: &[StoredOperator], allowed: &[&str]) -> RestorePlan {
        let allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
        JobSchema { operators: vec![schema] }.plan(stored, &allowed)
    }

    #[test]
    fn the_plan_of_an_unchanged_program_is_plain() {
        let schema = schema("count", vec![StateSchema::plain(meta("n", 1))]);
        let plan = plan(schema, &[stored("count", vec![meta("n", 1)])], &[]);
        assert!(plan.is_plain());
        plan.check().unwrap();
        assert_eq!(plan.to_string(), "count  as it is\n  n    as it is");
    }

    #[test]
    fn every_stored_form_of_a_state_is_planned() {
        let reads = vec![ReadableForm { version: 1, codec: "bytes".into(), self_describing: false }];
        let evolved =
            |version| StateSchema { reads: reads.clone(), ..StateSchema::plain(meta("n", version)) };
        let stored = [stored("count", vec![meta("n", 2), meta("n", 1), meta("old", 2), meta("old", 1)])];
        let plan = |schema: StateSchema| plan(self::schema("count", vec![schema]), &stored, &["count/old"]);
        assert_eq!(
            plan(evolved(2)).to_string(),
            "count  as it is\n  n    migrated from version 1 to 2\n  old  orphan, allowed"
        );
        // A program that has given up the first version cannot read the values that still have it.
        let refused = plan(StateSchema::plain(meta("n", 2))).check().unwrap_err();
        assert!(refused.message().contains("stored in schema version 1"), "{refused}");
        // A program that knows no second version cannot read those that have it.
        let refused = plan(StateSchema::plain(meta("n", 1))).check().unwrap_err();
        assert!(refused.message().contains("newer program"), "{refused}");
    }

    #[test]
    fn orphans_refuse_the_start_unless_they_are_allowed_by_name() {
        let operators = [stored("count", vec![meta("n", 1), meta("old", 1)]), stored("gone", vec![])];
        let schema =
            || schema("count", vec![StateSchema::plain(meta("n", 1)), StateSchema::plain(meta("m", 1))]);
        let refused = plan(schema(), &operators, &["gone"]).check().unwrap_err().to_string();
        assert!(refused.contains("old") && refused.contains("count/old"), "{refused}");
        let refused = plan(schema(), &operators, &["count/old"]).check().unwrap_err().to_string();
        assert!(refused.contains("\"gone\""), "{refused}");
        let plan = plan(schema(), &operators, &["gone", "count/old"]);
        plan.check().unwrap();
        assert!(!plan.is_plain());
        assert!(plan.to_string().contains("  m    new, starts empty"), "{plan}");
    }

    #[test]
    fn renames_are_declared() {
        let mut renamed = schema(
            "counts",
            vec![StateSchema { renamed_from: vec!["n".into()], ..StateSchema::plain(meta("total", 1)) }],
        );
        let operators = [stored("count", vec![meta("n", 1)])];
        assert!(plan(renamed.clone(), &operators, &[]).check().is_err(), "the operator is an orphan");
        renamed.renamed_from.push(id("count"));
        let plan = plan(renamed, &operators, &[]);
        plan.check().unwrap();
        assert!(plan.to_string().contains("(stored as count)") && plan.to_string().contains("(stored as n)"));
    }

    #[test]
    fn an_operator_without_state_is_no_orphan() {
        let nothing = StoredOperator { has_state: false, ..stored("map", vec![]) };
        plan(schema("count", vec![]), &[nothing], &[]).check().unwrap();
    }
}
