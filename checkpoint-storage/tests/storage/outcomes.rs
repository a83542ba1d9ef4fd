//! What a commit answers, whatever the store does meanwhile.

use strandline_checkpoint_protocol::{CommitResult, CommitRight};
use strandline_checkpoint_storage::faults::{Fault, Faults, Operation, Target};
use strandline_checkpoint_storage::{CommitLog, CommitOutcome, Storage};
use strandline_state_api::{CheckpointId, ErrorKind};

use crate::common::{claim, manifest_with};

async fn commit(log: &mut CommitLog, plain: &Storage, checkpoint: u64) -> CommitOutcome {
    let manifest = manifest_with(plain, log.term(), checkpoint, &[&[checkpoint as u8]]).await;
    let right = CommitRight::of_sole_participant(CheckpointId(checkpoint), manifest.kind);
    log.commit(&right, &manifest).await
}

async fn exists(plain: &Storage, checkpoint: u64) -> bool {
    let completed = plain.completed().await.unwrap();
    completed.iter().any(|completed| completed.checkpoint == CheckpointId(checkpoint))
}

/// Commits a checkpoint whose calls fail as `target` and `fault` demand, and one more when the store is well
/// again. Returns the result of the first, and whether it exists.
async fn commit_under(target: Target, fault: Fault) -> (CommitResult, bool) {
    let plain = Storage::in_memory().unwrap();
    let faults = Faults::never();
    let mut log = claim(&faults.wrap(&plain)).await.log;
    faults.add(target, fault);
    let result = commit(&mut log, &plain, 1).await.result();
    faults.stop();
    let before = exists(&plain, 1).await;
    let next = commit(&mut log, &plain, 2).await;
    assert_eq!(next.result(), CommitResult::Committed, "{next:?}");
    if let CommitOutcome::Committed(committed) = next {
        assert_eq!(committed.completed.checkpoint, CheckpointId(2));
    }
    (result, before)
}

#[tokio::test]
async fn an_outcome_is_what_the_log_shows() {
    let mut seen = Vec::new();
    for (fault, operation) in Fault::ALL[..2].iter().flat_map(|fault| Operation::ALL.map(|of| (*fault, of))) {
        for (number, times) in (0..6).flat_map(|number| [1, 2, u64::MAX].map(|times| (number, times))) {
            let target = Target::of(operation).from(number).times(times);
            let (result, exists) = commit_under(target, fault).await;
            let what = format!("{fault:?} of {operation:?} {number}, {times} times");
            match result {
                CommitResult::Committed => assert!(exists, "{what}: a sink would commit"),
                CommitResult::Failed => assert!(!exists, "{what}: a sink would roll back"),
                CommitResult::Unknown => {}
                CommitResult::Fenced => panic!("{what}: nobody else is there"),
            }
            seen.push((result, exists));
        }
    }
    let (committed, failed, unknown) = (CommitResult::Committed, CommitResult::Failed, CommitResult::Unknown);
    for wanted in [(committed, true), (failed, false), (unknown, true)] {
        assert!(seen.contains(&wanted), "{wanted:?} never came: the test tests nothing");
    }
}

/// A commit whose entry exists, and whose answer was lost, is no failure: the outcome is settled inside.
#[tokio::test]
async fn a_lost_answer_is_settled() {
    let target = Target::of(Operation::Claim).path("log/").nth(0);
    assert_eq!(commit_under(target.clone(), Fault::AnswerLost).await, (CommitResult::Committed, true));
    assert_eq!(commit_under(target, Fault::NotDone).await, (CommitResult::Committed, true), "tried again");
    let all = Target::of(Operation::Claim).or(Operation::Read).or(Operation::List);
    assert_eq!(commit_under(all, Fault::AnswerLost).await, (CommitResult::Unknown, true));
}

#[tokio::test]
async fn a_manifest_that_can_never_be_committed_fails_as_invalid() {
    let plain = Storage::in_memory().unwrap();
    let mut log = claim(&plain).await.log;
    assert_eq!(commit(&mut log, &plain, 5).await.result(), CommitResult::Committed);
    for checkpoint in [4, 5] {
        let CommitOutcome::Failed(error) = commit(&mut log, &plain, checkpoint).await else { panic!() };
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let newer = claim(&plain).await;
    assert_eq!(commit(&mut log, &plain, 6).await.result(), CommitResult::Fenced);
    drop(newer);
}
