//! Repeatable randomness: a failure names the seed, and the seed brings it back.
//!
//! `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014) is ten lines and
//! needs no crate. [`SEED_VARIABLE`] sets another seed, for runs at night.

/// The variable that replaces the seed of every test.
pub const SEED_VARIABLE: &str = "FURTHER_LINK_TESTS_SEED";

/// A source of numbers that are the same each time.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    /// What to name in a failure.
    pub seed: u64,
}

impl Rng {
    /// Starts from `seed`, or from the variable.
    #[track_caller]
    pub fn new(seed: u64) -> Self {
        let given = std::env::var(SEED_VARIABLE).ok().map(|text| text.parse().expect("a number"));
        Self::of(given.unwrap_or(seed))
    }

    /// Starts from `seed` in any case.
    pub fn of(seed: u64) -> Self {
        Self { state: seed, seed }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("fits");
        usize::try_from(self.number() % limit).expect("fits")
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }

    /// Random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    /// One of these.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
