//! What timely dataflow carries along an edge.

use std::io::Write;

use strandline_runtime::host::Parcel;
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::communication::Push;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::progress::Stamp;

/// A parcel on its way from one worker to another.
pub(crate) struct Letter {
    pub(crate) from: u32,
    pub(crate) target: u32,
    pub(crate) parcel: Parcel,
}

/// A container of letters. Timely moves it as it is within a process.
#[derive(Default)]
pub(crate) struct Letters(pub(crate) Vec<Letter>);

/// The number of a letter's worker, that of its sender, and how many bytes follow.
const HEAD: usize = 12;

impl Accountable for Letters {
    fn record_count(&self) -> i64 {
        self.0.len() as i64
    }
}

/// Letters between processes hold parcels that are bytes already: their codec may fail, which nobody could
/// report from here.
impl ContainerBytes for Letters {
    fn from_bytes(bytes: Bytes) -> Self {
        let (mut letters, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((from, target, parcel, behind)) = first(rest) {
            letters.push(Letter { from, target, parcel: Parcel::from_bytes(parcel.to_vec()) });
            rest = behind;
        }
        Self(letters)
    }

    fn length_in_bytes(&self) -> usize {
        let bytes: usize = self.0.iter().map(|letter| HEAD + encoded(letter).len()).sum();
        bytes.next_multiple_of(8)
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        // Timely reserves as many bytes as `length_in_bytes` has promised, so nothing fails.
        let mut written = 0;
        let mut write = |bytes: &[u8]| {
            written += bytes.len();
            let _ = writer.write_all(bytes);
        };
        for letter in &self.0 {
            let parcel = encoded(letter);
            write(&letter.from.to_le_bytes());
            write(&letter.target.to_le_bytes());
            write(&(parcel.len() as u32).to_le_bytes());
            write(parcel);
        }
        let padding = written.next_multiple_of(8) - written;
        let _ = writer.write_all(&[0; 8][..padding]);
    }
}

fn encoded(letter: &Letter) -> &[u8] {
    letter.parcel.as_bytes().unwrap_or_default()
}

/// The first letter, and what is behind it. A parcel is never empty, so padding is none.
fn first(bytes: &[u8]) -> Option<(u32, u32, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let number = |at: usize| {
        let bytes = head.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let length = number(8)? as usize;
    let (parcel, behind) = rest.split_at_checked(length)?;
    (length > 0).then_some((number(0)?, number(4)?, parcel, behind))
}

/// Brings each letter to the worker that it names.
pub(crate) struct ByTarget;

/// The pact of every edge.
pub(crate) fn by_target() -> DistributorPact<fn(usize) -> ByTarget> {
    DistributorPact(|_| ByTarget)
}

impl Distributor<Letters> for ByTarget {
    fn partition<T: Clone, P: Push<Message<T, Letters>>>(
        &mut self,
        container: &mut Letters,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        // Stable: letters to one target keep their order.
        container.0.sort_by_key(|letter| letter.target);
        while let Some(target) = container.0.last().map(|letter| letter.target) {
            let first = container.0.partition_point(|letter| letter.target < target);
            let mut of_target = Letters(container.0.split_off(first));
            if let Some(pusher) = pushers.get_mut(target as usize) {
                Message::push_at(&mut of_target, stamp.clone(), pusher);
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Letters>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_come_back_as_they_were() {
        for lengths in [vec![], vec![1], vec![7, 8, 9], vec![300, 1, 4]] {
            let letter = |(n, length): (usize, usize)| {
                let (from, parcel) = (n as u32, Parcel::from_bytes(vec![n as u8; length]));
                Letter { from, target: from + 1, parcel }
            };
            let letters = Letters(lengths.iter().copied().enumerate().map(letter).collect());
            let mut bytes = Vec::new();
            letters.into_bytes(&mut bytes);
            assert_eq!(bytes.len(), letters.length_in_bytes());
            let read = Letters::from_bytes(timely::bytes::arc::BytesMut::from(bytes).freeze());
            let of = |letters: &Letters| -> Vec<_> {
                letters.0.iter().map(|l| (l.from, l.target, encoded(l).to_vec())).collect()
            };
            assert_eq!(of(&read), of(&letters));
        }
    }
}
