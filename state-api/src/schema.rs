//! Descriptions of states, their compatibility, and the restore plan: all known before a restore reads any
//! state.

mod data_type;
mod description;
mod evolution;
mod form;
mod meta;
mod plan;
mod state;

pub use data_type::{DataType, NamedType};
pub use description::{Description, Encoding, StateTypes};
pub use evolution::Evolution;
pub(crate) use evolution::{Decode, Decoder};
pub use form::self_describing_id;
pub use meta::{StateKind, StateMeta};
pub use plan::{Fate, JobSchema, OperatorSchema, Planned, Refusal, RestorePlan, StoredOperator};
pub use state::{Compatibility, ReadableForm, StateSchema};
pub(crate) use state::{FormVersion, StampChange, StoredForm, shown};
