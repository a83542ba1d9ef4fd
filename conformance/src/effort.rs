//! The amount of random work, and its first seed.

/// Returns the number of random programs: `usual`, multiplied by `STRANDLINE_CASES`.
pub(crate) fn programs(usual: u64) -> u64 {
    usual.saturating_mul(number("STRANDLINE_CASES").unwrap_or(1)).max(1)
}

/// Returns the first seed: `STRANDLINE_SEED`, or a constant, so that a test that passed passes again.
pub(crate) fn first_seed() -> u64 {
    number("STRANDLINE_SEED").unwrap_or(1)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{variable}={text:?} is no number")))
}
