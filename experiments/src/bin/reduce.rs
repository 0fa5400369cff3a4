//! How long gradients take to be added up by several ranks: in the order of slots, as runs do, and by MPI's own all-reduce,
//! which adds in an order of its own.
//!
//! ```sh
//! cargo build --release --locked -p submask-experiments --features mpi --bin reduce
//! mpirun -n 2 target/release/reduce ordered 25000000 5
//! mpirun -n 2 target/release/reduce all-reduce 25000000 5
//! ```
//!
//! The numbers are elements and repetitions. Every rank has one slot. Both leave all sums on all ranks; the median is printed.

use std::time::{Duration, Instant};

use mpi::collective::SystemOperation;
use mpi::topology::Communicator;
use mpi::traits::CommunicatorCollectives;
use submask_mpi::join;

/// Elements of a weight.
const WEIGHT: usize = 1 << 20;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [way, elements, repetitions] = arguments.as_slice() else {
        return Err("reduce ordered|all-reduce ELEMENTS REPETITIONS".into());
    };
    let (elements, repetitions) = (elements.parse()?, repetitions.parse()?);
    match way.as_str() {
        "ordered" => ordered(elements, repetitions),
        "all-reduce" => all_reduce(elements, repetitions),
        other => Err(format!("{other}: ordered or all-reduce").into()),
    }
}

fn ordered(elements: usize, repetitions: usize) -> Outcome<()> {
    let ranks = join(Duration::from_secs(60), None, |error| {
        eprintln!("{error}");
        1
    })?;
    let lens: Vec<usize> = (0..elements).step_by(WEIGHT).map(|start| WEIGHT.min(elements - start)).collect();
    let mut exchange = ranks.exchange(&lens, ranks.count())?;
    let mut sums: Vec<Vec<f32>> = lens.iter().map(|len| vec![0.0; *len]).collect();
    let mut times = Vec::new();
    for _ in 0..repetitions {
        let gradients: Vec<Vec<f32>> = lens.iter().map(|len| vec![1.0; *len]).collect();
        ranks.barrier()?;
        let started = Instant::now();
        exchange.add(ranks.rank(), gradients)?;
        for range in exchange.reduce()? {
            let end = range.start + range.values.len();
            sums[range.parameter][range.start..end].copy_from_slice(&range.values);
        }
        exchange.gather(&mut sums)?;
        times.push(started.elapsed());
        if !sums.iter().flatten().all(|sum| (sum - 1.0).abs() < 1e-3) {
            return Err("not the sums".into());
        }
    }
    report("ordered", ranks.rank(), times);
    Ok(ranks.close()?)
}

fn all_reduce(elements: usize, repetitions: usize) -> Outcome<()> {
    let universe = mpi::initialize().ok_or("MPI was started before")?;
    let world = universe.world();
    let mut sums = vec![0.0_f32; elements];
    let mut times = Vec::new();
    for _ in 0..repetitions {
        let gradients = vec![1.0_f32 / world.size() as f32; elements];
        world.barrier();
        let started = Instant::now();
        world.all_reduce_into(&gradients[..], &mut sums[..], SystemOperation::sum());
        times.push(started.elapsed());
    }
    report("all-reduce", usize::try_from(world.rank())?, times);
    Ok(())
}

fn report(way: &str, rank: usize, mut times: Vec<Duration>) {
    times.sort();
    if rank == 0 {
        println!("{way}: {:.4} s", times[times.len() / 2].as_secs_f64());
    }
}
