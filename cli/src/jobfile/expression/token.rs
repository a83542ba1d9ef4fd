//! The words of conditions, aggregates and column lists.

use std::iter::Peekable;
use std::ops::Range;
use std::str::CharIndices;

use super::super::problem::{Location, Problem};
use super::super::tree::Node;

/// A word of a string.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Token {
    /// A name or a keyword; quoted names are never keywords.
    Name { name: String, quoted: bool },
    /// A number, not parsed yet.
    Number(String),
    /// Text in single quotes.
    Text(String),
    /// An operator or a parenthesis.
    Symbol(&'static str),
    /// The end.
    End,
}

impl Token {
    /// Whether it is this keyword, in any case.
    pub(in super::super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Name { name, quoted: false } if name.eq_ignore_ascii_case(keyword))
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Name { name, .. } => format!("found `{name}`"),
            Self::Number(number) => format!("found the number {number}"),
            Self::Text(text) => format!("found the text '{text}'"),
            Self::Symbol(symbol) => format!("found `{symbol}`"),
            Self::End => "found the end".into(),
        }
    }
}

/// All tokens of a string, read one by one.
pub(in super::super) struct Tokens<'a> {
    node: &'a Node,
    tokens: Vec<(Token, Range<usize>)>,
    next: usize,
}

impl<'a> Tokens<'a> {
    pub(in super::super) fn new(node: &'a Node, text: &str) -> Result<Self, Problem> {
        let mut lexer = Lexer { text, chars: text.char_indices().peekable() };
        let mut tokens = Vec::new();
        loop {
            let (token, span) = lexer.next(node)?;
            let end = token == Token::End;
            tokens.push((token, span));
            if end {
                return Ok(Self { node, tokens, next: 0 });
            }
        }
    }

    pub(in super::super) fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(token, _)| token)
    }

    /// The bytes of the next token.
    pub(in super::super) fn span(&self) -> Range<usize> {
        let last = || self.tokens.last();
        self.tokens.get(self.next).or_else(last).map_or(0..0, |(_, span)| span.clone())
    }

    /// The token behind the next one.
    pub(super) fn second(&self) -> &Token {
        self.tokens.get(self.next + 1).map_or(&Token::End, |(token, _)| token)
    }

    /// Where the last token that was taken ends.
    pub(super) fn last_end(&self) -> usize {
        let last = self.next.checked_sub(1).and_then(|last| self.tokens.get(last));
        last.map_or(0, |(_, span)| span.end)
    }

    pub(in super::super) fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    /// Takes the next token if it is this keyword or symbol.
    pub(in super::super) fn accept(&mut self, word: &str) -> bool {
        let found = self.peek().is(word) || matches!(self.peek(), Token::Symbol(symbol) if *symbol == word);
        self.next += usize::from(found);
        found
    }

    /// The problem of a next token that does not fit.
    pub(in super::super) fn expected(&self, what: &str) -> Problem {
        self.problem(self.span(), format!("expected {what}"), self.peek().describe())
    }

    pub(in super::super) fn problem(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Problem {
        Problem::new(&self.location(span), message, label)
    }

    pub(in super::super) fn location(&self, span: Range<usize>) -> Location {
        self.node.part(span)
    }

    /// Takes a name that is no keyword.
    pub(in super::super) fn name(&mut self, what: &str) -> Result<(String, Range<usize>), Problem> {
        let span = self.span();
        match self.peek() {
            Token::Name { name, .. } => {
                let name = name.clone();
                self.next += 1;
                Ok((name, span))
            }
            _ => Err(self.expected(what)),
        }
    }

    pub(in super::super) fn end(&self, what: &str) -> Result<(), Problem> {
        match self.peek() {
            Token::End => Ok(()),
            _ => Err(self.expected(what)),
        }
    }
}

/// Takes `as name`, if it comes next, and then the end.
pub(in super::super) fn parse_alias(tokens: &mut Tokens<'_>) -> Result<Option<String>, Problem> {
    let alias = if tokens.accept("as") { Some(tokens.name("the new name of the column")?.0) } else { None };
    tokens.end(if alias.is_some() { "the end" } else { "`as` and a new name, or the end" })?;
    Ok(alias)
}

struct Lexer<'t> {
    text: &'t str,
    chars: Peekable<CharIndices<'t>>,
}

/// Longer ones first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 17] =
    ["==", "!=", "<>", "<=", ">=", "||", "=", "<", ">", "(", ")", ",", "+", "-", "*", "/", "%"];

impl Lexer<'_> {
    fn next(&mut self, node: &Node) -> Result<(Token, Range<usize>), Problem> {
        while self.chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        let Some(&(start, first)) = self.chars.peek() else {
            return Ok((Token::End, self.text.len()..self.text.len()));
        };
        let rest = self.text.get(start..).unwrap_or_default();
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            self.advance(start + symbol.len());
            return Ok((Token::Symbol(symbol), start..start + symbol.len()));
        }
        let token = match first {
            '\'' => Token::Text(self.quoted(start, '\'', node)?),
            '"' => Token::Name { name: self.quoted(start, '"', node)?, quoted: true },
            c if c.is_ascii_digit() || c == '.' => Token::Number(self.number()),
            c if c.is_alphabetic() || c == '_' => {
                self.run(|c| c.is_alphanumeric() || c == '_', |name| Token::Name { name, quoted: false })
            }
            other => {
                let location = node.part(start..start + other.len_utf8());
                let label = "quote text as 'text' and unusual column names as \"name\"";
                return Err(Problem::new(&location, format!("unexpected character {other:?}"), label));
            }
        };
        let end = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        Ok((token, start..end))
    }

    fn advance(&mut self, to: usize) {
        while self.chars.next_if(|(at, _)| *at < to).is_some() {}
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool, make: impl FnOnce(String) -> Token) -> Token {
        let mut word = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| belongs(*c)) {
            word.push(c);
        }
        make(word)
    }

    /// A number: digits, points and letters, and the sign of an exponent.
    fn number(&mut self) -> String {
        let mut word = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| {
            let exponent = matches!(c, '-' | '+') && word.ends_with(['e', 'E']);
            c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || exponent
        }) {
            word.push(c);
        }
        word
    }

    /// Text in quotes; a doubled quote stands for itself.
    fn quoted(&mut self, start: usize, quote: char, node: &Node) -> Result<String, Problem> {
        self.chars.next();
        let mut text = String::new();
        while let Some((_, c)) = self.chars.next() {
            if c != quote {
                text.push(c);
            } else if self.chars.next_if(|(_, c)| *c == quote).is_some() {
                text.push(quote);
            } else {
                return Ok(text);
            }
        }
        let location = node.part(start..self.text.len());
        Err(Problem::new(&location, "a quote is not closed", format!("expected {quote} at the end of it")))
    }
}
