//! Errors of these crates as errors of DataFusion, and back.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use strandline_state_api::{Error, ErrorKind};

/// Returns an error as DataFusion passes it on.
pub(crate) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Returns the error of a checkpoint or a storage that made a query fail, if one did: with its kind, and what it
/// happened to.
pub fn cause(error: &DataFusionError) -> Option<&Error> {
    let mut current: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(found) = current.downcast_ref::<Error>() {
            return Some(found);
        }
        current = match current.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => inner.as_ref(),
            Some(DataFusionError::ArrowError(inner, _)) => match inner.as_ref() {
                ArrowError::ExternalError(inner) => inner.as_ref(),
                _ => return None,
            },
            _ => current.source()?,
        };
    }
}

/// Returns the error that a query failed with, as these crates report errors.
pub(crate) fn flat(error: &DataFusionError) -> Error {
    if let Some(found) = cause(error) {
        return found.clone();
    }
    let kind = match error.find_root() {
        DataFusionError::NotImplemented(_) => ErrorKind::Unsupported,
        DataFusionError::Internal(_) => ErrorKind::Internal,
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) => ErrorKind::Unavailable,
        _ => ErrorKind::Invalid,
    };
    let text = error.strip_backtrace();
    let line = text.split('\n').next().unwrap_or(&text);
    Error::new(kind, line.to_owned())
}
