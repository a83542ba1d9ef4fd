#![doc = include_str!("../README.md")]

mod checkpoint;
mod decode;
mod decoders;
mod filter;
mod find;
mod generate;
#[cfg(feature = "rocksdb")]
mod native;
mod operator_state;
mod parse;
mod rows;
mod scan;
mod shown;
mod sizes;
mod source;
mod state;
mod value;

pub use checkpoint::{At, CheckpointReader};
pub use decode::{Decoder, Scalar};
pub use decoders::Decoders;
pub use filter::KeyFilter;
pub use operator_state::{OperatorElement, OperatorStateInfo};
pub use rows::{Collect, EncodedRow, Parts, Row};
pub use scan::Scan;
pub use shown::Typed;
pub use sizes::{Block, StateSize};
pub use state::{PartColumn, StatePart, StoredState};
pub use value::Value;
