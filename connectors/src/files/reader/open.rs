//! A file that is open, and how it begins.

use std::io::Read;

use strandline_state_api::Result;

use super::super::content::Content;
use super::super::identity::WINDOW;
use super::super::place::{InputPath, unreadable};
use super::super::stream::StreamReader;
use super::{Framing, without_line_end};

/// A file that is open, and the first bytes of its content.
#[derive(Debug)]
pub(in super::super) struct OpenFile {
    pub(super) path: InputPath,
    pub(super) content: Content,
    /// The first [`WINDOW`] bytes, or all that there are; `content` stands behind them.
    pub(super) head: Vec<u8>,
}

impl OpenFile {
    pub(in super::super) fn open(path: &InputPath) -> Result<Self> {
        let mut content = Content::open(path).map_err(|e| unreadable(path, e))?;
        let mut head = Vec::new();
        if let Err(e) = (&mut content).take(WINDOW as u64).read_to_end(&mut head) {
            return Err(content.error(path, head.len() as u64, e));
        }
        Ok(Self { path: path.clone(), content, head })
    }

    /// A stream of which some bytes are there, or which has ended.
    pub(in super::super) fn of_stream(path: &InputPath, mut stream: Box<StreamReader>) -> Result<Self> {
        let head = stream.head(WINDOW);
        let content = Content::Stream(stream);
        match head {
            Ok(head) => Ok(Self { path: path.clone(), content, head }),
            Err(e) => Err(content.error(path, 0, e)),
        }
    }

    /// The first bytes of the content.
    pub(in super::super) fn head(&self) -> &[u8] {
        &self.head
    }

    pub(in super::super) fn is_forward(&self) -> bool {
        self.content.is_forward()
    }

    /// The first record, where it ends within the first [`WINDOW`] bytes, and where the next one begins.
    pub(in super::super) fn first_record(&self, framing: Framing) -> Option<(&[u8], u64)> {
        let mark = if self.head.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let records = self.head.get(mark..)?;
        let len = framing.record(records).ok()?;
        Some((without_line_end(records.get(..len)?), (mark + len) as u64))
    }
}

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
