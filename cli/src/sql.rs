//! `strandline sql`: the state in checkpoints and of running jobs, queried in SQL.

mod output;
mod prompt;
mod remote;

use std::cell::Cell;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use futures::StreamExt;
use strandline_checkpoint_storage::Storage;
use strandline_state_api::{Error, ErrorKind};
use strandline_state_sql::datafusion::arrow::datatypes::SchemaRef;
use strandline_state_sql::datafusion::error::DataFusionError;
use strandline_state_sql::{Place, QueryError, StateCatalog, StateSession};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use self::output::Output;
use self::remote::{Remote, Unanswered};
use crate::checkpoints::{open, runtime};
use crate::cli::{SqlArgs, SqlFormat};
use crate::jobfile::Job;
use crate::{Failure, terminal};

/// Runs statements, or a prompt for them.
pub(crate) fn sql(args: &SqlArgs) -> Result<(), Failure> {
    let runtime = runtime()?;
    let asked = match Remote::at(&args.from)? {
        Some(_) if args.checkpoint.is_some() => {
            let text = "error: --checkpoint is for a storage: a running job is looked at live; its checkpoints are \
                        schemas, \"job@7\"\n";
            return Err(Failure::Usage(text.into()));
        }
        Some(remote) => Asked::Running(remote),
        None => {
            let (storage, at) = (storage(&args.from)?, args.checkpoint.unwrap_or_default());
            let catalog = runtime.block_on(StateCatalog::open(&storage, at))?;
            Asked::Stored(Box::new(StateSession::new(catalog)))
        }
    };
    let has_rows = Cell::new(false);
    let shell = Shell { asked, runtime, format: args.format, interrupted: interrupts()?, has_rows };
    let text = match (&args.query, &args.file) {
        (Some(query), _) => query.clone(),
        (None, Some(file)) => std::fs::read_to_string(file).map_err(|e| unreadable(file, e))?,
        (None, None) if std::io::stdin().is_terminal() => {
            if shell.format == SqlFormat::Parquet {
                let text = "error: a prompt prints no Parquet file: expected a query, or --file\n";
                return Err(Failure::Usage(text.into()));
            }
            return prompt::run(&shell);
        }
        (None, None) => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|e| unreadable(Path::new("-"), e))?;
            text
        }
    };
    shell.run(&text)
}

/// Opens the storage of a job file, or one that is named itself.
fn storage(from: &str) -> Result<Storage, Failure> {
    let path = Path::new(from);
    if path.extension().is_none_or(|extension| extension != "toml") {
        return Ok(open(from)?);
    }
    let job = Job::load(path, &[])?;
    let checkpoint = job.settings.checkpoint.ok_or_else(|| Error::invalid("the job takes no checkpoints"))?;
    Ok(checkpoint.storage)
}

fn unreadable(file: &Path, error: std::io::Error) -> Failure {
    let failed = Error::new(ErrorKind::Unavailable, "the statements cannot be read");
    failed.with("file", file.display()).caused_by(error).into()
}

/// What each Ctrl-C wakes.
fn interrupts() -> Result<Arc<Notify>, Failure> {
    let interrupted = Arc::new(Notify::new());
    let sender = Arc::clone(&interrupted);
    ctrlc::set_handler(move || sender.notify_waiters())
        .map_err(|e| Error::invalid("the handler of signals cannot be installed").caused_by(e))?;
    Ok(interrupted)
}

/// Who runs statements.
enum Asked {
    /// A session over a storage, here.
    Stored(Box<StateSession>),
    /// A job that runs elsewhere.
    Running(Remote),
}

/// Who runs statements, and how their results are printed.
struct Shell {
    asked: Asked,
    runtime: Runtime,
    format: SqlFormat,
    interrupted: Arc<Notify>,
    /// Whether a statement had rows.
    has_rows: Cell<bool>,
}

impl Shell {
    /// Runs all statements of a text; the first that fails ends it.
    fn run(&self, text: &str) -> Result<(), Failure> {
        match &self.asked {
            Asked::Stored(session) => self.run_here(session, text),
            Asked::Running(remote) => self.run_there(remote, text),
        }
    }

    /// Where the rows of a statement go. A Parquet file has those of one.
    fn output(&self, schema: &SchemaRef) -> Result<Output, Failure> {
        let is_second = !schema.fields().is_empty() && self.has_rows.replace(true);
        if is_second && self.format == SqlFormat::Parquet {
            let text =
                "error: a Parquet file has the rows of one statement, and this is the second with rows\n";
            return Err(Failure::Usage(text.into()));
        }
        Ok(Output::new(self.format, schema))
    }

    fn run_there(&self, remote: &Remote, text: &str) -> Result<(), Failure> {
        let mut output = None;
        let answered = remote.query(&self.runtime, &self.interrupted, text, |schema, batch| {
            let printing = match &mut output {
                Some(printing) => printing,
                none => none.insert(self.output(schema)?),
            };
            match batch {
                Some(batch) => printing.print(batch),
                None => output.take().map_or(Ok(()), Output::finish),
            }
        });
        answered.map_err(|unanswered| match unanswered {
            Unanswered::Query(error) => mistake(text, &error),
            Unanswered::Failed(failure) => failure,
        })
    }

    fn run_here(&self, session: &StateSession, text: &str) -> Result<(), Failure> {
        let statements = session.parse(text).map_err(|error| mistake(text, &error))?;
        self.runtime.block_on(async {
            for statement in statements {
                let run = async {
                    let mut rows = session.run(&statement).await.map_err(|error| mistake(text, &error))?;
                    let mut output = self.output(&rows.schema())?;
                    while let Some(batch) = rows.next().await {
                        output.print(&batch.map_err(failed)?)?;
                    }
                    output.finish()
                };
                tokio::select! {
                    done = run => done?,
                    () = self.interrupted.notified() => return Err(Failure::Cancelled),
                }
            }
            Ok(())
        })
    }
}

/// The failure of a query that reads state.
fn failed(error: DataFusionError) -> Failure {
    QueryError::from(error).error.into()
}

/// A mistake in a statement, with its place; or the failure of a storage that is read to plan it.
fn mistake(text: &str, error: &QueryError) -> Failure {
    let is_mistake = matches!(error.error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported);
    if !is_mistake && error.place.is_none() {
        return error.error.clone().into();
    }
    let message = error.error.to_string();
    let Some(place) = error.place else { return Failure::Usage(format!("error: {message}")) };
    let start = offset(text, place);
    let word = text[start..]
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .map(char::len_utf8)
        .sum::<usize>();
    let end = (start + word.max(1)).min(text.len());
    let end = (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
    let mark = AnnotationKind::Primary.span(start..end);
    let title = Level::ERROR.primary_title(message.as_str());
    let group = title.element(Snippet::source(text).annotation(mark));
    let renderer = if terminal::has_colors() { Renderer::styled() } else { Renderer::plain() };
    Failure::Usage(renderer.render(&[group]))
}

/// Where a place is in a text, in bytes.
fn offset(text: &str, place: Place) -> usize {
    let skipped = usize::try_from(place.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let before: usize = text.split_inclusive('\n').take(skipped).map(str::len).sum();
    let column = usize::try_from(place.column.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = &text[before..];
    before + line.char_indices().nth(column).map_or(line.trim_end().len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let text = "SELECT 'é',\n  nothing";
        assert_eq!(offset(text, Place { line: 1, column: 11 }), 11);
        assert_eq!(&text[offset(text, Place { line: 2, column: 3 })..], "nothing");
        assert_eq!(offset(text, Place { line: 9, column: 9 }), text.len());
    }
}
