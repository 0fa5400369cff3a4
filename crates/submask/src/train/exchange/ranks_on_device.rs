//! Several processes with a GPU each.
//!
//! The running sum goes from device to device in pieces: rank 0 begins it with its own slots, every rank adds its slots, scaled,
//! in their order, and passes it on; the last rank has it whole, and it goes around to all others. Every device then makes
//! the same update. Hosts only tell each other which weights have gradients at all.

use std::ops::Range;

use burn::tensor::Tensor;

use super::alone_on_device::{AloneOnDevice, add_loss};
use super::{DeviceExchange, DeviceSums, Ranks};
use crate::ops::{DeviceGradients, Kernels};
use crate::shard::Peers;
use crate::{Error, Result};

/// Carries tensors from device to device. What one side sends to another, that one receives, in the order of the calls. Neither
/// call waits for the device.
pub(super) trait DeviceLink: Send {
    /// Sends tensors to a rank.
    ///
    /// # Errors
    /// Of the connection.
    fn send(&mut self, to: usize, values: &[Tensor<1>]) -> Result<()>;

    /// Tensors of `lens` elements from a rank.
    ///
    /// # Errors
    /// Of the connection.
    fn receive(&mut self, from: usize, lens: &[usize]) -> Result<Vec<Tensor<1>>>;

    /// What went wrong on the device, as far as that is known.
    fn failure(&self) -> Option<Error> {
        None
    }
}

/// Elements of a piece, if there are so many: 4 MiB. All ranks are busy, each with another piece.
const PIECE: usize = 1 << 20;

/// The side of one rank.
///
/// What is added up are *entries*: the loss, then the gradients by the weights.
pub(super) struct RanksOnDevice<L> {
    ranks: Ranks,
    link: L,
    kernels: Kernels,
    /// Micro-batches of a step.
    slots: usize,
    /// Elements of the entries.
    lens: Vec<usize>,
    /// Consecutive entries that travel together; the loss alone.
    pieces: Vec<Range<usize>>,
    /// Sums over the slots of rank 0, before which nothing stands.
    first: AloneOnDevice,
    /// Entries of the slots of another rank that cost anything, in their order.
    held: Vec<DeviceGradients>,
}

impl<L: DeviceLink> RanksOnDevice<L> {
    /// For weights of `lens` elements, in steps of `slots` micro-batches.
    pub fn new(ranks: Ranks, link: L, kernels: Kernels, lens: &[usize], slots: usize) -> Self {
        let lens: Vec<usize> = std::iter::once(1).chain(lens.iter().copied()).collect();
        Self {
            ranks,
            link,
            kernels,
            slots,
            pieces: pieces(&lens),
            lens,
            first: AloneOnDevice::new(slots, kernels),
            held: Vec::new(),
        }
    }

    /// The entries of a piece that are `there`, from a rank.
    fn receive(&mut self, from: usize, piece: Range<usize>, there: &[bool]) -> Result<DeviceGradients> {
        let lens: Vec<usize> =
            piece.clone().filter(|&entry| there[entry]).map(|entry| self.lens[entry]).collect();
        let come = if lens.is_empty() { Vec::new() } else { self.link.receive(from, &lens)? };
        let mut come = come.into_iter();
        Ok(piece.map(|entry| there[entry].then(|| come.next()).flatten()).collect())
    }

    /// Sends the entries of a piece that there are.
    fn send(&mut self, to: usize, entries: &DeviceGradients) -> Result<()> {
        let values: Vec<Tensor<1>> = entries.iter().flatten().cloned().collect();
        if values.is_empty() {
            return Ok(());
        }
        let elements: usize = values.iter().map(|values| values.dims()[0]).sum();
        self.ranks.count_sums(4 * elements as u64)?;
        self.link.send(to, &values)
    }

    /// Adds entries of a slot to the sums of a piece.
    fn add_slot(
        &self,
        piece: &Range<usize>,
        sums: DeviceGradients,
        slot: DeviceGradients,
    ) -> DeviceGradients {
        let share = 1.0 / self.slots as f32;
        if piece.start > 0 {
            return self.kernels.add_gradients(Some(sums), slot, share);
        }
        let add = |(sum, loss): (Option<Tensor<1>>, Option<Tensor<1>>)| match loss {
            Some(loss) => Some(add_loss(sum, loss, share)),
            None => sum,
        };
        sums.into_iter().zip(slot).map(add).collect()
    }

    /// Continues the sums of the ranks before, which have the entries `before`, and passes them on. They stay on the last rank
    /// only; the others get nothing here.
    fn pass_on(&mut self, before: &[bool]) -> Result<DeviceGradients> {
        let (rank, last) = (self.ranks.rank(), self.ranks.count() - 1);
        let own_sums = self.first.reduce()?.map(into_entries);
        let mut held = std::mem::take(&mut self.held);
        let mut all = Vec::new();
        for piece in self.pieces.clone() {
            let mut sums = match (&own_sums, rank) {
                (Some(sums), _) => sums[piece.clone()].to_vec(),
                (None, 0) => vec![None; piece.len()],
                (None, _) => self.receive(rank - 1, piece.clone(), before)?,
            };
            for slot in &mut held {
                let slot = slot[piece.clone()].iter_mut().map(Option::take).collect();
                sums = self.add_slot(&piece, sums, slot);
            }
            match rank < last {
                true => self.send(rank + 1, &sums)?,
                false => all.extend(sums),
            }
        }
        Ok(all)
    }

    /// The sums, from the last rank to rank 0, from there to rank 1, and so on.
    fn pass_around(&mut self, sums: DeviceGradients, there: &[bool]) -> Result<DeviceGradients> {
        let (rank, count) = (self.ranks.rank(), self.ranks.count());
        let (last, previous, next) = (count - 1, (rank + count - 1) % count, (rank + 1) % count);
        let mut all = Vec::new();
        for piece in self.pieces.clone() {
            let sums = match rank == last {
                true => sums[piece].to_vec(),
                false => self.receive(previous, piece, there)?,
            };
            if next != last {
                self.send(next, &sums)?;
            }
            all.extend(sums);
        }
        Ok(all)
    }
}

impl<L: DeviceLink> DeviceExchange for RanksOnDevice<L> {
    fn failure(&self) -> Option<Error> {
        self.link.failure()
    }

    fn own_slots(&self, slots: usize) -> Range<usize> {
        self.ranks.shard().range(slots)
    }

    fn add(&mut self, slot: usize, own: Option<DeviceSums>) -> Result<()> {
        if self.ranks.is_first() {
            return self.first.add(slot, own);
        }
        if slot == self.own_slots(self.slots).start {
            self.held.clear();
        }
        // They must not be added up before what the ranks before have added.
        self.held.extend(own.map(into_entries));
        Ok(())
    }

    fn reduce(&mut self) -> Result<Option<DeviceSums>> {
        let own = self.first.sums().into_iter().map(into_entries).chain(self.held.iter().cloned());
        let mut there = vec![0; self.lens.len()];
        for entries in own {
            there.iter_mut().zip(&entries).for_each(|(there, entry)| *there |= u8::from(entry.is_some()));
        }
        let there = self.ranks.bytes(there)?;
        let among = |ranks: &[Vec<u8>]| -> Vec<bool> {
            (0..self.lens.len()).map(|entry| ranks.iter().any(|there| there[entry] == 1)).collect()
        };
        let (before, all) = (among(&there[..self.ranks.rank()]), among(&there));
        let sums = self.pass_on(&before)?;
        let mut entries = self.pass_around(sums, &all)?.into_iter();
        let loss = entries.next().flatten();
        Ok(loss.map(|loss| DeviceSums { loss, gradients: entries.collect() }))
    }
}

fn into_entries(sums: DeviceSums) -> DeviceGradients {
    std::iter::once(Some(sums.loss)).chain(sums.gradients).collect()
}

/// The loss, and as many entries behind each other as make a piece.
fn pieces(lens: &[usize]) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let (mut start, mut elements) = (0, 0);
    for (entry, len) in lens.iter().enumerate() {
        elements += len;
        if entry == 0 || elements >= PIECE || entry + 1 == lens.len() {
            pieces.push(start..entry + 1);
            (start, elements) = (entry + 1, 0);
        }
    }
    pieces
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use burn::tensor::{Device, TensorData};

    use super::super::Traffic;
    use super::super::ranks::tests::on_threads;
    use super::*;
    use crate::random::{Draws, Purpose};

    type Message = Vec<Tensor<1>>;

    /// Between threads of one process: by sender and receiver.
    struct Channels {
        to: Vec<Sender<Message>>,
        from: Vec<Receiver<Message>>,
    }

    fn channels(count: usize) -> Vec<Option<Channels>> {
        let mut all: Vec<Channels> =
            (0..count).map(|_| Channels { to: Vec::new(), from: Vec::new() }).collect();
        for sender in 0..count {
            for receiver in 0..count {
                let (to, from) = channel();
                all[sender].to.push(to);
                all[receiver].from.push(from);
            }
        }
        all.into_iter().map(Some).collect()
    }

    /// What `work` makes on so many ranks, which are threads, with the exchange of weights of `lens` elements.
    fn on_ranks<R: Send>(
        count: usize,
        lens: &[usize],
        work: impl Fn(&Ranks, &mut dyn DeviceExchange) -> R + Sync,
    ) -> Vec<R> {
        let links = Mutex::new(channels(count));
        on_threads(count, |ranks| {
            let link = links.lock().unwrap()[ranks.rank()].take().unwrap();
            let mut exchange = RanksOnDevice::new(ranks.clone(), link, Kernels::PLAIN, lens, SLOTS);
            work(&ranks, &mut exchange)
        })
    }

    impl DeviceLink for Channels {
        fn send(&mut self, to: usize, values: &[Tensor<1>]) -> Result<()> {
            self.to[to].send(values.to_vec()).unwrap();
            Ok(())
        }

        fn receive(&mut self, from: usize, lens: &[usize]) -> Result<Vec<Tensor<1>>> {
            let values = self.from[from].recv().unwrap();
            assert_eq!(values.iter().map(|values| values.dims()[0]).collect::<Vec<_>>(), lens);
            Ok(values)
        }
    }

    pub const SLOTS: usize = 5;

    /// Of several pieces, and a weight on which nothing depends.
    pub const LENS: [usize; 5] = [3, PIECE + 1, 7, 5, PIECE / 2];

    /// What a slot costs in a step, on a device: nothing in slot 2 of step 1, in the first three slots of step 2, and in
    /// step 3; the third weight has gradients in the last slot only.
    pub fn slot(step: u64, slot: usize, device: &Device) -> Option<DeviceSums> {
        let costs = match step {
            1 => slot != 2,
            2 => slot > 2,
            3 => false,
            _ => true,
        };
        let draws = Draws::new(step, Purpose::Init);
        let tensor = |weight: usize, len: usize| {
            let place = (SLOTS * weight + slot) as u64;
            let values = (0..len as u32).map(|element| draws.normal(place, element, 0) as f32).collect();
            Tensor::from_data(TensorData::new(values, [len]), device)
        };
        let has = |weight: usize| weight != 3 && (weight != 2 || slot + 1 == SLOTS);
        costs.then(|| DeviceSums {
            loss: tensor(9, 1),
            gradients: LENS
                .iter()
                .enumerate()
                .map(|(weight, &len)| has(weight).then(|| tensor(weight, len)))
                .collect(),
        })
    }

    /// The bits of sums, by entry.
    pub fn bits(sums: Option<DeviceSums>) -> Option<Vec<Option<Vec<u32>>>> {
        let of = |tensor: Tensor<1>| {
            tensor.into_data().try_into_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        sums.map(|sums| into_entries(sums).into_iter().map(|entry| entry.map(of)).collect())
    }

    /// Steps of an exchange.
    pub fn steps(exchange: &mut dyn DeviceExchange, device: &Device) -> Vec<Option<Vec<Option<Vec<u32>>>>> {
        let mut step = |step: u64| {
            for index in exchange.own_slots(SLOTS) {
                exchange.add(index, slot(step, index, device)).unwrap();
            }
            exchange.reduce().unwrap()
        };
        // Read at the end: reading has the device go on, which must go on without.
        let sums: Vec<_> = (0..5).map(&mut step).collect();
        sums.into_iter().map(bits).collect()
    }

    #[test]
    fn sums_are_those_of_one_process_to_the_last_bit() {
        let device = Device::flex();
        let alone = steps(&mut AloneOnDevice::new(SLOTS, Kernels::PLAIN), &device);
        assert!(alone[3].is_none() && alone[2].as_ref().unwrap()[4].is_none());
        for count in 2..=SLOTS {
            for (rank, made) in
                on_ranks(count, &LENS, |_, exchange| steps(exchange, &device)).iter().enumerate()
            {
                assert!(*made == alone, "rank {rank} of {count}");
            }
        }
    }

    #[test]
    fn what_is_sent_is_what_was_foretold() {
        let device = Device::flex();
        for count in 2..=4 {
            let traffic = on_ranks(count, &LENS[..2], |ranks, exchange| {
                ranks.any(false).unwrap();
                for index in exchange.own_slots(SLOTS) {
                    let DeviceSums { loss, mut gradients } = slot(0, index, &device).unwrap();
                    gradients.truncate(2);
                    exchange.add(index, Some(DeviceSums { loss, gradients })).unwrap();
                }
                exchange.reduce().unwrap();
                ranks.traffic().unwrap()
            });
            let all: Traffic = traffic[0].iter().copied().sum();
            assert_eq!(
                Traffic { other: 0, ..all },
                Traffic::of_step_on_devices(&LENS[..2], count),
                "{count} ranks"
            );
        }
    }
}
