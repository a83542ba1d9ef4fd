//! A prompt for statements, on a terminal.

use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use strandline_state_api::{Error, ErrorKind};
use strandline_state_sql::StateSession;
use strandline_state_sql::datafusion::catalog::CatalogProvider;
use tokio::runtime::Runtime;

use super::output::cells;
use super::remote::{Remote, Unanswered};
use super::{Asked, Shell};
use crate::terminal::print_error;
use crate::{Failure, advice, print};

const KEYWORDS: [&str; 30] = [
    "AND", "AS", "BETWEEN", "BY", "CASE", "CREATE", "DESCRIBE", "DISTINCT", "DROP", "EXPLAIN", "FROM",
    "GROUP", "HAVING", "IN", "IS", "JOIN", "LEFT", "LIKE", "LIMIT", "NOT", "NULL", "ON", "OR", "ORDER",
    "SELECT", "SHOW", "TABLE", "TABLES", "UNION", "WHERE",
];

/// Reads statements until the end of the input.
pub(super) fn run(shell: &Shell) -> Result<(), Failure> {
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true).build();
    let mut editor = Editor::<Words, FileHistory>::with_config(config).map_err(broken)?;
    editor.set_helper(Some(Words::of(shell)?));
    let history = history();
    if let Some(history) = &history {
        // There is none yet, at first.
        let _ = editor.load_history(history);
    }
    let looked_at = match &shell.asked {
        Asked::Stored(session) => {
            let checkpoint = session.catalog().checkpoint();
            format!("checkpoint {} of {}", checkpoint.id(), checkpoint.manifest().job)
        }
        Asked::Running(remote) => format!("the live state of the job at {}", remote.url),
    };
    print(format_args!("{looked_at}; statements end with `;`, `quit` ends the prompt"));
    loop {
        match editor.readline("sql> ") {
            Ok(text) if matches!(text.trim().trim_end_matches(';'), "quit" | "exit") => break,
            Ok(text) => match shell.run(&text) {
                Ok(()) => {}
                Err(Failure::Usage(text)) => print_error(text.trim_end()),
                Err(Failure::Cancelled) => print_error("cancelled"),
                Err(Failure::Failed(error)) => print_error(advice::with_help(&error)),
                Err(other) => return Err(other),
            },
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(broken(error)),
        }
    }
    if let Some(history) = history {
        let _ = editor.save_history(&history);
    }
    Ok(())
}

fn broken(error: ReadlineError) -> Failure {
    Error::new(ErrorKind::Unavailable, "the terminal cannot be read").caused_by(error).into()
}

/// The file of the history, whose directory exists then.
fn history() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let states = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    let directory = states.join("strandline");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("sql_history"))
}

/// The words that are completed.
struct Words(Vec<String>);

impl Words {
    fn of(shell: &Shell) -> Result<Self, Failure> {
        let mut words: Vec<String> = KEYWORDS.map(str::to_owned).to_vec();
        match &shell.asked {
            Asked::Stored(session) => words.extend(names(session, &shell.runtime)),
            Asked::Running(remote) => words.extend(names_there(shell, remote)?),
        }
        words.sort_unstable();
        words.dedup();
        Ok(Self(words))
    }
}

/// The names of tables and columns.
fn names(session: &StateSession, runtime: &Runtime) -> Vec<String> {
    let catalog = session.catalog();
    let mut names = Vec::new();
    if let Some(schema) = catalog.schema(catalog.schema_name()) {
        for name in schema.table_names() {
            if let Ok(Some(table)) = runtime.block_on(schema.table(&name)) {
                names.extend(table.schema().fields().iter().map(|field| quoted(field.name())));
            }
            names.push(quoted(&name));
        }
    }
    names
}

/// The names of tables and columns of a running job.
fn names_there(shell: &Shell, remote: &Remote) -> Result<Vec<String>, Failure> {
    let text = "SELECT table_name FROM information_schema.columns UNION \
                SELECT column_name FROM information_schema.columns";
    let mut names = Vec::new();
    let asked = remote.query(&shell.runtime, &shell.interrupted, text, |_, batch| {
        if let Some(batch) = batch {
            names.extend(cells(batch, "")?.iter().flatten().map(|name| quoted(name)));
        }
        Ok(())
    });
    match asked {
        Ok(()) => Ok(names),
        Err(Unanswered::Query(error)) => Err(error.error.into()),
        Err(Unanswered::Failed(failure)) => Err(failure),
    }
}

/// A name as a statement has it.
fn quoted(name: &str) -> String {
    let is_plain =
        name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_numeric());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = line.get(..pos).unwrap_or(line);
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | '/' | '-' | '#');
        let start =
            before.char_indices().rev().take_while(|(_, c)| is_part(*c)).last().map_or(pos, |(at, _)| at);
        let typed = before[start..].trim_start_matches('"').to_lowercase();
        let begins = |word: &&String| {
            !typed.is_empty() && word.trim_start_matches('"').to_lowercase().starts_with(&typed)
        };
        let found = self.0.iter().filter(begins);
        Ok((start, found.map(|word| Pair { display: word.clone(), replacement: word.clone() }).collect()))
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Helper for Words {}

/// Whether a text ends with a statement: with a `;` that is in no text, name or comment.
fn is_complete(text: &str) -> bool {
    if matches!(text.trim(), "" | "quit" | "exit") {
        return true;
    }
    let (mut ended, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                ended = false;
                if !chars.by_ref().any(|next| next == c) {
                    return false;
                }
            }
            '-' if chars.peek() == Some(&'-') => {
                if !chars.by_ref().any(|next| next == '\n') {
                    return ended;
                }
            }
            ';' => ended = true,
            c if c.is_whitespace() => {}
            _ => ended = false,
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_where_a_semicolon_is_in_no_text() {
        for complete in ["", "quit", "SELECT 1;", "SELECT 1; -- one", "SELECT ';' ;\n", "SELECT 'it''s';"] {
            assert!(is_complete(complete), "{complete:?}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT \"a;", "SELECT 1 -- ;", "SELECT 1; SELECT"] {
            assert!(!is_complete(open), "{open:?}");
        }
    }

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert_eq!(
            ["visits", "by-user/group", "a\"b", "1st"].map(quoted),
            ["visits", "\"by-user/group\"", "\"a\"\"b\"", "\"1st\""]
        );
    }
}
