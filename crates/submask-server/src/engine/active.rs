//! A request under way.

use std::collections::BTreeMap;

use submask::Session;
use submask::model::Prepared;
use submask::sampler::{Event, FinishedSequence, SampleReport};

use super::{Deadline, Job, Listener, Next};
use crate::error::ApiError;
use crate::sampling::refusal;

pub(super) struct Active<'s> {
    parts: Vec<Prepared<'s>>,
    /// The next sample: which part, which of its samples, and its number in the job.
    part: usize,
    place: usize,
    sample: usize,
    /// The samples in the generator, by their sequences there.
    sequences: BTreeMap<usize, usize>,
    /// Sequences in the generator whose samples are complete as they are.
    stopped: Vec<usize>,
    listener: Box<dyn Listener + 's>,
    deadline: Deadline,
    failure: Option<ApiError>,
}

impl<'s> Active<'s> {
    /// Takes a job up; `None` where it cannot be, and the client was told.
    pub fn begin(job: Job, session: &'s Session) -> Option<Self> {
        let mut listener = (job.listen)(session)?;
        let parts = job.requests.iter().map(|request| session.prepare(request)).collect();
        let parts: Vec<Prepared> = match parts {
            Ok(parts) => parts,
            Err(error) => {
                listener.fail(refusal(error));
                return None;
            }
        };
        let mut active = Self {
            parts,
            part: 0,
            place: 0,
            sample: 0,
            sequences: BTreeMap::new(),
            stopped: Vec::new(),
            listener,
            deadline: job.deadline,
            failure: None,
        };
        active.skip_empty_parts();
        Some(active)
    }

    fn skip_empty_parts(&mut self) {
        while self.parts.get(self.part).is_some_and(|part| self.place >= part.num()) {
            (self.part, self.place) = (self.part + 1, 0);
        }
    }

    /// The next sample that is not in the generator yet: its part, and its place there.
    pub fn waiting(&self) -> Option<(&Prepared<'s>, usize)> {
        let part = self.parts.get(self.part).filter(|_| self.failure.is_none());
        part.map(|part| (part, self.place))
    }

    /// The sample that waited is in the generator.
    pub fn admit(&mut self, sequence: usize) {
        self.sequences.insert(sequence, self.sample);
        (self.place, self.sample) = (self.place + 1, self.sample + 1);
        self.skip_empty_parts();
    }

    /// Whether none of its samples is in the generator.
    pub fn is_idle(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Whether all samples are complete.
    pub fn is_done(&self) -> bool {
        self.is_idle() && self.waiting().is_none()
    }

    /// What is in the generator.
    pub fn sequences(&self) -> impl Iterator<Item = usize> {
        self.sequences.keys().copied()
    }

    pub fn wants_digits(&self) -> bool {
        self.listener.wants_digits()
    }

    /// Notes what ends the request.
    pub fn give_up(&mut self, error: ApiError) {
        self.failure = Some(error);
    }

    /// Tells the listener what happened to a sequence.
    pub fn notify(&mut self, sequence: usize, event: &Event) {
        let Some(sample) = self.listening(sequence) else { return };
        match self.listener.notify(sample, event) {
            Ok(Next::Continue) => {}
            Ok(Next::Stop) => self.stopped.push(sequence),
            Err(error) => self.failure = Some(error),
        }
    }

    /// Tells the listener that a sequence is complete.
    pub fn finished(&mut self, finished: FinishedSequence) {
        let sequence = finished.sequence;
        if let Some(sample) = self.listening(sequence) {
            self.failure = self.listener.finished(sample, finished).err();
        } else if let Some(sample) = self.sequences.get(&sequence) {
            // It was stopped by the event that completed it.
            self.listener.left(*sample, &finished.report);
        }
        self.sequences.remove(&sequence);
    }

    /// The sample of a sequence of which the listener still wants to hear.
    fn listening(&self, sequence: usize) -> Option<usize> {
        let is_wanted = self.failure.is_none() && !self.stopped.contains(&sequence);
        self.sequences.get(&sequence).copied().filter(|_| is_wanted)
    }

    /// Sequences to be taken out of the generator, whose samples are complete.
    pub fn stopped(&self) -> Vec<usize> {
        let in_generator = |sequence: &&usize| self.sequences.contains_key(sequence);
        self.stopped.iter().filter(in_generator).copied().collect()
    }

    /// A sequence that was stopped is out of the generator.
    pub fn left(&mut self, sequence: usize, cost: &SampleReport) {
        if let Some(sample) = self.sequences.remove(&sequence) {
            self.listener.left(sample, cost);
        }
        self.stopped.retain(|stopped| *stopped != sequence);
    }

    /// Whether the request is at its end, at this time; the client is told.
    pub fn ends(&mut self, now: std::time::Instant) -> bool {
        if let Some(error) = self.failure.take() {
            self.listener.fail(error);
        } else if self.listener.is_gone() {
        } else if self.is_done() {
            self.listener.done();
        } else if let Err(error) = self.deadline.check(now) {
            self.listener.fail(error);
        } else {
            return false;
        }
        true
    }

    /// Ends the request.
    pub fn fail(mut self, error: ApiError) {
        self.listener.fail(error);
    }
}
