//! Reads the first record of an input before a job runs.

use strandline_state_api::Result;

use super::encoding;
use super::listing::list;
use super::place::InputPath;
use super::reader::{Framing, MAX_RECORD, OpenFile, Range, SplitReader};

/// Reads the first record of the first file of `path`, from which a planner takes the columns.
///
/// # Errors
/// When there is no file, or it cannot be read.
pub fn first_header(path: impl Into<InputPath>, framing: Framing) -> Result<Vec<u8>> {
    let path = path.into();
    let files = list(&path)?;
    let file = match files.first() {
        Some(first) if path.is_dir()? => path.join(&first.name),
        _ => path,
    };
    encoding::check(&file, OpenFile::open(&file)?.head())?;
    let mut reader = SplitReader::open(&file, framing, MAX_RECORD, Range::ALL)?;
    Ok(reader.next()?.map(|(_, record)| record.to_vec()).unwrap_or_default())
}
