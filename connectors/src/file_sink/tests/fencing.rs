//! Processes that die, and processes that are held and wake when others have long gone on.

use strandline_checkpoint_protocol::Branch;

use super::*;

/// What can happen between two records.
#[derive(Clone, Debug)]
enum Step {
    Write,
    /// A barrier; its checkpoint completes or is aborted, and the sinks may or may not learn of that.
    Checkpoint {
        complete: bool,
        announced: bool,
    },
    /// All subtasks die, or seem to. The newest `lost` checkpoints turn out to be unreadable.
    Crash {
        lost: usize,
    },
    /// An attempt that seemed dead does what it was about to do.
    Wake {
        which: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => Just(Step::Write),
        6 => (any::<bool>(), any::<bool>())
            .prop_map(|(complete, announced)| Step::Checkpoint { complete, announced }),
        2 => (0usize..3).prop_map(|lost| Step::Crash { lost }),
        3 => any::<usize>().prop_map(|which| Step::Wake { which }),
    ]
}

/// A checkpoint in the log.
#[derive(Clone)]
struct Completed {
    id: CheckpointId,
    term: Term,
    restored: Option<CheckpointId>,
    /// What it gave up.
    branch: Branch,
    files: Vec<PendingFile>,
    /// How many records came before it.
    written: i64,
    /// It cannot be read any more.
    lost: bool,
}

impl Completed {
    fn new(id: u64, term: u64, files: Vec<PendingFile>, written: i64) -> Self {
        let (id, term, branch) = (CheckpointId(id), Term(term), Branch::default());
        Self { id, term, restored: None, branch, files, written, lost: false }
    }
}

/// The checkpoints that a job may resume from, the newest first.
fn candidates(log: &[Completed]) -> impl Iterator<Item = &Completed> {
    let newest = log.last();
    let on_branch = move |id| newest.is_some_and(|newest| !newest.branch.gave_up(id));
    log.iter().rev().filter(move |done| !done.lost && on_branch(done.id))
}

/// An attempt, and what it may still do when it wakes.
struct Life {
    term: Term,
    from: Option<Completed>,
    sinks: [FileSinkSubtask<Row, CsvRows>; 2],
    dead: DeadOutputs,
    swept: bool,
    last: CheckpointId,
    /// What its checkpoints give up.
    branch: Branch,
}

impl Life {
    fn start(factory: &FileSink<Row, CsvRows>, term: Term, log: &[Completed], lost: usize) -> Self {
        let from = candidates(log).nth(lost).or_else(|| log.first()).cloned();
        let shown = from.as_ref().map(|from| (from.term, from.restored));
        let dead = DeadOutputs::at_start(term, shown, Some(log.iter().map(|done| done.term)));
        let dead = dead.given_up_by(log.iter().map(|done| (done.term, &done.branch)));
        let checkpoint = from.as_ref().map(|from| from.id);
        let committables = from.as_ref().map_or(&[][..], |from| &from.files);
        let job = &job("job");
        let newest = log.last().map(|done| done.id);
        let next_checkpoint = newest.unwrap_or(CheckpointId(0)).next();
        let recovery = SinkRecovery { job, term, checkpoint, committables, next_checkpoint, dead: &dead };
        factory.recover(&recovery).unwrap();
        factory.recover(&recovery).unwrap();
        let sinks = [0, 1].map(|subtask| open(factory, subtask, term.0));
        let last = checkpoint.unwrap_or(CheckpointId(0));
        let branch = match &from {
            Some(from) => Branch::grown_from(from.id, &from.branch, newest),
            None => Branch::new_job(newest),
        };
        Self { term, from, sinks, dead, swept: false, last, branch }
    }

    fn restored(&self) -> Option<CheckpointId> {
        self.from.as_ref().map(|from| from.id)
    }

    /// A barrier.
    fn pre_commit(&mut self, checkpoint: u64) -> Vec<PendingFile> {
        let sinks = self.sinks.iter_mut();
        sinks.flat_map(|sink| sink.pre_commit(CheckpointId(checkpoint)).unwrap()).collect()
    }

    fn complete(&mut self, checkpoint: u64, files: Vec<PendingFile>, written: i64) -> Completed {
        self.last = CheckpointId(checkpoint);
        let (restored, branch) = (self.restored(), self.branch.clone());
        Completed { restored, branch, ..Completed::new(checkpoint, self.term.0, files, written) }
    }

    /// A checkpoint is in the log: what the executor does before it notifies the sinks.
    fn sweep(&mut self, factory: &FileSink<Row, CsvRows>) {
        if !std::mem::replace(&mut self.swept, true) {
            factory.sweep(&DeadOutputs::after_commit(self.term, self.restored())).unwrap();
        }
    }

    /// It was held somewhere: what it does next comes much too late, and may fail.
    fn wake(&mut self, factory: &FileSink<Row, CsvRows>, directory: &(impl Ground + ?Sized)) {
        let output = directory.output();
        let _ = recovery::sweep(output.place(), factory.naming(), &self.dead, false);
        for file in self.from.iter().flat_map(|from| &from.files) {
            let _ = file.commit(output.place());
        }
        for sink in &mut self.sinks {
            let _ = sink.commit(self.last);
        }
        if self.swept {
            let dead = DeadOutputs::after_commit(self.term, self.restored());
            let _ = factory.sweep(&dead);
        }
        for sink in &mut self.sinks {
            write(sink, -1);
            let _ = sink.pre_commit(self.last.next());
        }
    }
}

/// The records up to `written` are there once each; what comes after them may be there once.
fn check_visible(directory: &OutputPath, written: i64) -> std::result::Result<(), TestCaseError> {
    let numbers = visible(directory).0;
    prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "twice: {:?}", numbers);
    let up_to: Vec<_> = numbers.iter().copied().filter(|number| *number < written).collect();
    prop_assert_eq!(up_to, (0..written).collect::<Vec<_>>());
    Ok(())
}

proptest! {
    // Each case syncs many files to disk.
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(48)))]

    /// Whichever process dies or wakes when, and whichever checkpoint can still be read: finished files hold
    /// each record that was written up to the checkpoint once.
    #[test]
    fn what_is_visible_is_exactly_what_is_committed(steps in proptest::collection::vec(step(), 0..60)) {
        let directory = tempfile::tempdir().unwrap();
        for ground in grounds(&directory) {
            live(&steps, &ground)?;
        }
    }
}

fn live(steps: &[Step], directory: &OutputPath) -> std::result::Result<(), TestCaseError> {
    let factory = factory(directory);
    let mut log: Vec<Completed> = Vec::new();
    let mut asleep: Vec<Life> = Vec::new();
    let mut life = Life::start(&factory, Term(1), &log, 0);
    let (mut checkpoint, mut next) = (0, 0);
    for step in steps.iter().cloned().chain([Step::Checkpoint { complete: true, announced: true }]) {
        match step {
            Step::Write => {
                write(&mut life.sinks[(next % 2) as usize], next);
                next += 1;
            }
            Step::Checkpoint { complete, announced } => {
                checkpoint += 1;
                let id = CheckpointId(checkpoint);
                let files = life.pre_commit(checkpoint);
                if complete {
                    log.push(life.complete(checkpoint, files, next));
                }
                if complete && announced {
                    life.sweep(&factory);
                    for sink in &mut life.sinks {
                        sink.commit(id).unwrap();
                        sink.commit(id).unwrap();
                    }
                    prop_assert_eq!(visible(directory).0, (0..next).collect::<Vec<_>>());
                }
            }
            Step::Crash { lost } => {
                let term = life.term.next().unwrap();
                let started = Life::start(&factory, term, &log, lost);
                // What could not be read once cannot be read again, but its entry stays in the log.
                for done in log.iter_mut().filter(|done| Some(done.id) > started.restored()) {
                    done.lost = true;
                }
                next = started.from.as_ref().map_or(0, |from| from.written);
                check_visible(directory, next)?;
                asleep.push(std::mem::replace(&mut life, started));
            }
            Step::Wake { which } if !asleep.is_empty() => {
                let woken = which % asleep.len();
                asleep[woken].wake(&factory, directory);
                let newest = log.last().map_or(0, |done| done.written);
                let own = log.iter().filter(|done| done.term == life.term && life.swept);
                own.for_each(|done| files_visible(directory, done));
                check_visible(directory, if life.swept { newest } else { 0 })?;
            }
            Step::Wake { .. } => {}
        }
    }
    // What the sleepers left goes with a recovery.
    drop(asleep);
    let term = life.term.next().unwrap();
    let mut last = Life::start(&factory, term, &log, 0);
    last.sweep(&factory);
    prop_assert_eq!(visible(directory), ((0..next).collect::<Vec<_>>(), 0));
    Ok(())
}

/// The first fallback gave up a checkpoint. The second one falls back behind what the first had completed, and
/// knows that all the same.
#[test]
fn what_was_given_up_stays_so_when_that_checkpoint_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (factory, directory) = (factory(directory.path()), directory.path());
    let mut log = Vec::new();
    let mut first = Life::start(&factory, Term(1), &log, 0);
    log.push(first.complete(1, Vec::new(), 0));
    write(&mut first.sinks[0], 0);
    let files = first.pre_commit(2);
    log.push(first.complete(2, files, 1));
    let mut second = Life::start(&factory, Term(2), &log, 1);
    log[1].lost = true;
    write(&mut second.sinks[0], 0);
    let files = second.pre_commit(3);
    log.push(second.complete(3, files, 1));
    let third = Life::start(&factory, Term(3), &log, 1);
    assert_eq!(third.restored(), Some(CheckpointId(1)));
    for stale in [&mut first, &mut second] {
        stale.wake(&factory, directory);
        assert!(visible(directory).0.len() <= 1, "twice");
    }
}

/// A checkpoint of the first version, whose names have no term: one file of it is visible, one waits.
fn first_version(directory: &Path) -> Vec<PendingFile> {
    fs::write(directory.join("part-0000000001-00000-0123456789abcdef-1.csv"), "n\n0\n").unwrap();
    fs::write(directory.join(".part-0123456789abcdef-1-00000-1.inprogress"), "n\n1\n").unwrap();
    fs::write(directory.join(".part-0123456789abcdef-1-00000-2.inprogress"), "n\n2").unwrap();
    vec![PendingFile {
        temporary: ".part-0123456789abcdef-1-00000-1.inprogress".into(),
        name: "part-0000000002-00000-0123456789abcdef-1.csv".into(),
        checkpoint: CheckpointId(2),
        bytes: 4,
        records: 1,
    }]
}

#[test]
fn files_of_the_first_version_are_committed_and_swept() {
    let directory = tempfile::tempdir().unwrap();
    let (factory, directory) = (factory(directory.path()), directory.path());
    let files = first_version(directory);
    let done = Completed::new(2, 3, files, 2);
    // It had restored nothing, so that both of its files are above that.
    let mut life = Life::start(&factory, Term(4), &[done], 0);
    assert_eq!(visible(directory), (vec![0, 1], 1), "what does not wait for this checkpoint stays for now");
    write(&mut life.sinks[0], 2);
    let id = CheckpointId(3);
    life.sinks[0].pre_commit(id).unwrap();
    life.sweep(&factory);
    life.sinks[0].commit(id).unwrap();
    assert_eq!(visible(directory), (vec![0, 1, 2], 0));
}

/// A fallback behind files of the first version, and a crash between the first commit and its sweep.
#[test]
fn files_of_the_first_version_that_a_fallback_gave_up_go_with_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let (factory, directory) = (factory(directory.path()), directory.path());
    let files = first_version(directory);
    let log = [Completed::new(1, 3, Vec::new(), 1), Completed::new(2, 3, files, 1)];
    files_visible(directory, &log[1]);
    let mut life = Life::start(&factory, Term(4), &log, 1);
    assert_eq!(visible(directory).0, [0, 1], "a successor may resume from the second");
    let own = life.complete(3, Vec::new(), 1);
    let mut next = Life::start(&factory, Term(5), &[log[0].clone(), own], 0);
    assert_eq!(visible(directory).0, [0]);
    next.sweep(&factory);
    assert_eq!(visible(directory), (vec![0], 0));
}

fn files_visible(directory: &(impl Ground + ?Sized), done: &Completed) {
    let output = directory.output();
    done.files.iter().for_each(|file| file.commit(output.place()).unwrap());
}

#[test]
fn files_of_a_newer_attempt_end_an_older_one_and_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (factory, directory) = (factory(directory.path()), directory.path());
    let mut newer = open(&factory, 0, 12);
    write(&mut newer, 1);
    let error = recover(&factory, Some(1), &[]).unwrap_err();
    assert_eq!(error.context("its term"), Some("12"), "{error}");
    let files = newer.pre_commit(CheckpointId(1)).unwrap();
    newer.commit(CheckpointId(1)).unwrap();
    assert!(recover(&factory, Some(1), &[]).is_err());
    files[0].commit(directory.output().place()).unwrap();
    assert_eq!(visible(directory), (vec![1], 0));
}
