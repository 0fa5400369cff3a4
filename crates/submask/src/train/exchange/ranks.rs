//! The processes of a run, as its training loop sees them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::alone::Alone;
use super::chain::Chain;
use super::plan::Plan;
use super::traffic::{Sent, Traffic};
use super::transport::Transport;
use super::worker::{Job, work};
use super::{Collected, Exchange};
use crate::shard::{Peers, Shard};
use crate::train::optimizer::GradientRange;
use crate::{Error, Result};

/// The processes, *ranks*, that make a run together, of which this is one. Clones are the same rank.
///
/// A run of one process is [`Ranks::alone`]. Several are connected by a
/// [`Transport`]; the crate `submask-mpi` has that of MPI.
#[derive(Clone, Debug)]
pub struct Ranks {
    rank: usize,
    count: usize,
    /// To the thread that talks to the others; none where there are no others.
    jobs: Option<Sender<Job>>,
}

impl Ranks {
    /// One process, which does everything.
    pub fn alone() -> Self {
        Self { rank: 0, count: 1, jobs: None }
    }

    /// Connects to the other ranks by what `open` opens in the thread that talks to them from then on. `lost` is told where a
    /// rank is not heard of any more, in that thread; all ranks then end with the exit code that it gives.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn connect<T: Transport>(
        open: impl FnOnce() -> Result<T> + Send + 'static,
        mut lost: impl FnMut(&Error) -> i32 + Send + 'static,
    ) -> Result<Self> {
        let (jobs, todo) = channel();
        let (say, hear) = channel();
        let thread = std::thread::Builder::new().name("submask ranks".to_owned());
        let talk = move || match open() {
            Ok(transport) => {
                let _ = say.send(Ok((transport.rank(), transport.ranks())));
                work(transport, &todo, &mut lost);
            }
            Err(error) => {
                let _ = say.send(Err(error));
            }
        };
        thread.spawn(talk).map_err(Error::internal("a thread can be started"))?;
        let (rank, count) = hear.recv().map_err(gone)??;
        Ok(Self { rank, count, jobs: Some(jobs) })
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether this is rank 0, which prepares data and writes files.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Waits until all ranks are here.
    ///
    /// # Errors
    /// [`Error::Lost`] where the connection is.
    pub fn barrier(&self) -> Result<()> {
        self.strings(Vec::new(), Sent::Other).map(|_| ())
    }

    /// Whether it is so on any rank. All ranks get the same answer.
    ///
    /// # Errors
    /// As [`Self::barrier`].
    pub fn any(&self, here: bool) -> Result<bool> {
        Ok(self.strings(vec![u8::from(here)], Sent::Numbers)?.iter().any(|there| there == &[1]))
    }

    /// What all ranks sent each other so far, one after the other.
    ///
    /// # Errors
    /// As [`Self::barrier`].
    pub fn traffic(&self) -> Result<Vec<Traffic>> {
        let Some(jobs) = &self.jobs else { return Ok(vec![Traffic::default()]) };
        let own = ask(jobs, Job::Traffic)?;
        let own = serde_json::to_vec(&own).map_err(Error::internal("numbers can be written"))?;
        let all = self.strings(own, Sent::Other)?;
        let read =
            |own: &Vec<u8>| serde_json::from_slice(own).map_err(Error::internal("numbers can be read"));
        all.iter().map(read).collect()
    }

    /// The exchange of gradients of weights of `lens` elements, in steps of `slots` micro-batches.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `train.accumulate` where there are more ranks than slots.
    pub fn exchange(&self, lens: &[usize], slots: usize) -> Result<Box<dyn Exchange>> {
        if self.count > slots {
            let allowed = format!("at least {}, one micro-batch for each of the ranks", self.count);
            return Err(Error::invalid("train.accumulate", slots, allowed));
        }
        let Some(jobs) = self.jobs.clone().filter(|_| self.count > 1) else {
            return Ok(Box::new(Alone::new(slots)));
        };
        let plan = Arc::new(Plan::new(lens, self.count));
        let ranges = plan.ranges(self.rank);
        let chain = Chain::new(plan.clone(), self.shard().range(slots), 1.0 / slots as f32);
        jobs.send(Job::Begin(Box::new(chain))).map_err(gone)?;
        Ok(Box::new(Member { ranks: self.clone(), jobs, plan, ranges }))
    }

    /// The numbers `own` of all ranks, counted as numbers of a step.
    ///
    /// # Errors
    /// As [`Self::barrier`].
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn bytes(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        self.strings(own, Sent::Numbers)
    }

    /// Counts bytes of sums that went from device to device.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn count_sums(&self, bytes: u64) -> Result<()> {
        self.jobs.as_ref().map_or(Ok(()), |jobs| jobs.send(Job::Sent(bytes)).map_err(gone))
    }

    /// Takes leave of the other ranks, which do the same, and waits for them.
    ///
    /// # Errors
    /// As [`Self::barrier`].
    pub fn close(&self) -> Result<()> {
        self.jobs.as_ref().map_or(Ok(()), |jobs| ask(jobs, Job::Close))
    }

    /// Ends all ranks, whatever they do, with an exit code; does not return where there are others.
    pub fn abort(&self, code: u8) {
        if let Some(jobs) = &self.jobs
            && jobs.send(Job::Abort(code.into())).is_ok()
        {
            loop {
                std::thread::park();
            }
        }
    }

    fn strings(&self, own: Vec<u8>, sent: Sent) -> Result<Vec<Vec<u8>>> {
        match &self.jobs {
            None => Ok(vec![own]),
            Some(jobs) => ask(jobs, |reply| Job::All(own, sent, reply)),
        }
    }
}

impl Peers for Ranks {
    fn shard(&self) -> Shard {
        Shard::all(self.count as u64).nth(self.rank).unwrap_or(Shard::WHOLE)
    }

    fn all(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        self.strings(own, Sent::Other)
    }
}

/// What the thread answers.
fn ask<R>(jobs: &Sender<Job>, job: impl FnOnce(Sender<R>) -> Job) -> Result<R> {
    let (reply, answer) = channel();
    jobs.send(job(reply)).map_err(gone)?;
    answer.recv().map_err(gone)
}

fn gone<E>(_: E) -> Error {
    Error::Lost { what: "the connection to the other ranks".to_owned() }
}

/// A rank's side of the exchange of gradients.
struct Member {
    ranks: Ranks,
    jobs: Sender<Job>,
    plan: Arc<Plan>,
    /// The own elements of every weight.
    ranges: Vec<Range<usize>>,
}

impl Member {
    /// The own pieces of `values`, which begin at `starts`.
    fn packed(&self, values: &[impl AsRef<[f32]>], starts: &[Range<usize>]) -> Vec<Vec<f32>> {
        let own = &self.plan.pieces()[self.plan.owned(self.ranks.rank)];
        own.iter().map(|piece| piece.packed(values, starts)).collect()
    }

    /// Puts pieces, as they come, where they belong: all that the others own.
    fn unpack(&self, pieces: &Receiver<(usize, Vec<f32>)>, values: &mut [Vec<f32>]) -> Result<()> {
        let owned = self.plan.owned(self.ranks.rank);
        for _ in 0..self.plan.pieces().len() - owned.len() {
            let (piece, packed) = pieces.recv().map_err(gone)?;
            self.plan.pieces()[piece].unpack(&packed, values, &[]);
        }
        Ok(())
    }

    fn gather_as(&self, values: &mut [Vec<f32>], sent: Sent) -> Result<()> {
        let (reply, pieces) = channel();
        self.jobs.send(Job::Gather(self.packed(values, &[]), sent, reply)).map_err(gone)?;
        self.unpack(&pieces, values)
    }
}

impl Exchange for Member {
    fn own_slots(&self, slots: usize) -> Range<usize> {
        self.ranks.shard().range(slots)
    }

    fn own_ranges(&self, _lens: &[usize]) -> Vec<Range<usize>> {
        self.ranges.clone()
    }

    fn add(&mut self, slot: usize, gradients: Vec<Vec<f32>>) -> Result<()> {
        self.jobs.send(Job::Slot(slot, gradients)).map_err(gone)
    }

    fn reduce(&mut self) -> Result<Vec<GradientRange>> {
        ask(&self.jobs, Job::Sums)
    }

    fn concat(&mut self, own: Vec<f64>) -> Result<Vec<f64>> {
        let own = own.iter().flat_map(|number| number.to_le_bytes()).collect();
        let all = self.ranks.strings(own, Sent::Numbers)?;
        let numbers = all.iter().flat_map(|own| own.as_chunks::<8>().0);
        Ok(numbers.map(|bytes| f64::from_le_bytes(*bytes)).collect())
    }

    fn gather(&mut self, values: &mut [Vec<f32>]) -> Result<()> {
        self.gather_as(values, Sent::Weights)
    }

    fn gather_state(&mut self, values: &mut [Vec<f32>]) -> Result<()> {
        self.gather_as(values, Sent::Other)
    }

    fn collect(&mut self, values: Collected) -> Result<()> {
        let (reply, pieces) = channel();
        match values {
            Collected::Into(whole) => {
                self.jobs.send(Job::Collect(Vec::new(), reply)).map_err(gone)?;
                self.unpack(&pieces, whole)
            }
            Collected::From(own) => {
                self.jobs.send(Job::Collect(self.packed(own, &self.ranges), reply)).map_err(gone)
            }
        }
    }

    fn is_first(&self) -> bool {
        self.ranks.is_first()
    }
}

#[cfg(test)]
pub(in crate::train) mod tests {
    use super::super::transport::threads::{Table, Threads};
    use super::*;

    /// What `work` makes on each of so many ranks, which are threads.
    pub(in crate::train) fn on_threads<R: Send>(count: usize, work: impl Fn(Ranks) -> R + Sync) -> Vec<R> {
        let table = Table::new(count);
        std::thread::scope(|scope| {
            let rank = |rank| {
                let table = table.clone();
                let work = &work;
                scope.spawn(move || {
                    let open = move || Ok(Threads::new(rank, table));
                    let ranks = Ranks::connect(open, |error| panic!("{error}")).unwrap();
                    let made = work(ranks.clone());
                    ranks.close().unwrap();
                    made
                })
            };
            let ranks: Vec<_> = (0..count).map(rank).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn strings_of_all_ranks_come_in_their_order() {
        for count in 1..=9 {
            let of = |rank: usize| vec![rank as u8; rank % 4];
            let expected: Vec<Vec<u8>> = (0..count).map(of).collect();
            for all in on_threads(count, |ranks| ranks.all(of(ranks.rank())).unwrap()) {
                assert_eq!(all, expected);
            }
            let any = |of: usize| on_threads(count, move |ranks| ranks.any(ranks.rank() == of).unwrap());
            assert_eq!((any(count - 1), any(count)), (vec![true; count], vec![false; count]));
        }
    }

    #[test]
    fn more_ranks_than_slots_are_refused() {
        for refused in on_threads(3, |ranks| ranks.exchange(&[5], 2).err().map(|error| error.to_string())) {
            let refused = refused.unwrap();
            assert!(refused.contains("train.accumulate = 2") && refused.contains("at least 3"), "{refused}");
        }
    }
}
