//! Chains of snapshots whose parts have several forms of a state: what an older version of a program wrote
//! keeps its form until it changes, or until a snapshot holds everything.

mod program;

use std::sync::Arc;

use fastrand::Rng;
use strandline_state_api::backend::{BackendFactory, BackendScope, KeyedBackendExt, SnapshotKind};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{ErrorKind, Evolution, SerdeCodec, ValueDescriptor};

use self::program::{Contents, First, Fourth, KEYS, Second, States, Third, Version, Written};
use super::simple::{Simple, rig, rig_on};
use crate::effort::{first_seed, programs};
use crate::segments::FaultySegments;
use crate::{Capabilities, Subject};

/// The keys of the cases that count bytes.
const MANY: u64 = 100_000;
/// The number of bytes that an increment may write for ten changed numbers of [`MANY`].
const TEN_CHANGES: u64 = 12_000;

/// Writes [`MANY`] numbers with `first`, continues as `then`, and changes ten; returns the bytes of both
/// snapshots.
fn bytes_of_ten_changes<F: BackendFactory, T: Copy + PartialEq + std::fmt::Debug + Send + 'static>(
    subject: &Subject<F>,
    first: impl Fn() -> Evolution<u64>,
    then: impl Fn() -> Evolution<T>,
    migrated: impl Fn(u64) -> T,
) -> (u64, u64) {
    let number = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut old = rig::<F, u64>(subject);
    let state = old.backend.register(&ValueDescriptor::evolving("numbers", first())).unwrap();
    for key in 0..MANY {
        old.at(&key).state(state).put(number(key)).unwrap();
    }
    let snapshot = old.snapshot(SnapshotKind::Incremental).unwrap();
    let all = snapshot.written_bytes;
    let register = |b: &mut F::Backend<u64>| b.register(&ValueDescriptor::evolving("numbers", then()));
    let (mut new, state) = old.restore(&[snapshot], register).unwrap();
    for key in (0..MANY).step_by(MANY as usize / 10) {
        new.at(&key).state(state).put(migrated(key)).unwrap();
    }
    let snapshot = new.snapshot(SnapshotKind::Incremental).unwrap();
    let changed = snapshot.written_bytes;
    let (mut again, state) = new.restore(&[snapshot], register).unwrap();
    for key in 0..MANY {
        let wanted = if key % (MANY / 10) == 0 { migrated(key) } else { migrated(number(key)) };
        assert_eq!(again.at(&key).state(state).get().unwrap(), Some(&wanted), "key {key}");
    }
    (all, changed)
}

/// Raising the version of a state writes nothing again: the next increment has what changed.
pub fn a_raised_version_writes_what_changed<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().incremental {
        return;
    }
    let first = || Evolution::<u64>::first(1, SerdeCodec);
    let (all, changed) = bytes_of_ten_changes(subject, first, || first().then(2, SerdeCodec, Ok), |n| n);
    assert!(all > MANY * 8, "random numbers cannot be compressed: {all}");
    assert!(changed <= TEN_CHANGES, "{changed} bytes for ten changes after all {MANY} took {all}");
}

/// A migration to other bytes writes nothing again, either: what does not change keeps its form.
pub fn a_migration_writes_what_changed<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().incremental || !subject.capabilities().keeps_older_forms {
        return;
    }
    let first = || Evolution::<u64>::first(1, SerdeCodec);
    let wider = || first().then(2, SerdeCodec, |old| Ok(u128::from(old) << 40));
    let (all, changed) = bytes_of_ten_changes(subject, first, wider, |n| u128::from(n) << 40);
    assert!(changed <= TEN_CHANGES, "{changed} bytes for ten changes after all {MANY} took {all}");
}

/// Writes values of two versions: `rig` is the second one, restored from the first, and holds for each key
/// what `contents` returns.
fn two_versions<F: BackendFactory>(subject: &Subject<F>) -> (Simple<F, u64>, States<Second>, Contents) {
    let (has, rng) = (subject.capabilities(), &mut Rng::with_seed(11));
    let (mut old, mut contents) = (rig::<F, u64>(subject), Contents::new());
    let states = States::<First>::register(&mut old.backend, has).unwrap();
    states.change(&mut old, &mut contents, rng, 400);
    let snapshot = old.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut new, states) = old.restore(&[snapshot], |b| States::<Second>::register(b, has)).unwrap();
    states.check(&mut new, &contents, "after the migration");
    (new, states, contents)
}

/// Changes the value of one key.
fn change_one<F: BackendFactory>(
    rig: &mut Simple<F, u64>,
    states: &States<Second>,
    contents: &mut Contents,
    key: u64,
) {
    let written = Written { version: 2, number: 7 };
    rig.at(&key).state(states.value).put(Second::value(written)).unwrap();
    contents.entry(key).or_default().value = Some(written);
}

/// Returns the versions in which a snapshot has a state.
fn versions(snapshot: &KeyedSnapshot, state: &str) -> Vec<u32> {
    let metas = snapshot.states.iter().filter(|meta| meta.name == state);
    let mut versions: Vec<_> = metas.map(|meta| meta.schema_version).collect();
    versions.sort_unstable();
    versions
}

/// A snapshot lists each form that it has of a state. A program that lacks one of them is refused before
/// anything is read, and one that has all is not.
pub fn a_program_reads_all_forms_or_none<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    let (mut rig, states, mut contents) = two_versions(subject);
    for kind in [SnapshotKind::Incremental, SnapshotKind::Full, SnapshotKind::Savepoint] {
        change_one(&mut rig, &states, &mut contents, 3);
        let snapshot = rig.snapshot(kind).unwrap();
        let snapshots = std::slice::from_ref(&snapshot);
        let error = rig.restore(snapshots, |b| States::<First>::register(b, has)).err();
        let error = error.expect("an older program cannot read a newer form");
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
        assert!(error.to_string().contains("newer program"), "{error}");

        let second_only = || Evolution::<u64>::first(2, SerdeCodec);
        let restored = rig.restore(snapshots, |b| States::<Second>::register_with(b, has, second_only));
        if versions(&snapshot, "value") == [2] {
            let (mut restored, states) = restored.unwrap();
            states.check(&mut restored, &contents, "without the older version");
        } else {
            assert_eq!(versions(&snapshot, "value"), [1, 2]);
            assert_eq!(
                kind,
                SnapshotKind::Incremental,
                "full snapshots and savepoints have the current form only"
            );
            let error = restored.err().expect("values of the first version are unreadable");
            assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
            assert!(error.to_string().contains("schema version 1"), "{error}");
        }
        let (mut restored, states) = rig.restore(snapshots, |b| States::<Third>::register(b, has)).unwrap();
        states.check(&mut restored, &contents, "by a newer program");
    }
}

/// The forms of older programs leave in the end, so that a program may give up their migrations.
pub fn older_forms_leave_in_the_end<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().few_objects {
        return;
    }
    let has = subject.capabilities();
    let (mut rig, states, mut contents) = two_versions(subject);
    let mut snapshot = KeyedSnapshot::default();
    for round in 0..60 {
        change_one(&mut rig, &states, &mut contents, round % 3);
        snapshot = rig.snapshot(SnapshotKind::Incremental).unwrap();
    }
    assert_eq!(versions(&snapshot, "value"), [2]);
    let second_only = || Evolution::<u64>::first(2, SerdeCodec);
    let (mut restored, states) =
        rig.restore(&[snapshot], |b| States::<Second>::register_with(b, has, second_only)).unwrap();
    states.check(&mut restored, &contents, "after sixty increments");
}

/// State that nobody claims keeps all its forms, over increments and bases, until a program claims it.
pub fn unclaimed_state_keeps_its_forms<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    let rng = &mut Rng::with_seed(12);
    let (mut rig, states, mut contents) = two_versions(subject);
    states.change(&mut rig, &mut contents, rng, 60);
    let mut snapshot = rig.snapshot(SnapshotKind::Incremental).unwrap();
    for kind in [SnapshotKind::Incremental, SnapshotKind::Full, SnapshotKind::Incremental] {
        let (mut other, state) =
            rig.restore(&[snapshot], |b| b.register(&ValueDescriptor::<u64>::new("other"))).unwrap();
        let mut orphans = other.restored().orphans.clone();
        orphans.sort();
        let wanted = [("list", has.lists), ("map", has.maps), ("value", true)];
        let wanted: Vec<_> = wanted.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
        assert_eq!(orphans, wanted);
        for round in 0..3 {
            other.at(&round).state(state).put(round).unwrap();
            other.snapshot(SnapshotKind::Incremental).unwrap();
        }
        snapshot = other.snapshot(kind).unwrap();
        let claimed = |b: &mut F::Backend<u64>| States::<Fourth>::register(b, has);
        let (mut again, states) = other.restore(std::slice::from_ref(&snapshot), claimed).unwrap();
        states.check(&mut again, &contents, "after a program without the states");
    }
}

/// A job between two of its lives.
struct Job {
    store: Arc<FaultySegments>,
    snapshots: Vec<KeyedSnapshot>,
    contents: Contents,
}

/// How a life goes.
#[derive(Clone, Copy, Debug)]
struct Life {
    seed: u64,
    version: u32,
    parallelism: u32,
    /// Whether the program claims the states of all kinds.
    claims_all: bool,
    /// Whether the last snapshot must be one that every backend reads.
    portable: bool,
}

/// Restores the job with one version of the program, changes state, and takes snapshots of all kinds.
fn live<F: BackendFactory, V: Version>(subject: &Subject<F>, job: &Job, life: Life) -> Job {
    let has = subject.capabilities();
    let has = if life.claims_all { has } else { Capabilities { lists: false, maps: false, ..has } };
    let mut rng = Rng::with_seed(life.seed);
    let mut next = Job { store: Arc::clone(&job.store), snapshots: Vec::new(), contents: Contents::new() };
    for subtask in 0..life.parallelism {
        let when = format!("{life:?}, subtask {subtask}");
        let scope = BackendScope::new(Subject::<F>::scope().operator, subtask, life.parallelism);
        let starter: Simple<F, u64> = rig_on(subject, Arc::clone(&job.store));
        let restored = starter.restore_in(scope, &job.snapshots, |b| States::<V>::register(b, has));
        let (mut rig, states) = restored.unwrap_or_else(|error| panic!("{when}: {error}"));
        let mut contents = job.contents.clone();
        contents.retain(|key, _| rig.owns(key));
        states.check(&mut rig, &contents, &when);
        for _ in 0..rng.usize(..5) {
            let changes = if rng.u8(..4) == 0 { 150 } else { 6 };
            states.change(&mut rig, &mut contents, &mut rng, changes);
            let kinds = [SnapshotKind::Incremental, SnapshotKind::Full, SnapshotKind::Savepoint];
            rig.prepare(kinds[rng.usize(..10).saturating_sub(7)]).unwrap();
            states.change(&mut rig, &mut contents, &mut rng, 3);
            if rng.u8(..5) == 0 {
                drop(rig.hand_over().unwrap());
            } else {
                rig.finish().unwrap();
            }
        }
        let must_be_full = life.portable && !has.portable_increments;
        rig.prepare(if must_be_full { SnapshotKind::Full } else { SnapshotKind::Incremental }).unwrap();
        next.contents.extend(contents.clone());
        states.change(&mut rig, &mut contents, &mut rng, 3);
        let snapshot = rig.finish().unwrap();
        states.check(&mut rig, &contents, &when);
        let newest = snapshot.states.iter().map(|meta| meta.schema_version).max().unwrap_or(0);
        assert!(newest <= life.version, "{when}: {:?}", snapshot.states);
        next.snapshots.push(snapshot);
    }
    next
}

fn live_once<F: BackendFactory>(subject: &Subject<F>, job: &Job, life: Life) -> Job {
    match life.version {
        1 => live::<F, First>(subject, job, life),
        2 => live::<F, Second>(subject, job, life),
        3 => live::<F, Third>(subject, job, life),
        _ => live::<F, Fourth>(subject, job, life),
    }
}

/// Leads jobs through versions 1 to 4 of their program, at another parallelism in each life.
fn lead_jobs<A: BackendFactory, B: BackendFactory>(first: &Subject<A>, second: &Subject<B>, moves: bool) {
    for seed in (first_seed()..).take(programs(10) as usize) {
        let mut rng = Rng::with_seed(seed);
        let mut job = Job { store: Arc::default(), snapshots: Vec::new(), contents: Contents::new() };
        let mut version = 1;
        for number in 0..9 {
            let life = Life {
                seed: seed * 100 + number,
                version,
                parallelism: rng.u32(1..4),
                claims_all: moves || rng.u8(..4) > 0,
                portable: moves,
            };
            job = if moves && number % 2 == 1 {
                live_once(second, &job, life)
            } else {
                live_once(first, &job, life)
            };
            version = 4.min(version + u32::from(rng.u8(..5) < 2));
        }
        assert!(job.contents.len() as u64 <= KEYS);
    }
}

/// Random lives of a job, each of the same or a newer version: increments, full snapshots, savepoints and
/// dropped ones, rescales in between, and state that a version does not claim.
pub fn random_lives<F: BackendFactory>(subject: &Subject<F>) {
    lead_jobs(subject, subject, false);
}

/// A job changes its backend with each of its lives, and its version with some.
///
/// The case takes two backends, so it is not one of [`backend_cases`](crate::backend_cases): call it for your
/// own pairs of backends.
pub fn random_lives_of_two_backends<A, B>(first: &Subject<A>, second: &Subject<B>)
where
    A: BackendFactory,
    B: BackendFactory,
{
    lead_jobs(first, second, true);
}
