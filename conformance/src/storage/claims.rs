//! Slots: of all who claim one, one wins, and readers see its whole content or nothing.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use strandline_checkpoint_storage::{ClaimOutcome, LOG_DIR, Storage, slot_path};
use strandline_state_api::ErrorKind;

use super::StorageSubject;
use crate::effort::programs;
use crate::wait::wait;

/// Long enough that a torn write would show.
const LEN: usize = 20_000;

fn content(who: u8) -> Vec<u8> {
    vec![who; LEN]
}

/// Created once; then taken, with the content of the winner, until it is deleted.
pub fn a_slot_is_created_once(subject: &StorageSubject) {
    let open = subject.place();
    let (first, second) = (open(), open());
    wait(async {
        let path = slot_path(0);
        assert_eq!(second.claims().read(&path, 100).await.unwrap(), None);
        assert_eq!(second.claims().list(LOG_DIR).await.unwrap(), []);
        let created = first.claims().claim(&path, b"first".as_slice().into()).await.unwrap();
        assert_eq!(created, ClaimOutcome::Created);
        for _ in 0..3 {
            for storage in [&first, &second, &open()] {
                let again = storage.claims().claim(&path, b"another".as_slice().into()).await.unwrap();
                assert_eq!(again, ClaimOutcome::Exists);
                let found = storage.claims().read(&path, 100).await.unwrap();
                assert_eq!(found.as_deref(), Some(b"first".as_slice()), "a lost claim changes nothing");
            }
        }
        let listed = second.claims().list(LOG_DIR).await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!((format!("{LOG_DIR}/{}", listed[0].name), listed[0].len), (path.clone(), 5));
        second.claims().delete(&path).await.unwrap();
        second.claims().delete(&path).await.unwrap();
        assert_eq!(first.claims().read(&path, 100).await.unwrap(), None);
        let created = second.claims().claim(&path, b"second".as_slice().into()).await.unwrap();
        assert_eq!(created, ClaimOutcome::Created);
    });
}

/// A slot that is longer than its reader believes is corrupt, and not read.
pub fn a_slot_has_a_limit(subject: &StorageSubject) {
    let storage = subject.place()();
    wait(async {
        let path = slot_path(7);
        storage.claims().claim(&path, content(1).into()).await.unwrap();
        assert!(storage.claims().read(&path, LEN as u64).await.unwrap().is_some());
        let error = storage.claims().read(&path, LEN as u64 - 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    });
}

/// Eight threads, each with a handle of its own, race for slot after slot.
pub fn of_eight_threads_one_wins(subject: &StorageSubject) {
    const THREADS: u8 = 8;
    let open = subject.place();
    let rounds = programs(60);
    let barrier = Barrier::new(THREADS.into());
    // Failures are reported at the end: a thread that panics would leave the others waiting for it.
    let wins = |who: u8| -> Vec<Result<u64, String>> {
        let storage = open();
        (0..rounds)
            .filter_map(|round| {
                barrier.wait();
                claim_and_look(&storage, round, who).map_err(|e| format!("slot {round}: {e}")).transpose()
            })
            .collect()
    };
    let won: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|who| scope.spawn(move || wins(who))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no thread fails")).collect()
    });
    let mut won: Vec<u64> = won.into_iter().map(|round| round.unwrap_or_else(|e| panic!("{e}"))).collect();
    won.sort_unstable();
    assert_eq!(won, (0..rounds).collect::<Vec<_>>(), "every slot has exactly one winner");
    let listed = wait(open().claims().list(LOG_DIR)).unwrap();
    assert_eq!(listed.len() as u64, rounds, "the losers left something behind: {listed:?}");
}

/// Claims a slot and looks at it: the round, if it was won.
fn claim_and_look(storage: &Storage, round: u64, who: u8) -> Result<Option<u64>, String> {
    let path = slot_path(round);
    let outcome = wait(storage.claims().claim(&path, content(who).into())).map_err(|e| e.to_string())?;
    let found = wait(storage.claims().read(&path, LEN as u64)).map_err(|e| e.to_string())?;
    let found = found.ok_or("whoever lost must find what the winner wrote")?;
    let created = outcome == ClaimOutcome::Created;
    match found.first() {
        Some(winner) if found.len() == LEN && found.iter().all(|byte| byte == winner) => {
            let fits = created == (*winner == who);
            if fits {
                Ok(created.then_some(round))
            } else {
                Err(format!("{who} is told {outcome:?}, {winner} is in it"))
            }
        }
        _ => Err(format!("it shows {} bytes of {LEN}, or two contents", found.len())),
    }
}

/// While a slot is created, a reader sees nothing or all of it; a list holds what was created before it was
/// asked for.
pub fn readers_never_see_half_a_slot(subject: &StorageSubject) {
    let open = subject.place();
    let rounds = programs(60);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let storage = open();
            let mut next = 0;
            while next < rounds {
                let all_are_there = done.load(Ordering::Acquire);
                match wait(storage.claims().read(&slot_path(next), 1 << 20)).unwrap() {
                    None => assert!(!all_are_there, "slot {next} was created and cannot be read"),
                    Some(found) => {
                        assert!(found == content(next as u8), "slot {next} shows {} bytes", found.len());
                        let listed = wait(storage.claims().list(LOG_DIR)).unwrap();
                        let slots = listed.iter().filter(|file| !file.name.contains('.')).count() as u64;
                        assert!(slots > next, "slot {next} was read and is not in the list: {listed:?}");
                        next += 1;
                    }
                }
                std::thread::yield_now();
            }
        });
        let storage = open();
        for round in 0..rounds {
            let created = wait(storage.claims().claim(&slot_path(round), content(round as u8).into()));
            if !matches!(created, Ok(ClaimOutcome::Created)) {
                done.store(true, Ordering::Release);
                panic!("slot {round} is free, and its claim is told {created:?}");
            }
        }
        done.store(true, Ordering::Release);
    });
}
