//! The other system, whose replies the test chooses.

use std::sync::{Arc, Mutex};

use strandline_operators::calls::{Call, Replier};
use strandline_state_api::Result;

/// A call that has started, with its record.
type Asked = (u64, Replier<u64>);

/// Keeps the calls that have started until the test replies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server(Arc<Mutex<Vec<Asked>>>);

impl Call<u64, u64, u64> for Server {
    fn start(&mut self, _: &u64, record: &u64, replier: Replier<u64>) {
        self.0.lock().unwrap().push((*record, replier));
    }
}

impl Server {
    /// Returns the records whose calls have no reply yet, in the order of their starts.
    pub(crate) fn asked(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(|(record, _)| *record).collect()
    }

    /// Replies to the call for a record.
    pub(crate) fn reply(&self, record: u64, reply: Result<u64>) {
        let mut calls = self.0.lock().unwrap();
        let index = calls.iter().position(|(of, _)| *of == record).unwrap();
        let (_, replier) = calls.remove(index);
        drop(calls);
        replier.reply(reply);
    }

    /// Loses the calls: their operator has gone.
    pub(crate) fn lose(&self) {
        let lost = std::mem::take(&mut *self.0.lock().unwrap());
        drop(lost);
    }
}
