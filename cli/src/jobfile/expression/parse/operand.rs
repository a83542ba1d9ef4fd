//! Reads what stands between operators: literals, columns, functions and what is in parentheses.

use std::ops::Range;

use strandline_connectors::{ColumnType, Value};

use super::super::super::problem::Problem;
use super::super::functions::{self, Argument, FUNCTIONS, Function};
use super::super::{Expression, Token, cast};
use super::{Parser, Typed};

impl Parser<'_> {
    pub(super) fn sign(&mut self) -> Result<Typed, Problem> {
        let span = self.tokens.span();
        let negative = self.tokens.accept("-");
        if !negative && !self.tokens.accept("+") {
            return self.operand();
        }
        // A negative literal is one number, so that the least one can be written.
        if let (true, Token::Number(number)) = (negative, self.tokens.peek()) {
            let number = format!("-{number}");
            let span = span.start..self.tokens.span().end;
            self.tokens.take();
            return self.number(&number, span);
        }
        let inner = self.deeper(span.clone(), Self::sign)?;
        if let Some(kind) = inner.kind.filter(|kind| !kind.is_number()) {
            let message = format!("{kind} values have no sign");
            return Err(self.tokens.problem(inner.span, message, "expected a number"));
        }
        let span = span.start..inner.span.end;
        if !negative {
            return Ok(Typed { span, ..inner });
        }
        let place = self.place(&span, inner.column.as_ref());
        let kind = inner.kind.map(|kind| if kind == ColumnType::UInt { ColumnType::Int } else { kind });
        let expression = Expression::Negate(Box::new(inner.expression), place);
        Ok(Typed { expression, kind, span, ..inner })
    }

    fn operand(&mut self) -> Result<Typed, Problem> {
        let span = self.tokens.span();
        let literal = |value: Value, kind: Option<ColumnType>| Typed {
            nullable: kind.is_none(),
            expression: Expression::Literal(value),
            kind,
            span: span.clone(),
            column: None,
        };
        match self.tokens.take() {
            Token::Text(text) => Ok(literal(Value::text(&text), Some(ColumnType::Text))),
            Token::Number(number) => self.number(&number, span),
            Token::Symbol("(") => {
                let mut inner = self.deeper(span.clone(), Self::condition)?;
                if !self.tokens.accept(")") {
                    return Err(self.tokens.expected("`and`, `or` or `)`"));
                }
                inner.span = span.start..self.tokens.last_end();
                Ok(inner)
            }
            token if token.is("true") => Ok(literal(Value::Bool(true), Some(ColumnType::Bool))),
            token if token.is("false") => Ok(literal(Value::Bool(false), Some(ColumnType::Bool))),
            token if token.is("null") => Ok(literal(Value::Null, None)),
            Token::Name { name, quoted: false } if *self.tokens.peek() == Token::Symbol("(") => {
                self.tokens.take();
                self.deeper(span.clone(), |parser| parser.function(&name, span))
            }
            Token::Name { name, .. } => {
                let index = self.scope.find(&name, &self.tokens.location(span.clone()))?;
                let column = self.scope.column(index);
                Ok(Typed {
                    expression: Expression::Column(index),
                    kind: column.map(|column| column.kind),
                    nullable: column.is_none_or(|column| column.nullable),
                    span,
                    column: Some(name),
                })
            }
            token @ (Token::Symbol(_) | Token::End) => {
                let message = "expected a column, a number or 'text'";
                Err(self.tokens.problem(span, message, token.describe()))
            }
        }
    }

    fn number(&self, number: &str, span: Range<usize>) -> Result<Typed, Problem> {
        match number_value(number) {
            Some((value, kind)) => {
                let expression = Expression::Literal(value);
                Ok(Typed { expression, kind: Some(kind), nullable: false, span, column: None })
            }
            None => Err(self.tokens.problem(span, format!("`{number}` is no number"), "expected a number")),
        }
    }

    /// Reads the arguments of a function whose name and `(` were read.
    fn function(&mut self, name: &str, span: Range<usize>) -> Result<Typed, Problem> {
        if name.eq_ignore_ascii_case("cast") || name.eq_ignore_ascii_case("try_cast") {
            return self.cast(span, name.len() > 4);
        }
        if !functions::is_known(name) {
            let known: Vec<_> =
                FUNCTIONS.iter().map(|(known, _)| *known).chain(["cast", "try_cast"]).collect();
            return Err(Problem::unknown(&self.tokens.location(span), "function", name, &known));
        }
        let mut arguments = self.part_from(name)?;
        while !self.tokens.accept(")") {
            if !arguments.is_empty() && !self.tokens.accept(",") {
                return Err(self.tokens.expected("`,` or `)`"));
            }
            arguments.push(self.condition()?);
        }
        let known: Vec<_> = arguments
            .iter()
            .map(|Typed { expression, kind, nullable, .. }| Argument {
                expression,
                kind: *kind,
                nullable: *nullable,
            })
            .collect();
        let resolved = functions::resolve(name, &known).map_err(|(index, message)| {
            let at = arguments.get(index).map_or(&span, |argument| &argument.span);
            self.tokens.problem(at.clone(), message, "this does not fit")
        })?;
        arguments.truncate(resolved.values);
        let called = self.call(span.start, resolved.function, arguments);
        Ok(Typed { kind: resolved.kind, nullable: resolved.nullable, ..called })
    }

    /// Reads `part from timestamp` behind `extract(`, if it is written so.
    fn part_from(&mut self, name: &str) -> Result<Vec<Typed>, Problem> {
        let is_part = name.eq_ignore_ascii_case("extract") && self.tokens.second().is("from");
        if !is_part {
            return Ok(Vec::new());
        }
        let (part, span) = self.tokens.name("a part of a timestamp, such as `hour`")?;
        self.tokens.accept("from");
        let expression = Expression::Literal(Value::text(&part));
        let part = Typed { expression, kind: Some(ColumnType::Text), nullable: false, span, column: None };
        Ok(vec![part, self.condition()?])
    }

    /// A function of these arguments; its type and whether it may be null are those of a text so far.
    pub(super) fn call(&self, start: usize, function: Function, arguments: Vec<Typed>) -> Typed {
        let end = self.tokens.last_end();
        let column = arguments.iter().find_map(|argument| argument.column.clone());
        let nullable = arguments.iter().any(|argument| argument.nullable);
        let place = self.place(&(start..end), column.as_ref());
        let arguments = arguments.into_iter().map(|argument| argument.expression).collect();
        let expression = Expression::Call { function, arguments, place };
        Typed { expression, kind: Some(ColumnType::Text), nullable, span: start..end, column }
    }

    /// Reads `value as type)`.
    fn cast(&mut self, span: Range<usize>, or_null: bool) -> Result<Typed, Problem> {
        let inner = self.condition()?;
        if !self.tokens.accept("as") {
            return Err(self.tokens.expected("`as` and a type"));
        }
        let names = ColumnType::NAMES.map(|(name, _)| name);
        let (name, at) = self.tokens.name("a type, for example `int`")?;
        let found = ColumnType::NAMES.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
        let Some((_, kind)) = found else {
            return Err(Problem::unknown(&self.tokens.location(at), "type", &name, &names));
        };
        if !self.tokens.accept(")") {
            return Err(self.tokens.expected("`)`"));
        }
        if let Some(from) = inner.kind.filter(|from| !cast::is_possible(*from, kind)) {
            let label = match (from, kind) {
                (ColumnType::Timestamp, _) => "`epoch_ms(…)` makes a number of a timestamp",
                (_, ColumnType::Timestamp) => "`from_epoch_ms(…)` makes a timestamp of a number",
                _ => "write a comparison, such as `… <> 0`",
            };
            return Err(self.tokens.problem(at, format!("{from} values cannot be cast to {kind}"), label));
        }
        let span = span.start..self.tokens.last_end();
        let place = self.place(&span, inner.column.as_ref());
        let nullable = inner.nullable || or_null;
        let expression = Expression::Cast { operand: Box::new(inner.expression), kind, or_null, place };
        Ok(Typed { expression, kind: Some(kind), nullable, span, column: inner.column })
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
