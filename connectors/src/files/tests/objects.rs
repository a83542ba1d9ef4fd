//! Objects in a store as input.

use std::io::Write;

use futures::executor::block_on;
use strandline_checkpoint_storage::{BlobStore, ObjectStore};

use super::*;

struct Bucket(ObjectStore);

impl Bucket {
    fn new() -> Self {
        Self(ObjectStore::in_memory().unwrap())
    }

    fn put(&self, key: &str, content: &[u8]) {
        block_on(self.0.put(key, content.to_vec().into())).unwrap();
    }

    fn at(&self, key: &str) -> FileSource<TextLines> {
        FileSource::new(InputPath::in_opened(self.0.clone(), "memory://bucket", key), TextLines)
    }
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|i| format!("{i}\n")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(64)))]

    /// As for files: each line once, wherever the attempts stop.
    #[test]
    fn every_line_of_every_object_is_read_once(
        objects in proptest::collection::vec((0u32..4000, any::<bool>()), 1..4),
        split_size in 1u64..20_000,
        steps in proptest::collection::vec((1u32..4, proptest::collection::vec(0usize..3000, 4)), 0..4),
    ) {
        let bucket = Bucket::new();
        let mut wanted = Vec::new();
        for (i, (count, packs)) in objects.iter().enumerate() {
            let text = lines(0..*count);
            let packed = || zstd::encode_all(text.as_bytes(), 1).unwrap();
            bucket.put(&format!("in/2026/{i}"), &if *packs { packed() } else { text.clone().into_bytes() });
            wanted.extend(text.lines().map(str::to_owned));
        }
        bucket.put("in/2026/_left-out", b"x\n");
        bucket.put("in/2026/deeper/left-out", b"x\n");
        bucket.put("in/20260", b"x\n");
        let (mut rows, mut restored) = (Vec::new(), None);
        for (parallelism, polls) in &steps {
            let source = bucket.at("in/2026/").split_size(split_size);
            let (more, positions) = read(&source, &restored, *parallelism, |i| polls[i as usize]).unwrap();
            rows.extend(more);
            restored = Some(positions);
        }
        rows.extend(read(&bucket.at("in/2026").split_size(split_size), &restored, 2, |_| usize::MAX).unwrap().0);
        wanted.sort_unstable();
        prop_assert_eq!(texts(&rows), wanted);
    }
}

#[test]
fn objects_are_known_by_their_content() {
    let bucket = Bucket::new();
    bucket.put("in/a", lines(0..2000).as_bytes());
    let (rows, begun) = read(&bucket.at("in/a"), &None, 1, |_| 500).unwrap();
    assert_eq!(rows.len(), 500, "one object by its key");
    let error = all(&bucket.at("in/none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(error.context("input"), Some("memory://bucket/in/none"), "{error}");

    bucket.put("in/b", lines(0..10).as_bytes());
    let (rows, whole) = read(&bucket.at("in"), &Some(begun.clone()), 1, |_| usize::MAX).unwrap();
    assert_eq!(rows.len(), 1510, "what is new below the prefix is read");
    bucket.put("in/a", lines(1..2001).as_bytes());
    for positions in [begun, whole] {
        let error = read(&bucket.at("in"), &Some(positions), 1, |_| usize::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
        assert_eq!(error.context("file"), Some("memory://bucket/in/a"), "{error}");
    }
}

#[test]
fn a_bad_record_of_an_object_has_its_place() {
    let bucket = Bucket::new();
    let text = "user,amount\nann,1\nbob,x\n";
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    for content in [text.as_bytes(), &encoder.finish().unwrap()] {
        bucket.put("a.csv", content);
        let path = InputPath::in_opened(bucket.0.clone(), "memory://bucket", "");
        let columns = first_header(path.clone(), Framing::Lines).unwrap();
        assert_eq!(columns, b"user,amount");
        let error = all(&FileSource::new(path, orders())).unwrap_err();
        assert_eq!((error.context("line"), error.context("byte")), (Some("3"), Some("18")), "{error}");
        assert_eq!(error.context("file"), Some("memory://bucket/a.csv"), "{error}");
    }
}
