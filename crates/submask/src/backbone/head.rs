//! What networks give: hidden states of the asked positions and the output layers that make logits of them. Logits and
//! the training loss are functions of these, the same for all networks.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;

use super::weights::Weights;
use super::{Backbone, Inputs, TrainingDropout};
use crate::objective::LossRows;
use crate::ops::{Factor, Kernels, take_rows};
use crate::{Error, Result};

/// Asked positions that need the same output layer.
#[derive(Clone, Debug)]
pub struct Head {
    /// Which of the asked positions, as indices into them, in increasing order.
    pub rows: Vec<usize>,
    /// Their hidden states, [n, d].
    pub hidden: Hidden,
    /// The output layer's weight [C, d], without a row for the mask.
    pub weight: Factor,
    /// Its bias \[C\].
    pub bias: Tensor<1>,
}

impl Head {
    /// The only output layer of a network: `hidden` are the states [n, d] of all asked positions in their order.
    pub fn of_all(hidden: impl Into<Hidden>, weight: Factor, bias: Tensor<1>) -> Self {
        let hidden = hidden.into();
        Self { rows: (0..hidden.len()).collect(), hidden, weight, bias }
    }

    /// The output layers of a network that has one per place of its sequences of length `seq_len`: `states` [B, d] is
    /// one state per sequence, `positions` are those asked for (flat indices b·L + i), and `layer` gives the weight
    /// [C, d] and the bias \[C\] of place i.
    pub fn by_place(
        positions: &[usize],
        seq_len: usize,
        states: Tensor<2>,
        layer: impl Fn(usize) -> (Factor, Tensor<1>),
    ) -> Vec<Self> {
        let places = group_rows(positions, seq_len, |position| position % seq_len).into_iter().enumerate();
        let asked = places.filter(|(_, rows)| !rows.is_empty());
        let head = |(place, rows): (usize, Vec<usize>)| {
            let sequences = rows.iter().map(|row| (positions[*row] / seq_len) as u32).collect();
            let (weight, bias) = layer(place);
            Self { rows, hidden: Hidden::gathered(states.clone(), sequences, 1), weight, bias }
        };
        asked.map(head).collect()
    }
}

/// Hidden states [n, d], made already or made when they are asked for.
#[derive(Clone, Debug)]
pub struct Hidden(Source);

#[derive(Clone, Debug)]
enum Source {
    Made(Box<Tensor<2>>),
    Gathered(Arc<Gathered>),
}

/// Rows of a table beside each other.
#[derive(Debug)]
struct Gathered {
    /// Rows of the table, [_, w].
    table: Tensor<2>,
    /// Which rows of the table stand beside each other, [n, d/w].
    indices: Vec<u32>,
    /// Rows of the table per hidden state, d/w.
    per_row: usize,
    /// Once all have been asked for.
    all: OnceLock<Tensor<2>>,
}

impl From<Tensor<2>> for Hidden {
    fn from(hidden: Tensor<2>) -> Self {
        Self(Source::Made(Box::new(hidden)))
    }
}

impl Hidden {
    /// States each of which is `per_row` rows of a `table` [_, w] beside each other, d = per_row·w: the rows `indices`,
    /// those of the first state first. They are made when they are asked for, and all of them once for all copies.
    pub fn gathered(table: Tensor<2>, indices: Vec<u32>, per_row: usize) -> Self {
        Self(Source::Gathered(Arc::new(Gathered { table, indices, per_row, all: OnceLock::new() })))
    }

    /// Some of the states, [range length, d].
    pub fn rows(&self, range: Range<usize>) -> Tensor<2> {
        match &self.0 {
            Source::Made(hidden) => (**hidden).clone().narrow(0, range.start, range.len()),
            Source::Gathered(gathered) => gathered.rows(range),
        }
    }

    /// All states, [n, d].
    pub fn all(&self) -> Tensor<2> {
        match &self.0 {
            Source::Made(hidden) => (**hidden).clone(),
            Source::Gathered(gathered) => gathered.all(),
        }
    }

    /// Number of states n.
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Made(hidden) => hidden.dims()[0],
            Source::Gathered(gathered) => gathered.indices.len() / gathered.per_row,
        }
    }

    /// Whether there is no state.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements that are made per state that is asked for.
    fn made_per_row(&self) -> usize {
        match &self.0 {
            Source::Made(_) => 0,
            Source::Gathered(gathered) => gathered.width(),
        }
    }
}

impl Gathered {
    /// Width of a hidden state d.
    fn width(&self) -> usize {
        self.per_row * self.table.dims()[1]
    }

    fn rows(&self, range: Range<usize>) -> Tensor<2> {
        let indices = &self.indices[range.start * self.per_row..range.end * self.per_row];
        take_rows(self.table.clone(), indices).reshape([range.len(), self.width()])
    }

    fn all(&self) -> Tensor<2> {
        if let Some(all) = self.all.get() {
            return all.clone();
        }
        // Nothing is locked while they are made.
        let all = self.rows(0..self.indices.len() / self.per_row);
        self.all.get_or_init(|| all).clone()
    }
}

/// Indices into `positions` by the head that they belong to, which `head_of` gives for a position, below `heads`.
pub(super) fn group_rows(
    positions: &[usize],
    heads: usize,
    head_of: impl Fn(usize) -> usize,
) -> Vec<Vec<usize>> {
    let mut groups = vec![Vec::new(); heads];
    for (row, position) in positions.iter().enumerate() {
        groups[head_of(*position)].push(row);
    }
    groups
}

/// Logits [n, C] of a network at `positions` (flat indices b·L + i, in any order), in their order, all at once.
/// [`super::LoadedBackbone`] makes them some at a time.
///
/// # Errors
/// [`Error::Invalid`] for what the network does not take.
pub fn logits(
    network: &dyn Backbone,
    weights: &Weights,
    inputs: &Inputs,
    positions: &[usize],
) -> Result<Tensor<2>> {
    let classes = network.spec().vocab_size;
    if positions.is_empty() {
        return Ok(Tensor::zeros([0, classes], &weights.device()));
    }
    Ok(Heads::new(network, weights, inputs, positions, None)?.logits(0..positions.len()))
}

/// The training loss Σ_r weight_r·loss_r, \[1\], of `rows`, which are the positions `positions` (flat indices b·L + i, in
/// any order) in their order; `None` where there are none.
///
/// # Errors
/// [`Error::Invalid`] for what the network does not take, and for another number of rows than of positions.
pub fn loss(
    network: &dyn Backbone,
    weights: &Weights,
    inputs: &Inputs,
    positions: &[usize],
    rows: impl Into<Arc<LossRows>>,
    dropout: Option<TrainingDropout>,
) -> Result<Option<Tensor<1>>> {
    let rows = rows.into();
    if rows.len() != positions.len() {
        let allowed = format!("one for each of {} positions", positions.len());
        return Err(Error::invalid("rows of the loss", rows.len(), allowed));
    }
    if positions.is_empty() {
        return Ok(None);
    }
    let Heads { heads, kernels, .. } = Heads::new(network, weights, inputs, positions, dropout)?;
    let only = heads.len() == 1;
    let parts = heads.into_iter().map(|head| {
        let own = if only { rows.clone() } else { Arc::new(rows.part(&head.rows)) };
        kernels.head_loss(head.hidden.all(), head.weight.into_tensor(), head.bias, own)
    });
    Ok(parts.reduce(|total, part| total + part))
}

/// Logits that exist at once while a network is evaluated.
const CHUNK_LOGITS: usize = 1 << 24;

/// The heads of a network at some positions, each of which belongs to one of them.
pub(super) struct Heads {
    heads: Vec<Head>,
    /// Number of positions n, at least 1.
    count: usize,
    classes: usize,
    kernels: Kernels,
}

impl Heads {
    /// The heads of `network` at `positions`, of which there is one at least.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what the network does not take, and for heads that are not those of all positions.
    pub fn new(
        network: &dyn Backbone,
        weights: &Weights,
        inputs: &Inputs,
        positions: &[usize],
        dropout: Option<TrainingDropout>,
    ) -> Result<Self> {
        let heads = network.heads(weights, inputs, positions, dropout)?;
        let classes = network.spec().vocab_size;
        let heads = Self { heads, count: positions.len(), classes, kernels: network.kernels() };
        heads.check()?;
        Ok(heads)
    }

    /// Every position has one head, which has a state for it.
    fn check(&self) -> Result<()> {
        let mut seen = vec![false; self.count];
        let mut are_new = |head: &Head| {
            let increasing = head.rows.is_sorted() && head.rows.len() == head.hidden.len();
            let new = |row: &usize| seen.get_mut(*row).is_some_and(|seen| !std::mem::replace(seen, true));
            increasing && head.rows.iter().all(new)
        };
        let proper = self.heads.iter().all(&mut are_new);
        if proper && seen.iter().all(|seen| *seen) {
            return Ok(());
        }
        let rows: Vec<usize> = self.heads.iter().map(|head| head.rows.len()).collect();
        let allowed = format!("in increasing order, and each of {} positions in one head", self.count);
        Err(Error::invalid("rows of the heads", format!("{rows:?}"), allowed))
    }

    /// Ranges of the positions whose logits, and what is made for these, exist at once.
    pub fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let widest = self.heads.iter().map(|head| head.hidden.made_per_row()).fold(self.classes, usize::max);
        let (count, size) = (self.count, (CHUNK_LOGITS / widest).max(1));
        (0..count).step_by(size).map(move |start| start..(start + size).min(count))
    }

    /// Logits [range length, C] of some positions, in their order.
    pub fn logits(&self, range: Range<usize>) -> Tensor<2> {
        let (mut parts, mut places) = (Vec::new(), vec![0; range.len()]);
        let mut place = 0;
        for head in &self.heads {
            let before = |end: usize| head.rows.partition_point(|row| *row < end);
            let own = before(range.start)..before(range.end);
            if own.is_empty() {
                continue;
            }
            for row in &head.rows[own.clone()] {
                places[row - range.start] = place;
                place += 1;
            }
            let (weight, bias) = (head.weight.clone(), head.bias.clone());
            parts.push(self.kernels.linear(head.hidden.rows(own), weight, Some(bias)));
        }
        match parts.len() {
            1 => parts.remove(0),
            _ => take_rows(Tensor::cat(parts, 0), &places),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn heads(heads: Vec<Head>, count: usize, classes: usize) -> Heads {
        Heads { heads, count, classes, kernels: Kernels::FUSED }
    }

    /// A head of the positions `rows`, whose state is their number.
    fn head(rows: &[usize], hidden: Hidden) -> Head {
        let device = Device::flex();
        let weight = Tensor::<2>::ones([2, 1], &device).into();
        Head { rows: rows.to_vec(), hidden, weight, bias: Tensor::from_data([0.0, 100.0], &device) }
    }

    fn states(rows: &[usize]) -> Tensor<2> {
        let values: Vec<f32> = rows.iter().map(|row| *row as f32).collect();
        Tensor::<1>::from_data(values.as_slice(), &Device::flex()).reshape([rows.len(), 1])
    }

    fn numbered(rows: &[usize]) -> Head {
        head(rows, states(rows).into())
    }

    #[test]
    fn logits_stand_in_the_order_of_the_positions() {
        let heads = heads(vec![numbered(&[1, 4]), numbered(&[0, 2, 5]), numbered(&[3])], 6, 2);
        heads.check().unwrap();
        for range in [0..6, 1..5, 3..4, 1..2, 4..6] {
            let expected: Vec<f32> = range.clone().flat_map(|row| [row as f32, row as f32 + 100.0]).collect();
            assert_eq!(heads.logits(range).into_data().try_into_vec::<f32>().unwrap(), expected);
        }
    }

    #[test]
    fn positions_that_have_no_head_or_two_are_refused() {
        let refused = |given: Vec<Head>, expected: &str| {
            let error = heads(given, 3, 2).check().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("3 positions"), "{error}");
        };
        refused(vec![numbered(&[0, 1])], "[2]");
        refused(vec![numbered(&[0, 1]), numbered(&[1, 2])], "[2, 2]");
        refused(vec![numbered(&[0, 1, 3])], "[3]");
        refused(vec![numbered(&[1, 0, 2])], "[3]");
        refused(vec![head(&[0, 1, 2], states(&[0, 1]).into())], "[3]");
    }

    /// Logits, and what is made for them, are of a bounded size; states that are there already do not count.
    #[test]
    fn chunks_are_of_the_widest_that_is_made() {
        let table = Tensor::<2>::zeros([1, 100], &Device::flex());
        let gathered = |per_row| Hidden::gathered(table.clone(), Vec::new(), per_row);
        for (hidden, classes, size) in [
            (gathered(9), 4, CHUNK_LOGITS / 900),
            (gathered(1), 400, CHUNK_LOGITS / 400),
            (Hidden::from(table.clone()), 4, CHUNK_LOGITS / 4),
            (gathered(1), 2 * CHUNK_LOGITS, 1),
        ] {
            let heads = heads(vec![head(&[], hidden)], 2 * size + 1, classes);
            let chunks: Vec<Range<usize>> = heads.chunks().collect();
            assert_eq!(chunks, [0..size, size..2 * size, 2 * size..2 * size + 1]);
        }
    }

    #[test]
    fn gathered_states_are_rows_beside_each_other() {
        let table = states(&[5, 6, 7]);
        let hidden = Hidden::gathered(table, vec![2, 0, 1, 1, 0, 2], 2);
        let all = hidden.all().into_data().try_into_vec::<f32>().unwrap();
        assert_eq!((hidden.len(), all), (3, vec![7.0, 5.0, 6.0, 6.0, 5.0, 7.0]));
        assert_eq!(hidden.rows(1..3).into_data().try_into_vec::<f32>().unwrap(), [6.0, 6.0, 5.0, 7.0]);
        hidden.clone().all().into_data().assert_eq(&hidden.all().into_data(), true);
    }
}
