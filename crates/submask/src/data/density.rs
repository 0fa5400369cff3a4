//! A distribution over the cells of a square: what the toy network learns.

use std::path::Path;

use super::dataset::{Batch, Dataset};
use super::hash::Fingerprint;
use crate::random::{Draws, Purpose};
use crate::{Error, Result};

/// p(row, column) over `cells`² cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Density {
    cells: usize,
    /// Σ of the probabilities of the cells up to and with this one, row by row.
    cumulative: Vec<f64>,
}

impl Density {
    /// From weights [cells, cells] row by row, which need not sum to 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there are not cells² weights, or they are negative, not finite, or all zero.
    pub fn new(cells: usize, weights: &[f64]) -> Result<Self> {
        if cells == 0 || weights.len() != cells * cells {
            let allowed = format!("the square of {cells} cells");
            return Err(Error::invalid("weights", weights.len(), allowed));
        }
        let total: f64 = weights.iter().sum();
        if !(total > 0.0 && total.is_finite()) || weights.iter().any(|weight| *weight < 0.0) {
            return Err(Error::invalid("weights", format!("of sum {total}"), "at least 0, and not all 0"));
        }
        let cumulative = weights.iter().scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        });
        Ok(Self { cells, cumulative: cumulative.collect() })
    }

    /// From a picture: a cell's weight is 255 minus its luminance (299R + 587G + 114B)/1000. A picture of another size
    /// is fitted: its middle square, resized.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file.
    pub fn of_picture(path: &Path, cells: usize) -> Result<Self> {
        let grey = super::image::read_grey(path, cells, cells)?;
        let weights: Vec<f64> = grey.iter().map(|luminance| 255.0 - luminance).collect();
        Self::new(cells, &weights)
            .map_err(|_| Error::format(path, "the picture is white all over: no cell has a probability"))
    }

    /// Number of rows, and of columns.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// p(row, column).
    pub fn probability(&self, row: usize, column: usize) -> f64 {
        let at = row * self.cells + column;
        self.cumulative[at] - if at == 0 { 0.0 } else { self.cumulative[at - 1] }
    }

    /// −Σ p log p in nats.
    pub fn entropy(&self) -> f64 {
        let cells = (0..self.cells).flat_map(|row| (0..self.cells).map(move |column| (row, column)));
        let p = cells.map(|(row, column)| self.probability(row, column)).filter(|p| *p > 0.0);
        -p.map(|p| p * p.ln()).sum::<f64>()
    }

    /// The cell at `uniform` ∈ (0, 1) of the cumulative distribution: row and column.
    pub fn draw(&self, uniform: f64) -> [u32; 2] {
        let last = self.cumulative[self.cumulative.len() - 1];
        let at = self.cumulative.partition_point(|sum| *sum <= uniform * last).min(self.cumulative.len() - 1);
        [(at / self.cells) as u32, (at % self.cells) as u32]
    }
}

/// Points drawn from a density, without an end: a point is a function of the seed and its number.
#[derive(Clone, Debug)]
pub struct Points {
    density: Density,
    draws: Draws,
}

impl Points {
    /// The points of `density` under `seed`.
    pub fn new(density: Density, seed: u64) -> Self {
        Self { density, draws: Draws::new(seed, Purpose::Point) }
    }
}

impl Dataset for Points {
    /// Row and column.
    fn seq_len(&self) -> usize {
        2
    }

    fn epoch_len(&self) -> Option<u64> {
        None
    }

    fn get(&self, _epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
        batch.push(self.density.draw(self.draws.uniform(index, 0, 0)), None);
        Ok(())
    }

    fn fingerprint(&self) -> u64 {
        let sums: Vec<u8> = self.density.cumulative.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        Fingerprint::new().part(&sums).value()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Batcher;
    use super::*;

    #[test]
    fn a_point_is_a_function_of_its_number() {
        let density = Density::new(16, &(0..256).map(f64::from).collect::<Vec<_>>()).unwrap();
        let batcher = || Batcher::new(Points::new(density.clone(), 4), 4).unwrap();
        let whole = batcher().next_batch(30).unwrap();
        assert_eq!(batcher().slot(2, 10).unwrap().x_0, whole.x_0[2 * 2 * 10..]);
        let draws = Draws::new(4, Purpose::Point);
        let drawn: Vec<u32> = (0..30).flat_map(|n| density.draw(draws.uniform(n, 0, 0))).collect();
        assert_eq!((drawn, vec![]), (whole.x_0, whole.labels));
    }

    #[test]
    fn draws_follow_the_weights_and_zero_is_never_drawn() {
        let density = Density::new(2, &[1.0, 0.0, 3.0, 0.0]).unwrap();
        let drawn: Vec<[u32; 2]> = (0..8).map(|i| density.draw((f64::from(i) + 0.5) / 8.0)).collect();
        assert_eq!(drawn[..2], [[0, 0]; 2]);
        assert_eq!(drawn[2..], [[1, 0]; 6]);
        assert_eq!((density.probability(1, 0), density.probability(0, 1)), (0.75, 0.0));
        let entropy = -(0.25 * 0.25f64.ln() + 0.75 * 0.75f64.ln());
        assert!((density.entropy() - entropy).abs() < 1e-12);
    }

    #[test]
    fn the_uniform_distribution_has_the_entropy_of_its_cells() {
        let density = Density::new(16, &[0.3; 256]).unwrap();
        assert!((density.entropy() - 256f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn weights_that_are_no_distribution_are_refused() {
        for weights in [vec![0.0; 4], vec![1.0; 3], vec![1.0, -1.0, 2.0, 0.0], vec![f64::NAN; 4]] {
            assert!(Density::new(2, &weights).is_err(), "{weights:?}");
        }
    }
}
