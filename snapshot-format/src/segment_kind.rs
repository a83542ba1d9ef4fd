//! The kind of a segment: full contents or changes.

use serde::{Deserialize, Serialize};

/// Whether a segment holds full contents or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SegmentKind {
    /// Full contents, made of [`Op::Put`](crate::Op::Put) only. A base that follows other parts behaves like
    /// a delta, and hides only the positions that it holds, so list no part before a base.
    Base,
    /// Changes to the parts before it.
    Delta,
}

impl SegmentKind {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Base => 1,
            Self::Delta => 2,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Base),
            2 => Some(Self::Delta),
            _ => None,
        }
    }
}
