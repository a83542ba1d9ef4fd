//! Which bucket a URI means.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use percent_encoding::percent_decode_str;
use strandline_checkpoint_storage::mask_credentials;
use strandline_state_api::{Error, Result};

use super::Store;

/// Of one request.
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: RetryConfig = RetryConfig {
    backoff: BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(10),
        base: 2.0,
    },
    max_retries: 5,
    retry_timeout: Duration::from_secs(60),
};

/// Options of storages that are none of the output, which looks for keys nowhere but in the URI, in the
/// environment, and at the machine's own service.
const IGNORED: [&str; 3] = ["disable_config_load", "disable_ec2_metadata", "root"];

/// Returns the store, the prefix in it, and the URI for messages.
pub(super) fn open(uri: &str) -> Result<(Arc<dyn Store>, Path, String)> {
    let invalid = |message: &str| Error::invalid(message).with("uri", mask_credentials(uri));
    let (place, query) = uri.split_once('?').unwrap_or((uri, ""));
    let Some((scheme, rest)) = place.split_once("://") else {
        return Err(invalid("this is no URI of an object store: use s3://bucket/prefix"));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let path = Path::parse(prefix.trim_matches('/'));
    let path = path.map_err(|e| invalid("objects of this prefix have no names").caused_by(e))?;
    let shown = place.trim_end_matches('/').to_owned();
    match scheme {
        // One for the process, so that every attempt of a job finds what those before it left.
        "memory" => {
            static MEMORY: LazyLock<Arc<InMemory>> = LazyLock::new(Arc::default);
            let path = Path::from_iter(Path::from(bucket).parts().chain(path.parts()));
            Ok((Arc::clone(&*MEMORY) as _, path, shown))
        }
        "s3" if !bucket.is_empty() => {
            let options = ClientOptions::new().with_timeout(TIMEOUT);
            let mut builder = AmazonS3Builder::from_env().with_client_options(options);
            builder = builder.with_bucket_name(bucket).with_retry(RETRIES);
            for option in query.split('&').filter(|option| !option.is_empty()) {
                let (name, value) = option.split_once('=').unwrap_or((option, ""));
                let value = percent_decode_str(value).decode_utf8();
                let value = value.map_err(|e| invalid("an option of the URI is no text").caused_by(e))?;
                if name == "endpoint" && value.starts_with("http://") {
                    builder = builder.with_allow_http(true);
                }
                let name = match name {
                    name if IGNORED.contains(&name) => continue,
                    "enable_virtual_host_style" => "virtual_hosted_style_request",
                    "allow_anonymous" => "skip_signature",
                    name => name,
                };
                let key: AmazonS3ConfigKey = name.parse().map_err(|_| {
                    invalid("an option of the URI is unknown for an output; remove it").with("option", name)
                })?;
                builder = builder.with_config(key, value);
            }
            let store = builder.build();
            let store = store.map_err(|e| invalid("the bucket cannot be opened").caused_by(e))?;
            Ok((Arc::new(store), path, shown))
        }
        _ => Err(invalid("this is no URI of an object store: use s3://bucket/prefix")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_a_bucket_and_a_prefix() {
        let (_, prefix, shown) = open("s3://b/a/c/?region=r&endpoint=http%3A%2F%2Flocalhost:1").unwrap();
        assert_eq!((prefix.as_ref(), shown.as_str()), ("a/c", "s3://b/a/c"));
        assert_eq!(open("s3://b?region=r").unwrap().1.as_ref(), "");
        for bad in ["s3:/b", "s3://", "ftp://b/a", "s3://b/a//c", "s3://b/a?colour=red", "results"] {
            assert!(open(bad).is_err(), "{bad}");
        }
        let error = open("s3://b/a?colour=red&secret_access_key=abc").err().unwrap().to_string();
        assert!(error.contains("colour") && !error.contains("abc"), "{error}");
    }
}
