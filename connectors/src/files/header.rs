//! Reads the first record of an input before a job runs.

use strandline_state_api::Result;

use super::encoding;
use super::listing::list;
use super::place::InputPath;
use super::reader::{BUFFER, Framing, MAX_RECORD, OpenFile, Range, SplitReader};

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
    let opened = OpenFile::open(&file)?;
    encoding::check(&file, opened.head())?;
    let mut reader = SplitReader::new(opened, framing, MAX_RECORD, Range::ALL, BUFFER)?;
    Ok(reader.next()?.map(|(_, record)| record.to_vec()).unwrap_or_default())
}
