//! Reducing and aggregating state, and namespaces that merge.

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, SnapshotKind};
use strandline_state_api::{AggregatingDescriptor, ListDescriptor, ReducingDescriptor, ValueDescriptor};

use super::simple::rig;
use crate::Subject;
use crate::world::Mean;

fn longest(into: &mut String, other: String) {
    if other.len() > into.len() {
        *into = other;
    }
}

/// A fold is empty before the first value, and then combines all values; namespaces and keys stay apart
/// (Flink: KS-04).
pub fn values_are_folded_as_they_come<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let longest =
        simple.backend.register(&ReducingDescriptor::new("longest", longest).namespaced::<u8>()).unwrap();
    let mean = simple.backend.register(&AggregatingDescriptor::new("mean", Mean).namespaced::<u8>()).unwrap();
    for key in [1, 2] {
        let mut scope = simple.backend.at(&key);
        assert_eq!(scope.state_in(longest, &0).get().unwrap(), None);
        assert_eq!(scope.state_in(mean, &0).get().unwrap(), None);
        for (text, n) in [("a", 10), ("ccc", 20), ("bb", 60)] {
            scope.state_in(longest, &0).add(text.repeat(key as usize)).unwrap();
            scope.state_in(mean, &0).add(n * key).unwrap();
        }
        scope.state_in(longest, &1).add("other".into()).unwrap();
    }
    for key in [1, 2] {
        let mut scope = simple.backend.at(&key);
        assert_eq!(scope.state_in(longest, &0).get().unwrap(), Some(&"ccc".repeat(key as usize)));
        assert_eq!(scope.state_in(mean, &0).get().unwrap(), Some(30 * key));
        assert!(scope.state_in(longest, &0).clear().unwrap());
        assert!(!scope.state_in(longest, &0).clear().unwrap());
        assert_eq!(scope.state_in(longest, &0).get().unwrap(), None);
        assert_eq!(scope.state_in(longest, &1).get().unwrap(), Some(&"other".to_owned()));
        assert!(scope.state_in(mean, &0).clear().unwrap());
        assert_eq!(scope.state_in(mean, &0).get().unwrap(), None);
    }
}

/// A merge moves its sources into the target; no sources, empty ones and the target itself do no harm (Flink:
/// NS-02).
pub fn namespaces_merge<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let sum = |sum: &mut u64, n: u64| *sum += n;
    let sums = simple.backend.register(&ReducingDescriptor::new("sums", sum).namespaced::<u8>()).unwrap();
    let mean = simple.backend.register(&AggregatingDescriptor::new("mean", Mean).namespaced::<u8>()).unwrap();
    let list = ListDescriptor::<u8>::new("list").namespaced::<u8>();
    let list = subject.capabilities().lists.then(|| simple.backend.register(&list).unwrap());
    let mut scope = simple.backend.at(&7);
    scope.state_in(sums, &9).merge(&[]).unwrap();
    scope.state_in(sums, &9).merge(&[1, 2]).unwrap();
    assert_eq!(scope.state_in(sums, &9).get().unwrap(), None, "nothing and nothing is nothing");
    for namespace in [1u8, 2, 9] {
        scope.state_in(sums, &namespace).add(u64::from(namespace)).unwrap();
        scope.state_in(mean, &namespace).add(u64::from(namespace)).unwrap();
        if let Some(list) = list {
            scope.state_in(list, &namespace).extend([namespace, namespace]).unwrap();
        }
    }
    let sources = [1, 3, 9, 2];
    scope.state_in(sums, &9).merge(&sources).unwrap();
    scope.state_in(mean, &9).merge(&sources).unwrap();
    assert_eq!(scope.state_in(sums, &9).get().unwrap(), Some(&12));
    assert_eq!(scope.state_in(mean, &9).get().unwrap(), Some(4));
    if let Some(list) = list {
        scope.state_in(list, &9).merge(&sources).unwrap();
        assert_eq!(scope.state_in(list, &9).get().unwrap(), [9, 9, 1, 1, 2, 2]);
        for source in [1, 2, 3] {
            assert!(scope.state_in(list, &source).get().unwrap().is_empty());
        }
    }
    for source in [1, 2, 3] {
        assert_eq!(scope.state_in(sums, &source).get().unwrap(), None);
        assert_eq!(scope.state_in(mean, &source).get().unwrap(), None);
    }
    // The target may be empty, too.
    scope.state_in(sums, &5).merge(&[9]).unwrap();
    assert_eq!(scope.state_in(sums, &5).get().unwrap(), Some(&12));
}

/// Snapshots hold accumulators; a value state cannot restore a reducing state of its name.
pub fn folds_survive_a_restore<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let sums = ReducingDescriptor::new("sums", |sum: &mut u64, n: u64| *sum += n);
    let mean = AggregatingDescriptor::new("mean", Mean);
    let states = (simple.backend.register(&sums).unwrap(), simple.backend.register(&mean).unwrap());
    for key in 0..50 {
        let mut scope = simple.backend.at(&key);
        scope.state(states.0).add(key).unwrap();
        scope.state(states.1).add(key).unwrap();
    }
    simple.snapshot(SnapshotKind::Incremental).unwrap();
    for key in 0..50 {
        let mut scope = simple.backend.at(&key);
        scope.state(states.0).add(1).unwrap();
        scope.state(states.1).add(key + 2).unwrap();
    }
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let register = |b: &mut F::Backend<u64>| Ok((b.register(&sums)?, b.register(&mean)?));
    let (mut restored, states) = simple.restore(std::slice::from_ref(&snapshot), register).unwrap();
    for key in 0..50 {
        let mut scope = restored.backend.at(&key);
        assert_eq!(scope.state(states.0).get().unwrap(), Some(&(key + 1)));
        assert_eq!(scope.state(states.1).get().unwrap(), Some(key + 1));
    }
    let value = ValueDescriptor::<u64>::new("sums");
    let error =
        simple.restore(&[snapshot], |b| b.register(&value)).expect_err("a value is no reducing state");
    assert!(error.to_string().contains("sums"), "{error}");
}
