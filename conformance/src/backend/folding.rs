//! Reducing and aggregating state, and namespaces that merge.

use strandline_state_api::{
    AggregatingDescriptor, BackendFactory, KeyScope, Keyed, KeyedBackend, ListDescriptor, ReducingDescriptor,
    SnapshotKind,
};

use super::simple::Simple;
use crate::Subject;
use crate::world::Mean;

fn longest(into: &mut String, other: String) {
    if other.len() > into.len() {
        *into = other;
    }
}

/// Nothing is there before the first value; then all of them in one; namespaces and keys stay apart (Flink: KS-04).
pub fn values_are_folded_as_they_come<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let longest =
        simple.backend.register(&ReducingDescriptor::new("longest", longest).namespaced::<u8>()).unwrap();
    let mean = simple.backend.register(&AggregatingDescriptor::new("mean", Mean).namespaced::<u8>()).unwrap();
    for key in [1, 2] {
        let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
        assert_eq!(scope.reducing_in(&longest, &0).get().unwrap(), None);
        assert_eq!(scope.aggregating_in(&mean, &0).get().unwrap(), None);
        for (text, n) in [("a", 10), ("ccc", 20), ("bb", 60)] {
            scope.reducing_in(&longest, &0).add(text.repeat(key as usize)).unwrap();
            scope.aggregating_in(&mean, &0).add(n * key).unwrap();
        }
        scope.reducing_in(&longest, &1).add("other".into()).unwrap();
    }
    for key in [1, 2] {
        let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
        assert_eq!(scope.reducing_in(&longest, &0).get().unwrap(), Some(&"ccc".repeat(key as usize)));
        assert_eq!(scope.aggregating_in(&mean, &0).get().unwrap(), Some(30 * key));
        assert!(scope.reducing_in(&longest, &0).clear().unwrap());
        assert!(!scope.reducing_in(&longest, &0).clear().unwrap());
        assert_eq!(scope.reducing_in(&longest, &0).get().unwrap(), None);
        assert_eq!(scope.reducing_in(&longest, &1).get().unwrap(), Some(&"other".to_owned()));
        assert!(scope.aggregating_in(&mean, &0).clear().unwrap());
        assert_eq!(scope.aggregating_in(&mean, &0).get().unwrap(), None);
    }
}

/// Sources go into the target and are gone; none, empty ones and the target itself among them do no harm (Flink: NS-02).
pub fn namespaces_merge<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let sum = |sum: &mut u64, n: u64| *sum += n;
    let sums = simple.backend.register(&ReducingDescriptor::new("sums", sum).namespaced::<u8>()).unwrap();
    let mean = simple.backend.register(&AggregatingDescriptor::new("mean", Mean).namespaced::<u8>()).unwrap();
    let list = simple.backend.register(&ListDescriptor::<u8>::new("list").namespaced::<u8>()).unwrap();
    let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&7));
    scope.reducing_in(&sums, &9).merge(&[]).unwrap();
    scope.reducing_in(&sums, &9).merge(&[1, 2]).unwrap();
    assert_eq!(scope.reducing_in(&sums, &9).get().unwrap(), None, "nothing and nothing is nothing");
    for namespace in [1u8, 2, 9] {
        scope.reducing_in(&sums, &namespace).add(u64::from(namespace)).unwrap();
        scope.aggregating_in(&mean, &namespace).add(u64::from(namespace)).unwrap();
        scope.list_in(list, &namespace).extend([namespace, namespace]).unwrap();
    }
    let sources = [1, 3, 9, 2];
    scope.reducing_in(&sums, &9).merge(&sources).unwrap();
    scope.aggregating_in(&mean, &9).merge(&sources).unwrap();
    scope.list_in(list, &9).merge(&sources).unwrap();
    assert_eq!(scope.reducing_in(&sums, &9).get().unwrap(), Some(&12));
    assert_eq!(scope.aggregating_in(&mean, &9).get().unwrap(), Some(4));
    assert_eq!(scope.list_in(list, &9).get().unwrap(), [9, 9, 1, 1, 2, 2]);
    for source in [1, 2, 3] {
        assert_eq!(scope.reducing_in(&sums, &source).get().unwrap(), None);
        assert_eq!(scope.aggregating_in(&mean, &source).get().unwrap(), None);
        assert!(scope.list_in(list, &source).get().unwrap().is_empty());
    }
    // Into an empty target.
    scope.reducing_in(&sums, &5).merge(&[9]).unwrap();
    assert_eq!(scope.reducing_in(&sums, &5).get().unwrap(), Some(&12));
}

/// Accumulators are in snapshots; a reducing state is no value state of the same name.
pub fn folds_survive_a_restore<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let sum = (|sum: &mut u64, n: u64| *sum += n) as fn(&mut u64, u64);
    let sums = ReducingDescriptor::new("sums", sum);
    let mean = AggregatingDescriptor::new("mean", Mean);
    let states = (simple.backend.register(&sums).unwrap(), simple.backend.register(&mean).unwrap());
    for key in 0..50 {
        let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
        scope.reducing(&states.0).add(key).unwrap();
        scope.aggregating(&states.1).add(key).unwrap();
    }
    simple.snapshot(SnapshotKind::Incremental).unwrap();
    for key in 0..50 {
        let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
        scope.reducing(&states.0).add(1).unwrap();
        scope.aggregating(&states.1).add(key + 2).unwrap();
    }
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let register = |b: &mut F::Backend<u64>| Ok((b.register(&sums)?, b.register(&mean)?));
    let (mut restored, states) = simple.restore(std::slice::from_ref(&snapshot), register).unwrap();
    for key in 0..50 {
        let mut scope = KeyScope::new(&mut restored.backend, Keyed::new(&key));
        assert_eq!(scope.reducing(&states.0).get().unwrap(), Some(&(key + 1)));
        assert_eq!(scope.aggregating(&states.1).get().unwrap(), Some(key + 1));
    }
    let value = strandline_state_api::ValueDescriptor::<u64>::new("sums");
    let error =
        simple.restore(&[snapshot], |b| b.register(&value)).err().expect("a value is no reducing state");
    assert!(error.to_string().contains("sums"), "{error}");
}
