//! Makes backends that share a directory and a budget of memory.

use std::sync::{Arc, Mutex, PoisonError};

use strandline_state_api::backend::{BackendFactory, BackendScope};
use strandline_state_api::{Result, StateKey};

use crate::database::{Database, Environment};
use crate::home::Home;
use crate::memory::Memory;
use crate::{RocksBackend, RocksOptions, Tune};

/// Makes [`RocksBackend`]s. Clones share their memory and their directory.
#[derive(Clone, Debug)]
pub struct RocksBackendFactory {
    environment: Environment,
    /// Opened with the first backend, as that deletes the instances of processes that died.
    home: Arc<Mutex<Option<Arc<Home>>>>,
}

impl RocksBackendFactory {
    /// A factory with these options. Touches no disk yet.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) names the option that cannot work.
    pub fn new(options: RocksOptions) -> Result<Self> {
        options.check()?;
        let memory = Arc::new(Memory::new(&options));
        Ok(Self { environment: Environment { options, tune: None, memory }, home: Arc::default() })
    }

    /// Changes the options of RocksDB itself, after this crate has set them.
    #[must_use]
    pub fn tuned(mut self, tune: Tune) -> Self {
        self.environment.tune = Some(tune);
        self
    }

    /// The options.
    pub fn options(&self) -> &RocksOptions {
        &self.environment.options
    }

    /// The options that databases are opened with, for tools and benches that open RocksDB itself.
    pub fn rocks_options(&self) -> rocksdb::Options {
        self.environment.rocks_options()
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn home(&self) -> Result<Arc<Home>> {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = &*home {
            return Ok(Arc::clone(home));
        }
        let opened = Arc::new(Home::open(self.options().directory.clone())?);
        *home = Some(Arc::clone(&opened));
        Ok(opened)
    }
}

impl BackendFactory for RocksBackendFactory {
    type Backend<K: StateKey> = RocksBackend<K>;

    fn name(&self) -> &'static str {
        "rocksdb"
    }

    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<RocksBackend<K>> {
        let instance = Arc::new(self.home()?.instance(&scope)?);
        let path = instance.path("db");
        let database = Database::open(&self.environment, instance, path)?;
        Ok(RocksBackend::new(scope, self.environment.clone(), Arc::new(database)))
    }
}
