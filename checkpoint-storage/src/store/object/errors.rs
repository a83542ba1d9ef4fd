//! Errors of OpenDAL in one line.

use strandline_state_api::{Error, ErrorKind};

use super::super::faults::missing;
use crate::credentials::mask_credentials;

/// An error of OpenDAL in the words of this crate family.
pub(crate) fn translate(error: &opendal::Error, doing: &str, path: &str) -> Error {
    let kind = match error.kind() {
        opendal::ErrorKind::NotFound => return missing(path),
        opendal::ErrorKind::ConfigInvalid => ErrorKind::Invalid,
        opendal::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("the store could not {doing} a file"))
        .with("file", path)
        .caused_by(reason(error))
}

/// What went wrong, in one line, without headers and secrets.
pub(super) fn reason(error: &opendal::Error) -> String {
    let mut deepest = std::error::Error::source(error);
    while let Some(next) = deepest.and_then(std::error::Error::source) {
        deepest = Some(next);
    }
    let message = match answer(error.message()) {
        Some(answer) => answer,
        None if error.message().is_empty() => error.kind().to_string(),
        None => error.message().to_owned(),
    };
    let text = match deepest {
        Some(deepest) => format!("{message}: {deepest}"),
        None => message,
    };
    let words: Vec<_> = text.split_whitespace().collect();
    mask_credentials(&words.join(" "))
}

/// `S3Error { code: "NoSuchBucket", message: "The …", … }`, as OpenDAL prints the answer of a server.
fn answer(message: &str) -> Option<String> {
    let field = |name: &str| {
        let (_, rest) = message.split_once(&format!("{name}: \""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let fields = message.starts_with("S3Error {").then(|| (field("code"), field("message")));
    match fields? {
        (Some(code), Some(text)) if !text.is_empty() => Some(format!("{code}: {text}")),
        (Some(code), _) => Some(code.to_owned()),
        _ => None,
    }
}

pub(super) fn lost(kind: opendal::ErrorKind) -> bool {
    matches!(kind, opendal::ErrorKind::ConditionNotMatch | opendal::ErrorKind::AlreadyExists)
}
