//! The limits of a storage, and its patience.

use std::time::Duration;

/// The limits of a [`Storage`](crate::Storage), and how long it tries.
///
/// ```
/// use std::time::Duration;
/// use strandline_checkpoint_storage::{Storage, StorageOptions};
///
/// let options = StorageOptions::default().inline_limit(4 * 1024).request_timeout(Duration::from_secs(5));
/// let storage = Storage::open_with("memory://", options)?;
/// # Ok::<(), strandline_state_api::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageOptions {
    /// The most bytes of a list of elements (an operator state, positions, committables) that stand in the
    /// manifest; a longer list goes to a file of its own, so that manifests stay small (Flink:
    /// `state.storage.fs.memory-threshold`). 64 KiB unless set. Readers need not know it.
    pub inline_limit: usize,
    /// How long a store on a network may take for one request, or for each piece of a stream. 30 s unless
    /// set.
    pub request_timeout: Duration,
    /// How often a request that failed is sent again where that may help: a timeout, an overload, a lost
    /// connection. 5 unless set. Conditional creates are sent once, see
    /// [`unknown_creates`](Self#structfield.unknown_creates).
    pub retries: u32,
    /// The pause before the first retry, up to a quarter shorter or longer; it doubles with each further one,
    /// up to a minute. One second unless set: a store that is too busy gets half a minute.
    pub retry_pause: Duration,
    /// As [`retry_pause`](Self#structfield.retry_pause), where nobody listens at the address: it may be
    /// wrong. 100 ms unless set, so that a mistake shows within four seconds.
    pub unreachable_pause: Duration,
    /// How many creates of log slots may lack an answer within one claim or commit before it fails; each of
    /// them is settled by reading the slot back. 6 unless set; 0 counts as 1.
    pub unknown_creates: u32,
    /// How often a reader of the commit log starts again because somebody wrote and cut it meanwhile, before
    /// it fails with [`Unavailable`](strandline_state_api::ErrorKind::Unavailable). 16 unless set; 0 counts
    /// as 1.
    pub log_reads: u32,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            inline_limit: 64 * 1024,
            request_timeout: Duration::from_secs(30),
            retries: 5,
            retry_pause: Duration::from_secs(1),
            unreachable_pause: Duration::from_millis(100),
            unknown_creates: 6,
            log_reads: 16,
        }
    }
}

impl StorageOptions {
    /// Sets [`inline_limit`](Self#structfield.inline_limit).
    #[must_use]
    pub fn inline_limit(mut self, bytes: usize) -> Self {
        self.inline_limit = bytes;
        self
    }

    /// Sets [`request_timeout`](Self#structfield.request_timeout).
    #[must_use]
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout = request_timeout;
        self
    }

    /// Sets [`retries`](Self#structfield.retries).
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets [`retry_pause`](Self#structfield.retry_pause).
    #[must_use]
    pub fn retry_pause(mut self, retry_pause: Duration) -> Self {
        self.retry_pause = retry_pause;
        self
    }

    /// Sets [`unreachable_pause`](Self#structfield.unreachable_pause).
    #[must_use]
    pub fn unreachable_pause(mut self, unreachable_pause: Duration) -> Self {
        self.unreachable_pause = unreachable_pause;
        self
    }

    /// Sets [`unknown_creates`](Self#structfield.unknown_creates).
    #[must_use]
    pub fn unknown_creates(mut self, unknown_creates: u32) -> Self {
        self.unknown_creates = unknown_creates;
        self
    }

    /// Sets [`log_reads`](Self#structfield.log_reads).
    #[must_use]
    pub fn log_reads(mut self, log_reads: u32) -> Self {
        self.log_reads = log_reads;
        self
    }
}
