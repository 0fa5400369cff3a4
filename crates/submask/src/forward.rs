//! The forward process q(y_t | y_0): every sub-token is masked independently with probability 1 − α_t
//! (math.md §2).

use crate::random::Draws;

/// y_t from y_0 and one uniform number a digit: a digit is masked where its uniform is at least α.
pub fn mask_digits(y_0: &[u32], alpha: f64, mask_id: u32, uniforms: impl Iterator<Item = f64>) -> Vec<u32> {
    y_0.iter().zip(uniforms).map(|(&digit, u)| if u < alpha { digit } else { mask_id }).collect()
}

/// y_t of one sequence, with uniforms drawn for (`sequence`, digit).
pub fn draw_mask(y_0: &[u32], alpha: f64, mask_id: u32, draws: &Draws, sequence: u64) -> Vec<u32> {
    mask_digits(y_0, alpha, mask_id, (0..).map(|digit| draws.uniform(sequence, digit, 0)))
}

/// Times of a batch, one in each of B equal parts of [ε, 1] (stratified): t_i = ε + (1 − ε)(i + u_i)/B.
pub fn stratified_times(batch: usize, epsilon: f64, uniforms: impl Iterator<Item = f64>) -> Vec<f64> {
    (0..batch).zip(uniforms).map(|(i, u)| epsilon + (1.0 - epsilon) * (i as f64 + u) / batch as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn the_share_of_visible_digits_is_alpha() {
        let draws = Draws::new(1, Purpose::Mask);
        let y_0 = vec![0; 20_000];
        for (alpha, tolerance) in [(0.0, 0.0), (0.3, 0.015), (1.0, 0.0)] {
            let y_t = draw_mask(&y_0, alpha, 5, &draws, 3);
            let visible = y_t.iter().filter(|digit| **digit == 0).count() as f64 / y_0.len() as f64;
            assert!((visible - alpha).abs() <= tolerance, "{alpha}: {visible}");
        }
    }

    #[test]
    fn stratified_times_lie_one_in_each_part() {
        let times = stratified_times(4, 0.1, [0.0, 0.5, 0.999, 0.25].into_iter());
        for (i, t) in times.iter().enumerate() {
            let part = (t - 0.1) / 0.9 * 4.0;
            assert!((part.floor() as usize).min(3) == i || (part - i as f64).abs() < 1e-9, "{t}");
        }
    }
}
