//! All requests under way, and the sequences that they have in the generator.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use submask::Session;
use submask::model::Generator;
use submask::sampler::{Event, FinishedSequence, Observer, SampleReport};

use super::Job;
use super::active::Active;
use crate::sampling::refusal;

#[derive(Default)]
pub(super) struct Board<'s> {
    /// By their numbers, which are given in the order of arrival.
    requests: BTreeMap<u64, Active<'s>>,
    arrived: u64,
    /// The request of every sequence in the generator.
    owners: HashMap<usize, u64>,
    /// The request that had a sequence admitted last.
    turn: u64,
}

impl<'s> Board<'s> {
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Takes a job up. Returns whether it is under way.
    pub fn begin(&mut self, job: Job, session: &'s Session) -> bool {
        let Some(active) = Active::begin(job, session) else { return false };
        self.arrived += 1;
        self.requests.insert(self.arrived, active);
        true
    }

    /// Removes requests that are at their end, with what they have in the generator. Returns how many, and what those sequences cost
    /// that are taken out.
    pub fn sweep(&mut self, generator: &mut Generator<'s>, now: Instant) -> (usize, SampleReport) {
        let mut costs = Vec::new();
        for active in self.requests.values_mut() {
            for sequence in active.stopped() {
                let cost = generator.cancel(sequence).unwrap_or_default();
                active.left(sequence, &cost);
                costs.push(cost);
                self.owners.remove(&sequence);
            }
        }
        let ended: Vec<Active> =
            self.requests.extract_if(.., |_, active| active.ends(now)).map(|(_, active)| active).collect();
        for sequence in ended.iter().flat_map(Active::sequences) {
            costs.extend(generator.cancel(sequence));
            self.owners.remove(&sequence);
        }
        (ended.len(), costs.iter().sum())
    }

    /// Fills the generator: one sequence of every request that has none there, then in turn while there is room for more.
    pub fn admit(&mut self, generator: &mut Generator<'s>, most: usize) {
        let idle: Vec<u64> =
            self.waiting().filter(|(_, active)| active.is_idle()).map(|(id, _)| id).collect();
        for id in idle {
            self.admit_one(id, generator);
        }
        while generator.len() < most {
            let Some(next) = self.next_in_turn() else { break };
            self.admit_one(next, generator);
        }
    }

    /// The request whose turn it is: the first after that of the last turn, or the first of all.
    fn next_in_turn(&self) -> Option<u64> {
        let mut ids = self.waiting().map(|(id, _)| id);
        let first = ids.next()?;
        if first > self.turn { Some(first) } else { ids.find(|id| *id > self.turn).or(Some(first)) }
    }

    /// Requests with samples that are not in the generator yet.
    fn waiting(&self) -> impl Iterator<Item = (u64, &Active<'s>)> {
        self.requests
            .iter()
            .map(|(id, active)| (*id, active))
            .filter(|(_, active)| active.waiting().is_some())
    }

    /// Admits the next sample of a request.
    fn admit_one(&mut self, id: u64, generator: &mut Generator<'s>) {
        self.turn = id;
        let Some(active) = self.requests.get_mut(&id) else { return };
        let added = active.waiting().map(|(part, place)| generator.add(part, place));
        match added {
            Some(Ok(sequence)) => {
                active.admit(sequence);
                self.owners.insert(sequence, id);
            }
            Some(Err(error)) => active.give_up(refusal(error)),
            None => {}
        }
    }

    /// A sequence is complete.
    pub fn finished(&mut self, finished: FinishedSequence) {
        let owner = self.owners.remove(&finished.sequence);
        if let Some(active) = owner.and_then(|id| self.requests.get_mut(&id)) {
            active.finished(finished);
        }
    }

    fn owner(&mut self, sequence: usize) -> Option<&mut Active<'s>> {
        self.requests.get_mut(self.owners.get(&sequence)?)
    }

    /// Removes all requests.
    pub fn take_all(&mut self) -> Vec<Active<'s>> {
        self.owners.clear();
        std::mem::take(&mut self.requests).into_values().collect()
    }
}

/// What happens to a sequence is told to its request.
impl Observer for Board<'_> {
    fn wants_digits(&self, sequence: usize) -> bool {
        let owner = self.owners.get(&sequence).and_then(|id| self.requests.get(id));
        owner.is_some_and(Active::wants_digits)
    }

    fn notify(&mut self, event: &Event) -> submask::Result<()> {
        if let Event::Started { sequence, .. } | Event::Revealed { sequence, .. } = *event
            && let Some(active) = self.owner(sequence)
        {
            active.notify(sequence, event);
        }
        Ok(())
    }
}
