//! A random order of 0..n that takes no memory.

use super::hash::keyed;

/// Feistel rounds; four already make a permutation that cannot be told from a random one by its
/// values alone (Luby and Rackoff, 1988), more mix the few bits of small domains.
const ROUNDS: u64 = 8;

/// A keyed bijection of 0..n.
///
/// A Feistel network permutes the smallest 0..4^k that holds n; a value outside 0..n is sent through
/// again until one is inside (cycle walking; Black and Rogaway, *Ciphers with arbitrary finite
/// domains*, 2002), less than four times on average.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    key: u64,
}

impl Permutation {
    /// The order of 0..n that belongs to (seed, epoch).
    pub fn new(n: u64, seed: u64, epoch: u64) -> Self {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Self { n, half_bits: bits.div_ceil(2).max(1), key: keyed(seed, epoch) }
    }

    /// What stands at `index`; both are in 0..n. An index of n or more is returned as it is.
    pub fn at(&self, index: u64) -> u64 {
        if index >= self.n {
            return index;
        }
        let mut value = self.network(index);
        while value >= self.n {
            value = self.network(value);
        }
        value
    }

    fn network(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..ROUNDS {
            let mixed = keyed(self.key.wrapping_add(round), right) & mask;
            (left, right) = (right, left ^ mixed);
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_permutation_is_a_bijection(n in 1u64..2000, seed: u64, epoch in 0u64..100) {
            let permutation = Permutation::new(n, seed, epoch);
            let mut seen = vec![false; n as usize];
            for index in 0..n {
                let value = permutation.at(index) as usize;
                prop_assert!(!std::mem::replace(&mut seen[value], true));
            }
        }

        #[test]
        fn huge_domains_stay_in_range(n in (1u64 << 40)..u64::MAX, seed: u64, index: u64) {
            let permutation = Permutation::new(n, seed, 0);
            prop_assert!(permutation.at(index % n) < n);
        }
    }

    #[test]
    fn every_place_is_equally_likely() {
        // 10 values at 10 places over 20,000 keys: the chi-square of each place has 9 degrees of
        // freedom; 40 is passed by chance about once in 100,000.
        let mut counts = [[0f64; 10]; 10];
        for epoch in 0..20_000 {
            let permutation = Permutation::new(10, 7, epoch);
            (0..10).for_each(|index| counts[index][permutation.at(index as u64) as usize] += 1.0);
        }
        for place in counts {
            let chi_square: f64 = place.iter().map(|count| (count - 2000.0).powi(2) / 2000.0).sum();
            assert!(chi_square < 40.0, "{place:?}");
        }
    }

    #[test]
    fn neighbours_do_not_stay_together() {
        let permutation = Permutation::new(10_000, 3, 0);
        let together = (1..10_000).filter(|&i| permutation.at(i).abs_diff(permutation.at(i - 1)) == 1);
        // Two are expected of a random order.
        assert!(together.count() < 12);
    }
}
