//! A session: statements in SQL over the tables of a catalogue.

use std::fmt;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::TableReference;
use datafusion::common::diagnostic::Diagnostic;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{CreateTable, CreateTableOptions, ObjectNamePart, Statement as Sql};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, PostgreSqlDialect};
use datafusion::sql::sqlparser::parser::ParserError;
use futures::TryStreamExt;
use strandline_state_api::{Error, ErrorKind, Result};

use crate::StateCatalog;
use crate::create::create;
use crate::error::flat;

/// The name of the catalogue in a session.
const CATALOG: &str = "strandline";

/// Runs statements in SQL over the state in checkpoints.
///
/// Names are as they are written: `KEY` and `key` are two columns, with quotes and without. Statements read state;
/// `CREATE` and `DROP` of views and tables change the session alone.
#[derive(Clone)]
pub struct StateSession {
    context: SessionContext,
    catalog: StateCatalog,
}

/// One statement of a text.
#[derive(Clone, Debug)]
pub struct ParsedStatement(Statement);

/// What a statement failed with, and where in the text.
#[derive(Clone, Debug)]
pub struct QueryError {
    /// The error.
    pub error: Error,
    /// The place in the text that it is about, if it is about one.
    pub place: Option<Place>,
}

/// A place in a text: lines and columns from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        match self.place {
            Some(Place { line, column }) => write!(f, " (line {line}, column {column})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for QueryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Error> for QueryError {
    fn from(error: Error) -> Self {
        Self { error, place: None }
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        let (message, place) = located(&error);
        let mut flat = flat(&error);
        if let Some(message) = message.filter(|_| crate::error::cause(&error).is_none()) {
            flat = Error::new(flat.kind(), message);
        }
        Self { error: flat, place }
    }
}

impl StateSession {
    /// A session over a catalogue.
    pub fn new(catalog: StateCatalog) -> Self {
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, catalog.schema_name());
        let parser = &mut config.options_mut().sql_parser;
        parser.enable_ident_normalization = false;
        parser.collect_spans = true;
        let context = SessionContext::new_with_config(config);
        catalog.register(&context, CATALOG);
        Self { context, catalog }
    }

    /// Returns the catalogue.
    pub fn catalog(&self) -> &StateCatalog {
        &self.catalog
    }

    /// Returns the context of DataFusion, in which other tables can be registered.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Splits a text into its statements, which `;` ends.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), with the place, when the text is no SQL.
    pub fn parse(&self, text: &str) -> Result<Vec<ParsedStatement>, QueryError> {
        let parsed = |dialect: &dyn Dialect| {
            let mut parser = DFParserBuilder::new(text).with_dialect(dialect).build()?;
            parser.parse_statements()
        };
        // A column called KEY needs the second dialect, and some of DataFusion's own syntax the first.
        let statements =
            parsed(&GenericDialect {}).or_else(|error| parsed(&PostgreSqlDialect {}).map_err(|_| error));
        Ok(statements?.into_iter().map(ParsedStatement).collect())
    }

    /// Runs a statement; its rows come as they are read.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the statement does not fit the tables, with the place where it is known;
    /// [`NotFound`](ErrorKind::NotFound) for an unknown table, with the nearest names;
    /// [`Unsupported`](ErrorKind::Unsupported) for a statement that would change state. An error of reading state comes
    /// in the stream, too: see [`cause`](crate::cause).
    pub async fn run(&self, statement: &ParsedStatement) -> Result<SendableRecordBatchStream, QueryError> {
        if let Some(create_table) = table_of_state(&statement.0) {
            self.create(create_table).await?;
            return Ok(self.context.read_empty()?.limit(0, Some(0))?.execute_stream().await?);
        }
        if let Some(change) = change(&statement.0) {
            return Err(never_changed(change).into());
        }
        let state = self.context.state();
        let statement = self.shown_tables(&statement.0)?;
        let planned = Box::pin(state.statement_to_plan(statement.clone())).await;
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => return Err(self.unplanned(&statement, error).await),
        };
        if let Some(refused) = self.refusal(&plan).await {
            return Err(refused.into());
        }
        let frame = Box::pin(self.context.execute_logical_plan(plan)).await?;
        Ok(frame.execute_stream().await?)
    }

    /// Runs all statements of a text; returns the rows of the last one.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse) and [`run`](Self::run), and those of reading.
    pub async fn query(&self, text: &str) -> Result<Vec<RecordBatch>, QueryError> {
        let mut rows = Vec::new();
        for statement in self.parse(text)? {
            rows = self.run(&statement).await?.try_collect().await?;
        }
        Ok(rows)
    }

    /// Returns the statement that `SHOW TABLES` stands for: the tables of the checkpoint that is looked at, and
    /// those of the session. Any other statement stands for itself.
    fn shown_tables(&self, statement: &Statement) -> Result<Statement, QueryError> {
        match statement {
            Statement::Statement(sql) if matches!(&**sql, Sql::ShowTables { .. }) => {}
            other => return Ok(other.clone()),
        }
        let schema = self.catalog.schema_name().replace('\'', "''");
        let text = format!(
            "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = '{schema}' ORDER BY 1"
        );
        let shown = self.parse(&text)?.into_iter().next().map(|parsed| parsed.0);
        Ok(shown.unwrap_or_else(|| statement.clone()))
    }

    /// Returns why a plan is refused: it would change state.
    async fn refusal(&self, plan: &LogicalPlan) -> Option<Error> {
        let refused = |message: String| Some(Error::new(ErrorKind::Unsupported, message));
        let dropped = match plan {
            LogicalPlan::Dml(dml) => {
                return Some(never_changed(dml.op.name()));
            }
            LogicalPlan::Ddl(DdlStatement::DropTable(drop)) => &drop.name,
            LogicalPlan::Ddl(DdlStatement::DropView(drop)) => &drop.name,
            _ => return None,
        };
        let name = dropped.table();
        let is_here = dropped.schema().is_none_or(|schema| schema == self.catalog.schema_name());
        if is_here && self.catalog.current().has_stored(name).await {
            return refused(format!(
                "DROP is refused: {name:?} is a table of the checkpoint, which nothing changes"
            ));
        }
        None
    }

    async fn create(&self, statement: &CreateTable) -> Result<(), QueryError> {
        let name = match &statement.name.0[..] {
            [ObjectNamePart::Identifier(name)] => name.value.clone(),
            _ => return Err(Error::invalid("a table of state has a name without a schema").into()),
        };
        let table = TableReference::bare(name.as_str());
        let exists = self.context.table_exist(table.clone())?;
        match (exists, statement.if_not_exists, statement.or_replace) {
            (true, true, _) => return Ok(()),
            (true, false, false) => {
                return Err(Error::invalid(format!("there is a table {name:?} already")).into());
            }
            _ => {}
        }
        let made = create(statement, &self.catalog).await.map_err(|error| error.with("table", &name))?;
        // A statement that fails leaves the table that there was.
        if exists {
            self.context.deregister_table(table.clone())?;
        }
        self.context.register_table(table, made)?;
        Ok(())
    }

    /// The error of a statement that cannot be planned: with the nearest names for a table that is not there.
    async fn unplanned(&self, statement: &Statement, error: DataFusionError) -> QueryError {
        let mut reported = QueryError::from(error);
        let references = self.context.state().resolve_table_references(statement).unwrap_or_default();
        for reference in references {
            let is_missing = reported.error.message().contains("not found")
                && reported.error.message().contains(reference.table())
                && reference.schema().is_none_or(|schema| schema == self.catalog.schema_name());
            if is_missing && matches!(self.catalog.current().find(reference.table()).await, Ok(None)) {
                reported.error = self.catalog.unknown(reference.table());
            }
        }
        reported
    }
}

impl fmt::Debug for StateSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSession").field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

/// Returns the statement if it is a `CREATE TABLE … WITH (…)`.
fn table_of_state(statement: &Statement) -> Option<&CreateTable> {
    match statement {
        Statement::Statement(sql) => match &**sql {
            Sql::CreateTable(create) if matches!(create.table_options, CreateTableOptions::With(_)) => {
                Some(create)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Returns the name of a statement that would change a table, whatever fits that table or not.
fn change(statement: &Statement) -> Option<&'static str> {
    let Statement::Statement(sql) = statement else { return None };
    match &**sql {
        Sql::Insert { .. } => Some("INSERT"),
        Sql::Update { .. } => Some("UPDATE"),
        Sql::Delete { .. } => Some("DELETE"),
        Sql::Merge { .. } => Some("MERGE"),
        Sql::Truncate { .. } => Some("TRUNCATE"),
        _ => None,
    }
}

fn never_changed(statement: &str) -> Error {
    let message = format!("{statement} is refused: state in checkpoints is read, and never changed");
    Error::new(ErrorKind::Unsupported, message)
}

/// Returns the message of an error without the names of its wrappers, and the place it is about.
fn located(error: &DataFusionError) -> (Option<String>, Option<Place>) {
    let diagnostics: Vec<&Diagnostic> = error.iter().filter_map(DataFusionError::diagnostic).collect();
    let span = diagnostics.iter().find_map(|diagnostic| diagnostic.span);
    let place = span.map(|span| Place { line: span.start.line, column: span.start.column });
    let message = match error.find_root() {
        DataFusionError::SQL(parser, _) => match &**parser {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => {
                let (message, place) = split_place(text);
                return (Some(format!("this is no SQL: {message}")), place);
            }
            ParserError::RecursionLimitExceeded => "the statement is nested too deeply".to_owned(),
        },
        DataFusionError::Plan(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::Execution(text) => text.clone(),
        DataFusionError::SchemaError(schema, _) => {
            let text = schema.to_string();
            let mut lines = text.lines();
            let message = lines.next().unwrap_or_default();
            // What there is, where no name is near.
            let fields = lines.find(|line| line.starts_with("Valid fields are"));
            match fields.filter(|_| !message.contains("Did you mean")) {
                Some(fields) => format!("{message} {fields}"),
                None => message.to_owned(),
            }
        }
        _ => return (None, place),
    };
    (Some(message.lines().next().unwrap_or_default().to_owned()), place)
}

/// Splits off what the parser writes behind a message: ` at Line: 1, Column: 8`.
fn split_place(text: &str) -> (&str, Option<Place>) {
    let Some((message, place)) = text.rsplit_once(" at Line: ") else { return (text, None) };
    let numbers = place.split_once(", Column: ");
    let read = numbers.and_then(|(line, column)| {
        let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
        Some(Place { line: line.parse().ok()?, column: digits.parse().ok()? })
    });
    (message, read)
}
