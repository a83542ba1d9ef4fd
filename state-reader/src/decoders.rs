//! Decoders of codecs of a user's own.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use strandline_state_api::Result;
use strandline_state_api::schema::{DataType, Description};

use crate::{Decoder, Value};

/// Decoders by the names of codecs: for codecs of a program's own, whose bytes no snapshot describes.
///
/// ```
/// use strandline_state_api::schema::DataType;
/// use strandline_state_reader::{Decoders, Value};
///
/// let decoders = Decoders::new().value("celsius", DataType::F64, |bytes| {
///     let tenths = i16::from_le_bytes(bytes.try_into().unwrap_or_default());
///     Ok(Value::Float(f64::from(tenths) / 10.0))
/// });
/// ```
#[derive(Clone, Default)]
pub struct Decoders {
    values: HashMap<String, Decoder>,
    keys: HashMap<String, Decoder>,
}

impl Decoders {
    /// Knows no codec but those whose bytes are described.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a decoder of values, list elements and accumulators of the codec with this name. What stands behind a
    /// `#` in the name of a stored codec does not count, unless it is part of `codec`, too.
    #[must_use]
    pub fn value(
        mut self,
        codec: impl Into<String>,
        data_type: DataType,
        decode: impl Fn(&[u8]) -> Result<Value> + Send + Sync + 'static,
    ) -> Self {
        self.values.insert(codec.into(), Decoder::custom(data_type, Arc::new(decode), None));
        self
    }

    /// Adds a decoder of keys, namespaces and map keys of the codec with this name, and its inverse, with which
    /// filters look for keys.
    #[must_use]
    pub fn key(
        mut self,
        codec: impl Into<String>,
        data_type: DataType,
        decode: impl Fn(&[u8]) -> Result<Value> + Send + Sync + 'static,
        encode: impl Fn(&Value) -> Result<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        self.keys.insert(codec.into(), Decoder::custom(data_type, Arc::new(decode), Some(Arc::new(encode))));
        self
    }

    /// Adds a description for values of the codec with this name, where snapshots hold none.
    #[must_use]
    pub fn described_value(mut self, codec: impl Into<String>, description: Description) -> Self {
        self.values.insert(codec.into(), Decoder::described(description));
        self
    }

    /// Returns the decoder of a codec: a registered one, one as the snapshot describes it, or one that the name
    /// reveals.
    pub(crate) fn of_value(&self, codec: &str, described: Option<&Description>) -> Decoder {
        decoder_of(&self.values, codec, described, Description::of_value_codec)
    }

    pub(crate) fn of_key(&self, codec: &str, described: Option<&Description>) -> Decoder {
        decoder_of(&self.keys, codec, described, Description::of_key_codec)
    }
}

fn decoder_of(
    registered: &HashMap<String, Decoder>,
    codec: &str,
    described: Option<&Description>,
    revealed: fn(&str) -> Option<Description>,
) -> Decoder {
    let name = codec.split_once('#').map_or(codec, |(name, _)| name);
    let known = registered.get(codec).or_else(|| registered.get(name));
    known.cloned().unwrap_or_else(|| {
        let description = described.cloned().or_else(|| revealed(codec));
        description.map_or_else(Decoder::bytes, Decoder::described)
    })
}

impl fmt::Debug for Decoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoders").field("values", &self.values).field("keys", &self.keys).finish()
    }
}
