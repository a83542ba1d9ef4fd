//! The contents of entries as bytes of a segment, for each kind of state.

use std::any::type_name;

use strandline_state_api::backend::{AcceptedForm, StoredValues};
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::{Result, Ttl};

use crate::list;

/// The form that contents of type `C` have in snapshots.
pub(super) trait Form<C>: Send + 'static {
    fn schema(&self) -> &StateSchema;
    fn types(&self) -> &'static str;
    fn ttl(&self) -> Option<&Ttl>;
    /// Prepares to decode contents that are stored as `stored`.
    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm>;
    /// Decodes contents of an accepted form.
    fn decode(&self, form: AcceptedForm, bytes: &[u8]) -> Result<C>;
    /// Appends elements of an accepted form to a list. Other contents have none.
    fn append(&self, _list: &mut C, _form: AcceptedForm, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }
    fn encode(&self, content: &C, out: &mut Vec<u8>) -> Result<()>;
}

/// Values, and values of map entries.
impl<V: Send + 'static> Form<V> for StoredValues<V> {
    fn schema(&self) -> &StateSchema {
        self.schema()
    }

    fn types(&self) -> &'static str {
        self.types()
    }

    fn ttl(&self) -> Option<&Ttl> {
        self.ttl()
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        self.accept(stored)
    }

    fn decode(&self, form: AcceptedForm, bytes: &[u8]) -> Result<V> {
        self.decode_stored(form, bytes)
    }

    fn encode(&self, content: &V, out: &mut Vec<u8>) -> Result<()> {
        self.encode(content, out)
    }
}

/// Lists.
pub(super) struct Elements<E>(pub(super) StoredValues<E>);

impl<E: Send + 'static> Form<Vec<E>> for Elements<E> {
    fn schema(&self) -> &StateSchema {
        self.0.schema()
    }

    fn types(&self) -> &'static str {
        self.0.types()
    }

    fn ttl(&self) -> Option<&Ttl> {
        self.0.ttl()
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        self.0.accept(stored)
    }

    fn decode(&self, form: AcceptedForm, bytes: &[u8]) -> Result<Vec<E>> {
        list::elements(bytes).map(|element| self.0.decode_stored(form, element?)).collect()
    }

    fn append(&self, list: &mut Vec<E>, form: AcceptedForm, bytes: &[u8]) -> Result<()> {
        list.extend(self.decode(form, bytes)?);
        Ok(())
    }

    fn encode(&self, content: &Vec<E>, out: &mut Vec<u8>) -> Result<()> {
        list::extend(out, content, &self.0, &mut Vec::new())
    }
}

/// Timers, whose address is all there is.
pub(super) struct Times {
    schema: StateSchema,
    types: &'static str,
}

impl Times {
    pub(super) fn new<N>(schema: StateSchema) -> Self {
        Self { schema, types: type_name::<N>() }
    }
}

impl Form<()> for Times {
    fn schema(&self) -> &StateSchema {
        &self.schema
    }

    fn types(&self) -> &'static str {
        self.types
    }

    fn ttl(&self) -> Option<&Ttl> {
        None
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        self.schema.compatibility(stored).map(|_| AcceptedForm::CURRENT)
    }

    fn decode(&self, _: AcceptedForm, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn encode(&self, (): &(), _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}
