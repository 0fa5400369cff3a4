//! Inception Score: how sure a classifier is of each image, and how varied its answers are.
//!
//! IS = exp(mean over x of KL(p(y|x) ‖ p(y))), p(y) being the mean of p(y|x) over the same images (Salimans et al.,
//! *Improved techniques for training GANs*, arXiv 1606.03498), between 1 and the number of classes. The images are
//! divided into equal parts in their order; the score is the mean over the parts, its spread their standard deviation
//! (with division by their number).

use crate::{Error, Result};

/// Parts that published scores use.
pub const SPLITS: usize = 10;

/// An Inception Score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InceptionScore {
    /// Mean over the parts.
    pub mean: f64,
    /// Standard deviation over the parts; 0 for one part.
    pub deviation: f64,
}

/// Of `logits` [N, `classes`], in `splits` parts: part i holds images ⌊i·N/splits⌋ to ⌊(i + 1)·N/splits⌋.
///
/// # Errors
/// [`Error::Invalid`] for no classes, logits that are no whole rows or not finite, and for 0 or more than N parts.
pub fn inception_score(logits: &[f32], classes: usize, splits: usize) -> Result<InceptionScore> {
    if classes == 0 || !logits.len().is_multiple_of(classes) {
        let allowed = format!("whole rows of {classes} classes, 1 or more");
        return Err(Error::invalid("number of logits", logits.len(), allowed));
    }
    if let Some(value) = logits.iter().find(|value| !value.is_finite()) {
        return Err(Error::invalid("logit", value, "finite numbers"));
    }
    let count = logits.len() / classes;
    if !(1..=count).contains(&splits) {
        return Err(Error::invalid("splits", splits, format!("1 to the number of images, {count}")));
    }
    let scores: Vec<f64> = (0..splits)
        .map(|i| {
            let (begin, end) = (i * count / splits, (i + 1) * count / splits);
            score_of(&logits[begin * classes..end * classes], classes)
        })
        .collect();
    let mean = scores.iter().sum::<f64>() / splits as f64;
    let variance = scores.iter().map(|score| (score - mean) * (score - mean)).sum::<f64>() / splits as f64;
    Ok(InceptionScore { mean, deviation: variance.sqrt() })
}

/// The score of one part. The mean of the divergences is H(y) − mean of H(y|x).
fn score_of(logits: &[f32], classes: usize) -> f64 {
    let count = (logits.len() / classes) as f64;
    let mut marginal = vec![0.0; classes];
    let mut conditional = 0.0;
    for row in logits.chunks_exact(classes) {
        let largest = row.iter().fold(f64::NEG_INFINITY, |largest, value| largest.max(f64::from(*value)));
        let normaliser = row.iter().map(|value| (f64::from(*value) - largest).exp()).sum::<f64>().ln();
        for (sum, value) in marginal.iter_mut().zip(row) {
            let log_p = f64::from(*value) - largest - normaliser;
            let p = log_p.exp();
            *sum += p;
            conditional -= p * log_p;
        }
    }
    let entropy: f64 = marginal.iter().map(|sum| sum / count).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    (entropy - conditional / count).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of the classes `chosen`, as sure as f32 allows.
    fn one_hot(chosen: &[usize], classes: usize) -> Vec<f32> {
        let row = |chosen: usize| (0..classes).map(move |class| if class == chosen { 1000.0 } else { 0.0 });
        chosen.iter().flat_map(|chosen| row(*chosen)).collect()
    }

    #[test]
    fn answers_that_are_all_alike_score_1() {
        let score = inception_score(&[0.5; 40 * 7], 7, 4).unwrap();
        assert!((score.mean - 1.0).abs() < 1e-12 && score.deviation < 1e-12);
        let same: Vec<f32> = (0..60).map(|i| (i % 6) as f32).collect();
        assert!((inception_score(&same, 6, 1).unwrap().mean - 1.0).abs() < 1e-12);
    }

    #[test]
    fn sure_and_balanced_answers_score_the_number_of_classes() {
        let chosen: Vec<usize> = (0..60).map(|i| i % 6).collect();
        let score = inception_score(&one_hot(&chosen, 6), 6, 10).unwrap();
        assert!((score.mean - 6.0).abs() < 1e-9 && score.deviation < 1e-9, "{score:?}");
    }

    #[test]
    fn parts_are_scored_apart() {
        // The first half has two classes, the second one: 2 and 1; together p(y) = (3/4, 1/4).
        let logits = one_hot(&[0, 1, 0, 1, 0, 0, 0, 0], 2);
        let halves = inception_score(&logits, 2, 2).unwrap();
        assert!((halves.mean - 1.5).abs() < 1e-9 && (halves.deviation - 0.5).abs() < 1e-9);
        let whole = inception_score(&logits, 2, 1).unwrap();
        let expected = (-(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln())).exp();
        assert!((whole.mean - expected).abs() < 1e-9 && whole.deviation == 0.0);
    }

    #[test]
    fn the_score_is_the_mean_divergence_from_the_mean_answer() {
        // p(y|x): (1/2, 1/2) and (4/5, 1/5), so p(y) = (13/20, 7/20).
        let logits = [0.0, 0.0, 4f32.ln(), 0.0];
        let (p, q): ([[f64; 2]; 2], [f64; 2]) = ([[0.5, 0.5], [0.8, 0.2]], [0.65, 0.35]);
        let divergence = |p: &[f64; 2]| (0..2).map(|y| p[y] * (p[y] / q[y]).ln()).sum::<f64>();
        let expected = ((divergence(&p[0]) + divergence(&p[1])) / 2.0).exp();
        assert!((inception_score(&logits, 2, 1).unwrap().mean - expected).abs() < 1e-7);
    }

    #[test]
    fn bad_arguments_are_refused() {
        let problem = |logits: &[f32], classes, splits| {
            inception_score(logits, classes, splits).unwrap_err().to_string()
        };
        assert!(problem(&[0.0; 5], 2, 1).contains("number of logits = 5"));
        assert!(problem(&[], 0, 1).contains("number of logits = 0"));
        assert!(problem(&[0.0; 4], 2, 3).contains("splits = 3 is not allowed: 1 to the number of images, 2"));
        assert!(problem(&[0.0; 4], 2, 0).contains("splits = 0"));
        assert!(problem(&[0.0, f32::INFINITY], 2, 1).contains("logit = inf"));
    }
}
