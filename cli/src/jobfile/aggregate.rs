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
    /// The name of its result.
    pub(crate) name: String,
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

/// An aggregate as job files name it.
#[derive(Debug)]
pub(crate) struct Named {
    /// Its names, the usual one first.
    pub(crate) names: &'static [&'static str],
    function: Function,
    /// Whether it may stand without a column.
    pub(crate) takes_no_column: bool,
    /// Which columns it takes.
    pub(crate) of: &'static str,
    /// The type of its result.
    pub(crate) gives: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
}

/// All aggregates.
pub(crate) const AGGREGATES: [Named; 5] = [
    Named {
        names: &["count"],
        function: Function::Count,
        takes_no_column: true,
        of: "any column, or none",
        gives: "uint",
        about: "how many rows there are, or how many values",
    },
    Named {
        names: &["sum"],
        function: Function::Sum,
        takes_no_column: false,
        of: "int, uint, float",
        gives: "that of the column",
        about: "the sum; that of integers is kept in 128 bits, and one that 64 bits cannot hold is an error",
    },
    Named {
        names: &["min"],
        function: Function::Min,
        takes_no_column: false,
        of: "int, uint, float, text",
        gives: "that of the column",
        about: "the least value",
    },
    Named {
        names: &["max"],
        function: Function::Max,
        takes_no_column: false,
        of: "int, uint, float, text",
        gives: "that of the column",
        about: "the greatest value; NaN is greater than any number",
    },
    Named {
        names: &["avg", "average"],
        function: Function::Average,
        takes_no_column: false,
        of: "int, uint, float",
        gives: "float",
        about: "the mean",
    },
];

impl Function {
    pub(crate) fn name(self) -> &'static str {
        let of_this = AGGREGATES.iter().find(|named| named.function == self);
        of_this.and_then(|named| named.names.first()).copied().unwrap_or_default()
    }
}

/// Reads `count`, `function(column)`, and either with `as name`: the aggregate and the column that it makes.
pub(super) fn parse(node: &Node, text: &str, scope: &Scope<'_>) -> Result<(Aggregate, Column), Problem> {
    let mut tokens = Tokens::new(node, text)?;
    let (name, span) = tokens.name("an aggregate, for example `count` or `sum(column)`")?;
    let mut names =
        AGGREGATES.iter().flat_map(|named| named.names.iter().map(|name| (*name, named.function)));
    let Some((name, function)) = names.find(|(known, _)| known.eq_ignore_ascii_case(&name)) else {
        let known: Vec<_> = AGGREGATES.iter().flat_map(|named| named.names).copied().collect();
        return Err(Problem::unknown(&tokens.location(span), "aggregate", &name, &known));
    };
    let column = argument(&mut tokens, function, scope)?;
    let alias = parse_alias(&mut tokens)?;
    let (kind, nullable) = match (function, &column) {
        (Function::Count, _) | (_, None) => (ColumnType::UInt, false),
        (Function::Average, Some((_, column))) => (ColumnType::Float, column.nullable),
        (_, Some((_, column))) => (column.kind, column.nullable),
    };
    let default = match &column {
        Some((_, column)) => format!("{name}_{}", column.name),
        None => name.to_owned(),
    };
    let result = Column { name: alias.unwrap_or(default), kind, nullable };
    Ok((Aggregate { function, column, name: result.name.clone() }, result))
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
