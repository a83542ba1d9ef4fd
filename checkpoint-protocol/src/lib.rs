#![doc = include_str!("../README.md")]

mod aligner;
mod commit_log;
mod coordinator;
mod outputs;
mod task;
mod time;

pub use aligner::{Aligned, Aligner, Alignment, IgnoredBecause};
pub use commit_log::{
    Anchor, Applied, Branch, CompletedEntry, CreateResult, EntryKind, LogClient, LogEntry, LogOutcome,
    LogStep, LogView, ManifestRef, Misuse, Restated, Term, Token, VoidReason, completed,
};
pub use coordinator::{
    AbortReason, AckOutcome, Action, CheckpointKind, CommitParts, CommitPermit, CommitResult, CommitRight,
    Coordinator, DeclineOutcome, DeclineReason, FailReason, Policy, Refusal, RequestId, RequestOutcome,
};
pub use outputs::DeadOutputs;
pub use task::TaskId;
pub use time::Millis;

/// How many cases a random test runs: `cases`, times `STRANDLINE_CASES` where that is set.
#[cfg(test)]
fn test_cases(cases: u32) -> u32 {
    let factor = std::env::var("STRANDLINE_CASES").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    cases.saturating_mul(factor)
}
