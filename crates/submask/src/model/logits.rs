//! What a network says of sequences that are masked in part, in a file: for whoever computes it anew elsewhere.

mod batch;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::session::Session;
use crate::denoiser::{Autoregressor, Denoiser, Spec, States};
use crate::durable::write_whole;
use crate::order;
use crate::{Error, Result};

pub use batch::MaskedBatch;

/// Most sequences of one file, so that its header is not larger than readers take.
const MAX_SEQUENCES: usize = 100_000;

/// A sequence, masked where nothing is given.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedSequence {
    /// The sub-tokens [L·ℓ], `None` being a masked one.
    pub digits: Vec<Option<u32>>,
    /// Time t in [0, 1], for a network that reads it. `None`: the time at which this share of the sub-tokens is masked in
    /// expectation, as in deterministic orders (math.md §7).
    pub time: Option<f64>,
    /// Class, for a network that reads classes; `None`: no label.
    pub label: Option<usize>,
}

impl MaskedSequence {
    /// Of whole tokens \[L\], `None` being a masked one.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first token that the model does not have.
    pub fn of_tokens(tokens: &[Option<u32>], session: &Session) -> Result<Self> {
        let classes = session.architecture().predictive().codes().vocab_size();
        if let Some(token) = tokens.iter().flatten().find(|token| **token as usize >= classes) {
            return Err(Error::invalid("token", token, format!("0 to {}", classes - 1)));
        }
        Ok(Self { digits: session.architecture().digits_of(tokens), time: None, label: None })
    }
}

/// A sequence as the network reads it.
struct State {
    /// [L·ℓ], the mask being b.
    y: Vec<u32>,
    /// Rows of its logits.
    rows: usize,
    time: Option<f64>,
    label: Option<usize>,
}

/// The network, by what it predicts.
enum Network<'a> {
    /// The C tokens at every position.
    Diffusion(&'a dyn Denoiser),
    /// The b values of the sub-token after those that are given.
    Autoregressive(&'a dyn Autoregressor),
}

impl Session {
    /// Checks that the network can be asked about a sequence.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number of digits that makes no sequence of the model, a digit outside 0..b, a time or a
    /// class that the network does not read, with an autoregressive network for what is given behind a masked digit, and with
    /// blocks for what is given in a block behind one with a masked digit.
    pub fn check_masked(&self, sequence: &MaskedSequence) -> Result<()> {
        self.state(sequence, &self.predictor()?).map(drop)
    }

    /// Writes the logits of `sequences`, in the format safetensors: of sequence i, from 0, `logits.i` [L, C] in 32-bit floats,
    /// before temperature and carry-over constraint; `digits.i` [L·ℓ] in 64-bit integers, 0..=b with b for a masked one; and for
    /// a network that reads the time `time.i` [], a 64-bit float. Of the autoregressive baseline `logits.i` is [k + 1, b] where
    /// the first k digits are given (at most [L·ℓ, b]): row j is of digit j given those before it. With blocks `logits.i` ends
    /// with the first block that has a masked digit, [k, C]: later ones are predicted once it is known.
    ///
    /// Up to `batch` sequences of one length are evaluated together; the numbers do not depend on it. Logits are written as
    /// they are made.
    ///
    /// # Errors
    /// As [`Self::check_masked`], [`Error::Invalid`] for no sequences or too many, and [`Error::Io`] naming the file, which is
    /// then not written.
    pub fn write_logits(&self, sequences: &[MaskedSequence], batch: usize, path: &Path) -> Result<()> {
        if batch == 0 {
            return Err(Error::invalid("batch", batch, "at least 1"));
        }
        if !(1..=MAX_SEQUENCES).contains(&sequences.len()) {
            return Err(Error::invalid("sequences", sequences.len(), format!("1 to {MAX_SEQUENCES}")));
        }
        let network = self.predictor()?;
        let states = sequences.iter().map(|sequence| self.state(sequence, &network));
        let states = states.collect::<Result<Vec<State>>>()?;
        write_whole(path, |temporary| {
            let mut file = BufWriter::new(File::create(temporary).map_err(Error::io(path))?);
            let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(Error::io(path));
            write(&header(&states, network.columns())?)?;
            for state in &states {
                state.y.iter().try_for_each(|digit| write(&i64::from(*digit).to_le_bytes()))?;
                state.time.map_or(Ok(()), |time| write(&time.to_le_bytes()))?;
            }
            let mut floats = |logits: &[f32]| logits.iter().try_for_each(|logit| write(&logit.to_le_bytes()));
            let like = |a: &State, b: &State| (a.y.len(), a.rows) == (b.y.len(), b.rows);
            let groups = states.chunk_by(like).flat_map(|group| group.chunks(batch));
            for group in groups {
                self.evaluate_group(&network, group, &mut floats)?;
            }
            file.flush().map_err(Error::io(path))
        })
    }

    fn predictor(&self) -> Result<Network<'_>> {
        match self.is_autoregressive() {
            true => self.autoregressive().map(Network::Autoregressive),
            false => self.denoiser().map(Network::Diffusion),
        }
    }

    fn state(&self, sequence: &MaskedSequence, network: &Network) -> Result<State> {
        let codes = self.architecture().predictive().codes();
        let MaskedSequence { digits, time, label } = sequence;
        if let Some(digit) = digits.iter().flatten().find(|digit| **digit >= codes.base()) {
            return Err(Error::invalid(
                "digit",
                digit,
                format!("0 to {}, or a masked one", codes.base() - 1),
            ));
        }
        let y: Vec<u32> = digits.iter().map(|digit| digit.unwrap_or(codes.mask_id())).collect();
        let (rows, time) = self.rows_and_time(&y, *time, *label, network)?;
        Ok(State { y, rows, time, label: *label })
    }

    /// How many rows of logits a sequence y [L·ℓ] has, the mask being b, and the time at which the network is asked, where it
    /// reads one.
    fn rows_and_time(
        &self,
        y: &[u32],
        time: Option<f64>,
        label: Option<usize>,
        network: &Network,
    ) -> Result<(usize, Option<f64>)> {
        let codes = self.architecture().predictive().codes();
        let (len, mask) = (codes.subtoken_len(), codes.mask_id());
        let spec = network.spec();
        if y.is_empty() || !y.len().is_multiple_of(len) {
            return Err(Error::invalid("number of digits", y.len(), format!("{len} for each token")));
        }
        spec.check_seq_len(y.len() / len)?;
        if let Some(label) = label {
            spec.check_labels(Some(&[label]), 1)?;
        }
        let given = y.iter().take_while(|digit| **digit != mask).count();
        let rows = match network {
            Network::Diffusion(_) => known_blocks(y, mask, given / len, spec)?,
            Network::Autoregressive(_) if y[given..].iter().any(|digit| *digit != mask) => {
                let allowed = "a beginning only: an autoregressive model knows what stands before";
                return Err(Error::invalid("digits", "one behind a masked one", allowed));
            }
            Network::Autoregressive(_) => y.len().min(given + 1),
        };
        let time = match (spec.reads_time, time) {
            (false, Some(time)) => {
                return Err(Error::invalid("time", time, "none: the network does not read it"));
            }
            (true, Some(time)) if !(0.0..=1.0).contains(&time) => {
                return Err(Error::invalid("time", time, "0 to 1"));
            }
            (true, None) => {
                let masked = y.iter().filter(|digit| **digit == mask).count();
                Some(order::time(&self.architecture().schedule(), masked, y.len()))
            }
            (_, time) => time,
        };
        Ok((rows, time))
    }

    /// The logits of sequences of one length, one after the other.
    fn evaluate_group(
        &self,
        network: &Network,
        group: &[State],
        write: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        match network {
            Network::Autoregressive(network) => {
                let digits: Vec<u32> =
                    group.iter().flat_map(|state| &state.y[..state.rows]).copied().collect();
                write(&network.logits(&network.shifted(&digits, group.len()), group.len())?)
            }
            Network::Diffusion(network) => {
                let y: Vec<u32> = group.iter().flat_map(|state| &state.y).copied().collect();
                let t: Vec<f64> = group.iter().map(|state| state.time.unwrap_or(0.0)).collect();
                let labels = network.spec().labels(group.iter().map(|state| state.label));
                let tokens = y.len() / (group.len() * network.spec().subtoken_len);
                let rows = |(b, state): (usize, &State)| b * tokens..b * tokens + state.rows;
                let positions: Vec<usize> = group.iter().enumerate().flat_map(rows).collect();
                let states = States { y_t: &y, t: &t, labels: labels.as_deref() };
                network.evaluate(&states, &positions, &mut |_, logits| write(logits))
            }
        }
    }
}

/// Tokens that a network predicts: all, or those up to the end of the block of `first`, the first token with a masked digit.
fn known_blocks(y: &[u32], mask: u32, first: usize, spec: &Spec) -> Result<usize> {
    let tokens = y.len() / spec.subtoken_len;
    if spec.block_len == 0 || first >= tokens {
        return Ok(tokens);
    }
    let start = first / spec.block_len * spec.block_len;
    let end = (start + spec.block_len).min(tokens);
    match y[end * spec.subtoken_len..].iter().position(|digit| *digit != mask) {
        None => Ok(end),
        Some(digit) => {
            let allowed = format!(
                "none behind the block of tokens {start} to {}, which has a masked digit and is predicted without what follows it",
                end - 1
            );
            Err(Error::invalid("token given", end + digit / spec.subtoken_len, allowed))
        }
    }
}

impl Network<'_> {
    fn spec(&self) -> &Spec {
        match self {
            Self::Diffusion(network) => network.spec(),
            Self::Autoregressive(network) => network.spec(),
        }
    }

    /// Columns of the logits.
    fn columns(&self) -> usize {
        match self {
            Self::Diffusion(network) => network.spec().vocab_size,
            Self::Autoregressive(network) => network.base(),
        }
    }
}

/// Everything before the tensors: which there are and where. All numbers of 64 bits come first, so that each stands at a
/// multiple of its size.
fn header(states: &[State], columns: usize) -> Result<Vec<u8>> {
    let (mut entries, mut end) = (Map::new(), 0);
    let mut add = |name: String, dtype: &str, shape: Vec<usize>, size: usize| {
        let begin = end;
        end += size * shape.iter().product::<usize>();
        let entry: Value = json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] });
        entries.insert(name, entry);
    };
    for (i, state) in states.iter().enumerate() {
        add(format!("digits.{i}"), "I64", vec![state.y.len()], 8);
        if state.time.is_some() {
            add(format!("time.{i}"), "F64", Vec::new(), 8);
        }
    }
    for (i, state) in states.iter().enumerate() {
        add(format!("logits.{i}"), "F32", vec![state.rows, columns], 4);
    }
    let mut text = serde_json::to_vec(&entries).map_err(Error::internal("names and shapes fit JSON"))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([&(text.len() as u64).to_le_bytes()[..], &text].concat())
}
