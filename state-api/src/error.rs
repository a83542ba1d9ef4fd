//! The error type of all Strandline crates.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

mod foreign;

pub use foreign::OrFail;

/// The result of every fallible call in the Strandline crates.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the receiver of an [`Error`] can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller broke a rule of the API or gave an unusable value: change the call.
    Invalid,
    /// The job and the stored state do not fit together (type, schema, missing operator): change the job or
    /// migrate.
    Incompatible,
    /// Stored bytes differ from what was written: fall back to another checkpoint.
    Corrupt,
    /// A file, state or other thing that the caller named does not exist.
    NotFound,
    /// A store or a peer did not do its work now; trying again may help.
    Unavailable,
    /// A newer coordinator has taken over: stop, nothing may be committed any more.
    Fenced,
    /// This backend or store can never do what the caller asked: choose another.
    Unsupported,
    /// Code of the user (operator, source, sink, codec) failed.
    User,
    /// A bug in Strandline: report the error.
    Internal,
}

impl ErrorKind {
    fn label(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Incompatible => "incompatible",
            Self::Corrupt => "corrupt",
            Self::NotFound => "not found",
            Self::Unavailable => "unavailable",
            Self::Fenced => "fenced",
            Self::Unsupported => "unsupported",
            Self::User => "user code failed",
            Self::Internal => "internal error",
        }
    }
}

/// An error: what happened, to which state, checkpoint or file, and what to do.
///
/// The kind is for programs, the message and the context are for people; neither text is part of the API. The
/// error displays its causes behind its own text, down to the first. Clones share the cause.
///
/// In a function that returns this crate's [`Result`], `?` converts the errors of the standard library, boxed
/// errors, and with the cargo feature `serde_json` those of that crate, into errors of kind
/// [`User`](ErrorKind::User). [`OrFail`] converts all others.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error of `kind`; `message` is one sentence without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), context: Vec::new(), source: None }))
    }

    /// Adds where the error happened, for example `("operator", "count")`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Sets the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Creates an error of kind [`ErrorKind::Invalid`]: the caller broke a rule.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Creates an error of kind [`ErrorKind::Corrupt`]: stored bytes differ from what was written.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Returns the kind, which decides what the receiver can do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message alone, without context and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the value given to [`with`](Self::with) under `name`, if any.
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.label(), self.0.message)?;
        for (i, (name, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{name} {value}", if i == 0 { " (" } else { ", " })?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        let source = self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static));
        write_causes(source, f)
    }
}

/// Writes a cause and what caused that, in turn.
fn write_causes(mut cause: Option<&(dyn StdError + 'static)>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut last = String::new();
    while let Some(error) = cause {
        let text = error.to_string();
        // Many errors repeat the text of their cause.
        if !last.ends_with(&text) {
            write!(f, ": {text}")?;
        }
        if error.is::<Error>() {
            return Ok(());
        }
        last = text;
        cause = error.source();
    }
    Ok(())
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_displays_its_message_context_and_cause() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::corrupt("checksum of block 3 differs")
            .with("segment", "0001-ab.seg")
            .with("checkpoint", 7)
            .caused_by(cause);
        assert_eq!(
            error.to_string(),
            "corrupt: checksum of block 3 differs (segment 0001-ab.seg, checkpoint 7): disk on fire"
        );
        assert_eq!(error.context("checkpoint"), Some("7"));
        assert!(StdError::source(&error).is_some());
    }
    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Layer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[test]
    fn an_error_displays_its_causes_down_to_the_first() {
        let refused = Layer("connection refused", None);
        let cause = Layer("request failed", Some(Box::new(Layer("cannot connect", Some(Box::new(refused))))));
        let inner = Error::new(ErrorKind::Unavailable, "the lookup failed").caused_by(cause);
        let chain = "the lookup failed: request failed: cannot connect: connection refused";
        assert_eq!(inner.to_string(), format!("unavailable: {chain}"));
        let outer = Error::new(ErrorKind::User, "an order has no customer").caused_by(inner);
        let whole = format!("user code failed: an order has no customer: unavailable: {chain}");
        assert_eq!(outer.to_string(), whole, "each cause once");
        let repeating = Error::corrupt("a").caused_by(Layer("b: c", Some(Box::new(Layer("c", None)))));
        assert_eq!(repeating.to_string(), "corrupt: a: b: c");
    }

    #[test]
    fn a_clone_displays_the_same_and_has_the_same_cause() {
        let cause = Error::corrupt("a block differs").caused_by(std::io::Error::other("disk on fire"));
        let error =
            Error::new(ErrorKind::Unavailable, "a checkpoint failed").with("checkpoint", 7).caused_by(cause);
        let copy = error.clone().with("job", "orders");
        let text = "corrupt: a block differs: disk on fire";
        assert_eq!(
            copy.to_string(),
            format!("unavailable: a checkpoint failed (checkpoint 7, job orders): {text}")
        );
        assert_eq!(error.context("job"), None);
        let cause = StdError::source(&copy).and_then(|cause| cause.downcast_ref::<Error>());
        assert_eq!(cause.map(Error::kind), Some(ErrorKind::Corrupt));
    }

    #[test]
    fn a_boxed_error_of_ours_stays_what_it_is() {
        let boxed: Box<dyn StdError + Send + Sync> = Box::new(Error::corrupt("a block differs"));
        assert_eq!(Error::from(boxed).to_string(), "corrupt: a block differs");
        let failed = Err::<(), _>(Error::corrupt("a block differs")).or_fail("the table cannot be read");
        let error = failed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(error.to_string(), "corrupt: the table cannot be read: corrupt: a block differs");
        let text = Err::<(), _>("out of stock").or_fail("the order cannot be placed").unwrap_err();
        assert_eq!(text.to_string(), "user code failed: the order cannot be placed: out of stock");
    }

    #[test]
    fn errors_and_results_cross_threads() {
        fn crosses<T: Send + Sync + 'static>() {}
        crosses::<Error>();
        crosses::<Result<u64>>();
    }
}
