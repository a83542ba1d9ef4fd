//! Parts that store a state in different forms stay apart in a merge and in a fold.

use std::collections::BTreeMap;

use proptest::prelude::*;
use strandline_snapshot_format::{
    ExpiryFilter, FoldOptions, MemorySegments, Merge, Op, SegmentIndex, SegmentKind, WriterOptions, fold,
    fold_filtered, list,
};
use strandline_state_api::backend::StateTime;
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::snapshot::{SegmentStore, SnapshotPart};
use strandline_state_api::{KeyGroupRange, Result, Timestamp, Ttl};

use crate::common::{Entry, cases, merge, now, states, write};
use crate::model::{Place, chain};

/// Values by the version of their form: those of a list in several forms one after the other.
type Pieces = Vec<(u32, Vec<u8>)>;
/// The contents of each address, by map key.
pub(crate) type Model = BTreeMap<Place, BTreeMap<Vec<u8>, Pieces>>;

/// Describes the states of the tests in the forms of these versions.
fn in_versions(versions: &[u32]) -> Vec<StateMeta> {
    let form = |(meta, version): (StateMeta, &u32)| StateMeta { schema_version: *version, ..meta };
    states().into_iter().zip(versions.iter().cycle()).map(form).collect()
}

pub(crate) fn store_part(
    store: &MemorySegments,
    kind: SegmentKind,
    entries: &[Entry],
    metas: &[StateMeta],
) -> SnapshotPart {
    let segment = write(metas, kind, WriterOptions::default(), entries).unwrap();
    SnapshotPart::portable(now(store.put(segment.bytes)).unwrap(), KeyGroupRange::ALL)
}

pub(crate) fn apply(model: &mut Model, entries: &[Entry], metas: &[StateMeta]) {
    for entry in entries {
        let place = (entry.group, entry.state.clone(), entry.key.clone(), entry.namespace.clone());
        let version = metas.iter().find(|meta| meta.name == entry.state).unwrap().schema_version;
        let at = model.entry(place.clone()).or_default();
        match entry.op() {
            Op::Put => drop(at.insert(entry.sub.clone(), vec![(version, entry.value.clone())])),
            Op::Delete => drop(at.remove(&entry.sub)),
            Op::Append => push(at.entry(Vec::new()).or_default(), version, &entry.value),
            Op::Clear => at.clear(),
        }
        if at.is_empty() {
            model.remove(&place);
        }
    }
}

fn push(pieces: &mut Pieces, version: u32, value: &[u8]) {
    match pieces.last_mut() {
        Some((last, bytes)) if *last == version => bytes.extend_from_slice(value),
        _ => pieces.push((version, value.to_vec())),
    }
}

/// Merges parts as a restore does.
pub(crate) fn merged(store: &MemorySegments, parts: &[SnapshotPart]) -> Result<Model> {
    merge(store, parts, SegmentKind::Base, KeyGroupRange::ALL)?;
    now(async {
        let mut merge = Merge::open(store, parts, SegmentKind::Base, KeyGroupRange::ALL).await?;
        let metas = merge.states().to_vec();
        let (mut model, mut last) = (Model::new(), None);
        while let Some(entry) = merge.next().await? {
            let version = metas[usize::from(entry.state)].schema_version;
            let entry = Entry::of(&metas, entry);
            let position = Entry { op: 0, value: Vec::new(), ..entry.clone() };
            let place = (entry.group, entry.state.clone(), entry.key.clone(), entry.namespace.clone());
            let pieces = model.entry(place).or_default().entry(entry.sub.clone()).or_default();
            match entry.op() {
                Op::Put => {
                    assert!(pieces.is_empty() && last < Some(position.clone()), "{entry:?} is out of order");
                }
                Op::Append => {
                    assert_eq!(last.as_ref(), Some(&position), "{entry:?} follows no older elements");
                }
                other => panic!("a base has no {other:?}"),
            }
            // A form that came back after another has a row of its own.
            push(pieces, version, &entry.value);
            last = Some(position);
        }
        Ok(model)
    })
}

/// Whether versions rise from part to part, as they do without programs that read each other's values.
fn versions_of_parts() -> impl Strategy<Value = Vec<Vec<u32>>> {
    (any::<bool>(), proptest::collection::vec(proptest::collection::vec(0u32..3, 1..4), 7)).prop_map(
        |(rising, mut versions)| {
            if rising {
                versions.iter_mut().for_each(|of_part| of_part.truncate(1));
                versions.sort();
            }
            versions
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(300)))]

    #[test]
    fn entries_keep_the_forms_of_their_parts(
        chain in chain(),
        versions in versions_of_parts(),
        from in 0usize..7,
        len in 0usize..7,
        max in prop_oneof![Just(1usize), Just(500), Just(1 << 20)],
    ) {
        let (store, mut parts, mut model) = (MemorySegments::new(), Vec::new(), Model::new());
        for ((kind, entries), versions) in chain.iter().zip(&versions) {
            let metas = in_versions(versions);
            parts.push(store_part(&store, *kind, entries, &metas));
            apply(&mut model, entries, &metas);
        }
        prop_assert_eq!(&merged(&store, &parts).unwrap(), &model);

        // A fold of all parts, and one of any consecutive parts, changes nothing.
        let options = FoldOptions { max_segment_bytes: max, ..FoldOptions::default() };
        let folded = now(fold(&parts, &store, SegmentKind::Base, KeyGroupRange::ALL, &options)).unwrap();
        prop_assert_eq!(&merged(&store, &folded.parts).unwrap(), &model);
        let again = now(fold(&folded.parts, &store, SegmentKind::Base, KeyGroupRange::ALL, &options)).unwrap();
        prop_assert_eq!(&merged(&store, &again.parts).unwrap(), &model);

        let from = from.min(parts.len());
        let to = (from + len).min(parts.len());
        let folded =
            now(fold(&parts[from..to], &store, SegmentKind::Delta, KeyGroupRange::ALL, &options)).unwrap();
        let replaced = [&parts[..from], &folded.parts[..], &parts[to..]].concat();
        prop_assert_eq!(&merged(&store, &replaced).unwrap(), &model);
    }
}

pub(crate) fn part_of(
    store: &MemorySegments,
    meta: &StateMeta,
    op: Op,
    values: &[(&str, &[u8])],
) -> SnapshotPart {
    let entry = |(key, value): &(&str, &[u8])| Entry {
        group: 3,
        state: meta.name.clone(),
        key: key.as_bytes().to_vec(),
        namespace: Vec::new(),
        rank: true,
        sub: Vec::new(),
        op: op.code(),
        value: value.to_vec(),
    };
    let entries: Vec<_> = values.iter().map(entry).collect();
    store_part(store, SegmentKind::Delta, &entries, std::slice::from_ref(meta))
}

/// A fold has as many layers as the state has forms, however many parts have them.
#[test]
fn a_fold_has_a_part_for_each_form() {
    let (store, mut parts) = (MemorySegments::new(), Vec::new());
    for (number, version) in [1, 1, 1, 2, 2, 3, 3].into_iter().enumerate() {
        let meta = StateMeta { schema_version: version, ..StateMeta::new("n", StateKind::Value) };
        let key = number.to_string();
        parts.push(part_of(&store, &meta, Op::Put, &[(&key, b"y"), ("shared", b"x")]));
    }
    let folded =
        now(fold(&parts, &store, SegmentKind::Base, KeyGroupRange::ALL, &FoldOptions::default())).unwrap();
    assert_eq!(folded.parts.len(), 3);
    assert_eq!(folded.entries, 8, "each key once, in its newest form");
    let kinds = folded.parts.iter().map(|part| {
        let bytes = now(store.read(&part.segment, 0..part.segment.len)).unwrap();
        SegmentIndex::parse(&bytes).unwrap().kind()
    });
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds, [SegmentKind::Base, SegmentKind::Delta, SegmentKind::Delta]);
}

/// Values from before a state had a time-to-live have no stamp, so a filter must not look for one.
#[test]
fn a_filter_spares_values_without_a_stamp() {
    let store = MemorySegments::new();
    let lasting = StateMeta::new("n", StateKind::List);
    let expiring = StateMeta { stamped: true, ..lasting.clone() };
    let element = |bytes: &[u8]| {
        let mut value = Vec::new();
        list::push(&mut value, bytes);
        value
    };
    let (old, new) = (element(&[0; 20]), element(&[0; 20]));
    let parts = [
        part_of(&store, &lasting, Op::Put, &[("a", &old), ("b", &old)]),
        part_of(&store, &expiring, Op::Append, &[("a", &new), ("c", &new)]),
    ];
    let clock = StateTime { processing_time: Some(Timestamp::from_millis(1_000)), ..StateTime::UNKNOWN };
    let ttl = Ttl::processing_time(std::time::Duration::from_millis(10));
    let filter = ExpiryFilter::of(clock, [(&expiring, Some(&ttl))]);
    let options = FoldOptions::default();
    let folded = now(fold_filtered(&parts, &store, KeyGroupRange::ALL, &options, &filter)).unwrap();
    let model = merged(&store, &folded.parts).unwrap();
    let keys: Vec<_> = model.keys().map(|(.., key, _)| String::from_utf8_lossy(key).into_owned()).collect();
    assert_eq!(keys, ["a", "b"], "only what is stamped has expired");
    assert_eq!(folded.entries, 2);
}
