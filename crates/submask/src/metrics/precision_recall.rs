//! Precision and recall of a generated set by nearest neighbours.
//!
//! Each set's manifold is taken as the union of balls around its vectors, each of the radius that reaches the vector's
//! k-th nearest neighbour in the same set, itself not counted. Precision is the share of generated vectors in the
//! reference's manifold, recall the share of reference vectors in the generated one's, boundaries included
//! (Kynkäänniemi et al., *Improved precision and recall metric for assessing generative models*, arXiv 1904.06991,
//! where k = 3 and the features are VGG-16's).

use rayon::prelude::*;

use crate::{Error, Result};

/// k of the paper.
pub const NEIGHBOURS: usize = 3;

/// Sums that run side by side in a distance.
const LANES: usize = 16;

/// Precision and recall, both in 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Share of generated vectors that could be of the reference.
    pub precision: f64,
    /// Share of reference vectors that could be generated.
    pub recall: f64,
}

/// Of `generated` [N, d] and `reference` [M, d] with k = `neighbours`. Takes time (N + M)²·d.
///
/// # Errors
/// [`Error::Invalid`] for vectors that are not whole or not finite, k = 0, and sets of k vectors or fewer.
pub fn precision_recall(
    generated: &[f32],
    reference: &[f32],
    dimension: usize,
    neighbours: usize,
) -> Result<PrecisionRecall> {
    if neighbours == 0 {
        return Err(Error::invalid("neighbours", 0, "1 or more"));
    }
    for (what, set) in [("generated", generated), ("reference", reference)] {
        if dimension == 0 || !set.len().is_multiple_of(dimension) {
            let allowed = format!("whole vectors of {dimension} features, 1 or more");
            return Err(Error::invalid(format!("number of {what} features"), set.len(), allowed));
        }
        if let Some(value) = set.iter().find(|value| !value.is_finite()) {
            return Err(Error::invalid(format!("{what} feature"), value, "finite numbers"));
        }
        let count = set.len() / dimension;
        if count <= neighbours {
            let allowed = format!("more than neighbours = {neighbours}");
            return Err(Error::invalid(format!("number of {what} images"), count, allowed));
        }
    }
    Ok(PrecisionRecall {
        precision: covered(generated, reference, dimension, neighbours),
        recall: covered(reference, generated, dimension, neighbours),
    })
}

/// The share of `vectors` in the manifold of `set`.
fn covered(vectors: &[f32], set: &[f32], dimension: usize, neighbours: usize) -> f64 {
    let radii = squared_radii(set, dimension, neighbours);
    let inside = |vector: &[f32]| {
        let mut balls = set.chunks_exact(dimension).zip(&radii);
        balls.any(|(centre, radius)| squared_distance(vector, centre) <= *radius)
    };
    let count = vectors.par_chunks_exact(dimension).filter(|vector| inside(vector)).count();
    count as f64 / (vectors.len() / dimension) as f64
}

/// The squared distance from each vector of `set` to its k-th nearest neighbour.
fn squared_radii(set: &[f32], dimension: usize, neighbours: usize) -> Vec<f32> {
    let radius = |(index, vector): (usize, &[f32])| {
        // The nearest so far, ascending.
        let mut nearest = vec![f32::INFINITY; neighbours];
        for (other, centre) in set.chunks_exact(dimension).enumerate() {
            let distance = squared_distance(vector, centre);
            if other != index && distance < nearest[neighbours - 1] {
                let at = nearest.partition_point(|known| *known <= distance);
                nearest.pop();
                nearest.insert(at, distance);
            }
        }
        nearest[neighbours - 1]
    };
    set.par_chunks_exact(dimension).enumerate().map(radius).collect()
}

/// |a − b|², the same for (b, a), and 0 for equal vectors.
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            let difference = a[lane] - b[lane];
            sums[lane] += difference * difference;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on a line, at the start of vectors of 20 features.
    fn line(points: &[f32]) -> Vec<f32> {
        points.iter().flat_map(|x| (0..20).map(move |i| if i == 0 { *x } else { 0.0 })).collect()
    }

    #[test]
    fn equal_sets_have_precision_and_recall_1_and_far_ones_0() {
        let (near, far) = (line(&[0.0, 1.0, 3.0, 6.0, 7.5]), line(&[100.0, 101.0, 103.0, 106.0]));
        let measured = |a: &[f32], b: &[f32]| precision_recall(a, b, 20, NEIGHBOURS).unwrap();
        assert_eq!(measured(&near, &near), PrecisionRecall { precision: 1.0, recall: 1.0 });
        assert_eq!(measured(&near, &far), PrecisionRecall { precision: 0.0, recall: 0.0 });
    }

    #[test]
    fn radii_reach_the_kth_neighbour() {
        let set = line(&[0.0, 1.0, 3.0, 7.0]);
        let squares = |k| squared_radii(&set, 20, k);
        assert_eq!(squares(1), [1.0, 1.0, 4.0, 16.0]);
        assert_eq!(squares(2), [9.0, 4.0, 9.0, 36.0]);
        assert_eq!(squares(3), [49.0, 36.0, 16.0, 49.0]);
    }

    #[test]
    fn a_collapsed_set_is_precise_and_recalls_little() {
        // Generated: one cluster of the reference's two. Reference radii with k = 1 are 1; generated ones 0.25.
        let reference = line(&[0.0, 1.0, 2.0, 50.0, 51.0, 52.0]);
        let generated = line(&[0.25, 0.5, 0.75]);
        let measured = precision_recall(&generated, &reference, 20, 1).unwrap();
        // Generated balls reach from 0 to 1, boundaries included: two of six.
        assert_eq!(measured, PrecisionRecall { precision: 1.0, recall: 2.0 / 6.0 });
        let exchanged = precision_recall(&reference, &generated, 20, 1).unwrap();
        assert_eq!(exchanged, PrecisionRecall { precision: 2.0 / 6.0, recall: 1.0 });
    }

    #[test]
    fn copies_lie_in_balls_of_radius_0() {
        // All neighbours are copies, so every radius is 0; numbers whose squares are not exact.
        let point: Vec<f32> = (0..37).map(|i| (i as f32 * 0.7).sin() * 1e3).collect();
        let set = [&point[..]; 5].concat();
        let measured = precision_recall(&set, &set, 37, 3).unwrap();
        assert_eq!(measured, PrecisionRecall { precision: 1.0, recall: 1.0 });
    }

    #[test]
    fn bad_arguments_are_refused() {
        let problem = |a: &[f32], b: &[f32], d, k| precision_recall(a, b, d, k).unwrap_err().to_string();
        let set = line(&[0.0, 1.0, 2.0, 3.0]);
        assert!(problem(&set, &set, 20, 0).contains("neighbours = 0"));
        assert!(
            problem(&set, &set, 20, 4).contains("number of generated images = 4 is not allowed: more than")
        );
        assert!(problem(&set, &set[..20], 20, 3).contains("number of reference images = 1"));
        assert!(problem(&set, &set[..21], 20, 3).contains("number of reference features = 21"));
        assert!(problem(&[f32::NAN; 80], &set, 20, 3).contains("generated feature = NaN"));
    }
}
