//! How operators store the records that they keep.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{Cleanup, Evolution, SelfDescribingCodec, SerdeCodec, Ttl, Visibility};

/// How an operator stores the records that it keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In the compact form of [`SerdeCodec`]. A restore refuses records whose type has changed.
    #[default]
    Compact,
    /// In the form of [`SelfDescribingCodec`], which has the names of fields: a later version of the program
    /// may add fields with a default and drop others.
    SelfDescribing,
}

impl Storage {
    /// Returns the codec for values of type `V`.
    pub(crate) fn of<V: Serialize + DeserializeOwned + 'static>(self) -> Evolution<V> {
        match self {
            Self::Compact => Evolution::first(1, SerdeCodec),
            Self::SelfDescribing => Evolution::first(1, SelfDescribingCodec),
        }
    }
}

/// Returns the time-to-live of a state that may have none: then one that no value reaches
/// before the end of time. Operators never see values that have expired.
pub(crate) fn ttl_or_never(ttl: Option<Ttl>) -> Ttl {
    let never = || Ttl::event_time(Duration::MAX).cleanup(Cleanup::ON_ACCESS_ONLY);
    ttl.unwrap_or_else(never).visibility(Visibility::Never)
}
