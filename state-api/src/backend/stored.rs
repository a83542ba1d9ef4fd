//! The byte form of the values of a registered state.

use std::fmt;
use std::sync::Arc;

use crate::schema::{Decode, StateMeta, StateSchema, StateTypes, StoredForm};
use crate::state::{Ttl, split_stamp};
use crate::time::StateTime;
use crate::{Codec, Error, ErrorKind, Result};

/// Returns the decoder of a stored form; `None` for the current form.
type Reader<V> = Arc<dyn Fn(StoredForm) -> Option<Decode<V>> + Send + Sync>;
type Expired<V> = fn(&Ttl, &V, &StateTime) -> bool;

/// The values of a state as a backend holds them: description, codec, older readable forms, and expiry. A
/// descriptor passes them to the backend at the registration.
///
/// For a state with a time-to-live, `V` is a value with its stamp; a backend treats it like any other type.
pub struct StoredValues<V> {
    schema: StateSchema,
    codec: Arc<dyn Codec<V>>,
    reader: Reader<V>,
    expiry: Option<(Ttl, Expired<V>)>,
    types: &'static str,
    /// The accepted forms that are not the current one.
    migrations: Vec<(StoredForm, Decode<V>)>,
}

/// A stored form of values that their [`StoredValues`] have accepted. The parts of one snapshot may have
/// several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AcceptedForm(Option<u32>);

impl AcceptedForm {
    /// The form that the program writes.
    pub const CURRENT: Self = Self(None);

    /// Returns whether values of the form migrate: the program writes other bytes for them.
    pub fn migrates(self) -> bool {
        self != Self::CURRENT
    }
}

impl<V: 'static> StoredValues<V> {
    pub(crate) fn new(
        schema: StateSchema,
        codec: Arc<dyn Codec<V>>,
        reader: Reader<V>,
        expiry: Option<(Ttl, Expired<V>)>,
        types: &'static str,
    ) -> Self {
        Self { schema, codec, reader, expiry, types, migrations: Vec::new() }
    }

    /// Adds the types of keys and values.
    #[must_use]
    pub(crate) fn described(mut self, types: Vec<StateTypes>) -> Self {
        self.schema.types = types;
        self
    }

    /// Returns the schema: the state and the forms that it reads.
    pub fn schema(&self) -> &StateSchema {
        &self.schema
    }

    /// Returns the description of the state in snapshots.
    pub fn meta(&self) -> &StateMeta {
        &self.schema.meta
    }

    /// Returns the names of the Rust types, for errors.
    pub fn types(&self) -> &'static str {
        self.types
    }

    /// Appends the encoding of a value in the current form.
    ///
    /// # Errors
    /// Those of the codec.
    #[inline]
    pub fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        self.codec.encode(value, out)
    }

    /// Decodes a value of the current form.
    ///
    /// # Errors
    /// Those of the codec.
    #[inline]
    pub fn decode(&self, bytes: &[u8]) -> Result<V> {
        self.codec.decode(bytes)
    }

    /// Prepares to read values stored as `stored`: [`decode_stored`](Self::decode_stored) and
    /// [`rewrite`](Self::rewrite) take the form that the call returns.
    ///
    /// # Errors
    /// [`Incompatible`](crate::ErrorKind::Incompatible) when the state cannot read `stored`; the error names
    /// the state, the stored form and the wanted one.
    pub fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        let form = self.schema.stored_form(stored)?;
        let known = self.migrations.iter().position(|(known, _)| *known == form);
        let index = match known {
            Some(index) => index,
            None => {
                let Some(decode) = (self.reader)(form) else { return Ok(AcceptedForm::CURRENT) };
                self.migrations.push((form, decode));
                self.migrations.len() - 1
            }
        };
        Ok(AcceptedForm(Some(index as u32)))
    }

    /// Decodes a value of an [accepted](Self::accept) form.
    ///
    /// # Errors
    /// Those of the codec of that form, and of the migrations.
    #[inline]
    pub fn decode_stored(&self, form: AcceptedForm, bytes: &[u8]) -> Result<V> {
        match form {
            AcceptedForm(None) => self.codec.decode(bytes),
            AcceptedForm(Some(index)) => self.migration(index)?(bytes),
        }
    }

    /// Appends the current form of a value that is stored in an [accepted](Self::accept) form.
    ///
    /// # Errors
    /// Those of [`decode_stored`](Self::decode_stored) and [`encode`](Self::encode).
    pub fn rewrite(&self, form: AcceptedForm, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if !form.migrates() {
            out.extend_from_slice(stored);
            return Ok(());
        }
        self.codec.encode(&self.decode_stored(form, stored)?, out)
    }

    fn migration(&self, index: u32) -> Result<&Decode<V>> {
        let migration = self.migrations.get(index as usize).map(|(_, decode)| decode);
        migration.ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the values are decoded in a form that was accepted for others")
        })
    }

    /// Returns the time-to-live of the values, if they expire.
    pub fn ttl(&self) -> Option<&Ttl> {
        self.expiry.as_ref().map(|(ttl, _)| ttl)
    }

    /// Returns whether a value has expired.
    #[inline]
    pub fn expired(&self, value: &V, clock: &StateTime) -> bool {
        self.expiry.as_ref().is_some_and(|(ttl, expired)| expired(ttl, value, clock))
    }
}

impl<V> Clone for StoredValues<V> {
    fn clone(&self) -> Self {
        Self {
            schema: self.schema.clone(),
            codec: Arc::clone(&self.codec),
            reader: Arc::clone(&self.reader),
            expiry: self.expiry,
            types: self.types,
            migrations: self.migrations.clone(),
        }
    }
}

impl<V> fmt::Debug for StoredValues<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meta = &self.schema.meta;
        write!(f, "{} ({} of {}, v{})", meta.name, meta.kind, self.types, meta.schema_version)
    }
}

/// Returns whether an encoded value (or an encoded element of a list) of a state with this time-to-live has
/// expired. Bytes that are too short for a stamp have not: decoding them fails.
#[inline]
pub fn expired_bytes(ttl: &Ttl, bytes: &[u8], clock: &StateTime) -> bool {
    split_stamp(bytes).is_ok_and(|(stamp, _)| ttl.expired(stamp, clock))
}
