//! The forward process q(y_t | y_0): every sub-token is masked independently with probability 1 − α_t
//! (math.md §2).

mod clip;

pub use clip::ClipInterval;

/// y_t from y_0 and one uniform number per digit: a digit is masked where its uniform is at least α.
pub fn mask_digits(y_0: &[u32], alpha: f64, mask_id: u32, uniforms: impl Iterator<Item = f64>) -> Vec<u32> {
    y_0.iter().zip(uniforms).map(|(&digit, u)| if u < alpha { digit } else { mask_id }).collect()
}

/// y_t of one block, drawn again with the same α while its share of masked digits is not one that `interval` allows.
/// `uniforms` gives one number per digit for every round, counted from 0.
///
/// It does not end where no share of so many digits is allowed: see [`ClipInterval::check`].
pub fn mask_block<U: Iterator<Item = f64>>(
    y_0: &[u32],
    alpha: f64,
    mask_id: u32,
    interval: Option<ClipInterval>,
    mut uniforms: impl FnMut(u32) -> U,
) -> Vec<u32> {
    let mut round = 0;
    loop {
        let y_t = mask_digits(y_0, alpha, mask_id, uniforms(round));
        let masked = y_t.iter().filter(|digit| **digit == mask_id).count();
        if interval.is_none_or(|interval| interval.allows(masked, y_t.len())) {
            return y_t;
        }
        round += 1;
    }
}

/// Times, one in each of n equal parts of [low, high] (stratified): t_i = low + (high − low)(i + u_i)/n.
pub fn stratified_times(
    n: usize,
    [low, high]: [f64; 2],
    uniforms: impl Iterator<Item = f64>,
) -> impl Iterator<Item = f64> {
    (0..n).zip(uniforms).map(move |(i, u)| low + (high - low) * (i as f64 + u) / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Draws, Purpose};

    #[test]
    fn the_share_of_visible_digits_is_alpha() {
        let draws = Draws::new(1, Purpose::Mask);
        let y_0 = vec![0; 20_000];
        for (alpha, tolerance) in [(0.0, 0.0), (0.3, 0.015), (1.0, 0.0)] {
            let y_t = mask_digits(&y_0, alpha, 5, (0..).map(|digit| draws.uniform(3, digit, 0)));
            let visible = y_t.iter().filter(|digit| **digit == 0).count() as f64 / y_0.len() as f64;
            assert!((visible - alpha).abs() <= tolerance, "{alpha}: {visible}");
        }
    }

    #[test]
    fn stratified_times_lie_one_in_each_part() {
        let times = stratified_times(4, [0.1, 0.9], [0.0, 0.5, 0.999, 0.25].into_iter());
        for (i, t) in times.enumerate() {
            let part = (t - 0.1) / 0.8 * 4.0;
            assert!((part.floor() as usize).min(3) == i || (part - i as f64).abs() < 1e-9, "{t}");
        }
    }

    #[test]
    fn a_block_is_drawn_again_until_its_share_is_allowed() {
        let draws = Draws::new(2, Purpose::Mask);
        let (y_0, interval) = ([1, 2, 3, 4], "0.45..0.95".parse().unwrap());
        let mut counts = [0; 5];
        for block in 0..4000 {
            let mut rounds = 0;
            let y_t = mask_block(&y_0, 0.5, 9, Some(interval), |round| {
                rounds = round + 1;
                (0..).map(move |digit| draws.uniform(block, digit, round))
            });
            assert!(y_t.iter().zip(y_0).all(|(y, x)| *y == x || *y == 9));
            counts[y_t.iter().filter(|digit| **digit == 9).count()] += 1;
            // The draw that stays is that of the last round.
            let last = mask_digits(&y_0, 0.5, 9, (0..).map(|digit| draws.uniform(block, digit, rounds - 1)));
            assert_eq!(y_t, last);
        }
        // Of four digits two or three: six draws of 2 for every four of 3.
        assert_eq!(counts[..2], [0, 0]);
        assert_eq!(counts[4], 0);
        assert!((f64::from(counts[2]) / 4000.0 - 0.6).abs() < 0.04, "{counts:?}");
    }
}
