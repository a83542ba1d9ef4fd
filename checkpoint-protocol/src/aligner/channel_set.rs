//! A set of channel numbers that needs no allocation up to 64 channels.

/// Which of `len` channels are in the set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ChannelSet {
    first: u64,
    /// The channels from 64 on; empty, and so not allocated, when there are none.
    rest: Box<[u64]>,
}

impl ChannelSet {
    pub(super) fn new(len: usize) -> Self {
        Self { first: 0, rest: vec![0; len.saturating_sub(1) / 64].into() }
    }

    fn word(&self, channel: usize) -> u64 {
        if channel < 64 { self.first } else { self.rest[channel / 64 - 1] }
    }

    /// Whether it was not in it before.
    pub(super) fn insert(&mut self, channel: usize) -> bool {
        let bit = 1 << (channel % 64);
        let word = if channel < 64 { &mut self.first } else { &mut self.rest[channel / 64 - 1] };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(super) fn contains(&self, channel: usize) -> bool {
        self.word(channel) & (1 << (channel % 64)) != 0
    }

    pub(super) fn clear(&mut self) {
        self.first = 0;
        self.rest.fill(0);
    }

    pub(super) fn len(&self) -> usize {
        self.union_len(self)
    }

    /// How many channels are in this set or the other, which has the same length.
    pub(super) fn union_len(&self, other: &Self) -> usize {
        let rest = self.rest.iter().zip(&other.rest).map(|(a, b)| (a | b).count_ones()).sum::<u32>();
        ((self.first | other.first).count_ones() + rest) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_channels_on_both_sides_of_a_word() {
        for len in [1, 63, 64, 65, 128, 129, 1_000] {
            let (mut all, mut odd) = (ChannelSet::new(len), ChannelSet::new(len));
            for channel in 0..len {
                assert!(!all.contains(channel) && all.insert(channel) && !all.insert(channel));
                if channel % 2 == 1 {
                    odd.insert(channel);
                }
            }
            assert_eq!((all.union_len(&odd), odd.union_len(&odd)), (len, len / 2));
            all.clear();
            assert_eq!(all.union_len(&odd), len / 2);
        }
        assert!(ChannelSet::new(64).rest.is_empty());
    }
}
