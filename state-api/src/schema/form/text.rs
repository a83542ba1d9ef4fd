//! The text of a form, which the id of a codec holds.
//!
//! ```text
//! _  bool  u8 .. i128  f32  f64  char  str  bytes  time  ()
//! ?T          an option                  [T]         a sequence
//! [K:V]       a map                      (A,B,)      a tuple
//! {a:A,b|old?:B}   a struct; `b` is also read as `old`, and may be missing; with `!` behind it: no other field
//! <A:(),B:T>  an enum; with `*` behind it: other variants, too
//! ```

use std::fmt::{self, Write};

use super::{Field, Form};

/// The deepest form that is read.
const MAX_DEPTH: usize = 64;

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("_"),
            Self::Bool => f.write_str("bool"),
            Self::Int { signed, bits } => write!(f, "{}{bits}", if *signed { 'i' } else { 'u' }),
            Self::Float(bits) => write!(f, "f{bits}"),
            Self::Char => f.write_str("char"),
            Self::Str => f.write_str("str"),
            Self::Bytes => f.write_str("bytes"),
            Self::Unit => f.write_str("()"),
            Self::Time => f.write_str("time"),
            Self::Option(form) => write!(f, "?{form}"),
            Self::Seq(form) => write!(f, "[{form}]"),
            Self::Map(key, value) => write!(f, "[{key}:{value}]"),
            Self::Tuple(forms) => {
                f.write_char('(')?;
                forms.iter().try_for_each(|form| write!(f, "{form},"))?;
                f.write_char(')')
            }
            Self::Struct { fields, closed } => {
                f.write_char('{')?;
                for (index, field) in fields.iter().enumerate() {
                    separate(index, ',', f)?;
                    for (index, name) in field.names.iter().enumerate() {
                        separate(index, '|', f)?;
                        write_name(name, f)?;
                    }
                    write!(f, "{}:{}", if field.optional { "?" } else { "" }, field.form)?;
                }
                f.write_str(if *closed { "}!" } else { "}" })
            }
            Self::Enum { variants, open } => {
                f.write_char('<')?;
                for (index, (name, form)) in variants.iter().enumerate() {
                    separate(index, ',', f)?;
                    write_name(name, f)?;
                    write!(f, ":{form}")?;
                }
                f.write_str(if *open { ">*" } else { ">" })
            }
        }
    }
}

fn separate(index: usize, with: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if index == 0 { Ok(()) } else { f.write_char(with) }
}

fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

fn write_name(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !name.is_empty() && name.chars().all(is_bare) {
        return f.write_str(name);
    }
    f.write_char('"')?;
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}

/// Reads what `Display` wrote; `None` for any other text.
pub(super) fn parse(text: &str) -> Option<Form> {
    let mut parser = Parser { rest: text };
    let form = parser.form(0)?;
    parser.rest.is_empty().then_some(form)
}

struct Parser<'t> {
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn takes(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'t str {
        let end = self.rest.find(|c| !is_bare(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn name(&mut self) -> Option<String> {
        if !self.takes("\"") {
            return Some(self.word().to_owned()).filter(|word| !word.is_empty());
        }
        let mut name = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => name.push(chars.next()?),
                c => name.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(name)
    }

    fn form(&mut self, depth: usize) -> Option<Form> {
        if depth > MAX_DEPTH {
            return None;
        }
        let deeper = depth + 1;
        if self.takes("?") {
            return Some(Form::Option(Box::new(self.form(deeper)?)));
        }
        if self.takes("()") {
            return Some(Form::Unit);
        }
        if self.takes("[") {
            let first = Box::new(self.form(deeper)?);
            let second = if self.takes(":") { Some(Box::new(self.form(deeper)?)) } else { None };
            let form = match second {
                Some(second) => Form::Map(first, second),
                None => Form::Seq(first),
            };
            return self.takes("]").then_some(form);
        }
        if self.takes("(") {
            let mut forms = Vec::new();
            while !self.takes(")") {
                forms.push(self.form(deeper)?);
                self.takes(",").then_some(())?;
            }
            return Some(Form::Tuple(forms));
        }
        if self.takes("{") {
            let fields = self.list("}", |parser| parser.field(deeper))?;
            return Some(Form::Struct { fields, closed: self.takes("!") });
        }
        if self.takes("<") {
            let variants = self.list(">", |parser| {
                let name = parser.name()?;
                parser.takes(":").then_some(())?;
                Some((name, parser.form(deeper)?))
            })?;
            return Some(Form::Enum { variants, open: self.takes("*") });
        }
        Some(match self.word() {
            "_" => Form::Any,
            "bool" => Form::Bool,
            "char" => Form::Char,
            "str" => Form::Str,
            "bytes" => Form::Bytes,
            "time" => Form::Time,
            word => number(word)?,
        })
    }

    fn field(&mut self, depth: usize) -> Option<Field> {
        let mut names = vec![self.name()?];
        while self.takes("|") {
            names.push(self.name()?);
        }
        let optional = self.takes("?");
        self.takes(":").then_some(())?;
        Some(Field { names, optional, form: self.form(depth)? })
    }

    fn list<T>(&mut self, end: &str, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        while !self.takes(end) {
            if !items.is_empty() {
                self.takes(",").then_some(())?;
            }
            items.push(item(self)?);
        }
        Some(items)
    }
}

fn number(word: &str) -> Option<Form> {
    let bits: u8 = word.get(1..)?.parse().ok()?;
    match (word.as_bytes().first()?, bits) {
        (b'u', 8 | 16 | 32 | 64 | 128) => Some(Form::Int { signed: false, bits }),
        (b'i', 8 | 16 | 32 | 64 | 128) => Some(Form::Int { signed: true, bits }),
        (b'f', 32 | 64) => Some(Form::Float(bits)),
        _ => None,
    }
}
