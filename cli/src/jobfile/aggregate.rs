//! The aggregates of a group.

use strandline_connectors::{Column, ColumnType};

use super::expression::{Token, Tokens, parse_alias};
use super::problem::Problem;
use super::scope::Scope;
use super::tree::Node;

/// A function of the values that a column has in the rows of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Aggregate {
    pub(crate) function: Function,
    /// The column; `None` to count rows.
    pub(crate) column: Option<(usize, Column)>,
}

/// The functions. They leave out nulls, as in SQL; of nothing but nulls only a count is not null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// How many there are.
    Count,
    /// The sum; of integers an error where it overflows.
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The mean.
    Average,
}

const FUNCTIONS: [(&str, Function); 6] = [
    ("count", Function::Count),
    ("sum", Function::Sum),
    ("min", Function::Min),
    ("max", Function::Max),
    ("avg", Function::Average),
    ("average", Function::Average),
];

impl Function {
    pub(crate) fn name(self) -> &'static str {
        FUNCTIONS.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }
}

/// Reads `count`, `function(column)`, and either with `as name`: the aggregate and the column that it makes.
pub(super) fn parse(node: &Node, text: &str, scope: &Scope<'_>) -> Result<(Aggregate, Column), Problem> {
    let mut tokens = Tokens::new(node, text)?;
    let (name, span) = tokens.name("an aggregate, for example `count` or `sum(column)`")?;
    let Some((name, function)) = FUNCTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name)) else {
        return Err(Problem::unknown(
            &tokens.location(span),
            "aggregate",
            &name,
            &FUNCTIONS.map(|(known, _)| known),
        ));
    };
    let column = argument(&mut tokens, *function, scope)?;
    let alias = parse_alias(&mut tokens)?;
    let (kind, nullable) = match (function, &column) {
        (Function::Count, _) | (_, None) => (ColumnType::UInt, false),
        (Function::Average, Some((_, column))) => (ColumnType::Float, column.nullable),
        (_, Some((_, column))) => (column.kind, column.nullable),
    };
    let default = match &column {
        Some((_, column)) => format!("{name}_{}", column.name),
        None => (*name).to_owned(),
    };
    let result = Column { name: alias.unwrap_or(default), kind, nullable };
    Ok((Aggregate { function: *function, column }, result))
}

/// The column in parentheses; a count can do without.
fn argument(
    tokens: &mut Tokens<'_>,
    function: Function,
    scope: &Scope<'_>,
) -> Result<Option<(usize, Column)>, Problem> {
    if function == Function::Count && *tokens.peek() != Token::Symbol("(") {
        return Ok(None);
    }
    if !tokens.accept("(") {
        return Err(tokens.expected(&format!("`(` and the column to take the {} of", function.name())));
    }
    let (name, span) = tokens.name("a column")?;
    let location = tokens.location(span);
    let index = scope.find(&name, &location)?;
    let column = scope.column(index).cloned().unwrap_or_else(|| Column::new(name, ColumnType::Text));
    let fits = match function {
        Function::Count => true,
        Function::Sum | Function::Average => column.kind.is_number(),
        Function::Min | Function::Max => column.kind != ColumnType::Bool,
    };
    if !fits {
        let message = format!("there is no {} of {} values", function.name(), column.kind);
        return Err(Problem::new(&location, message, format!("this column is {}", column.kind)));
    }
    if !tokens.accept(")") {
        return Err(tokens.expected("`)`"));
    }
    Ok(Some((index, column)))
}
