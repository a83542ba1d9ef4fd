//! `CREATE TABLE … WITH ('connector' = …)`: state under names and types of the author's choice.

mod declared;
mod options;

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::sql::sqlparser::ast::CreateTable;
use futures::{FutureExt, StreamExt, pin_mut};
use strandline_checkpoint_storage::Storage;
use strandline_state_api::schema::DataType;
use strandline_state_api::{Error, ErrorKind, Result};
use strandline_state_reader::{
    At, CheckpointReader, OperatorElement, OperatorStateInfo, Parts, StatePart, StoredState, Typed, Value,
};

use self::declared::{Declared, may_hold};
use self::options::Options;
use crate::StateCatalog;
use crate::convert::convert;
use crate::keyed::KeyedTable;
use crate::layout::{Column, Origin, of_elements, of_state};
use crate::listed::{ListedTable, Rows};
use crate::metadata::{Viewed, retained};

/// At most so many namespaces are in an error.
const SHOWN: usize = 8;

/// Makes the table that a statement describes.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) when the statement does not say which state is meant, with the candidates, or does
/// not fit it; those of opening another storage or checkpoint.
pub(crate) async fn create(
    statement: &CreateTable,
    catalog: &StateCatalog,
) -> Result<Arc<dyn TableProvider>> {
    let mut options = Options::of(statement)?;
    let declared = Declared::of(statement)?;
    let connector = options.required("connector")?;
    // The connector of checkpoints has all of them, and a column of that name.
    let at = if connector == "checkpoint-source" { None } else { options.take("checkpoint") };
    let viewed = opened(options.take("path"), at, catalog).await?;
    match connector.as_str() {
        "keyed-state-source" => keyed(options, declared, viewed.checkpoint).await,
        "operator-state-source" => operator_state(options, declared, &viewed.checkpoint),
        "checkpoint-source" => checkpoints(options, declared, viewed),
        other => Err(Error::invalid(format!(
            "there is no connector {other:?}: there are keyed-state-source, operator-state-source and checkpoint-source"
        ))),
    }
}

/// Opens what `path` and `checkpoint` name.
async fn opened(path: Option<String>, at: Option<String>, catalog: &StateCatalog) -> Result<Viewed> {
    let storage = match &path {
        Some(path) => Some(storage(path)?),
        None => catalog.storage().cloned(),
    };
    let at = at.map(|at| at.parse::<At>()).transpose()?;
    let checkpoint = match (&storage, &path, at) {
        (_, None, None) => catalog.checkpoint().clone(),
        (Some(storage), _, at) => {
            let decoders = catalog.checkpoint().decoders().clone();
            CheckpointReader::open_with(storage, at.unwrap_or_default(), decoders).await?
        }
        (None, ..) => {
            return Err(Error::invalid("one snapshot is looked at, which is in no log: there is no other"));
        }
    };
    Ok(Viewed { checkpoint, storage })
}

fn storage(path: &str) -> Result<Storage> {
    if path.contains("://") {
        return Storage::open(path);
    }
    if !Path::new(path).is_dir() {
        return Err(
            Error::new(ErrorKind::NotFound, "the directory of the storage does not exist").with("path", path)
        );
    }
    let absolute = std::path::absolute(path);
    Storage::in_dir(
        absolute.map_err(|e| Error::invalid("the path of the storage cannot be used").caused_by(e))?,
    )
}

/// Something that several states may be, when a statement does not say which.
struct Candidate {
    operator: String,
    state: String,
    /// What it is, in words.
    what: String,
    /// Whether the declared types may hold its parts.
    fits: bool,
}

/// Chooses the one that the options name, or that alone fits; returns its place.
fn choose(candidates: &[Candidate], options: &mut Options, what: &str) -> Result<usize> {
    let (operator, state) = (options.take("operator"), options.take("state"));
    let is_named = |candidate: &Candidate| {
        operator.as_ref().is_none_or(|operator| *operator == candidate.operator)
            && state.as_ref().is_none_or(|state| *state == candidate.state)
    };
    let named: Vec<usize> = (0..candidates.len()).filter(|index| is_named(&candidates[*index])).collect();
    let fitting: Vec<usize> = named.iter().copied().filter(|index| candidates[*index].fits).collect();
    let listed = |places: &[usize]| {
        let each = places.iter().filter_map(|place| candidates.get(*place));
        each.map(|of| format!("{}/{}: {}", of.operator, of.state, of.what)).collect::<Vec<_>>().join("; ")
    };
    let all: Vec<usize> = (0..candidates.len()).collect();
    match (&named[..], &fitting[..]) {
        (_, [only]) => Ok(*only),
        ([], _) if candidates.is_empty() => {
            let message = format!(
                "the checkpoint has no {what}: look at another with 'checkpoint' = …, which the table `checkpoints` \
                 lists"
            );
            Err(Error::new(ErrorKind::NotFound, message))
        }
        ([], _) => {
            let wanted = [operator, state].into_iter().flatten().collect::<Vec<_>>().join("/");
            let message = format!("there is no {what} {wanted:?}; there are {}", listed(&all));
            Err(Error::new(ErrorKind::NotFound, message))
        }
        (named, []) => Err(Error::invalid(format!(
            "the declared columns do not fit: change their types (STRING holds anything); there is {}",
            listed(named)
        ))),
        (_, fitting) => Err(Error::invalid(format!(
            "several fit: choose one with 'operator' = … and 'state' = …; there are {}",
            listed(fitting)
        ))),
    }
}

/// Adds the checkpoint that was looked at to an error.
fn at(checkpoint: &CheckpointReader) -> impl FnOnce(Error) -> Error {
    let id = checkpoint.id();
    move |error| error.with("checkpoint", id)
}

fn described(parts: [(&str, Option<&StatePart>); 4]) -> String {
    let each = parts.iter().filter_map(|(name, part)| Some(format!("{name} {}", (*part)?.data_type())));
    each.collect::<Vec<_>>().join(", ")
}

async fn keyed(
    mut options: Options,
    declared: Declared,
    checkpoint: CheckpointReader,
) -> Result<Arc<dyn TableProvider>> {
    let key = declared.named(&options.required("key")?)?;
    let value = declared.named(&options.required("value")?)?;
    let states: Vec<&StoredState> =
        checkpoint.states().iter().filter(|state| state.value().is_some()).collect();
    let candidate = |state: &&StoredState| Candidate {
        operator: state.operator().to_string(),
        state: state.name().to_owned(),
        what: described([
            ("key", Some(state.key())),
            ("namespace", state.namespace()),
            ("map key", state.map_key()),
            ("value", state.value()),
        ]),
        fits: may_hold(&key.1, state.key().data_type())
            && state.value().is_some_and(|part| may_hold(&value.1, part.data_type())),
    };
    let candidates: Vec<Candidate> = states.iter().map(candidate).collect();
    let state = states[choose(&candidates, &mut options, "keyed state").map_err(at(&checkpoint))?];
    let native = of_state(state);
    let mut columns = Vec::new();
    for (name, data_type) in declared.columns() {
        let (origin, stored) = if *name == key.0 {
            (Origin::Key(None), state.key().data_type().clone())
        } else if *name == value.0 {
            (Origin::Value(None), state.value().map_or(DataType::Unit, |part| part.data_type().clone()))
        } else {
            let found = declared.native(name, &native)?;
            (found.origin, found.stored.clone())
        };
        columns.push(Column { name: name.clone(), data_type: data_type.clone(), stored, origin });
    }
    let namespace = options.take("namespace");
    options.finish()?;
    let shows_namespace = columns.iter().any(|column| matches!(column.origin, Origin::Namespace(_)));
    let namespace = match (state.namespace(), namespace) {
        (Some(part), Some(text)) => Some(Value::parse(&text, part.data_type())?),
        (Some(part), None) if !shows_namespace => only_namespace(&checkpoint, state, part).await?,
        (None, Some(_)) => {
            return Err(Error::invalid("the state has no namespaces").with("state", state.path()));
        }
        (_, None) => None,
    };
    Ok(Arc::new(KeyedTable::with_columns(&checkpoint, state, columns, namespace)))
}

/// Returns the namespace of all entries; `None` if there is no entry.
async fn only_namespace(
    checkpoint: &CheckpointReader,
    state: &StoredState,
    part: &StatePart,
) -> Result<Option<Value>> {
    let rows = checkpoint.scan(state).parts(Parts { namespace: true, ..Parts::NONE }).rows();
    pin_mut!(rows);
    let mut found: Vec<Value> = Vec::new();
    while let Some(rows) = rows.next().await {
        for namespace in rows?.into_iter().filter_map(|row| row.namespace) {
            if found.len() <= SHOWN && !found.contains(&namespace) {
                found.push(namespace);
            }
        }
        if found.len() > SHOWN {
            break;
        }
    }
    if found.len() < 2 {
        return Ok(found.pop());
    }
    let json = |value| serde_json::to_string(&Typed::new(value, part.data_type())).unwrap_or_default();
    let mut shown: Vec<String> = found.iter().take(SHOWN).map(json).collect();
    if found.len() > SHOWN {
        shown.push("more".to_owned());
    }
    let message = format!(
        "the state has several namespaces: choose one with 'namespace' = …, or declare their columns, too; there \
         are {}",
        shown.join(", ")
    );
    Err(Error::invalid(message).with("state", state.path()))
}

fn operator_state(
    mut options: Options,
    declared: Declared,
    checkpoint: &CheckpointReader,
) -> Result<Arc<dyn TableProvider>> {
    let key = declared.named(&options.required("key")?)?;
    let value = declared.named(&options.required("value")?)?;
    let states = checkpoint.operator_states();
    let candidate = |state: &OperatorStateInfo| Candidate {
        operator: state.operator.to_string(),
        state: state.name.clone(),
        what: described([
            ("map key", state.map_key.as_ref()),
            ("element", Some(&state.value)),
            ("", None),
            ("", None),
        ]),
        fits: may_hold(&value.1, state.value.data_type()),
    };
    let candidates: Vec<Candidate> = states.iter().map(candidate).collect();
    let state = states[choose(&candidates, &mut options, "operator state").map_err(at(checkpoint))?].clone();
    options.finish()?;
    let native = of_elements(&state);
    let mut columns = Vec::new();
    for (name, data_type) in declared.columns() {
        let (origin, stored) = if *name == key.0 {
            // The operator where the column holds text, its subtask otherwise.
            (Origin::Subtask, DataType::Int { signed: false, bits: 32 })
        } else if *name == value.0 {
            (Origin::Value(None), state.value.data_type().clone())
        } else {
            let found = declared.native(name, &native)?;
            (found.origin, found.stored.clone())
        };
        columns.push(Column { name: name.clone(), data_type: data_type.clone(), stored, origin });
    }
    let (checkpoint, is_named) = (checkpoint.clone(), key.1 == DataType::Text);
    let row = move |element: &OperatorElement, columns: &[Column], state: &OperatorStateInfo| {
        let cell = |column: &Column| match is_named && column.name == key.0 {
            true => Ok(Value::Text(state.operator.to_string())),
            false => column.of_element(element).map_err(|error| {
                let error = error.with("column", &column.name).with("operator", &state.operator);
                error.with("subtask", element.subtask).with("element", element.index)
            }),
        };
        columns.iter().map(cell).collect::<Result<Vec<Value>>>()
    };
    Ok(Arc::new(ListedTable::new(declared.into_columns(), move || {
        let elements = checkpoint.operator_elements(&state);
        let rows =
            elements.and_then(|all| all.iter().map(|element| row(element, &columns, &state)).collect());
        async move { rows }.boxed()
    })))
}

fn checkpoints(mut options: Options, declared: Declared, viewed: Viewed) -> Result<Arc<dyn TableProvider>> {
    let (timestamp, _) = declared.named(&options.required("timestamp")?)?;
    let (checkpoint, _) = declared.named(&options.required("checkpoint")?)?;
    options.finish()?;
    let columns: Vec<(String, DataType)> = declared.into_columns();
    if let Some((other, _)) = columns.iter().find(|(name, _)| *name != timestamp && *name != checkpoint) {
        let message = format!("the column {other} receives nothing: name it in 'timestamp' or 'checkpoint'");
        return Err(Error::invalid(message));
    }
    let made = columns.clone();
    Ok(Arc::new(ListedTable::new(columns, move || {
        let (viewed, columns, timestamp) = (viewed.clone(), made.clone(), timestamp.clone());
        async move {
            let mut rows = Rows::new();
            for (manifest, ..) in retained(&viewed).await? {
                let millis = i64::try_from(manifest.created_unix_ms).unwrap_or(i64::MAX);
                let cell = |(name, of): &(String, DataType)| {
                    let value = match (*name == timestamp, of) {
                        (true, DataType::Timestamp) => Ok(Value::Timestamp(i128::from(millis) * 1_000_000)),
                        (true, of) => convert(Value::Int(millis), &DataType::I64, of),
                        (false, of) => convert(Value::UInt(manifest.checkpoint.0), &DataType::U64, of),
                    };
                    value.map_err(|error| error.with("column", name).with("checkpoint", manifest.checkpoint))
                };
                rows.push(columns.iter().map(cell).collect::<Result<_>>()?);
            }
            Ok(rows)
        }
        .boxed()
    })))
}
