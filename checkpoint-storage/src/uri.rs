//! Which store a URI means.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use strandline_state_api::{Error, Result};

use crate::credentials::{mask_credentials, shown};
#[cfg(feature = "s3")]
use crate::store::translate;
use crate::{ObjectStore, Storage, StorageOptions};

/// What a URI begins with. A path that begins so lacks a slash.
const SCHEMES: [&str; 3] = ["file:", "memory:", "s3:"];

pub(crate) fn open(uri: &str, options: &StorageOptions) -> Result<Storage> {
    match uri.split_once("://") {
        None if uri.is_empty() || SCHEMES.iter().any(|scheme| uri.starts_with(scheme)) => Err(unknown(uri)),
        None => Storage::in_dir(uri),
        Some(("file", path)) if path.starts_with('/') => {
            let path = percent_decode_str(path).decode_utf8().map_err(|e| unknown(uri).caused_by(e))?;
            Storage::in_dir(path.as_ref())
        }
        Some(("file", _)) => Err(Error::invalid(
            "a file URI needs three slashes and an absolute path, as in file:///var/lib/job; or the path alone",
        )
        .with("uri", mask_credentials(uri))),
        Some(("memory", _)) => {
            let store = Arc::new(ObjectStore::in_memory()?);
            Ok(Storage::from_parts(uri, Arc::clone(&store) as _, store))
        }
        Some(("s3", _)) => s3(uri, options),
        Some(_) => Err(unknown(uri)),
    }
}

fn s3(uri: &str, options: &StorageOptions) -> Result<Storage> {
    let store = Arc::new(s3_store(uri, options)?);
    store.check_can_claim()?;
    Ok(Storage::from_parts(shown(uri), Arc::clone(&store) as _, store))
}

#[cfg(feature = "s3")]
pub(crate) fn s3_store(uri: &str, options: &StorageOptions) -> Result<ObjectStore> {
    opendal::install_default();
    let opened = opendal::Operator::from_uri(uri);
    let operator = opened.map_err(|e| translate(&e, "open", &shown(uri)))?;
    Ok(ObjectStore::with_options(operator, options))
}

#[cfg(not(feature = "s3"))]
pub(crate) fn s3_store(uri: &str, _: &StorageOptions) -> Result<ObjectStore> {
    let message = "this build has no S3: build with the cargo feature `s3`";
    Err(Error::new(strandline_state_api::ErrorKind::Unsupported, message).with("uri", shown(uri)))
}

fn unknown(uri: &str) -> Error {
    Error::invalid("this is no storage: use file:///abs/path, a path, memory:// or s3://bucket/prefix")
        .with("uri", mask_credentials(uri))
}

#[cfg(test)]
mod tests {
    use super::*;
    use strandline_state_api::ErrorKind;

    fn open(uri: &str) -> Result<Storage> {
        super::open(uri, &StorageOptions::default())
    }

    #[test]
    fn uris_are_told_apart() {
        assert_eq!(open("file:///a%20b/c").unwrap().uri(), "file:///a b/c");
        assert_eq!(open("/a/b").unwrap().uri(), "file:///a/b");
        assert!(open("a/b").unwrap().uri().ends_with("/a/b"));
        assert_eq!(open("memory://x").unwrap().uri(), "memory://x");
        for bad in ["", "file://a/b", "http://a", "file:///a%ff", "s3:/a", "file:/a"] {
            assert_eq!(open(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }
}
