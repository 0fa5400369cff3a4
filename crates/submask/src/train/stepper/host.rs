//! Steps whose state is in memory, alone or with other processes.

use burn::tensor::Device;

use super::{StepReport, Stepper, finite};
use crate::backbone::weights::{Parameter, Weights};
use crate::train::exchange::Exchange;
use crate::train::loss::gradients;
use crate::train::optimizer::{Average, CHUNK, GradientRange, StepSize, chunk_squares, clip_factor, norm};
use crate::train::settings::TrainSettings;
use crate::train::slot::{Slot, SlotLoss};
use crate::train::state::TrainState;
use crate::{Error, Result};

/// Weights, moments and averages in memory.
pub struct Host {
    settings: TrainSettings,
    parameters: Vec<Parameter>,
    state: TrainState,
    /// With gradients.
    device: Device,
    exchange: Box<dyn Exchange>,
    since_report: StepReport,
}

impl Host {
    /// Continues from `state`, whose gradients are computed on `device` and exchanged by `exchange`.
    pub fn new(
        settings: &TrainSettings,
        parameters: &[Parameter],
        state: TrainState,
        device: &Device,
        exchange: Box<dyn Exchange>,
    ) -> Self {
        Self {
            settings: settings.clone(),
            parameters: parameters.to_vec(),
            state,
            device: device.clone().autodiff(),
            exchange,
            since_report: StepReport::default(),
        }
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
            return Err(Error::invalid("gradients", given, format!("of the {chunks} chunks of all weights")));
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
        let TrainState { raw, average, optimizer } = &mut self.state;
        let average = Average { values: average, decay: self.settings.ema_decay };
        optimizer.step(raw, &gradients, size, Some(average))?;
        self.exchange.gather(raw)?;
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
        self.exchange.gather(&mut self.state.average)?;
        Ok(&self.state.average)
    }

    fn state(&mut self) -> Result<&TrainState> {
        let TrainState { average, optimizer, .. } = &mut self.state;
        for values in [average, &mut optimizer.first, &mut optimizer.second] {
            self.exchange.gather(values)?;
        }
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
    use crate::train::exchange::Alone;
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
            let [a, b] = ["a", "b"].map(|name| weights.get(Handle::<1>::find(&parameters(), name).unwrap()));
            let draws = Draws::new(slot.step << 8 | slot.index as u64, Purpose::Init);
            let len = a.dims()[0];
            let slope = (0..len as u32).map(|i| draws.normal(0, i, 0) as f32).collect::<Vec<_>>();
            let slope = Tensor::<1>::from_data(TensorData::new(slope, [len]), &Device::flex().autodiff());
            let loss = (a.clone() * a.clone() * a * slope).sum() + b.square().sum();
            Ok((slot.index != 3).then_some(loss))
        }
    }

    fn parameters() -> [Parameter; 2] {
        [("a", 2 * CHUNK + 7), ("b", 3)].map(|(name, len)| Parameter::new(name, &[len], Init::Uniform(1.0)))
    }

    /// Three steps by the exchange: what they came to, the average, and the whole state.
    fn train(exchange: Box<dyn Exchange>) -> (StepReport, Vec<Vec<f32>>, TrainState) {
        let preset = include_str!("../../../../submask-cli/presets/dictionary.toml");
        let settings = toml::from_str::<RunSettings>(preset).unwrap().train;
        let settings = TrainSettings { accumulate: SLOTS, ema_decay: 0.5, ..settings };
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
