//! Immutable objects: whole or not there, for every reader, at once.

use bytes::Bytes;
use strandline_checkpoint_storage::FileKind;
use strandline_state_api::snapshot::{SegmentName, SegmentRef, SegmentStore};
use strandline_state_api::{CheckpointId, ErrorKind};

use super::StorageSubject;
use super::place::segment;
use crate::wait::wait;

fn path(name: &str) -> String {
    format!("{}/{name}", FileKind::Segment.dir())
}

fn random(seed: u64, len: usize) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.u8(..)).collect()
}

/// Looking at a storage that nobody wrote to finds nothing, and is no error.
pub fn an_empty_storage(subject: &StorageSubject) {
    let storage = subject.place()();
    wait(async {
        let blobs = storage.blobs();
        for kind in FileKind::ALL {
            assert_eq!(blobs.list(kind.dir()).await.unwrap(), []);
        }
        assert_eq!(blobs.len(&path("nothing")).await.unwrap(), None);
        let error = blobs.read(&path("nothing"), 0..1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        blobs.delete(&path("nothing")).await.unwrap();
        assert!(storage.completed().await.unwrap().is_empty());
        assert!(storage.sweep().await.unwrap().deleted.is_empty());
    });
}

/// What was put is there for every handle: its bytes, its length, its name in the list.
pub fn read_after_write(subject: &StorageSubject) {
    let open = subject.place();
    let (writer, reader) = (open(), open());
    wait(async {
        for (i, len) in [0usize, 1, 4_096, 100_000, (8 << 20) + 1].into_iter().enumerate() {
            let (path, bytes) = (path(&format!("object-{i}")), random(i as u64, len));
            writer.blobs().put(&path, bytes.clone()).await.unwrap();
            for storage in [&reader, &open()] {
                let blobs = storage.blobs();
                assert_eq!(blobs.len(&path).await.unwrap(), Some(len as u64));
                assert!(blobs.read(&path, 0..len as u64).await.unwrap() == bytes, "{len} bytes");
                let listed = blobs.list(FileKind::Segment.dir()).await.unwrap();
                let found = listed.iter().find(|file| file.name == format!("object-{i}"));
                assert_eq!(found.map(|file| file.len), Some(len as u64));
                assert_eq!(listed.len(), i + 1, "nothing else is listed: {listed:?}");
            }
        }
        for kind in [FileKind::Manifest, FileKind::OperatorState] {
            assert_eq!(reader.blobs().list(kind.dir()).await.unwrap(), [], "a list is of its directory");
        }
    });
}

/// A range is read exactly; one that goes beyond the end is corruption, not less than was asked for.
pub fn ranged_reads(subject: &StorageSubject) {
    let storage = subject.place()();
    wait(async {
        let (path, bytes) = (path("ranged"), random(1, 100_000));
        let blobs = storage.blobs();
        blobs.put(&path, bytes.clone()).await.unwrap();
        let len = bytes.len() as u64;
        let mut rng = fastrand::Rng::with_seed(2);
        let any = (0..50).map(|_| {
            let start = rng.u64(..len);
            (start, rng.u64(start..=len))
        });
        for (start, end) in [(0, 0), (0, 1), (len - 1, len), (len, len), (0, len)].into_iter().chain(any) {
            let part = blobs.read(&path, start..end).await.unwrap();
            assert!(part == bytes[start as usize..end as usize], "bytes {start} to {end}");
        }
        for (start, end) in [(0, len + 1), (len - 1, len + 10), (len + 5, len + 6), (0, u64::MAX)] {
            let error = blobs.read(&path, start..end).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "bytes {start} to {end} of {len}: {error}");
        }
    });
}

/// Putting the same again changes nothing, also when many do at once; deleting is done once and asked for
/// often.
pub fn put_and_delete_can_be_repeated(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let (path, bytes) = (path("again"), random(3, 50_000));
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let (storage, path, bytes) = (open(), path.clone(), bytes.clone());
                tokio::spawn(async move { storage.blobs().put(&path, bytes).await })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
        let storage = open();
        assert!(storage.blobs().read(&path, 0..50_000).await.unwrap() == bytes);
        assert_eq!(storage.blobs().list(FileKind::Segment.dir()).await.unwrap().len(), 1);
        for _ in 0..3 {
            storage.blobs().delete(&path).await.unwrap();
            assert_eq!(open().blobs().len(&path).await.unwrap(), None);
        }
        assert_eq!(storage.blobs().list(FileKind::Segment.dir()).await.unwrap(), []);
        storage.blobs().put(&path, bytes.clone()).await.unwrap();
        assert_eq!(open().blobs().len(&path).await.unwrap(), Some(50_000));
    });
}

/// While objects come and go, a reader sees each of them whole or not at all.
pub fn readers_never_see_half_an_object(subject: &StorageSubject) {
    let open = subject.place();
    const LEN: u64 = 200_000;
    wait(async {
        let writer = open();
        let bytes = random(4, LEN as usize);
        let expected = bytes.clone();
        let written = tokio::spawn(async move {
            for round in 0..20 {
                writer.blobs().put(&path(&format!("object-{}", round % 3)), bytes.clone()).await.unwrap();
                writer.blobs().delete(&path(&format!("object-{}", (round + 1) % 3))).await.unwrap();
            }
        });
        let reader = open();
        while !written.is_finished() {
            for i in 0..3 {
                match reader.blobs().len(&path(&format!("object-{i}"))).await.unwrap() {
                    None => {}
                    Some(len) => assert_eq!(len, LEN, "an object shows before it is whole"),
                }
                match reader.blobs().read(&path(&format!("object-{i}")), 0..LEN).await {
                    Ok(found) => assert!(found == expected, "an object with other bytes"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                }
            }
            tokio::task::yield_now().await;
        }
        written.await.unwrap();
    });
}

/// Segments, as backends see them: named by what they contain, of the length in their reference.
pub fn segments_are_checked(subject: &StorageSubject) {
    let open = subject.place();
    let storage = open();
    wait(async {
        let stored = segment(&storage, 1, 1, b"state of the art").await.unwrap();
        assert_eq!(
            segment(&open(), 1, 1, b"state of the art").await.unwrap(),
            stored,
            "same bytes, same name"
        );
        assert_ne!(segment(&storage, 1, 1, b"another state").await.unwrap().name, stored.name);
        assert_ne!(segment(&storage, 1, 2, b"state of the art").await.unwrap().name, stored.name);
        let reader = open().reader();
        assert_eq!(reader.read(&stored, 0..16).await.unwrap(), b"state of the art");
        assert_eq!(reader.read(&stored, 9..12).await.unwrap(), b"the");
        for len in [15, 17] {
            let wrong = SegmentRef { len, ..stored.clone() };
            let error = reader.read(&wrong, 0..10).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
        let absent = storage.segments(1, CheckpointId(9)).put(vec![1]).await.unwrap();
        storage.blobs().delete(&path(&absent.name.0)).await.unwrap();
        let error = open().reader().read(&absent, 0..1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains(&absent.name.0), "{error}");
        for hostile in ["", "../../etc/passwd", "/etc/passwd", "0-0-0.seg"] {
            let name = SegmentName(hostile.into());
            let error = reader.read(&SegmentRef { name, len: 1 }, 0..1).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{hostile:?}: {error}");
        }
    });
}
