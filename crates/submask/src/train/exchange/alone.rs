//! A run of one process.

use std::ops::Range;

use super::Exchange;
use crate::Result;
use crate::ops::lanes;
use crate::train::optimizer::GradientRange;

/// The exchange of a process that computes every slot and owns every weight: sums in memory, and nothing to send.
#[derive(Debug)]
pub struct Alone {
    share: f32,
    /// Of the slots so far.
    sums: Vec<Vec<f32>>,
}

impl Alone {
    /// For steps of `slots` micro-batches, at least 1, whose gradients count equally.
    pub fn new(slots: usize) -> Self {
        Self { share: 1.0 / slots as f32, sums: Vec::new() }
    }
}

impl Exchange for Alone {
    fn own_slots(&self, slots: usize) -> Range<usize> {
        0..slots
    }

    fn add(&mut self, slot: usize, gradients: Vec<Vec<f32>>) -> Result<()> {
        if self.share == 1.0 {
            self.sums = gradients;
            return Ok(());
        }
        if slot == 0 {
            self.sums = gradients.iter().map(|gradient| vec![0.0; gradient.len()]).collect();
        }
        for (sum, gradient) in self.sums.iter_mut().zip(&gradients) {
            lanes::add_scaled(sum, gradient, self.share);
        }
        Ok(())
    }

    fn reduce(&mut self) -> Result<Vec<GradientRange>> {
        Ok(GradientRange::of_all(std::mem::take(&mut self.sums)))
    }

    fn concat(&mut self, own: Vec<f64>) -> Result<Vec<f64>> {
        Ok(own)
    }

    fn gather(&mut self, _values: &mut [Vec<f32>]) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_added_in_the_order_of_their_slots() {
        // (1e8/3 + 1/3) − 1e8/3 is not 1/3 in single precision.
        let slots = [[1e8f32, 3.0], [1.0, 4.0], [-1e8, 5.0]];
        let mut exchange = Alone::new(3);
        assert_eq!(exchange.own_slots(3), 0..3);
        let share = 1.0 / 3.0f32;
        for abandoned in [true, false] {
            for (slot, gradient) in slots.into_iter().enumerate() {
                exchange.add(slot, vec![gradient[..1].to_vec(), gradient[1..].to_vec()]).unwrap();
                if abandoned {
                    break;
                }
            }
        }
        let ranges = exchange.reduce().unwrap();
        let sum = |place: usize| slots.iter().fold(0.0, |sum, gradient| sum + share * gradient[place]);
        assert_eq!(sum(0), 0.0);
        assert_eq!(ranges, GradientRange::of_all(vec![vec![sum(0)], vec![sum(1)]]));
    }

    #[test]
    fn the_only_slot_is_moved() {
        let gradient = vec![1.0f32; 3];
        let place = gradient.as_ptr();
        let mut exchange = Alone::new(1);
        exchange.add(0, vec![gradient]).unwrap();
        let ranges = exchange.reduce().unwrap();
        assert_eq!((ranges[0].values.as_ptr(), ranges.len()), (place, 1));
    }
}
