//! Sets of tokens by their digits: which tokens are still possible when some digits are visible.

use super::SubTokenizer;

/// For every digit position and value, the tokens that have it.
#[derive(Clone, Debug)]
pub struct TokenSets {
    vocab_size: usize,
    base: usize,
    /// Bit sets, [ℓ, b, words].
    bits: Vec<u64>,
}

/// A set of tokens, as bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSet {
    words: Vec<u64>,
}

impl TokenSets {
    /// The sets of a sub-tokenizer; ℓ·b·C bits of memory.
    pub fn new(codes: &SubTokenizer) -> Self {
        let (vocab_size, base) = (codes.vocab_size(), codes.base() as usize);
        let words = vocab_size.div_ceil(64);
        let mut bits = vec![0; codes.subtoken_len() * base * words];
        for token in 0..vocab_size {
            for (j, &digit) in codes.digits(token as u32).iter().enumerate() {
                bits[(j * base + digit as usize) * words + token / 64] |= 1 << (token % 64);
            }
        }
        Self { vocab_size, base, bits }
    }

    /// All tokens.
    pub fn all(&self) -> TokenSet {
        let mut words = vec![u64::MAX; self.vocab_size.div_ceil(64)];
        if let (Some(last), rest @ 1..) = (words.last_mut(), self.vocab_size % 64) {
            *last = (1 << rest) - 1;
        }
        TokenSet { words }
    }

    /// V(y): the tokens that agree with every visible digit of `y` (\[ℓ\] digits, values ≥ b are masks).
    pub fn consistent(&self, y: &[u32]) -> TokenSet {
        let mut set = self.all();
        for (j, &digit) in y.iter().enumerate() {
            if (digit as usize) < self.base {
                self.restrict(&mut set, j, digit);
            }
        }
        set
    }

    /// Keeps in `set` the tokens whose digit `j` is `digit`.
    pub fn restrict(&self, set: &mut TokenSet, j: usize, digit: u32) {
        for (word, bits) in set.words.iter_mut().zip(self.words(j, digit)) {
            *word &= bits;
        }
    }

    /// Calls `visit` with every token of `set` whose digit `j` is `digit`, in increasing order.
    pub fn for_each_with(&self, set: &TokenSet, j: usize, digit: u32, visit: impl FnMut(usize)) {
        each_bit(set.words.iter().zip(self.words(j, digit)).map(|(a, b)| a & b), visit);
    }

    fn words(&self, j: usize, digit: u32) -> &[u64] {
        let words = self.vocab_size.div_ceil(64);
        let start = (j * self.base + digit as usize) * words;
        &self.bits[start..start + words]
    }
}

impl TokenSet {
    /// No token of `vocab_size`.
    pub fn none(vocab_size: usize) -> Self {
        Self { words: vec![0; vocab_size.div_ceil(64)] }
    }

    /// Adds `token`, which is below the vocabulary size.
    pub fn insert(&mut self, token: u32) {
        self.words[token as usize / 64] |= 1 << (token % 64);
    }

    /// The bits, 64 tokens a word, lowest first; bits beyond the vocabulary are zero.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether `token` is in the set.
    pub fn contains(&self, token: u32) -> bool {
        let token = token as usize;
        self.words.get(token / 64).is_some_and(|word| word >> (token % 64) & 1 == 1)
    }

    /// The number of tokens in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no token is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Calls `visit` with every token of the set, in increasing order.
    pub fn for_each(&self, visit: impl FnMut(usize)) {
        each_bit(self.words.iter().copied(), visit);
    }
}

fn each_bit(words: impl Iterator<Item = u64>, mut visit: impl FnMut(usize)) {
    for (index, mut word) in words.enumerate() {
        // Of masked tokens nearly all words are full: a loop without tests.
        if word == u64::MAX {
            (index * 64..index * 64 + 64).for_each(&mut visit);
            continue;
        }
        while word != 0 {
            visit(index * 64 + word.trailing_zeros() as usize);
            word &= word - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consistent_tokens_are_those_whose_visible_digits_agree() {
        let codes = SubTokenizer::new(100, 3).unwrap().with_seeded_permutation(1).unwrap();
        let sets = TokenSets::new(&codes);
        let mask = codes.mask_id();
        for y in [[mask; 3], [1, mask, mask], [mask, 0, 3], [2, 2, 2]] {
            let expected: Vec<usize> = (0..100)
                .filter(|&x| codes.digits(x as u32).iter().zip(&y).all(|(d, v)| *v == mask || d == v))
                .collect();
            let set = sets.consistent(&y);
            let mut found = Vec::new();
            set.for_each(|x| found.push(x));
            assert_eq!(found, expected);
            assert_eq!(set.len(), expected.len());
            assert!((0..100).all(|x| set.contains(x as u32) == expected.contains(&x)));
            let mut with = Vec::new();
            sets.for_each_with(&set, 1, 2, |x| with.push(x));
            assert_eq!(
                with,
                expected.into_iter().filter(|&x| codes.digits(x as u32)[1] == 2).collect::<Vec<_>>()
            );
        }
    }
}
