//! What is under test.

use std::fmt;

use strandline_checkpoint_storage::Storage;

type Open = Box<dyn Fn() -> Storage + Send + Sync>;

/// A storage under test: how to make a new, empty one, and how to open it several times.
///
/// `create` makes a place that is used by one case; what it gives opens that place, once for every thread and
/// every coordinator of the case, as different processes would:
///
/// ```
/// use strandline_checkpoint_storage::Storage;
/// use strandline_conformance::StorageSubject;
///
/// let in_memory = StorageSubject::new(|| {
///     let storage = Storage::in_memory().expect("memory is there");
///     move || storage.clone()
/// });
/// let in_a_directory = StorageSubject::new(|| {
///     // A real test would use a temporary directory, which the inner closure owns, so that it goes with it.
///     let dir = std::env::temp_dir().join("conformance");
///     move || Storage::in_dir(&dir).expect("a usable path")
/// });
/// # let _ = (in_memory, in_a_directory);
/// ```
pub struct StorageSubject {
    create: Box<dyn Fn() -> Open>,
}

impl StorageSubject {
    /// A storage that is made and opened like this.
    pub fn new<O: Fn() -> Storage + Send + Sync + 'static>(create: impl Fn() -> O + 'static) -> Self {
        Self { create: Box::new(move || Box::new(create())) }
    }

    /// A new place; it must be empty.
    pub(crate) fn place(&self) -> Open {
        (self.create)()
    }
}

impl fmt::Debug for StorageSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorageSubject")
    }
}
