//! An engine that is not the executor: one loop over numbers, whose only state is a sum.

use std::num::NonZeroUsize;

use strandline_checkpoint_storage::{
    CommitLog, CommitLogOptions, Manifest, OperatorSnapshot, RecoverOptions, SubtaskSnapshot,
};
use strandline_runtime::sink::{DeadOutputs, JobIdentity, Sink, SinkContext, SinkFactory, SinkRecovery};
use strandline_runtime::{JobConfig, Outcome};
use strandline_simulation::{Faults, Job, Simulation, World, check};
use strandline_state_api::{Batch, Error, ErrorKind, KeyGroupRange, OperatorId, Result};

const NUMBERS: u64 = 60;
const BETWEEN: u64 = 5;

/// One attempt of the loop. A `flawed` one commits before it knows that the checkpoint exists.
fn attempt(world: &World, config: &JobConfig, flawed: bool) -> Result<Outcome> {
    let process = world.process();
    let Some(checkpointing) = &config.checkpointing else { return Err(Error::invalid("no checkpoints")) };
    let storage = checkpointing.storage.clone();
    let of_tokens = process.clone();
    let options = CommitLogOptions::new("loop").retain(NonZeroUsize::MIN);
    let claim = CommitLog::claim(&storage, options, move || Ok(of_tokens.random()));
    let claimed = process.block_on(claim)?;
    let (mut checkpoint, mut log) = (claimed.next_checkpoint(), claimed.log);
    let term = log.term();
    let terms: Vec<_> = claimed.history.completed.iter().map(|known| known.term).collect();
    let restored = process.block_on(storage.recover(RecoverOptions::default()))?.restored;
    let manifest = restored.as_ref().map(|restored| &restored.manifest);
    let subtask = manifest.map(|manifest| &manifest.operators[0].subtasks[0]);
    let (mut next, mut sum) = subtask.map_or((0, 0), |subtask| {
        let [next, sum] = &subtask.positions[..] else { return (0, 0) };
        (number(next), number(sum))
    });
    let committables = subtask.iter().flat_map(|subtask| &subtask.committables);
    let committables: Vec<_> = committables.map(|name| String::from_utf8_lossy(name).into_owned()).collect();

    let output = world.output::<u64>("sums");
    let from = manifest.map(|manifest| manifest.checkpoint);
    let shown = manifest.map(|manifest| (manifest.term, manifest.restored_from));
    let dead = DeadOutputs::at_start(term, shown, Some(terms));
    let job = JobIdentity { name: "loop".to_owned(), storage: None, adopts: None };
    let recovery = SinkRecovery {
        job: &job,
        term,
        checkpoint: from,
        committables: &committables,
        next_checkpoint: checkpoint,
        dead: &dead,
    };
    output.recover(&recovery)?;
    if next == NUMBERS {
        return Ok(Outcome::AlreadyFinished);
    }
    let label = format!("{:032x}", process.random());
    let context = SinkContext { subtask: 0, parallelism: 1, term, attempt: label, restored: committables };
    let (mut sink, mut swept) = (output.open(context)?, false);
    while next < NUMBERS {
        let mut batch = Batch::new();
        for _ in 0..BETWEEN {
            (sum, next) = (sum + next, next + 1);
            batch.push(sum, None);
        }
        process.step();
        sink.write(&mut batch)?;
        let committables = sink.pre_commit(checkpoint)?;
        if flawed {
            sink.commit(checkpoint)?;
        }
        let subtask = SubtaskSnapshot {
            positions: [next, sum].map(|number| number.to_be_bytes().to_vec()).to_vec(),
            committables: committables.into_iter().map(String::into_bytes).collect(),
            ..SubtaskSnapshot::new(0, KeyGroupRange::ALL)
        };
        let subtasks = vec![subtask];
        let operators = vec![OperatorSnapshot {
            id: OperatorId::new("loop")?,
            parallelism: 1,
            subtasks,
            types: Default::default(),
        }];
        let manifest = Manifest { restored_from: from, operators, ..Manifest::new(checkpoint, term, "loop") };
        process.block_on(log.commit_alone(&manifest))?;
        // What a fallback gave up goes before what replaces it becomes visible.
        if !std::mem::replace(&mut swept, true) {
            output.sweep(&DeadOutputs::after_commit(term, from))?;
        }
        sink.commit(checkpoint)?;
        process.block_on(storage.sweep())?;
        checkpoint = checkpoint.next();
    }
    Ok(Outcome::Finished)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map(u64::from_be_bytes).unwrap_or_default()
}

/// The loop, which tries again when the store fails.
fn engine(flawed: bool) -> Job {
    Job::of_engine(move |world, config, _| {
        loop {
            match attempt(world, &config, flawed) {
                Err(error) if error.kind() == ErrorKind::Unavailable => {}
                ended => return ended,
            }
        }
    })
}

#[test]
fn an_engine_of_ones_own_is_exact() {
    let checked =
        check(100, &Faults::all(), &engine(false)).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(checked.processes > 3 * checked.seeds, "{checked:?}: hardly anything happened");
}

#[test]
fn an_engine_that_commits_its_output_before_its_checkpoint_is_found() {
    let expected =
        Simulation::new(0).expect(&engine(false)).unwrap_or_else(|violation| panic!("{violation}"));
    let broken = (0..10).find_map(|seed| Simulation::new(seed).run(&engine(true), &expected).err());
    assert!(broken.is_some_and(|violation| violation.problem.contains("before its checkpoint was complete")));
}
