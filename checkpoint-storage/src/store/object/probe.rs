//! Whether a store keeps the law of a claim.

use bytes::Bytes;
use strandline_state_api::{Error, ErrorKind, Result};

use crate::name::PROBE;
use crate::{ClaimOutcome, ClaimStore};

/// How often the store is asked at most, where answers get lost.
const PROBES: usize = 4;

/// Creates one object until the store refuses to: see [`ClaimStore::check`].
pub(super) async fn probe(claims: &dyn ClaimStore) -> Result<()> {
    let (mut created, mut failed) = (false, None);
    for _ in 0..PROBES {
        match claims.claim(PROBE, Bytes::new()).await {
            Ok(ClaimOutcome::Exists) => return Ok(()),
            Ok(ClaimOutcome::Created) if created => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "this store created one object twice: it ignores the condition that the object must not exist, so \
                     two coordinators could both complete a checkpoint; use a store that honours If-None-Match, a \
                     local directory, or give a claim store",
                )
                .with("file", PROBE));
            }
            Ok(ClaimOutcome::Created) => created = true,
            Err(e) if e.kind() == ErrorKind::Unavailable => failed = Some(e),
            Err(e) => return Err(e),
        }
    }
    let unknown = || Error::new(ErrorKind::Unavailable, "the probe of the store had no clear answer");
    Err(failed.unwrap_or_else(unknown))
}
