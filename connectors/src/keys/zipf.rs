//! Ranks by Zipf's law.

use super::high_half;

/// The cumulated weights of all ranks, and a guide into them.
pub(super) struct Zipf {
    cdf: Vec<u64>,
    /// `guide[b]` is the rank of the smallest value in bucket `b`, so that a search begins next to its end.
    guide: Vec<u32>,
    shift: u32,
}

impl Zipf {
    pub(super) fn new(keys: u64) -> Self {
        let mut total = 0;
        let mut cdf = Vec::with_capacity(keys as usize);
        for rank in 0..keys {
            total += ((1u64 << 40) as f64 / pow99((rank + 1) as f64)) as u64;
            cdf.push(total);
        }
        // About two buckets for each rank: most searches end in the first step.
        let shift = 64u32.saturating_sub(total.leading_zeros() + (2 * keys).ilog2());
        let mut guide = Vec::with_capacity((total >> shift) as usize + 2);
        let mut rank = 0;
        for bucket in 0..=total >> shift {
            while cdf.get(rank).is_some_and(|&upper| upper <= bucket << shift) {
                rank += 1;
            }
            guide.push(rank as u32);
        }
        Self { cdf, guide, shift }
    }

    pub(super) fn total(&self) -> u64 {
        self.cdf.last().copied().unwrap_or(0)
    }

    /// The smallest rank whose cumulated weight is above `mulhi(hash, total)`.
    #[inline]
    pub(super) fn rank(&self, hash: u64) -> u64 {
        let target = high_half(hash, self.total());
        let bucket = (target >> self.shift) as usize;
        let first = self.guide.get(bucket).map_or(0, |&rank| rank as usize);
        let last = self.guide.get(bucket + 1).map_or(self.cdf.len(), |&rank| rank as usize + 1);
        let window = self.cdf.get(first..last.min(self.cdf.len())).unwrap_or(&[]);
        (first + window.partition_point(|&upper| upper <= target)) as u64
    }
}

impl std::fmt::Debug for Zipf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Zipf({} keys, total weight {})", self.cdf.len(), self.total())
    }
}

/// `x` to the power 0.989990234375 = 1 - 2^-7 - 2^-9 - 2^-12, by square roots and products alone: these are
/// correctly rounded everywhere, so every machine and language gets the same table.
fn pow99(x: f64) -> f64 {
    let roots = |from: f64, count: u32| (0..count).fold(from, |v, _| v.sqrt());
    let s7 = roots(x, 7);
    let s9 = roots(s7, 2);
    let s12 = roots(s9, 3);
    x / ((s7 * s9) * s12)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_guide_finds_what_a_plain_search_finds(keys in 1u64..3_000, hash: u64) {
            let zipf = Zipf::new(keys);
            for hash in [hash, 0, u64::MAX] {
                let target = high_half(hash, zipf.total());
                let plain = zipf.cdf.partition_point(|&upper| upper <= target) as u64;
                prop_assert_eq!(zipf.rank(hash), plain);
            }
        }
    }
}
