//! Mail between the workers of several processes: what the coordinator and subtasks exchange.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use strandline_runtime::host::{Counts, Description, Directed, Event};
use strandline_state_api::{Error, Result};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::generic::Operator;
use timely::scheduling::SyncActivator;
use timely::worker::Worker;

/// What a worker sends to another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Mail {
    /// To the first worker of each other process: the attempt to join.
    Join(Box<Description>),
    /// To the worker of a subtask.
    Command(Directed),
    /// To the coordinator's worker.
    Event(Event),
    /// To the coordinator's worker: what a process has counted since the last time.
    Counts(Counts),
    /// To all: the attempt is over, well or not.
    Over { well: bool },
}

type Envelope = (u64, Vec<u8>);

/// The post office of a worker.
pub(crate) struct Post {
    input: InputHandle<u64, CapacityContainerBuilder<Vec<Envelope>>>,
    arrived: Rc<RefCell<VecDeque<Vec<u8>>>>,
}

impl Post {
    /// Builds the dataflow of the mail, and what wakes the worker from another thread.
    pub(crate) fn open(worker: &mut Worker) -> (Self, SyncActivator) {
        let arrived = Rc::new(RefCell::new(VecDeque::new()));
        let of_sink = Rc::clone(&arrived);
        let index = worker.next_dataflow_index();
        let input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, stream) = scope.new_input::<Vec<Envelope>>();
            stream.sink(Exchange::new(|envelope: &Envelope| envelope.0), "mail", move |(input, _)| {
                input.for_each(|_, envelopes: &mut Vec<Envelope>| {
                    of_sink.borrow_mut().extend(envelopes.drain(..).map(|(_, mail)| mail));
                });
            });
            input
        });
        (Self { input, arrived }, worker.sync_activator_for(vec![index]))
    }

    /// Sends mail to a worker.
    pub(crate) fn send(&mut self, to: usize, mail: &Mail) -> Result<()> {
        let encoded = serde_json::to_vec(mail);
        let encoded = encoded.map_err(|error| Error::invalid("mail cannot be encoded").caused_by(error))?;
        self.input.send((to as u64, encoded));
        // Another time, since nothing leaves before.
        self.input.advance_to(self.input.time() + 1);
        Ok(())
    }

    /// Takes mail that has arrived.
    pub(crate) fn take(&mut self) -> Result<Option<Mail>> {
        let Some(encoded) = self.arrived.borrow_mut().pop_front() else { return Ok(None) };
        let mail = serde_json::from_slice(&encoded);
        mail.map_err(|error| Error::corrupt("mail of another process cannot be read").caused_by(error))
            .map(Some)
    }
}
