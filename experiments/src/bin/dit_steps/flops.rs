//! Multiplications and additions of a training step, forward and backward.

use crate::case::{Case, Kind, Size};

impl Case {
    /// FLOPs of a training step; `None` for a case with blocks, which reads clean tokens, too. In all products of matrices
    /// a multiplication with an addition counts as two. With n = B·L tokens, r of them charged:
    ///
    /// 3·(2·n·W·blocks + 4·n·L·d·blocks + 2·r·d·C)
    ///
    /// where W are the weights of a block's linear layers: 12·d² in the transformer (attention 4·d², the middle layers
    /// 8·d²), 4·d² + 3·d·m in the encoder; then the two products of attention over all keys, and the output layer at charged
    /// tokens alone. The backward pass multiplies twice as much as the forward pass. What it computes again (attention's
    /// probabilities, logits) is not counted, nor are norms, softmax, the embedding, and the modulation, which is one row.
    pub fn training_flops(&self) -> Option<f64> {
        let charged = self.charged().len();
        (self.size.block_len == 0).then(|| training_flops(self.size, self.batch, charged))
    }
}

fn training_flops(size: &Size, batch: usize, charged: usize) -> f64 {
    let [length, hidden, blocks, classes] =
        [size.seq_len, size.hidden, size.blocks, size.vocab_size].map(|x| x as f64);
    let (tokens, charged) = (batch as f64 * length, charged as f64);
    let middle = match size.kind {
        Kind::Dit => 8.0 * hidden * hidden,
        Kind::Encoder => 3.0 * hidden * size.swiglu_width() as f64,
    };
    let linear = 2.0 * tokens * (4.0 * hidden * hidden + middle);
    let attention = 4.0 * tokens * length * hidden;
    3.0 * (blocks * (linear + attention) + 2.0 * charged * hidden * classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted by the shapes of the weights that every token is multiplied with.
    fn counted(case: &Case) -> f64 {
        let size = case.size;
        let of_blocks = |name: &str| name.starts_with("blocks.") || name.starts_with("transformer.h.");
        let weights: usize = case
            .parameters
            .iter()
            .filter(|weight| of_blocks(&weight.name) && weight.shape.len() == 2)
            .filter(|weight| !weight.name.contains("adaLN"))
            .map(|weight| weight.shape.iter().product::<usize>())
            .sum();
        let tokens = case.x_0.len();
        let scores_and_mixture = 2 * size.blocks * tokens * size.seq_len * size.hidden;
        let logits = case.charged().len() * size.hidden * size.vocab_size;
        (3 * 2 * (tokens * weights + scores_and_mixture + logits)) as f64
    }

    #[test]
    fn the_formula_counts_what_the_shapes_say() {
        for name in ["tiny", "small", "small-mdm", "small-encoder"] {
            let case = Case::new(name).unwrap();
            assert_eq!(case.training_flops(), Some(counted(&case)), "{name}");
        }
        assert_eq!(Case::new("bytes-blocks").unwrap().training_flops(), None);
    }

    /// 16,384 tokens of width 768, half of them charged: 13.5 TFLOP by hand.
    #[test]
    fn the_published_size_takes_what_it_takes_by_hand() {
        let size = Size::of("published").unwrap();
        let (n, d) = (16_384.0, 768.0);
        let by_hand = 3.0 * (12.0 * n * d * (24.0 * d + 4.0 * 1024.0) + 2.0 * 8192.0 * d * 50_257.0);
        assert_eq!(training_flops(size, 16, 8192), by_hand);
        assert!((by_hand / 1e12 - 12.1).abs() < 0.05, "{by_hand}");
    }
}
