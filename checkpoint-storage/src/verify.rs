//! Whether the files of a checkpoint are those that were written.

use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use futures::StreamExt;
use strandline_snapshot_format::SegmentReader;
use strandline_state_api::snapshot::{SegmentRef, SegmentStore};
use strandline_state_api::{CheckpointId, Error, ErrorKind, KeyGroupRange, OperatorId, Result};

use crate::manifest::StoredManifest;
use crate::storage::parse_name;
use crate::{CompletedCheckpoint, FileKind, Manifest, Storage};

/// Files that are verified at once.
const CONCURRENT: usize = 8;

/// How closely a verification looks at files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// The manifest is there and whole, and with it the large operator state beside it; files of keyed state
    /// are not looked at. A damaged one fails the restore.
    Manifest,
    /// And every file is there and has its length.
    Lengths,
    /// And its bytes have the hash in its name: reads everything.
    #[default]
    Contents,
}

/// Looks into a segment in the portable format: what a hash cannot show, for example whether its blocks
/// decode. Segments in native formats are files of their backend; of them only length and hash are compared.
#[async_trait]
pub trait SegmentCheck: Send + Sync {
    /// Checks one segment, whose bytes are known to be those that were written.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] or [`ErrorKind::Incompatible`] when it is bad; any other kind ends the
    /// verification.
    async fn check(&self, segment: &SegmentRef, store: &dyn SegmentStore) -> Result<()>;
}

/// Decodes every block of a segment in the portable format, and compares its fingerprints.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortableFormat;

#[async_trait]
impl SegmentCheck for PortableFormat {
    async fn check(&self, segment: &SegmentRef, store: &dyn SegmentStore) -> Result<()> {
        SegmentReader::open(store, segment).await?.read(KeyGroupRange::ALL, |_| Ok(())).await
    }
}

/// A file that is not what was written.
#[derive(Debug)]
pub struct BadFile {
    /// Its path in the storage.
    pub file: String,
    /// The operator whose state is in it, if it is not the manifest.
    pub operator: Option<OperatorId>,
    /// The subtask whose state is in it.
    pub subtask: Option<u32>,
    /// What is wrong.
    pub error: Error,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(operator), Some(subtask)) = (&self.operator, self.subtask) {
            write!(f, " of operator {operator}, subtask {subtask}")?;
        }
        write!(f, ": {}", self.error)
    }
}

/// What a verification found.
#[derive(Debug)]
pub struct VerifyReport {
    /// The checkpoint.
    pub checkpoint: CompletedCheckpoint,
    /// Files looked at, the manifest among them.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// The bad ones; none when the checkpoint can be restored.
    pub bad: Vec<BadFile>,
    /// Whether the checkpoint left the log while it was verified, so that what is bad may only have been
    /// deleted, as it should.
    pub is_gone: bool,
}

impl VerifyReport {
    /// Whether the checkpoint can be restored.
    pub fn is_good(&self) -> bool {
        self.bad.is_empty()
    }

    /// The manifest, or what it has in files of its own, is bad.
    pub(crate) fn add_manifest(&mut self, error: Error) {
        let file = format!("{}/{}", FileKind::Manifest.dir(), self.checkpoint.manifest);
        self.bad.push(BadFile { file, operator: None, subtask: None, error });
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.checkpoint.checkpoint;
        if self.is_gone {
            return write!(f, "checkpoint {id}: it left the log while it was verified");
        }
        write!(f, "checkpoint {id}: {} files, {} bytes, {} bad", self.files, self.bytes, self.bad.len())?;
        self.bad.iter().try_for_each(|bad| write!(f, "; {bad}"))
    }
}

/// A file with the first subtask that refers to it.
struct Reference {
    kind: FileKind,
    /// Whether it is in the portable format.
    portable: bool,
    file: SegmentRef,
    operator: OperatorId,
    subtask: u32,
}

impl Storage {
    /// Reads the manifest of a checkpoint and all its files, and compares lengths and hashes. Works beside a
    /// running job.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the log names no such checkpoint, else when the store fails. Bad files
    /// are no errors but the answer.
    pub async fn verify(&self, checkpoint: CheckpointId) -> Result<VerifyReport> {
        let history = self.history().await?;
        let completed = history.find(checkpoint).ok_or_else(|| unknown(checkpoint, self))?;
        self.verify_with(completed, Depth::Contents, None).await
    }

    /// Verifies as [`verify`](Self::verify) does, to the given depth; `check` looks into every segment that
    /// is good so far.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn verify_with(
        &self,
        checkpoint: &CompletedCheckpoint,
        depth: Depth,
        check: Option<&dyn SegmentCheck>,
    ) -> Result<VerifyReport> {
        let mut report = self.inspect(checkpoint, depth, check).await?.0;
        report.is_gone = !report.is_good() && !self.is_retained(checkpoint).await?;
        Ok(report)
    }

    /// Whether the log still retains a checkpoint that it named before. What is missing of one that it does
    /// not was deleted as it should.
    ///
    /// # Errors
    /// As [`history`](Self::history).
    pub async fn is_retained(&self, checkpoint: &CompletedCheckpoint) -> Result<bool> {
        let history = self.history().await?;
        Ok(history.find(checkpoint.checkpoint).is_some_and(|found| found.identity() == checkpoint.identity()))
    }

    /// Verifies, and returns the manifest if that is good.
    pub(crate) async fn inspect(
        &self,
        checkpoint: &CompletedCheckpoint,
        depth: Depth,
        check: Option<&dyn SegmentCheck>,
    ) -> Result<(VerifyReport, Option<StoredManifest>)> {
        let mut report = VerifyReport {
            checkpoint: checkpoint.clone(),
            files: 1,
            bytes: checkpoint.manifest_len,
            bad: Vec::new(),
            is_gone: false,
        };
        let stored = match verdict(self.read_stored(checkpoint).await)? {
            Ok(stored) => stored,
            Err(error) => {
                report.add_manifest(error);
                return Ok((report, None));
            }
        };
        let references = references(&stored);
        report.files += references.len() as u64;
        report.bytes = references.iter().fold(report.bytes, |sum, r| sum.saturating_add(r.file.len));
        let checks = references.into_iter().map(|reference| async move {
            let result = self.inspect_file(&reference, depth, check).await;
            (reference, result)
        });
        let mut results = futures::stream::iter(checks).buffered(CONCURRENT);
        while let Some((reference, result)) = results.next().await {
            if let Err(error) = verdict(result)? {
                let file = format!("{}/{}", reference.kind.dir(), reference.file.name);
                let (operator, subtask) = (Some(reference.operator), Some(reference.subtask));
                report.bad.push(BadFile { file, operator, subtask, error });
            }
        }
        drop(results);
        Ok((report, Some(stored)))
    }

    async fn inspect_file(
        &self,
        reference: &Reference,
        depth: Depth,
        check: Option<&dyn SegmentCheck>,
    ) -> Result<()> {
        let Reference { kind, portable, file, .. } = reference;
        match depth {
            Depth::Manifest => {}
            Depth::Lengths => self.check_len(&parse_name(*kind, &file.name.0)?, file.len).await?,
            Depth::Contents => self.verify_file(*kind, file).await?,
        }
        match check {
            Some(check) if *portable => check.check(file, &self.reader()).await,
            _ => Ok(()),
        }
    }
}

/// Bad files are the answer, a store that fails is not: recovery must not fall back because a network is
/// down.
pub(crate) fn verdict<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(e) if is_verdict(&e) => Ok(Err(e)),
        Err(e) => Err(e),
    }
}

pub(crate) fn is_verdict(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Incompatible)
}

/// The files that a manifest refers to, each once, in the order of their first mention.
fn references(stored: &StoredManifest) -> Vec<Reference> {
    let StoredManifest { manifest, external, .. } = stored;
    let segments = owners(manifest).flat_map(|(operator, subtask)| {
        let parts = subtask.keyed.parts.iter();
        parts.map(move |part| {
            (FileKind::Segment, part.format.is_portable(), &part.segment, operator, subtask.subtask)
        })
    });
    let states = external.iter().filter_map(|external| {
        let operator = manifest.operators.get(external.operator)?;
        let subtask = operator.subtasks.get(external.subtask)?;
        Some((FileKind::OperatorState, false, &external.file, &operator.id, subtask.subtask))
    });
    let mut seen: HashSet<(FileKind, &SegmentRef)> = HashSet::new();
    let mut references = Vec::new();
    for (kind, portable, file, operator, subtask) in segments.chain(states) {
        if seen.insert((kind, file)) {
            references.push(Reference {
                kind,
                portable,
                file: file.clone(),
                operator: operator.clone(),
                subtask,
            });
        }
    }
    references
}

fn owners(manifest: &Manifest) -> impl Iterator<Item = (&OperatorId, &crate::SubtaskSnapshot)> {
    manifest.operators.iter().flat_map(|op| op.subtasks.iter().map(move |subtask| (&op.id, subtask)))
}

pub(crate) fn unknown(checkpoint: CheckpointId, storage: &Storage) -> Error {
    Error::new(ErrorKind::NotFound, "the commit log names no such checkpoint")
        .with("checkpoint", checkpoint)
        .with("storage", storage.uri())
}
