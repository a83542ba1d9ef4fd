//! What windows emit.

/// What a window operator emits: results, and where they are asked for the records that came too late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowOutput<K, W, R, T> {
    /// The result of a window.
    Result(WindowResult<K, W, R>),
    /// A record whose windows have all closed. Its event time is that of the record.
    Late(LateRow<K, T>),
}

impl<K: Clone, W, R, T> WindowOutput<K, W, R, T> {
    pub(super) fn of(key: &K, window: W, value: R, firing: Firing) -> Self {
        Self::Result(WindowResult { key: key.clone(), window, value, firing })
    }
}

impl<K, W, R, T> WindowOutput<K, W, R, T> {
    /// Splits results from late records, as a step that partitions a stream needs it.
    ///
    /// # Errors
    /// The late record.
    pub fn into_result(self) -> Result<WindowResult<K, W, R>, LateRow<K, T>> {
        match self {
            Self::Result(result) => Ok(result),
            Self::Late(late) => Err(late),
        }
    }

    /// Returns the result, if this is one.
    pub fn result(self) -> Option<WindowResult<K, W, R>> {
        self.into_result().ok()
    }
}

/// The result of a window.
///
/// A window that fires several times (early, or corrected) has several results, each with the same key and
/// window: the last one counts. A session that grew after it had fired has another window than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowResult<K, W, R> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: W,
    /// The result of the aggregate.
    pub value: R,
    /// What made the window fire.
    pub firing: Firing,
}

/// What made a window fire (Beam: `PaneInfo.Timing`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Firing {
    /// A [`Trigger`](super::Trigger), before the end of the window.
    Early,
    /// The end of the window, or of the input.
    OnTime,
    /// A record that came after the end of the window, within the allowed lateness: a correction.
    Late,
}

/// A record that came after its windows had closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateRow<K, T> {
    /// The key.
    pub key: K,
    /// The record.
    pub record: T,
}
