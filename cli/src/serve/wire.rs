//! What endpoint and client agree on.

use hyper::StatusCode;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use strandline_state_api::{Error, ErrorKind};
use strandline_state_sql::{Place, QueryError};

/// The type of statements.
pub(crate) const SQL: &str = "application/sql";
/// The type of rows as streams of Arrow's IPC format, one for each statement with rows, one behind the other.
pub(crate) const ARROW: &str = "application/vnd.apache.arrow.stream";
/// The type of rows as JSON, one object on a line for each.
pub(crate) const JSON_LINES: &str = "application/x-ndjson";
/// The trailer that has the error of an answer that had begun.
pub(crate) const ERROR_TRAILER: &str = "strandline-error";
/// The variable of the environment with the token.
pub(crate) const TOKEN_VARIABLE: &str = "STRANDLINE_TOKEN";

/// What else than controls and other than ASCII a trailer does not hold as it is.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

const KINDS: [ErrorKind; 9] = [
    ErrorKind::Invalid,
    ErrorKind::Incompatible,
    ErrorKind::NotFound,
    ErrorKind::Corrupt,
    ErrorKind::Unavailable,
    ErrorKind::Unsupported,
    ErrorKind::Fenced,
    ErrorKind::User,
    ErrorKind::Internal,
];

/// The token that the environment has.
pub(crate) fn token() -> Option<String> {
    std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty())
}

/// An error on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireError {
    error: String,
    kind: String,
    /// Where in the statements it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    column: Option<u64>,
}

impl WireError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { error: message.into(), kind: format!("{:?}", ErrorKind::Invalid), line: None, column: None }
    }

    /// As a line of JSON.
    pub(crate) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// As the value of a trailer.
    pub(crate) fn trailer(&self) -> String {
        utf8_percent_encode(self.line().trim_end(), ESCAPED).to_string()
    }

    pub(crate) fn of_trailer(text: &str) -> Option<Self> {
        serde_json::from_str(&percent_decode_str(text).decode_utf8().ok()?).ok()
    }

    /// The status of an answer that consists of it.
    pub(crate) fn status(&self) -> StatusCode {
        match self.kind() {
            ErrorKind::Invalid | ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn kind(&self) -> ErrorKind {
        let named = KINDS.into_iter().find(|kind| format!("{kind:?}") == self.kind);
        named.unwrap_or(ErrorKind::Internal)
    }

    pub(crate) fn into_error(self) -> QueryError {
        let place = self.line.zip(self.column).map(|(line, column)| Place { line, column });
        QueryError { error: Error::new(self.kind(), self.error), place }
    }
}

impl From<QueryError> for WireError {
    fn from(QueryError { error, place }: QueryError) -> Self {
        let (line, column) = (place.map(|place| place.line), place.map(|place| place.column));
        let kind = error.kind();
        let text = error.to_string();
        // Whoever makes an error of it again adds the kind.
        let error = text.strip_prefix(&Error::new(kind, "").to_string()).unwrap_or(&text).to_owned();
        Self { error, kind: format!("{kind:?}"), line, column }
    }
}

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        QueryError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_back_as_they_were() {
        for kind in KINDS {
            let place = Some(Place { line: 2, column: 7 });
            let error = QueryError { error: Error::new(kind, "100 % of \"é\"\nand more"), place };
            let error = WireError::from(error);
            assert!(error.trailer().bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_control()));
            let back = WireError::of_trailer(&error.trailer()).unwrap().into_error();
            assert_eq!((back.error.kind(), back.place), (kind, place));
            assert_eq!(back.error.message(), "100 % of \"é\"\nand more");
        }
    }
}
