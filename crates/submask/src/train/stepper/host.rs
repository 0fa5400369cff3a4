//! Steps whose state is in memory, alone or with other processes.

use std::ops::Range;

use burn::tensor::Device;

use super::{StepReport, Stepper, finite};
use crate::backbone::weights::{Parameter, Weights};
use crate::train::exchange::{Collected, Exchange};
use crate::train::loss::gradients;
use crate::train::optimizer::{
    AdamW, Average, CHUNK, GradientRange, StepSize, chunk_squares, clip_factor, norm,
};
use crate::train::settings::TrainSettings;
use crate::train::slot::{Slot, SlotLoss};
use crate::train::state::TrainState;
use crate::{Error, Result};

/// Weights, moments and averages in memory.
pub struct Host {
    settings: TrainSettings,
    parameters: Vec<Parameter>,
    /// With `train.shard_optimizer` moments and averages are those of the own ranges only, but for what is in `own`.
    state: TrainState,
    /// The own elements of every weight.
    ranges: Vec<Range<usize>>,
    own: Own,
    /// Whether averages have been gathered since the last step.
    has_averages: bool,
    /// With gradients.
    device: Device,
    exchange: Box<dyn Exchange>,
    since_report: StepReport,
}

/// What only the own ranges are kept of, while all are in the state: until the next step.
#[derive(Default)]
struct Own {
    average: Option<Vec<Vec<f32>>>,
    moments: Option<[Vec<Vec<f32>>; 2]>,
}

impl Host {
    /// Continues from `state`, whose gradients are computed on `device` and exchanged by `exchange`.
    pub fn new(
        settings: &TrainSettings,
        parameters: &[Parameter],
        mut state: TrainState,
        device: &Device,
        exchange: Box<dyn Exchange>,
    ) -> Self {
        let lens: Vec<usize> = parameters.iter().map(Parameter::len).collect();
        let ranges = exchange.own_ranges(&lens);
        if settings.shard_optimizer {
            for values in [&mut state.average, &mut state.optimizer.first, &mut state.optimizer.second] {
                for (values, range) in
                    values.iter_mut().zip(&ranges).filter(|(values, own)| own.len() < values.len())
                {
                    *values = values[range.clone()].to_vec();
                }
            }
        }
        Self {
            settings: settings.clone(),
            parameters: parameters.to_vec(),
            state,
            ranges,
            own: Own::default(),
            has_averages: false,
            device: device.clone().autodiff(),
            exchange,
            since_report: StepReport::default(),
        }
    }

    /// Values of all weights, of which the own ranges are `own` and the others zero.
    fn whole(&self, own: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let whole = |((parameter, own), range): ((&Parameter, &Vec<f32>), &Range<usize>)| {
            let mut values = vec![0.0; parameter.len()];
            values[range.clone()].copy_from_slice(own);
            values
        };
        self.parameters.iter().zip(own).zip(&self.ranges).map(whole).collect()
    }

    /// Whether it holds less than all of moments and averages.
    fn is_sharded(&self) -> bool {
        let is_whole = |(parameter, own): (&Parameter, &Range<usize>)| own.len() == parameter.len();
        self.settings.shard_optimizer && !self.parameters.iter().zip(&self.ranges).all(is_whole)
    }

    /// AdamW and the average on the own elements, whose summed gradients these are.
    fn update(&mut self, mut gradients: Vec<GradientRange>, size: StepSize) -> Result<()> {
        let sharded = self.is_sharded();
        let TrainState { raw, average, optimizer } = &mut self.state;
        let average = Average { values: average, decay: self.settings.ema_decay };
        if !sharded {
            return optimizer.step(raw, &gradients, size, Some(average));
        }
        // The moments' first elements are the first of the own ranges.
        for range in &mut gradients {
            range.start -= self.ranges[range.parameter].start;
        }
        let own = raw.iter_mut().zip(&self.ranges).map(|(weights, own)| &mut weights[own.clone()]);
        optimizer.step(&mut own.collect::<Vec<_>>(), &gradients, size, Some(average))
    }

    /// Gives back what was gathered since the last step.
    fn keep_own(&mut self) {
        self.has_averages = false;
        let Own { average, moments } = std::mem::take(&mut self.own);
        if let Some(average) = average {
            self.state.average = average;
        }
        if let Some([first, second]) = moments {
            (self.state.optimizer.first, self.state.optimizer.second) = (first, second);
        }
    }

    /// All averages, on all processes.
    fn gather_averages(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.has_averages, true) {
            return Ok(());
        }
        if self.is_sharded() {
            let whole = self.whole(&self.state.average);
            self.own.average = Some(std::mem::replace(&mut self.state.average, whole));
        }
        self.exchange.gather_state(&mut self.state.average)
    }

    /// All moments, on process 0; the others keep what they have.
    fn collect_moments(&mut self) -> Result<()> {
        let (sharded, first) = (self.is_sharded(), self.exchange.is_first());
        if sharded && first && self.own.moments.is_none() {
            let whole =
                [&self.state.optimizer.first, &self.state.optimizer.second].map(|own| self.whole(own));
            let AdamW { first, second, .. } = &mut self.state.optimizer;
            let [whole_first, whole_second] = whole;
            let own = [std::mem::replace(first, whole_first), std::mem::replace(second, whole_second)];
            self.own.moments = Some(own);
        }
        let AdamW { first: moments, second, .. } = &mut self.state.optimizer;
        for values in [moments, second] {
            if first {
                self.exchange.collect(Collected::Into(values))?;
                continue;
            }
            let own = |(values, own): (&'_ Vec<f32>, &Range<usize>)| {
                if sharded { 0..values.len() } else { own.clone() }
            };
            let places: Vec<Range<usize>> = values.iter().zip(&self.ranges).map(own).collect();
            let own: Vec<&[f32]> = values.iter().zip(places).map(|(values, own)| &values[own]).collect();
            self.exchange.collect(Collected::From(&own))?;
        }
        Ok(())
    }

    /// Gives the gradients of the own slots to the exchange, and returns the mean loss of all slots.
    fn add_slots(&mut self, step: u64, slots: &dyn SlotLoss) -> Result<f64> {
        let count = self.settings.accumulate;
        let mut shares = Vec::new();
        for index in self.exchange.own_slots(count) {
            let weights = Weights::new(&self.parameters, &self.state.raw, &self.device);
            let loss = slots.loss(&weights, Slot { step, index })?;
            let (value, gradients) = gradients(loss, &weights, &self.parameters)?;
            shares.push(value / count as f64);
            self.exchange.add(index, gradients)?;
        }
        Ok(self.exchange.concat(shares)?.iter().fold(0.0, |sum, share| sum + share))
    }

    /// ‖g‖₂ over the ranges of all processes.
    fn norm(&mut self, own: &[GradientRange]) -> Result<f64> {
        let squares = chunk_squares(own.iter().map(|range| range.values.as_slice()));
        let squares = self.exchange.concat(squares)?;
        let chunks: usize = self.parameters.iter().map(|parameter| parameter.len().div_ceil(CHUNK)).sum();
        if squares.len() != chunks {
            let given = format!("of {} chunks in all processes", squares.len());
            let found = format!("{given}, not of the {chunks} chunks of all weights");
            return Err(Error::Internal { what: "squares of gradients", found });
        }
        Ok(norm(&squares, self.parameters.iter().map(Parameter::len)))
    }
}

impl Stepper for Host {
    fn step(&mut self, step: u64, slots: &dyn SlotLoss) -> Result<()> {
        let loss = finite(step, "loss", self.add_slots(step, slots)?)?;
        let gradients = self.exchange.reduce()?;
        let norm = finite(step, "gradient norm", self.norm(&gradients)?)?;
        let size = StepSize {
            learning_rate: self.settings.learning_rate_at(step),
            gradient_factor: clip_factor(norm, self.settings.clip),
        };
        self.keep_own();
        self.update(gradients, size)?;
        self.exchange.gather(&mut self.state.raw)?;
        let StepReport { steps, loss: sum, .. } = self.since_report;
        self.since_report = StepReport { steps: steps + 1, loss: sum + loss, gradient_norm: norm };
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn report(&mut self) -> Result<StepReport> {
        Ok(std::mem::take(&mut self.since_report))
    }

    fn average(&mut self) -> Result<&[Vec<f32>]> {
        self.gather_averages()?;
        Ok(&self.state.average)
    }

    fn state(&mut self) -> Result<&TrainState> {
        self.gather_averages()?;
        self.collect_moments()?;
        Ok(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::{Arc, Barrier, Mutex};

    use burn::tensor::{Tensor, TensorData};

    use super::*;
    use crate::backbone::Handle;
    use crate::backbone::weights::Init;
    use crate::ops::lanes;
    use crate::random::{Draws, Purpose};
    use crate::train::exchange::{Alone, Traffic, on_threads};
    use crate::train::settings::RunSettings;

    const SLOTS: usize = 5;

    /// What processes, here threads, pass to each other.
    struct Table {
        barrier: Barrier,
        gradients: Mutex<Vec<Vec<Vec<f32>>>>,
        numbers: Mutex<Vec<Vec<f64>>>,
        values: Mutex<Vec<Vec<f32>>>,
    }

    /// One of several processes: it owns every chunk of its range of all chunks, and adds these over all slots.
    struct Rank {
        rank: usize,
        ranks: usize,
        lens: Vec<usize>,
        table: Arc<Table>,
    }

    impl Rank {
        /// Its even part of 0..count.
        fn part(&self, count: usize) -> Range<usize> {
            self.rank * count / self.ranks..(self.rank + 1) * count / self.ranks
        }

        /// Weight, start and end of the own chunks.
        fn own(&self) -> Vec<(usize, usize, usize)> {
            let chunks = self.lens.iter().enumerate().flat_map(|(parameter, &len)| {
                (0..len).step_by(CHUNK).map(move |start| (parameter, start, len.min(start + CHUNK)))
            });
            let chunks: Vec<_> = chunks.collect();
            chunks[self.part(chunks.len())].to_vec()
        }
    }

    impl Exchange for Rank {
        fn own_slots(&self, slots: usize) -> Range<usize> {
            self.part(slots)
        }

        fn add(&mut self, slot: usize, gradients: Vec<Vec<f32>>) -> Result<()> {
            self.table.gradients.lock().unwrap()[slot] = gradients;
            Ok(())
        }

        fn reduce(&mut self) -> Result<Vec<GradientRange>> {
            self.table.barrier.wait();
            let gradients = self.table.gradients.lock().unwrap();
            let ranges = self.own().into_iter().map(|(parameter, start, end)| {
                let mut values = vec![0.0; end - start];
                for slot in gradients.iter() {
                    lanes::add_scaled(&mut values, &slot[parameter][start..end], 1.0 / SLOTS as f32);
                }
                GradientRange { parameter, start, values }
            });
            Ok(ranges.collect())
        }

        fn concat(&mut self, own: Vec<f64>) -> Result<Vec<f64>> {
            self.table.numbers.lock().unwrap()[self.rank] = own;
            self.table.barrier.wait();
            let all = self.table.numbers.lock().unwrap().concat();
            self.table.barrier.wait();
            Ok(all)
        }

        fn gather(&mut self, values: &mut [Vec<f32>]) -> Result<()> {
            for (parameter, start, end) in self.own() {
                let own = &values[parameter][start..end];
                self.table.values.lock().unwrap()[parameter][start..end].copy_from_slice(own);
            }
            self.table.barrier.wait();
            values.clone_from_slice(&self.table.values.lock().unwrap());
            self.table.barrier.wait();
            Ok(())
        }
    }

    /// Σ slope·a³ + b², with a slope of every slot's own; one slot costs nothing.
    struct Cubic;

    impl SlotLoss for Cubic {
        fn loss(&self, weights: &Weights, slot: Slot) -> Result<Option<Tensor<1>>> {
            let handle = |name| Handle::<1>::find(&parameters(), name).unwrap();
            let a = weights.get(handle("a"));
            let draws = Draws::new(slot.step << 8 | slot.index as u64, Purpose::Init);
            let len = a.dims()[0];
            let slope = (0..len as u32).map(|i| draws.normal(0, i, 0) as f32).collect::<Vec<_>>();
            let slope = Tensor::<1>::from_data(TensorData::new(slope, [len]), &Device::flex().autodiff());
            let loss = (a.clone() * a.clone() * a * slope).sum() + weights.get(handle("b")).square().sum();
            Ok((slot.index != 3).then_some(loss))
        }
    }

    fn parameters() -> [Parameter; 2] {
        [("a", 2 * CHUNK + 7), ("b", 3)].map(|(name, len)| Parameter::new(name, &[len], Init::Uniform(1.0)))
    }

    /// Three steps by the exchange: what they came to, the average, and the whole state.
    fn train(exchange: Box<dyn Exchange>) -> (StepReport, Vec<Vec<f32>>, TrainState) {
        train_sharded(exchange, false)
    }

    fn train_sharded(
        exchange: Box<dyn Exchange>,
        shard_optimizer: bool,
    ) -> (StepReport, Vec<Vec<f32>>, TrainState) {
        let preset = include_str!("../../../../submask-cli/presets/dictionary.toml");
        let settings = toml::from_str::<RunSettings>(preset).unwrap().train;
        let settings = TrainSettings { accumulate: SLOTS, ema_decay: 0.5, shard_optimizer, ..settings };
        let state = TrainState::drawn(1, settings.adamw, &parameters());
        let mut host = Host::new(&settings, &parameters(), state, &Device::flex(), exchange);
        (1..=3).for_each(|step| host.step(step, &Cubic).unwrap());
        let average = host.average().unwrap().to_vec();
        (host.report().unwrap(), average, host.state().unwrap().clone())
    }

    #[test]
    fn any_number_of_processes_comes_to_the_same_bits() {
        let alone = train(Box::new(Alone::new(SLOTS)));
        assert_eq!((alone.0.steps, &alone.1), (3, &alone.2.average));
        assert!(alone.0.gradient_norm > 0.0);
        for ranks in 1..=4 {
            let lens: Vec<usize> = parameters().iter().map(Parameter::len).collect();
            let zeros = lens.iter().map(|len| vec![0.0; *len]).collect();
            let table = Arc::new(Table {
                barrier: Barrier::new(ranks),
                gradients: Mutex::new(vec![vec![]; SLOTS]),
                numbers: Mutex::new(vec![vec![]; ranks]),
                values: Mutex::new(zeros),
            });
            std::thread::scope(|scope| {
                let process = |rank| {
                    let (lens, table) = (lens.clone(), table.clone());
                    scope.spawn(move || train(Box::new(Rank { rank, ranks, lens, table })))
                };
                let processes: Vec<_> = (0..ranks).map(process).collect();
                for process in processes {
                    assert_eq!(process.join().unwrap(), alone, "{ranks} processes");
                }
            });
        }
    }

    #[test]
    fn ranks_come_to_the_same_bits_whether_moments_are_shared_or_not() {
        let alone = train(Box::new(Alone::new(SLOTS)));
        let lens: Vec<usize> = parameters().iter().map(Parameter::len).collect();
        for (count, sharded) in (1..=5).flat_map(|count| [(count, false), (count, true)]) {
            let all = on_threads(count, |ranks| {
                let made = train_sharded(ranks.exchange(&lens, SLOTS).unwrap(), sharded);
                (made, ranks.traffic().unwrap().into_iter().sum::<Traffic>())
            });
            for (rank, ((report, average, state), sent)) in all.iter().enumerate() {
                assert_eq!(
                    (report, average, &state.raw),
                    (&alone.0, &alone.1, &alone.2.raw),
                    "{count} ranks"
                );
                assert!(rank > 0 || *state == alone.2, "{count} ranks, sharded: {sharded}");
                let step = Traffic::of_step(&lens, count, SLOTS);
                // The wish to stop is asked for by the loop.
                let asked = (count * (count - 1) * 9) as u64;
                let numbers = 3 * step.numbers.saturating_sub(asked);
                let expected = (3 * step.sums, 3 * step.weights, numbers);
                assert_eq!((sent.sums, sent.weights, sent.numbers), expected, "{count} ranks");
            }
        }
    }

    #[test]
    fn a_run_that_is_asked_for_its_state_twice_goes_on_as_if_it_had_not_been() {
        let lens: Vec<usize> = parameters().iter().map(Parameter::len).collect();
        let preset = include_str!("../../../../submask-cli/presets/dictionary.toml");
        let settings = toml::from_str::<RunSettings>(preset).unwrap().train;
        let settings = TrainSettings { accumulate: SLOTS, shard_optimizer: true, ..settings };
        let state = TrainState::drawn(1, settings.adamw, &parameters());
        let run = |exchange, asks: bool| {
            let mut host = Host::new(&settings, &parameters(), state.clone(), &Device::flex(), exchange);
            for step in 1..=3 {
                host.step(step, &Cubic).unwrap();
                if asks {
                    host.average().unwrap();
                    host.state().unwrap();
                    host.state().unwrap();
                    host.average().unwrap();
                }
            }
            host.state().unwrap().clone()
        };
        let alone = run(Box::new(Alone::new(SLOTS)) as Box<dyn Exchange>, false);
        let all = on_threads(3, |ranks| run(ranks.exchange(&lens, SLOTS).unwrap(), true));
        assert!(all[0] == alone);
        assert!(all[1].raw == alone.raw && all[1].optimizer != alone.optimizer);
    }

    /// Gives squares of one chunk only.
    struct Forgetful(Alone);

    impl Exchange for Forgetful {
        fn own_slots(&self, slots: usize) -> Range<usize> {
            self.0.own_slots(slots)
        }

        fn add(&mut self, slot: usize, gradients: Vec<Vec<f32>>) -> Result<()> {
            self.0.add(slot, gradients)
        }

        fn reduce(&mut self) -> Result<Vec<GradientRange>> {
            self.0.reduce()
        }

        fn concat(&mut self, own: Vec<f64>) -> Result<Vec<f64>> {
            Ok(own[..1].to_vec())
        }

        fn gather(&mut self, _values: &mut [Vec<f32>]) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_exchange_that_loses_numbers_is_refused() {
        let preset = include_str!("../../../../submask-cli/presets/dictionary.toml");
        let settings = toml::from_str::<RunSettings>(preset).unwrap().train;
        let state = TrainState::drawn(1, settings.adamw, &parameters());
        let exchange = Box::new(Forgetful(Alone::new(settings.accumulate)));
        let mut host = Host::new(&settings, &parameters(), state.clone(), &Device::flex(), exchange);
        let error = host.step(1, &Cubic).unwrap_err().to_string();
        assert!(error.contains("of 1 chunks") && error.contains("the 4 chunks"), "{error}");
        assert_eq!(*host.state().unwrap(), state);
    }
}
