//! Downloads the files of a native snapshot, or links local copies of them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use strandline_state_api::snapshot::{SegmentRef, SegmentStore};
use strandline_state_api::{CheckpointId, Error, Result};
use xxhash_rust::xxh3::Xxh3;

use crate::RocksOptions;
use crate::directory::{Directory, StoredFile};
use crate::home::{Instance, failed, remove};
use crate::uploads::{Location, Uploaded};

/// Bytes that are read at once, and so the memory that a download takes.
const CHUNK: u64 = 4 << 20;
/// A longer segment is no directory.
const MAX_DIRECTORY: u64 = 256 << 20;

/// Reads and checks a directory.
pub(super) async fn read_directory(segment: &SegmentRef, store: &dyn SegmentStore) -> Result<Directory> {
    let named = |error: Error| error.with("segment", &segment.name);
    if segment.len > MAX_DIRECTORY {
        return Err(named(Error::corrupt("the directory of a RocksDB snapshot is too long")));
    }
    let bytes = store.read(segment, 0..segment.len).await.map_err(named)?;
    Directory::decode(&bytes).map_err(named)
}

/// Makes the directory `path` with all files of a snapshot, so that it can be opened. Checks the hash of
/// every file, from the store or from a local copy.
pub(crate) async fn fetch(
    directory: &Directory,
    path: &Path,
    instance: &Instance,
    options: &RocksOptions,
    store: &dyn SegmentStore,
) -> Result<Uploaded> {
    remove(path);
    fs::create_dir_all(path).map_err(|e| failed("the directory cannot be made", path, e))?;
    let fetches = directory
        .files
        .iter()
        .cloned()
        .map(|file| fetch_file(file, directory, path, instance, options, store));
    let files: Vec<_> =
        futures::stream::iter(fetches).buffer_unordered(options.transfers).try_collect().await?;
    let (manifest, bytes) = &directory.manifest;
    let current = format!("{manifest}\n");
    for (name, bytes) in [(manifest.as_str(), bytes.as_slice()), ("CURRENT", current.as_bytes())] {
        let path = path.join(name);
        fs::write(&path, bytes).map_err(|e| failed("a file cannot be written", &path, e))?;
    }
    Ok(files.into_iter().collect())
}

async fn fetch_file(
    file: StoredFile,
    directory: &Directory,
    path: &Path,
    instance: &Instance,
    options: &RocksOptions,
    store: &dyn SegmentStore,
) -> Result<(String, Location)> {
    let StoredFile { name, offset, len, hash, .. } = file.clone();
    let pack = directory.packs.get(file.pack as usize).cloned();
    let pack =
        pack.ok_or_else(|| Error::corrupt("a file of a snapshot is in no pack").with("file", &name))?;
    let target = path.join(&name);
    if !(options.local_copies && instance.home().take_copy(hash, len, &target)) {
        download(&file, &pack, &target, store)
            .await
            .map_err(|error| error.with("segment", &pack.name).with("file", &name))?;
    }
    Ok((name, Location { pack, offset, len, hash, stored_for: CheckpointId(0) }))
}

async fn download(
    file: &StoredFile,
    pack: &SegmentRef,
    target: &Path,
    store: &dyn SegmentStore,
) -> Result<()> {
    let unwritable = |error| failed("a restored file cannot be written", target, error);
    let mut output = File::create(target).map_err(unwritable)?;
    let mut hash = Xxh3::new();
    let (mut at, end) = (file.offset, file.offset + file.len);
    while at < end {
        let next = end.min(at + CHUNK);
        let bytes = store.read(pack, at..next).await?;
        hash.update(&bytes);
        output.write_all(&bytes).map_err(unwritable)?;
        at = next;
    }
    if hash.digest128() != file.hash {
        return Err(Error::corrupt(
            "the bytes of a file in a RocksDB snapshot are not those that were written",
        ));
    }
    Ok(())
}
