//! Reads conditions.

use std::ops::Range;

use strandline_connectors::{ColumnType, Value};

use super::super::problem::Problem;
use super::super::scope::Scope;
use super::super::tree::Node;
use super::{Expression, Operand, Operator, Token, Tokens};

/// Reads the condition in `node`, on rows of `scope`:
///
/// ```text
/// condition  = both { "or" both }
/// both       = negation { "and" negation }
/// negation   = "not" negation | "(" condition ")" | comparison
/// comparison = operand [ operator operand | "is" [ "not" ] "null" ]
/// operand    = column | number | 'text' | true | false
/// operator   = = | == | != | <> | < | <= | > | >=
/// ```
pub(in super::super) fn parse(node: &Node, text: &str, scope: &Scope<'_>) -> Result<Expression, Problem> {
    let mut parser = Parser { tokens: Tokens::new(node, text)?, scope, depth: 0 };
    let expression = parser.condition()?;
    parser.tokens.end("`and`, `or` or the end")?;
    Ok(expression)
}

/// How many parentheses and `not`s may lie within each other: the parser and the condition itself go as deep.
const DEEPEST: usize = 100;

struct Parser<'a> {
    tokens: Tokens<'a>,
    scope: &'a Scope<'a>,
    /// How many lie around the next token.
    depth: usize,
}

/// An operand with its type (`None` for null) and location.
struct Typed {
    operand: Operand,
    kind: Option<ColumnType>,
    span: Range<usize>,
}

impl Parser<'_> {
    fn condition(&mut self) -> Result<Expression, Problem> {
        let mut any = vec![self.both()?];
        while self.tokens.accept("or") {
            any.push(self.both()?);
        }
        Ok(single(any, Expression::Or))
    }

    fn both(&mut self) -> Result<Expression, Problem> {
        let mut all = vec![self.negation()?];
        while self.tokens.accept("and") {
            all.push(self.negation()?);
        }
        Ok(single(all, Expression::And))
    }

    fn negation(&mut self) -> Result<Expression, Problem> {
        let span = self.tokens.span();
        if self.tokens.accept("not") {
            let inner = self.deeper(span, Self::negation)?;
            return Ok(Expression::Not(Box::new(inner)));
        }
        if self.tokens.accept("(") {
            let inner = self.deeper(span, Self::condition)?;
            if !self.tokens.accept(")") {
                return Err(self.tokens.expected("`and`, `or` or `)`"));
            }
            return Ok(inner);
        }
        self.comparison()
    }

    /// Reads what lies within the token at `span`.
    fn deeper(
        &mut self,
        span: Range<usize>,
        read: impl FnOnce(&mut Self) -> Result<Expression, Problem>,
    ) -> Result<Expression, Problem> {
        if self.depth == DEEPEST {
            let message = format!("a condition nests deeper than {DEEPEST} levels");
            return Err(self.tokens.problem(span, message, "expected fewer `(` and `not` within each other"));
        }
        self.depth += 1;
        let inner = read(self);
        self.depth -= 1;
        inner
    }

    fn comparison(&mut self) -> Result<Expression, Problem> {
        let left = self.operand()?;
        if self.tokens.accept("is") {
            let negated = self.tokens.accept("not");
            if !self.tokens.accept("null") {
                return Err(self.tokens.expected("`null`"));
            }
            return Ok(Expression::IsNull { operand: left.operand, negated });
        }
        let span = self.tokens.span();
        let operator = match self.tokens.peek() {
            Token::Symbol("=" | "==") => Operator::Equal,
            Token::Symbol("!=" | "<>") => Operator::NotEqual,
            Token::Symbol("<") => Operator::Less,
            Token::Symbol("<=") => Operator::LessOrEqual,
            Token::Symbol(">") => Operator::Greater,
            Token::Symbol(">=") => Operator::GreaterOrEqual,
            _ if left.kind == Some(ColumnType::Bool) => {
                let right = Operand::Literal(Value::Bool(true));
                return Ok(Expression::Compare { left: left.operand, operator: Operator::Equal, right });
            }
            _ => return Err(self.tokens.expected("a comparison such as `=`, `<` or `is null`")),
        };
        self.tokens.take();
        let right = self.operand()?;
        self.check(&left, span, &right)?;
        Ok(Expression::Compare { left: left.operand, operator, right: right.operand })
    }

    /// Only what is of one kind can be compared.
    fn check(&self, left: &Typed, operator: Range<usize>, right: &Typed) -> Result<(), Problem> {
        let (Some(a), Some(b)) = (left.kind, right.kind) else {
            let location = if left.kind.is_none() { &left.span } else { &right.span };
            let label = "expected `is null` or `is not null` in place of a comparison";
            return Err(self.tokens.problem(location.clone(), "nothing compares with null", label));
        };
        if a == b || (a.is_number() && b.is_number()) {
            return Ok(());
        }
        let message = format!("{a} and {b} cannot be compared");
        Err(self.tokens.problem(operator, message, format!("{a} on the left, {b} on the right")))
    }

    fn operand(&mut self) -> Result<Typed, Problem> {
        let span = self.tokens.span();
        let typed = |operand, kind| Ok(Typed { operand, kind, span: span.clone() });
        let literal = |value, kind| typed(Operand::Literal(value), Some(kind));
        match self.tokens.take() {
            Token::Text(text) => literal(Value::text(&text), ColumnType::Text),
            Token::Number(number) => match number_value(&number) {
                Some((value, kind)) => literal(value, kind),
                None => {
                    Err(self.tokens.problem(span, format!("`{number}` is no number"), "expected a number"))
                }
            },
            token if token.is("true") => literal(Value::Bool(true), ColumnType::Bool),
            token if token.is("false") => literal(Value::Bool(false), ColumnType::Bool),
            token if token.is("null") => typed(Operand::Literal(Value::Null), None),
            Token::Name { name, .. } => {
                let index = self.scope.find(&name, &self.tokens.location(span.clone()))?;
                let kind = self.scope.column(index).map(|column| column.kind);
                typed(Operand::Column(index), kind)
            }
            token @ (Token::Symbol(_) | Token::End) => {
                let message = "expected a column, a number or 'text'";
                Err(self.tokens.problem(span, message, token.describe()))
            }
        }
    }
}

fn single(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            join(parts)
        }
    }
}

fn number_value(text: &str) -> Option<(Value, ColumnType)> {
    let digits = text.replace('_', "");
    if let Ok(number) = digits.parse() {
        return Some((Value::Int(number), ColumnType::Int));
    }
    if let Ok(number) = digits.parse() {
        return Some((Value::UInt(number), ColumnType::UInt));
    }
    digits.parse().ok().map(|number| (Value::Float(number), ColumnType::Float))
}
