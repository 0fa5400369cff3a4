//! The optimiser's step, over all weights in a few launches that find them in a table of addresses.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Tensor};
use cudarc::driver::result as driver;

use super::device::{
    Array, Launch, Source, array, contiguous, enqueue, ordinal, room, source, tensor, workspace,
};
use crate::ops::optimizer::{AdamWStep, DeviceGradients, DeviceWeights};

static SOURCE: Source = source!("optimizer.cu", "elements.cuh");

/// Elements of a block, and its threads, as the kernels have it; and threads of the one block that adds up their squares.
const CHUNK: usize = 4096;
const THREADS: usize = 256;
const NORM_THREADS: usize = 1024;

/// Numbers of 64 bits of a weight in the table: `Weight` of the kernels.
const ENTRY: usize = 7;

/// See [`crate::ops::Kernels::adamw`]. The tensors of `weights` are changed: nothing else may read them later.
pub fn adamw(
    weights: &mut DeviceWeights,
    gradients: DeviceGradients,
    step: AdamWStep,
    norms: Option<Tensor<1>>,
) -> Tensor<1> {
    let mut table = Table::default();
    let DeviceWeights { raw, first, second, average } = weights;
    let moments = first.iter().zip(second).zip(average);
    for ((weight, ((first, second), average)), gradient) in raw.iter().zip(moments).zip(gradients) {
        let [first, second, average] = [first, second, average].map(|tensor| Some(array(tensor)));
        table.add([Some(array(weight)), first, second, average], gradient);
    }
    let on = array(&raw[0]);
    let begins = norms.is_none();
    let norms = norms.map_or_else(|| room(&on, [3], DType::F32), |norms| array(&norms));
    let squares = workspace(&on, size_of::<f64>() * table.blocks);
    let memory = table.room(&on);
    let launch = |name| Launch::new(&SOURCE, name);
    let of_all = |name| launch(name).read(&memory).int(table.entries.len());
    let blocks = [table.blocks, 1, 1];
    let launches = vec![
        of_all("gradient_squares").write(&squares).sized(blocks, THREADS),
        launch("gradient_norm")
            .read(&squares)
            .int(table.blocks)
            .float(step.limit)
            .int(u32::from(begins))
            .write(&norms)
            .sized([1; 3], NORM_THREADS),
        of_all("adamw")
            .read(&norms)
            .float(step.beta_1)
            .float(step.beta_2)
            .float(step.epsilon)
            .float(step.correction_2)
            .float(step.rate)
            .float(step.keep)
            .float(step.share)
            .sized(blocks, THREADS),
    ];
    table.run(&memory, launches);
    tensor(norms)
}

/// See [`crate::ops::Kernels::add_gradients`].
pub fn add_gradients(
    sums: Option<DeviceGradients>,
    gradients: DeviceGradients,
    share: f32,
) -> DeviceGradients {
    let (mut fresh, mut adding) = (Table::default(), Table::default());
    let sums = sums.unwrap_or_else(|| gradients.iter().map(|_| None).collect());
    let sums = sums.into_iter().zip(gradients).map(|(sum, gradient)| {
        let Some(gradient) = gradient else { return sum };
        let table = if sum.is_some() { &mut adding } else { &mut fresh };
        let sum = sum.unwrap_or_else(|| {
            let gradient = array(&gradient);
            tensor(room(&gradient, gradient.shape(), DType::F32))
        });
        table.add([Some(array(&sum)), None, None, None], Some(gradient));
        Some(sum)
    });
    let sums: DeviceGradients = sums.collect();
    for (table, adds) in [(fresh, 0u32), (adding, 1)] {
        let Some(on) = table.entries.first().and_then(|entry| entry.gradient.as_ref()) else { continue };
        let memory = table.room(on);
        let launch = Launch::new(&SOURCE, "add_gradients").read(&memory).int(table.entries.len());
        let launch = launch.float(share).int(adds).sized([table.blocks, 1, 1], THREADS);
        table.run(&memory, vec![launch]);
    }
    sums
}

/// The weights that kernels find by the number of a block.
#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    /// Of all entries.
    blocks: usize,
}

struct Entry {
    /// The weight, its moments and its average, as far as they are changed.
    changed: [Option<Array>; 4],
    gradient: Option<Array>,
    length: usize,
    /// Of the entries before.
    blocks_before: usize,
}

impl Table {
    fn add(&mut self, changed: [Option<Array>; 4], gradient: Option<Tensor<1>>) {
        let length = changed.iter().flatten().map(|array| array.shape().num_elements()).max().unwrap_or(0);
        let gradient = gradient.map(|gradient| contiguous(array(&gradient)));
        let is_like = |array: &Array| array.dtype == DType::F32 && array.shape().num_elements() == length;
        assert!(
            changed.iter().flatten().chain(&gradient).all(is_like),
            "gradients are as long as their weights"
        );
        self.entries.push(Entry { changed, gradient, length, blocks_before: self.blocks });
        self.blocks += length.div_ceil(CHUNK);
    }

    /// Room for the table on a device.
    fn room(&self, on: &Array) -> Array {
        workspace(on, size_of::<[u64; ENTRY]>() * self.entries.len())
    }

    /// Writes the table to `memory`, and runs launches that read it, as one piece of work.
    fn run(self, memory: &Array, mut launches: Vec<Launch>) {
        let binding = |array: &Array| array.handle.clone().binding();
        let (mut buffers, mut written) = (vec![binding(memory)], vec![binding(memory)]);
        let mut places = Vec::new();
        for entry in &self.entries {
            let arrays = entry.changed.iter().chain([&entry.gradient]);
            let next = arrays.map(|array| {
                let array = array.as_ref()?;
                buffers.push(binding(array));
                Some(buffers.len() - 1)
            });
            places.push((next.collect::<Vec<_>>(), [entry.length, entry.blocks_before]));
            written.extend(entry.changed.iter().flatten().map(binding));
        }
        let mut parts = Vec::new();
        for launch in &mut launches {
            let first = buffers.len();
            let [own, changed] = launch.take_buffers();
            buffers.extend(own);
            written.extend(changed);
            parts.push(first..buffers.len());
        }
        let ordinal = ordinal(memory);
        enqueue(memory, buffers, written, move |pointers, stream| {
            let entry = |(places, sizes): &(Vec<Option<usize>>, [usize; 2])| {
                let addresses = places.iter().map(|place| place.map_or(0, |place| pointers[place]));
                addresses.chain(sizes.map(|size| size as u64)).collect::<Vec<_>>()
            };
            let table: Vec<u64> = places.iter().flat_map(entry).collect();
            // SAFETY: the memory is as long, and memory of the host that is not pinned is copied before the call returns.
            unsafe { driver::memcpy_htod_async(pointers[0], &table, stream) }
                .map_err(|error| format!("table of weights: {error}"))?;
            let mut launches = launches.iter().zip(parts);
            launches.try_for_each(|(launch, part)| launch.enqueue(&pointers[part], stream, ordinal))
        });
    }
}
