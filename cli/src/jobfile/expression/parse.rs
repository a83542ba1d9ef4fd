//! Reads expressions and checks their types.

mod operand;

use std::ops::Range;
use std::sync::Arc;

use strandline_connectors::{Column, ColumnType, TimeFormat, Value};

use super::super::problem::Problem;
use super::super::scope::Scope;
use super::super::tree::Node;
use super::arithmetic::Arithmetic;
use super::functions::Function;
use super::{Expression, Operator, Place, Token, Tokens, parse_alias};

/// Reads the condition in `node`, on rows of `scope`:
///
/// ```text
/// condition  = both { "or" both }
/// both       = negation { "and" negation }
/// negation   = "not" negation | comparison
/// comparison = sum [ operator sum | "is" [ "not" ] "null" | [ "not" ] among ]
/// among      = "in" "(" list ")" | "between" sum "and" sum
/// sum        = product { ( "+" | "-" | "||" ) product }
/// product    = sign { ( "*" | "/" | "%" ) sign }
/// sign       = { "-" | "+" } operand
/// operand    = column | number | 'text' | true | false | null | function | "(" condition ")"
/// function   = name "(" [ list ] ")" | ( "cast" | "try_cast" ) "(" condition "as" type ")"
///            | "extract" "(" part "from" condition ")"
/// operator   = = | == | != | <> | < | <= | > | >=
/// ```
pub(in super::super) fn parse(node: &Node, text: &str, scope: &Scope<'_>) -> Result<Expression, Problem> {
    let mut parser = Parser { tokens: Tokens::new(node, text)?, text, scope, depth: 0 };
    let typed = parser.condition()?;
    parser.must_be_condition(&typed)?;
    parser.tokens.end("`and`, `or` or the end")?;
    Ok(typed.expression)
}

/// A column that an expression computes.
#[derive(Debug)]
pub(in super::super) struct Computed {
    pub(in super::super) expression: Expression,
    pub(in super::super) column: Column,
}

/// Reads `expression as name`; a column alone needs no new name.
pub(in super::super) fn parse_computed(
    node: &Node,
    text: &str,
    scope: &Scope<'_>,
) -> Result<Computed, Problem> {
    let mut parser = Parser { tokens: Tokens::new(node, text)?, text, scope, depth: 0 };
    let typed = parser.condition()?;
    let alias = parse_alias(&mut parser.tokens)?;
    let own = match &typed.expression {
        Expression::Column(index) => scope.column(*index).map(|column| column.name.clone()),
        _ => None,
    };
    let Some(name) = alias.or(own) else {
        let label = "expected `as` and a name behind it";
        return Err(Problem::new(&node.location, "a computed column has no name", label));
    };
    let Some(kind) = typed.kind else {
        let label = "write `cast(null as int)`, or another type";
        return Err(Problem::new(&node.location, "this column would be null and of no type", label));
    };
    let column = Column { name, kind, nullable: typed.nullable };
    Ok(Computed { expression: typed.expression, column })
}

/// How many parentheses, `not`s and signs may lie within each other: the parser and the evaluation go as
/// deep.
const DEEPEST: usize = 100;

/// How tightly operators bind.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const SUM: u8 = 5;
const PRODUCT: u8 = 6;

/// An operator between two operands, or behind one.
#[derive(Clone, Copy)]
enum Infix {
    Or,
    And,
    Is,
    In,
    Between,
    /// `not in` or `not between`.
    Not,
    Compare(Operator),
    Arithmetic(Arithmetic),
    Concat,
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    text: &'a str,
    scope: &'a Scope<'a>,
    /// How many lie around the next token.
    depth: usize,
}

/// An expression with its type (`None` for null) and location.
struct Typed {
    expression: Expression,
    kind: Option<ColumnType>,
    nullable: bool,
    span: Range<usize>,
    /// The first column in it.
    column: Option<String>,
}

impl Parser<'_> {
    fn condition(&mut self) -> Result<Typed, Problem> {
        self.binary(OR)
    }

    /// Reads operators that bind at least so tightly, and what stands between them. One method reads them
    /// all, so that expressions within each other take little of the stack.
    fn binary(&mut self, least: u8) -> Result<Typed, Problem> {
        let mut left = if least <= NOT { self.negation()? } else { self.sign()? };
        loop {
            let Some(next) = self.operator().filter(|(_, binds)| *binds >= least) else { return Ok(left) };
            left = self.joined(left, next)?;
            if next.1 == COMPARISON && self.operator().is_some_and(|(_, binds)| binds == COMPARISON) {
                return Err(self
                    .tokens
                    .expected("`and`, `or` or the end, for comparisons do not follow each other"));
            }
        }
    }

    /// The next token, if it is an operator behind an operand, and how tightly it binds.
    fn operator(&self) -> Option<(Infix, u8)> {
        Some(match self.tokens.peek() {
            token if token.is("or") => (Infix::Or, OR),
            token if token.is("and") => (Infix::And, AND),
            token if token.is("is") => (Infix::Is, COMPARISON),
            token if token.is("in") => (Infix::In, COMPARISON),
            token if token.is("between") => (Infix::Between, COMPARISON),
            token if token.is("not") => (Infix::Not, COMPARISON),
            Token::Symbol("=" | "==") => (Infix::Compare(Operator::Equal), COMPARISON),
            Token::Symbol("!=" | "<>") => (Infix::Compare(Operator::NotEqual), COMPARISON),
            Token::Symbol("<") => (Infix::Compare(Operator::Less), COMPARISON),
            Token::Symbol("<=") => (Infix::Compare(Operator::LessOrEqual), COMPARISON),
            Token::Symbol(">") => (Infix::Compare(Operator::Greater), COMPARISON),
            Token::Symbol(">=") => (Infix::Compare(Operator::GreaterOrEqual), COMPARISON),
            Token::Symbol("+") => (Infix::Arithmetic(Arithmetic::Add), SUM),
            Token::Symbol("-") => (Infix::Arithmetic(Arithmetic::Subtract), SUM),
            Token::Symbol("||") => (Infix::Concat, SUM),
            Token::Symbol("*") => (Infix::Arithmetic(Arithmetic::Multiply), PRODUCT),
            Token::Symbol("/") => (Infix::Arithmetic(Arithmetic::Divide), PRODUCT),
            Token::Symbol("%") => (Infix::Arithmetic(Arithmetic::Remainder), PRODUCT),
            _ => return None,
        })
    }

    /// Reads an operator and what stands on its right.
    fn joined(&mut self, left: Typed, (operator, binds): (Infix, u8)) -> Result<Typed, Problem> {
        if matches!(operator, Infix::Or | Infix::And) {
            self.must_be_condition(&left)?;
        }
        let span = self.tokens.span();
        self.tokens.take();
        match operator {
            Infix::Is => return self.is_null(left),
            Infix::In => return self.list(left, span, false),
            Infix::Between => return self.between(left, span, false),
            Infix::Not if self.tokens.accept("in") => return self.list(left, span, true),
            Infix::Not if self.tokens.accept("between") => return self.between(left, span, true),
            Infix::Not => return Err(self.tokens.expected("`in` or `between`")),
            _ => {}
        }
        let right = self.binary(binds + 1)?;
        match operator {
            Infix::Compare(operator) => self.compared(left, span, operator, right),
            Infix::Arithmetic(operator) => self.arithmetic(left, span, operator, right),
            Infix::Concat => Ok(self.call(left.span.start, Function::Concat, vec![left, right])),
            other => {
                self.must_be_condition(&right)?;
                Ok(conditions(left, right, matches!(other, Infix::Or)))
            }
        }
    }

    /// The error is at the next token, where a comparison would go on.
    fn must_be_condition(&self, typed: &Typed) -> Result<(), Problem> {
        match typed.kind {
            Some(ColumnType::Bool) | None => Ok(()),
            Some(_) => Err(self.tokens.expected("a comparison such as `=`, `<` or `is null`")),
        }
    }

    fn negation(&mut self) -> Result<Typed, Problem> {
        let span = self.tokens.span();
        if !self.tokens.accept("not") {
            return self.sign();
        }
        let inner = self.deeper(span.clone(), |parser| parser.binary(NOT))?;
        self.must_be_condition(&inner)?;
        let expression = Expression::Not(Box::new(inner.expression));
        Ok(Typed { expression, kind: Some(ColumnType::Bool), span: span.start..inner.span.end, ..inner })
    }

    /// Reads what lies within the token at `span`.
    fn deeper<T>(
        &mut self,
        span: Range<usize>,
        read: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        if self.depth == DEEPEST {
            let message = format!("a condition nests deeper than {DEEPEST} levels");
            return Err(self.tokens.problem(
                span,
                message,
                "expected fewer `(`, `not` and `-` within each other",
            ));
        }
        self.depth += 1;
        let inner = read(self);
        self.depth -= 1;
        inner
    }

    /// Reads `null` or `not null` behind `is`.
    fn is_null(&mut self, left: Typed) -> Result<Typed, Problem> {
        let negated = self.tokens.accept("not");
        if !self.tokens.accept("null") {
            return Err(self.tokens.expected("`null`"));
        }
        let expression = Expression::IsNull { operand: Box::new(left.expression), negated };
        Ok(Typed { expression, kind: Some(ColumnType::Bool), nullable: false, ..left })
    }

    fn compared(
        &self,
        mut left: Typed,
        span: Range<usize>,
        operator: Operator,
        mut right: Typed,
    ) -> Result<Typed, Problem> {
        self.comparable(&mut left, span, &mut right)?;
        Ok(Typed {
            kind: Some(ColumnType::Bool),
            nullable: left.nullable || right.nullable,
            span: left.span.start..right.span.end,
            column: left.column.or(right.column),
            expression: Expression::Compare {
                left: Box::new(left.expression),
                operator,
                right: Box::new(right.expression),
            },
        })
    }

    /// Only what is of one kind can be compared. A 'text' beside a timestamp is one.
    fn comparable(&self, left: &mut Typed, operator: Range<usize>, right: &mut Typed) -> Result<(), Problem> {
        let (Some(a), Some(b)) = (left.kind, right.kind) else {
            let location = if left.kind.is_none() { &left.span } else { &right.span };
            let label = "expected `is null` or `is not null` in place of a comparison";
            return Err(self.tokens.problem(location.clone(), "nothing compares with null", label));
        };
        if a == b || (a.is_number() && b.is_number()) {
            return Ok(());
        }
        for (typed, other) in [(&mut *left, b), (&mut *right, a)] {
            if let (Expression::Literal(Value::Text(text)), ColumnType::Timestamp) =
                (&typed.expression, other)
            {
                let moment = TimeFormat::default().parse(text).map_err(|expected| {
                    self.tokens.problem(typed.span.clone(), "this text is no timestamp", expected)
                })?;
                typed.expression = Expression::Literal(Value::Timestamp(moment));
                typed.kind = Some(ColumnType::Timestamp);
                return Ok(());
            }
        }
        let message = format!("{a} and {b} cannot be compared");
        Err(self.tokens.problem(operator, message, format!("{a} on the left, {b} on the right")))
    }

    /// Reads `(value, value)` behind `in`.
    fn list(&mut self, mut left: Typed, span: Range<usize>, negated: bool) -> Result<Typed, Problem> {
        if !self.tokens.accept("(") {
            return Err(self.tokens.expected("`(` and a list of values"));
        }
        let mut list = Vec::new();
        loop {
            let mut item = self.deeper(span.clone(), Self::condition)?;
            if item.kind.is_some() {
                self.comparable(&mut left, span.clone(), &mut item)?;
            }
            left.nullable |= item.nullable;
            list.push(item.expression);
            if self.tokens.accept(")") {
                break;
            }
            if !self.tokens.accept(",") {
                return Err(self.tokens.expected("`,` or `)`"));
            }
        }
        let expression = Expression::In { operand: Box::new(left.expression), list, negated };
        Ok(Typed { expression, kind: Some(ColumnType::Bool), ..left })
    }

    /// Reads `least and most` behind `between`.
    fn between(&mut self, left: Typed, span: Range<usize>, negated: bool) -> Result<Typed, Problem> {
        let least = self.binary(SUM)?;
        if !self.tokens.accept("and") {
            return Err(self.tokens.expected("`and` and the greatest value"));
        }
        let most = self.binary(SUM)?;
        let copy = Typed {
            expression: left.expression.clone(),
            kind: left.kind,
            nullable: left.nullable,
            span: left.span.clone(),
            column: left.column.clone(),
        };
        let low = self.compared(copy, span.clone(), Operator::GreaterOrEqual, least)?;
        let high = self.compared(left, span, Operator::LessOrEqual, most)?;
        let (nullable, span) = (low.nullable || high.nullable, low.span.start..high.span.end);
        let both = Expression::And(vec![low.expression, high.expression]);
        let expression = if negated { Expression::Not(Box::new(both)) } else { both };
        Ok(Typed { expression, kind: Some(ColumnType::Bool), nullable, span, column: low.column })
    }

    fn arithmetic(
        &self,
        mut left: Typed,
        span: Range<usize>,
        operator: Arithmetic,
        mut right: Typed,
    ) -> Result<Typed, Problem> {
        for side in [&left, &right] {
            if let Some(kind) = side.kind.filter(|kind| !kind.is_number()) {
                let message = format!("there is no `{}` of {kind} values", operator.symbol());
                let label = match kind {
                    ColumnType::Text => "this is text; `||` joins texts",
                    ColumnType::Timestamp => "this is a timestamp; `epoch_ms(…)` makes a number of it",
                    _ => "expected numbers on both sides",
                };
                return Err(self.tokens.problem(side.span.clone(), message, label));
            }
        }
        unsigned(&mut left, right.kind);
        unsigned(&mut right, left.kind);
        let kind = match (left.kind, right.kind) {
            (Some(ColumnType::Float), _) | (_, Some(ColumnType::Float)) => ColumnType::Float,
            (Some(ColumnType::UInt), Some(ColumnType::UInt)) => ColumnType::UInt,
            (None, None) => {
                return Err(self.tokens.problem(span, "this is null for every row", "expected a number"));
            }
            (Some(ColumnType::UInt), None) | (None, Some(ColumnType::UInt)) => ColumnType::UInt,
            _ => ColumnType::Int,
        };
        let span = left.span.start..right.span.end;
        let column = left.column.or(right.column);
        let place = self.place(&span, column.as_ref());
        let (left_side, right_side) = (Box::new(left.expression), Box::new(right.expression));
        let expression = Expression::Arithmetic { left: left_side, operator, right: right_side, kind, place };
        Ok(Typed { expression, kind: Some(kind), nullable: left.nullable || right.nullable, span, column })
    }

    fn place(&self, span: &Range<usize>, column: Option<&String>) -> Arc<Place> {
        let text = self.text.get(span.clone()).unwrap_or(self.text).trim().to_owned();
        Arc::new(Place { text, column: column.cloned() })
    }
}

/// Two conditions, joined. What is joined the same way already becomes one list.
fn conditions(left: Typed, right: Typed, any: bool) -> Typed {
    let mut parts = match (left.expression, any) {
        (Expression::Or(parts), true) | (Expression::And(parts), false) => parts,
        (other, _) => vec![other],
    };
    parts.push(right.expression);
    Typed {
        expression: if any { Expression::Or(parts) } else { Expression::And(parts) },
        kind: Some(ColumnType::Bool),
        nullable: left.nullable || right.nullable,
        span: left.span.start..right.span.end,
        column: left.column.or(right.column),
    }
}

/// Takes a literal that is not negative for a `uint` beside another one.
fn unsigned(typed: &mut Typed, beside: Option<ColumnType>) {
    if let (Expression::Literal(Value::Int(v @ 0..)), Some(ColumnType::UInt)) = (&typed.expression, beside) {
        typed.expression = Expression::Literal(Value::UInt(*v as u64));
        typed.kind = Some(ColumnType::UInt);
    }
}
