#![doc = include_str!("../README.md")]

mod assignment;
mod background;
mod credentials;
mod elements;
mod envelope;
pub mod faults;
mod in_flight;
mod layout;
mod log;
mod manifest;
mod name;
mod options;
mod owner;
mod recover;
mod segments;
mod solo;
mod storage;
mod store;
mod sweep;
mod takeover;
mod uri;
mod verify;

pub use assignment::{OperatorAssignment, RestoreAssignment, SubtaskAssignment};
pub use background::in_background;
pub use credentials::mask_credentials;
pub use elements::{decode_each, decode_positions, encode_each};
pub use in_flight::{InFlight, InFlightContent, InFlightRecord, InFlightRecords};
pub use layout::{CheckpointStart, JobLayout, OperatorPart, TimeSource};
pub use log::{
    Claimed, CommitLog, CommitLogOptions, CommitOutcome, Committed, CompletedCheckpoint, History,
    UnreadableSlot,
};
pub use manifest::{
    CheckpointTrace, Manifest, OperatorSnapshot, OperatorTypes, StoredStatistic, SubtaskSnapshot,
    SubtaskTrace,
};
pub use name::{FileKind, FileName, LOG_DIR, slot_path};
pub use options::StorageOptions;
pub use recover::{OnDamage, RecoverFrom, RecoverOptions, Recovered, Recovery};
pub use segments::Segments;
pub use solo::{Alone, LoopOptions, Member, SoloJob, UnstoredSnapshot, Worker, WorkerGroup, WorkerSnapshot};
pub use storage::Storage;
pub use store::{BlobStore, ClaimOutcome, ClaimStore, Listed, LocalDir, ObjectInfo, ObjectStore};
pub use strandline_checkpoint_protocol::{Branch, CheckpointKind, Term};
pub use sweep::SweepReport;
pub use takeover::RestoreRules;
pub use verify::{BadFile, Depth, PortableFormat, SegmentCheck, VerifyReport};
