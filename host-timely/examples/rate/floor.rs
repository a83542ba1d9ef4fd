//! The floor: a program of timely alone, which exchanges keys and counts them in a hash map.

use std::collections::HashMap;
use std::time::Instant;

use strandline_connectors::keys::KeyStream;
use strandline_state_api::{Error, ErrorKind, Result};
use timely::WorkerConfig;
use timely::communication::Config;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::{Input, Operator, Probe};

/// How many keys a worker sends before it looks at what has come.
const STEP: u64 = 1024;

/// Counts all keys of `stream` with the workers of `communication`; returns millions of records a second.
pub(crate) fn rate(stream: &KeyStream, records: u64, communication: Config) -> Result<f64> {
    let config = timely::Config { communication, worker: WorkerConfig::default() };
    let (stream, start) = (stream.clone(), Instant::now());
    let ran = timely::execute(config, move |worker| {
        let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, keys) = scope.new_input::<Vec<u64>>();
            let exchange = Exchange::new(|key: &u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32);
            let counted = keys
                .unary::<timely::container::CapacityContainerBuilder<Vec<(u64, u64)>>, _, _, _>(
                    exchange,
                    "count",
                    |_, _| {
                        let mut counts: HashMap<u64, u64> = HashMap::new();
                        move |input, output| {
                            input.for_each(|time, keys: &mut Vec<u64>| {
                                let mut session = output.session(&time);
                                for key in keys.drain(..) {
                                    let count = counts.entry(key).or_default();
                                    *count += 1;
                                    session.give((key, *count));
                                }
                            });
                        }
                    },
                );
            let (probe, _) = counted.probe();
            (input, probe)
        });
        let (own, peers) = (worker.index() as u64, worker.peers() as u64);
        for (sent, number) in (own..records).step_by(peers as usize).enumerate() {
            input.send(stream.key(number));
            if sent as u64 % STEP == STEP - 1 {
                input.advance_to(number);
                // As far ahead as what is in flight: queues of timely have no bound.
                while probe.less_than(&number.saturating_sub(64 * STEP * peers)) {
                    worker.step();
                }
            }
        }
        input.close();
        while worker.step() {}
    });
    let workers = ran.map_err(|error| Error::new(ErrorKind::Internal, error))?;
    for ended in workers.join() {
        ended.map_err(|error| Error::new(ErrorKind::Internal, error))?;
    }
    Ok(records as f64 / start.elapsed().as_secs_f64() / 1e6)
}
