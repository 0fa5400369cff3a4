//! A round of sequences whose digits are in memory.

use std::ops::Range;

use burn::tensor::Device;
use rayon::prelude::*;

use super::memory_draws::MemoryDraws;
use super::observer::Observer;
use super::policy::{Visit, tokens_per_task};
use super::row::Row;
use crate::Result;
use crate::denoiser::{Denoiser, DeviceRows, LogitRows, Spec, States};

/// The next visit of every row, in one network call for all lengths where the network takes them together.
///
/// # Errors
/// What the network reports, [`Error::Invalid`](crate::Error::Invalid) for logits that are no distribution, and what
/// the observer returns.
pub(super) fn visit(network: &dyn Denoiser, rows: &mut [Row], observer: &mut dyn Observer) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<&mut Row> = rows.iter_mut().collect();
    rows.sort_by_key(|row| row.seq_len());
    let lengths: Vec<usize> = rows.iter().map(|row| row.seq_len()).collect();
    let differ = lengths.windows(2).any(|pair| pair[0] != pair[1]);
    let device = network.drawing_device().filter(|device| !differ || device.takes_lengths());
    let on_device = device.map(|device| device.device());
    visit_together(network.spec(), &mut rows, observer, on_device, |states, positions, logits| {
        match (logits, device) {
            (Logits::OnDevice(rows), Some(device)) => {
                device.logits_of_each(states, &lengths, positions, rows)
            }
            (Logits::OnDevice(_), None) => Ok(()),
            (Logits::InMemory(rows), _) => network.evaluate_each(states, &lengths, positions, rows),
        }
    })
}

/// Where the logits of a visit go.
pub(super) enum Logits<'a> {
    InMemory(LogitRows<'a>),
    /// Only where the visit has a device.
    OnDevice(DeviceRows<'a>),
}

/// The next visit of rows, whose blocks `evaluate` evaluates together: their states stand one after the other, positions are those
/// of all blocks. Logits stay on the `device`, if there is one that can draw for all of these rows.
///
/// # Errors
/// As [`visit`].
pub(super) fn visit_together(
    spec: &Spec,
    rows: &mut [&mut Row],
    observer: &mut dyn Observer,
    device: Option<Device>,
    evaluate: impl FnOnce(&States, &[usize], Logits) -> Result<()>,
) -> Result<()> {
    let visits: Vec<Visit> = rows.iter().map(|row| row.policy.ask(&row.y)).collect();
    let y_t: Vec<u32> = rows.iter().flat_map(|row| row.digits(row.block.clone()).to_vec()).collect();
    let t: Vec<f64> = visits.iter().map(|visit| visit.time).collect();
    let labels = spec.labels(rows.iter().map(|row| row.label));
    let mut first = 0;
    let of_row = |(row, visit): (&&mut Row, &Visit)| {
        let start = first;
        first += row.block.len();
        visit.tokens.iter().map(|i| start + i - row.block.start).collect()
    };
    let positions: Vec<Vec<usize>> = rows.iter().zip(&visits).map(of_row).collect();
    // Row b asks for the positions starts[b]..starts[b + 1].
    let starts: Vec<usize> = std::iter::once(0)
        .chain(positions.iter().scan(0, |end, row| {
            *end += row.len();
            Some(*end)
        }))
        .collect();
    let states = States { y_t: &y_t, t: &t, labels: labels.as_deref() };
    let positions = positions.concat();
    match device.and_then(|device| MemoryDraws::new(rows, &visits, &device)) {
        Some(mut draws) => {
            evaluate(&states, &positions, Logits::OnDevice(&mut |range, logits| draws.draw(range, logits)))?;
            draws.hand_over(rows, &visits)?;
        }
        None => {
            let mut each = |range, logits: &[f32]| hand_over(rows, &visits, &starts, range, logits);
            evaluate(&states, &positions, Logits::InMemory(&mut each))?;
        }
    }
    rows.iter_mut().zip(&visits).try_for_each(|(row, visit)| row.settle(visit, observer))
}

/// Gives the rows the logits of a `range` of the positions.
fn hand_over(
    rows: &mut [&mut Row],
    visits: &[Visit],
    starts: &[usize],
    range: Range<usize>,
    logits: &[f32],
) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let vocab_size = logits.len() / range.len();
    let first = starts.partition_point(|start| *start <= range.start) - 1;
    let end = starts.partition_point(|start| *start < range.end);
    let draw = |(k, row): (usize, &mut &mut Row)| {
        let b = first + k;
        let own = range.start.max(starts[b])..range.end.min(starts[b + 1]);
        let tokens = &visits[b].tokens[own.start - starts[b]..own.end - starts[b]];
        let place = |position: usize| (position - range.start) * vocab_size;
        row.draw(&visits[b], tokens, &logits[place(own.start)..place(own.end)])
    };
    let (concerned, enough) = (&mut rows[first..end], tokens_per_task(vocab_size));
    if range.len() <= enough {
        return concerned.iter_mut().enumerate().try_for_each(draw);
    }
    let rows_per_task = concerned.len() * enough / range.len() + 1;
    concerned.par_iter_mut().enumerate().with_min_len(rows_per_task).try_for_each(draw)
}
