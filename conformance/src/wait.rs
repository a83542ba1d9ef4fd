//! Cases are plain functions; a runtime of the suite's own runs their futures.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

pub(crate) fn wait<T: Future>(future: T) -> T::Output {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be started")
    });
    runtime.block_on(future)
}
