//! Counter-based randomness: a draw is a pure function of (seed, purpose, sequence, position, event).
//!
//! Nothing has a state, so a draw depends neither on the batch size, nor on the thread count, nor on
//! what was drawn before, and a resumed run needs no saved generator.
//!
//! The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as
//! 1, 2, 3*, 2011).

/// What a draw is for. Different purposes never share random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Initial weights.
    Init = 1,
    /// Dropout masks.
    Dropout = 2,
    /// Times of a training batch.
    Time = 3,
    /// Masks of the forward process.
    Mask = 4,
    /// Reveal steps of a sampling plan.
    Plan = 5,
    /// Token draws of the sampler.
    Token = 6,
    /// Masks of likelihood estimators.
    Likelihood = 7,
    /// Permutation of token codes.
    Codes = 9,
    /// Which training images are mirrored.
    Flip = 10,
    /// Points of a distribution.
    Point = 11,
    /// Which images are held out.
    Split = 12,
    /// Digits that are drawn each by itself.
    Digit = 16,
    /// Which digits a step with a corrector reveals.
    Reveal = 17,
    /// Jumps of the corrector.
    Jump = 18,
    /// Times and masks by which intervals of times are compared.
    Clip = 19,
}

/// A family of draws: one seed, one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    key: [u32; 2],
    purpose: u32,
}

impl Draws {
    /// Draws for `purpose` under `seed`.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], purpose: (purpose as u32) << 24 }
    }

    /// 128 random bits of (sequence, position, event); `sequence` below 2^56.
    pub fn bits(&self, sequence: u64, position: u32, event: u32) -> [u32; 4] {
        let [_, _, low, high] = self.words(sequence);
        philox([low, high, position, event], self.key)
    }

    /// The generator's key, and the first two words of the counters of a sequence.
    pub(crate) fn words(&self, sequence: u64) -> [u32; 4] {
        let high = ((sequence >> 32) as u32 & 0x00ff_ffff) | self.purpose;
        [self.key[0], self.key[1], sequence as u32, high]
    }

    /// A uniform number in the open interval (0, 1), from 52 random bits.
    pub fn uniform(&self, sequence: u64, position: u32, event: u32) -> f64 {
        open_unit(self.word(sequence, position, event))
    }

    /// A uniform integer in 0..n, n > 0 (bias below n / 2^64).
    pub fn below(&self, n: u64, sequence: u64, position: u32, event: u32) -> u64 {
        ((u128::from(self.word(sequence, position, event)) * u128::from(n)) >> 64) as u64
    }

    /// A standard normal number (Box-Muller on two uniforms of the same counter).
    pub fn normal(&self, sequence: u64, position: u32, event: u32) -> f64 {
        let [a, b, c, d] = self.bits(sequence, position, event);
        let radius = (-2.0 * open_unit(join(a, b)).ln()).sqrt();
        radius * (std::f64::consts::TAU * open_unit(join(c, d))).cos()
    }

    fn word(&self, sequence: u64, position: u32, event: u32) -> u64 {
        let [a, b, ..] = self.bits(sequence, position, event);
        join(a, b)
    }

    /// A uniformly random order of 0..n: Fisher-Yates with the draws of `sequence`, positions 0..n.
    pub fn permutation(&self, n: usize, sequence: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order, sequence);
        order
    }

    /// Shuffles `items` in place: Fisher-Yates with the draws of `sequence`.
    pub fn shuffle<T>(&self, items: &mut [T], sequence: u64) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1, sequence, i as u32, 0) as usize;
            items.swap(i, j);
        }
    }
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn open_unit(word: u64) -> f64 {
    ((word >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(counter[0]) * 0xD251_1F53;
        let p1 = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers published with Random123.
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn draws_are_uniform_and_normal_in_their_first_moments() {
        let draws = Draws::new(7, Purpose::Time);
        let n = 20_000u32;
        let (mut mean, mut normal_mean, mut normal_square) = (0.0, 0.0, 0.0);
        for i in 0..n {
            mean += draws.uniform(0, i, 0) / f64::from(n);
            let z = draws.normal(1, i, 0);
            normal_mean += z / f64::from(n);
            normal_square += z * z / f64::from(n);
        }
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert!(normal_mean.abs() < 0.03 && (normal_square - 1.0).abs() < 0.05);
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = Draws::new(3, Purpose::Codes).permutation(101, 5);
        assert_ne!(order, (0..101).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..101).collect::<Vec<_>>());
    }
}
