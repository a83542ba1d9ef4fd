//! Conversions from the errors of other libraries, so that `?` works in the functions of users.
//!
//! They are listed, and not one blanket conversion from every error. A blanket conversion forbids
//! [`Error`] to be an [`std::error::Error`] itself, and then `?` fails where most programs need it: in the
//! functions of an embedder that return a boxed error, or an error type of its own. [`OrFail`] covers the
//! rest, and adds what was being done.

use std::error::Error as StdError;

use super::{Error, ErrorKind, Result};

macro_rules! foreign {
    ($($message:literal: $($error:ty),+;)*) => {$($(
        impl From<$error> for Error {
            /// Returns an error of kind [`ErrorKind::User`] with this one as the cause.
            fn from(error: $error) -> Self {
                Self::new(ErrorKind::User, $message).caused_by(error)
            }
        }
    )+)*};
}

foreign! {
    "an input or output operation failed": std::io::Error;
    "a value cannot be formatted": std::fmt::Error;
    "a text is no number": std::num::ParseIntError, std::num::ParseFloatError;
    "a number does not fit its type": std::num::TryFromIntError;
    "a text is neither true nor false": std::str::ParseBoolError;
    "a text is not one character": std::char::ParseCharError, std::char::CharTryFromError;
    "bytes are no UTF-8": std::str::Utf8Error, std::string::FromUtf8Error;
    "a slice has the wrong length": std::array::TryFromSliceError;
    "a text is no network address": std::net::AddrParseError;
    "a time lies before another": std::time::SystemTimeError;
    "an environment variable cannot be read": std::env::VarError;
    "there is not enough memory": std::collections::TryReserveError;
    "a channel is closed": std::sync::mpsc::RecvError;
}

#[cfg(feature = "serde_json")]
foreign! {
    "a value is no JSON of the expected form": serde_json::Error;
}

impl From<Box<dyn StdError + Send + Sync>> for Error {
    /// Returns an error of kind [`ErrorKind::User`] with this one as the cause, or the boxed error itself if it
    /// is an [`Error`].
    fn from(error: Box<dyn StdError + Send + Sync>) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => Self::new(ErrorKind::User, "a function returned an error").caused_by(error),
        }
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Turns the error of any library into an [`Error`], with what was being done.
///
/// `?` alone converts the errors of the standard library and boxed ones.
///
/// ```
/// use strandline_state_api::{OrFail, Result};
///
/// fn price(text: &str) -> Result<f64> {
///     text.parse().or_fail("the price of an order is no number")
/// }
///
/// let error = price("free").unwrap_err().to_string();
/// assert_eq!(error, "user code failed: the price of an order is no number: invalid float literal");
/// ```
pub trait OrFail<T> {
    /// Returns the value, or an error with `message`, one sentence without a full stop, and the error as its
    /// cause. The kind is [`ErrorKind::User`], or that of the cause if it is an [`Error`].
    ///
    /// # Errors
    /// Fails where `self` is an error.
    fn or_fail(self, message: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> OrFail<T> for Result<T, E> {
    fn or_fail(self, message: impl Into<String>) -> Result<T> {
        self.map_err(|error| {
            let cause = error.into();
            let kind = cause.downcast_ref::<Error>().map_or(ErrorKind::User, Error::kind);
            Error::new(kind, message).caused_by(cause)
        })
    }
}
