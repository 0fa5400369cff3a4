//! The thread that talks to the other processes while the others compute.
//!
//! One thread makes all calls of the transport. So sums move while the next slot is computed, and a process that computes
//! for long is still heard of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

use super::chain::{Chain, WINDOW};
use super::plan::Plan;
use super::traffic::{Sent, Traffic};
use super::transport::{Route, Transport};
use crate::train::optimizer::GradientRange;
use crate::{Error, Result};

/// What the thread is asked for.
pub(super) enum Job {
    /// What adds up gradients from now on.
    Begin(Box<Chain>),
    /// The gradients of an own slot.
    Slot(usize, Vec<Vec<f32>>),
    /// The own sums, when they are done.
    Sums(Sender<Vec<GradientRange>>),
    /// The bytes of all processes.
    All(Vec<u8>, Sent, Sender<Vec<Vec<u8>>>),
    /// The pieces of all owners, of which these are the own ones, to all processes.
    Gather(Vec<Vec<f32>>, Sent, Sender<(usize, Vec<f32>)>),
    /// The same to process 0 only.
    Collect(Vec<Vec<f32>>, Sender<(usize, Vec<f32>)>),
    /// Bytes of gradients' sums that went another way, from device to device.
    #[cfg(any(test, feature = "cuda"))]
    Sent(u64),
    /// What was sent so far.
    Traffic(Sender<Traffic>),
    /// The end of the connection.
    Close(Sender<()>),
    /// The end of all processes, with an exit code.
    Abort(i32),
}

/// How long the thread sleeps at first where nothing moves: up to 32 times as long later.
pub(super) const NAP: Duration = Duration::from_micros(30);
/// How often it looks again before it sleeps, and before it sleeps for longer.
const LOOKS: u32 = 100;
/// How long it waits for something to do before it says again that it is there.
const SLEEP: Duration = Duration::from_millis(5);

/// Does the jobs in their order until the end of the connection, or until there is nobody who could ask. With an error it ends,
/// after `lost` was told; whoever waits for it then finds it gone.
pub(super) fn work<T: Transport>(transport: T, jobs: &Receiver<Job>, lost: &mut dyn FnMut(&Error) -> i32) {
    let mut worker = Worker { transport, chain: None, traffic: Traffic::default(), looks: 0 };
    if let Err(error) = worker.run(jobs) {
        let code = lost(&error);
        worker.transport.abort(code);
    }
}

struct Worker<T> {
    transport: T,
    chain: Option<Box<Chain>>,
    traffic: Traffic,
    /// Since something moved.
    looks: u32,
}

impl<T: Transport> Worker<T> {
    fn run(&mut self, jobs: &Receiver<Job>) -> Result<()> {
        loop {
            let moved = self.progress()?;
            let job = match jobs.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {
                    if self.is_busy() {
                        self.rest(moved);
                        continue;
                    }
                    match jobs.recv_timeout(SLEEP) {
                        Ok(job) => job,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    }
                }
            };
            match job {
                Job::Begin(chain) => self.chain = Some(chain),
                Job::Slot(slot, gradients) => {
                    let Some(chain) = &mut self.chain else { return Err(no_plan()) };
                    chain.add(slot, gradients, &mut self.transport);
                }
                Job::Sums(reply) => reply_to(&reply, self.sums()?),
                Job::All(own, sent, reply) => reply_to(&reply, self.all(own, sent)?),
                Job::Gather(own, sent, reply) => self.gather(own, sent, &reply)?,
                Job::Collect(own, reply) => self.collect(own, &reply)?,
                #[cfg(any(test, feature = "cuda"))]
                Job::Sent(bytes) => self.traffic.sums += bytes,
                Job::Traffic(reply) => reply_to(&reply, self.traffic()),
                Job::Close(reply) => {
                    self.wait(|worker| Ok((worker.transport.unsent() == 0).then_some(())))?;
                    self.transport.close()?;
                    reply_to(&reply, ());
                    return Ok(());
                }
                Job::Abort(code) => self.transport.abort(code),
            }
        }
    }

    /// Whether messages may come or go at any moment.
    fn is_busy(&self) -> bool {
        self.chain.as_ref().is_some_and(|chain| chain.is_under_way()) || self.transport.unsent() > 0
    }

    fn traffic(&self) -> Traffic {
        let of_chain = self.chain.as_ref().map_or(0, |chain| chain.sent());
        Traffic { sums: self.traffic.sums + of_chain, ..self.traffic }
    }

    fn progress(&mut self) -> Result<bool> {
        let moved = self.transport.progress()?;
        let Some(chain) = &mut self.chain else { return Ok(moved) };
        Ok(chain.progress(&mut self.transport) || moved)
    }

    /// Lets others have the processor, the longer the more often nothing has moved.
    fn rest(&mut self, moved: bool) {
        self.looks = if moved { 0 } else { self.looks.saturating_add(1) };
        match self.looks {
            0 => {}
            1..LOOKS => std::thread::yield_now(),
            looks => std::thread::sleep(NAP * (1 << ((looks - LOOKS) / LOOKS).min(5))),
        }
    }

    /// Lets messages move on until `find` finds what is waited for.
    fn wait<R>(&mut self, mut find: impl FnMut(&mut Self) -> Result<Option<R>>) -> Result<R> {
        self.looks = 0;
        loop {
            let moved = self.progress()?;
            if let Some(found) = find(self)? {
                return Ok(found);
            }
            self.rest(moved);
        }
    }

    fn sums(&mut self) -> Result<Vec<GradientRange>> {
        let rank = self.transport.rank();
        self.wait(|worker| {
            let Some(chain) = &mut worker.chain else { return Err(no_plan()) };
            Ok(chain.is_done(rank).then(|| chain.sums(rank)))
        })
    }

    fn plan(&self) -> Result<Arc<Plan>> {
        self.chain.as_ref().map(|chain| chain.plan().clone()).ok_or_else(no_plan)
    }

    fn send(&mut self, to: usize, route: Route, values: Vec<f32>, sent: Sent) {
        *self.traffic.by(sent) += size_of_val(values.as_slice()) as u64;
        self.transport.send(to, route, values);
    }

    /// In round k process r sends the strings of processes r, r + 1, … that it has to process r − 2ᵏ, and gets those of
    /// r + 2ᵏ, …: all of them after ⌈log₂ n⌉ rounds, n − 1 strings sent by each process.
    fn all(&mut self, own: Vec<u8>, sent: Sent) -> Result<Vec<Vec<u8>>> {
        let (rank, ranks) = (self.transport.rank(), self.transport.ranks());
        let mut strings = vec![own];
        while strings.len() < ranks {
            let distance = strings.len();
            let count = distance.min(ranks - distance);
            let message = framed(&strings[..count]);
            *self.traffic.by(sent) += message.len() as u64;
            self.transport.send_bytes((rank + ranks - distance) % ranks, message);
            let from = (rank + distance) % ranks;
            let message = self.wait(|worker| Ok(worker.transport.take_bytes(from)))?;
            strings.extend(unframed(&message)?);
        }
        // The first is the own one.
        strings.rotate_right(rank);
        Ok(strings)
    }

    /// Every process passes the pieces of all processes but the next one's own on to the next one, its own first.
    fn gather(&mut self, own: Vec<Vec<f32>>, sent: Sent, reply: &Sender<(usize, Vec<f32>)>) -> Result<()> {
        let (rank, ranks) = (self.transport.rank(), self.transport.ranks());
        let plan = self.plan()?;
        let (next, previous) = ((rank + 1) % ranks, (rank + ranks - 1) % ranks);
        let (mut outgoing, mut expected) = (VecDeque::from(own), VecDeque::new());
        // As they come from the process before.
        let mut coming = (1..ranks).flat_map(|back| plan.owned((rank + ranks - back) % ranks));
        self.looks = 0;
        loop {
            while self.transport.unsent() < WINDOW
                && let Some(values) = outgoing.pop_front()
            {
                self.send(next, Route::Ring, values, sent);
            }
            while expected.len() < WINDOW
                && let Some(piece) = coming.next()
            {
                self.transport.expect(previous, Route::Ring, plan.pieces()[piece].len);
                expected.push_back(piece);
            }
            if expected.is_empty() && outgoing.is_empty() {
                return Ok(());
            }
            let moved = self.progress()?;
            let come = match expected.is_empty() {
                true => None,
                false => self.transport.take(previous, Route::Ring),
            };
            let Some((piece, values)) = expected.front().copied().zip(come) else {
                self.rest(moved);
                continue;
            };
            expected.pop_front();
            if plan.pieces()[piece].owner != next {
                outgoing.push_back(values.clone());
            }
            reply_to(reply, (piece, values));
            self.looks = 0;
        }
    }

    /// Process 0 takes the pieces of one owner after another.
    fn collect(&mut self, own: Vec<Vec<f32>>, reply: &Sender<(usize, Vec<f32>)>) -> Result<()> {
        let plan = self.plan()?;
        if self.transport.rank() > 0 {
            for values in own {
                self.send(0, Route::First, values, Sent::Other);
                self.wait(|worker| Ok((worker.transport.unsent() < WINDOW).then_some(())))?;
            }
            return Ok(());
        }
        for owner in 1..self.transport.ranks() {
            let pieces = plan.owned(owner);
            let mut expected = pieces.start;
            for piece in pieces.clone() {
                while expected < pieces.end.min(piece + WINDOW) {
                    self.transport.expect(owner, Route::First, plan.pieces()[expected].len);
                    expected += 1;
                }
                let values = self.wait(|worker| Ok(worker.transport.take(owner, Route::First)))?;
                reply_to(reply, (piece, values));
            }
        }
        Ok(())
    }
}

/// Nobody may wait any more: that is no matter of this thread's.
fn reply_to<R>(reply: &Sender<R>, value: R) {
    let _ = reply.send(value);
}

fn no_plan() -> Error {
    Error::Internal { what: "an exchange begins before it is used", found: "none has begun".to_owned() }
}

/// Strings one after the other, each behind its length.
fn framed(strings: &[Vec<u8>]) -> Vec<u8> {
    let frame = |string: &Vec<u8>| [&(string.len() as u64).to_le_bytes(), string.as_slice()].concat();
    strings.iter().flat_map(frame).collect()
}

fn unframed(mut message: &[u8]) -> Result<Vec<Vec<u8>>> {
    let broken = || Error::Internal {
        what: "messages between processes hold whole strings",
        found: "an end too early".to_owned(),
    };
    let mut strings = Vec::new();
    while !message.is_empty() {
        let (len, rest) = message.split_first_chunk::<8>().ok_or_else(broken)?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| broken())?;
        let (string, rest) = rest.split_at_checked(len).ok_or_else(broken)?;
        strings.push(string.to_vec());
        message = rest;
    }
    Ok(strings)
}
