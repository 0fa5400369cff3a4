//! Samples of a network of the user's own: all at once, or event by event.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use submask::Result;
use submask::predictive::Predictive;
use submask::sampler::{
    Event, FinishedSequence, Observer, Prompt, Recipe, Recorder, SampleReport, SequenceRequest, Stream,
    Unobserved, WithDigits,
};

use super::elements;
use super::network::{CallableNetwork, Called};
use super::predictive::TokenPredictive;
use super::settings::SamplingGiven;
use crate::ending::stop_at_end;
use crate::errors::exception;
use crate::owned_event::{OwnedEvent, report_dict, trajectory_parts};
use crate::work::{free, stream_in_use};

/// What is sampled.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct PromptsGiven<'py> {
    /// States y_t, one sequence after the other, or one that all sequences have; masks are the holes.
    states: PyReadonlyArray1<'py, u32>,
    /// Sequences.
    count: usize,
    /// Tokens of each.
    length: usize,
    labels: Option<Vec<usize>>,
    first_sequence: u64,
    batch: usize,
}

/// The same with the elements at hand.
struct Asked<'a> {
    states: &'a [u32],
    count: usize,
    length: usize,
    labels: Option<&'a [usize]>,
    first_sequence: u64,
    batch: usize,
}

impl PromptsGiven<'_> {
    fn asked(&self) -> PyResult<Asked<'_>> {
        Ok(Asked {
            states: elements(&self.states, "prompt")?,
            count: self.count,
            length: self.length,
            labels: self.labels.as_deref(),
            first_sequence: self.first_sequence,
            batch: self.batch,
        })
    }
}

impl Asked<'_> {
    /// A stream of all sequences.
    fn stream<'a>(
        &self,
        network: &'a Called,
        predictive: &'a Predictive,
        sampling: &SamplingGiven,
    ) -> Result<Stream<'a>> {
        let recipe =
            Arc::new(Recipe::new(predictive, &sampling.settings()?)?.ending_at(sampling.end_of_text));
        let mut stream = Stream::new(network, self.batch)?;
        let digits = self.length * predictive.codes().subtoken_len();
        let prompts = self.states.chunks_exact(digits).map(|state| Prompt::from_state(predictive, state));
        let prompts = prompts.collect::<Result<Vec<_>>>()?;
        for (s, prompt) in prompts.iter().cycle().take(self.count).enumerate() {
            let prompt = prompt.clone().with_label(self.labels.map(|labels| labels[s]));
            let number = self.first_sequence.wrapping_add(s as u64);
            stream.add(SequenceRequest { prompt, recipe: Arc::clone(&recipe), number })?;
        }
        Ok(stream)
    }
}

/// Samples: the tokens of every sequence, what all cost, and how each came about where that is wanted: the start [L·ℓ] and
/// `(step, time, digits [k, 2])` of every evaluation.
#[pyfunction]
pub fn sample<'py>(
    py: Python<'py>,
    network: &CallableNetwork,
    predictive: &TokenPredictive,
    prompts: PromptsGiven<'py>,
    sampling: SamplingGiven,
    trace: bool,
) -> PyResult<Bound<'py, PyTuple>> {
    let asked = prompts.asked()?;
    let (finished, trajectories) = network.called(py).run(py, |network| {
        let mut stream = asked.stream(network, &predictive.inner, &sampling)?;
        if !trace {
            return Ok((finished(&mut stream, &mut Unobserved)?, Vec::new()));
        }
        let mut unobserved = Unobserved;
        let mut recorder = Recorder::new(&mut unobserved);
        let finished = finished(&mut stream, &mut recorder)?;
        Ok((finished, recorder.into_trajectories()))
    })?;
    let report: SampleReport = finished.iter().map(|sequence| &sequence.report).sum();
    let tokens: Vec<_> = finished.into_iter().map(|sequence| sequence.tokens.into_pyarray(py)).collect();
    let trajectories: PyResult<Vec<_>> =
        trajectories.into_iter().map(|trajectory| trajectory_parts(py, trajectory)).collect();
    (tokens, report_dict(py, &report)?, trajectories?).into_pyobject(py)
}

/// All sequences of a stream, in their order.
fn finished(stream: &mut Stream, observer: &mut dyn Observer) -> Result<Vec<FinishedSequence>> {
    let mut finished = Vec::new();
    while !stream.is_empty() {
        finished.extend(stream.round(observer)?);
    }
    finished.sort_by_key(|sequence| sequence.sequence);
    Ok(finished)
}

/// The stream, and what it borrows. The first field is dropped first.
struct Running {
    stream: Stream<'static>,
    told: VecDeque<OwnedEvent>,
    _network: Arc<Called>,
    _predictive: Arc<Predictive>,
}

impl Running {
    fn new(
        network: Arc<Called>,
        predictive: Arc<Predictive>,
        asked: &Asked,
        sampling: &SamplingGiven,
    ) -> Result<Self> {
        // SAFETY: both are on the heap, are never written to, and live as long as their `Arc`s. These stand beside the
        // stream, which is dropped before them and gives out nothing that borrows.
        let (borrowed, tokens): (&'static Called, &'static Predictive) =
            unsafe { (&*Arc::as_ptr(&network), &*Arc::as_ptr(&predictive)) };
        let stream = asked.stream(borrowed, tokens, sampling)?;
        Ok(Self { stream, told: VecDeque::new(), _network: network, _predictive: predictive })
    }

    /// Goes on until there is an event, or nothing left.
    fn advance(&mut self) -> Result<()> {
        while !self.stream.is_empty() && self.told.is_empty() {
            let told = &mut self.told;
            self.stream.round(&mut WithDigits(|event: &Event| {
                told.extend(OwnedEvent::new(event, |_| Ok(None))?);
                Ok(())
            }))?;
        }
        Ok(())
    }
}

/// An exception as an iterator may raise it: `StopIteration` would say that there are no more events.
fn no_end_of_events(py: Python<'_>, raised: PyErr) -> PyErr {
    if !raised.is_instance_of::<PyStopIteration>(py) {
        return raised;
    }
    let error = PyRuntimeError::new_err("the network raised StopIteration");
    error.set_cause(py, Some(raised));
    error
}

/// Events of samples, for which the network is asked as they are taken.
#[pyclass(frozen, module = "submask._native")]
pub struct SampleStream {
    network: Arc<Called>,
    running: Mutex<Option<Running>>,
}

#[pymethods]
impl SampleStream {
    #[new]
    fn new(
        py: Python<'_>,
        network: &CallableNetwork,
        predictive: &TokenPredictive,
        prompts: PromptsGiven<'_>,
        sampling: SamplingGiven,
    ) -> PyResult<Self> {
        let network = Arc::new(network.called(py));
        let running =
            Running::new(Arc::clone(&network), Arc::clone(&predictive.inner), &prompts.asked()?, &sampling);
        let running = running.map_err(|error| exception(py, &error))?;
        Ok(Self { network, running: Mutex::new(Some(running)) })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        visit.call(&self.network.callable)
    }

    /// The next event; `None` after the last one, and once the stream is closed.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        stop_at_end(py);
        let mut running = free(&self.running).ok_or_else(|| stream_in_use(py))?;
        let Some(state) = running.as_mut() else { return Ok(None) };
        if state.told.is_empty() {
            let advanced =
                self.network.run(py, |_| state.advance()).map_err(|raised| no_end_of_events(py, raised));
            // The end of the interpreter closes streams: that is not their last event.
            stop_at_end(py);
            if self.network.is_ended() || advanced.is_err() {
                *running = None;
                return if self.network.is_ended() { Ok(None) } else { advanced.map(|()| None) };
            }
        }
        running.as_mut().and_then(|state| state.told.pop_front()).map(|told| told.parts(py)).transpose()
    }

    /// Ends the work: at once, or, where a call is under way, with its next evaluation.
    fn close(&self) {
        self.network.end();
        drop(free(&self.running).and_then(|mut running| running.take()));
    }
}
