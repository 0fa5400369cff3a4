//! A callable of Python as a network.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayDescrMethods, PyArrayMethods, PyReadonlyArray1,
    PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};
use submask::denoiser::{Denoiser, LogitRows, Spec, States};
use submask::{Error, Result};

use super::codes::Codes;
use super::elements;
use crate::ending::{attach, detached};
use crate::errors::{exception, internal, invalid};
use crate::work::{check_process, text};

/// A callable and what it takes and gives.
#[pyclass(frozen, module = "submask._native")]
pub struct CallableNetwork {
    callable: Py<PyAny>,
    spec: Spec,
}

#[pymethods]
impl CallableNetwork {
    #[new]
    fn new(
        callable: Py<PyAny>,
        codes: &Codes,
        shortest: usize,
        longest: usize,
        reads_time: bool,
        classes: Option<usize>,
    ) -> Self {
        let spec =
            Spec { seq_lens: shortest..=longest, reads_time, classes, ..Spec::new(&codes.inner, longest) };
        Self { callable, spec }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        visit.call(&self.callable)
    }

    /// Logits [P·C] of states [B·L·ℓ] at times [B], checked as those that samplers and likelihoods ask for.
    fn logits<'py>(
        &self,
        py: Python<'py>,
        y_t: PyReadonlyArray1<'py, u32>,
        t: PyReadonlyArray1<'py, f64>,
        positions: PyReadonlyArray1<'py, u32>,
        labels: Option<Vec<usize>>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let (y_t, t) = (elements(&y_t, "y_t")?, elements(&t, "t")?);
        let positions: Vec<usize> =
            elements(&positions, "positions")?.iter().map(|position| *position as usize).collect();
        let logits = self.called(py).run(py, |network| {
            let mut all = Vec::with_capacity(positions.len() * network.spec.vocab_size);
            let states = States { y_t, t, labels: labels.as_deref() };
            network.evaluate(&states, &positions, &mut |_, logits| {
                all.extend_from_slice(logits);
                check_rows(logits, network.spec.vocab_size)
            })?;
            Ok(all)
        })?;
        Ok(logits.into_pyarray(py))
    }
}

impl CallableNetwork {
    /// The network as a call or a stream of calls sees it.
    pub fn called(&self, py: Python<'_>) -> Called {
        Called {
            callable: self.callable.clone_ref(py),
            spec: self.spec.clone(),
            raised: Mutex::new(None),
            ended: AtomicBool::new(false),
        }
    }
}

/// A network for one call, or one stream: it keeps the exception that the callable raised, which is the one to raise.
///
/// The callable runs on the thread that called us, so that what threads of Python have of their own (`torch.no_grad()`,
/// context variables, the current device) holds for it, and Ctrl-C reaches it.
pub struct Called {
    pub callable: Py<PyAny>,
    spec: Spec,
    raised: Mutex<Option<PyErr>>,
    ended: AtomicBool,
}

impl Called {
    /// Does `work` with this network without the GIL, which evaluations take again while the callable runs.
    ///
    /// # Errors
    /// What the callable raised; else the library's error; `InternalError` after a panic; and as [`check_process`].
    pub fn run<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&Self) -> Result<T> + Send) -> PyResult<T> {
        check_process(py)?;
        match detached(py, || catch_unwind(AssertUnwindSafe(|| work(self)))) {
            Ok(done) => done.map_err(|error| self.take_raised().unwrap_or_else(|| exception(py, &error))),
            Err(panic) => Err(internal(py, &text(panic.as_ref()))),
        }
    }

    /// Ends the work with the next evaluation.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked for.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn take_raised(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep_raised(&self, raised: PyErr) -> Error {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(raised);
        Error::Interrupted
    }

    /// Calls the callable.
    fn ask(&self, py: Python<'_>, states: &States, positions: &[usize]) -> PyResult<Logits> {
        py.check_signals()?;
        let (batch, len) = (states.t.len(), self.spec.subtoken_len);
        let y_t = PyArray3::zeros(py, [batch, states.seq_len(len), len], false);
        fill(&y_t, states.y_t.iter().map(|digit| i64::from(*digit)))?;
        let t = PyArray1::from_slice(py, states.t);
        let asked = PyArray1::zeros(py, [positions.len()], false);
        fill(&asked, positions.iter().map(|position| *position as i64))?;
        let answer = match self.spec.classes {
            None => self.callable.call1(py, (y_t, t, asked))?,
            Some(none) => {
                let labels = PyArray1::zeros(py, [batch], false);
                let given = states.labels.map_or_else(|| vec![none; batch], <[usize]>::to_vec);
                fill(&labels, given.into_iter().map(|label| label as i64))?;
                self.callable.call1(py, (y_t, t, asked, labels))?
            }
        };
        Logits::new(answer.into_bound(py), [positions.len(), self.spec.vocab_size])
    }
}

/// Refuses logits that no distribution can have. Samplers and likelihoods find them when they predict.
///
/// # Errors
/// [`Error::NonFinite`] of a number that is no logit, and of positions at which no token can be.
fn check_rows(logits: &[f32], vocab_size: usize) -> Result<()> {
    let is_proper = |row: &[f32]| {
        let none_is_bad = row.iter().all(|logit| logit.is_finite() || *logit == f32::NEG_INFINITY);
        none_is_bad && row.iter().any(|logit| logit.is_finite())
    };
    match logits.chunks_exact(vocab_size).all(is_proper) {
        true => Ok(()),
        false => Err(Error::NonFinite {
            what: "logits",
            needed: "a finite number for at least one possible token, and neither NaN nor inf for any",
        }),
    }
}

/// Writes an array that was just made.
fn fill<'py, D: numpy::ndarray::Dimension>(
    array: &Bound<'py, numpy::PyArray<i64, D>>,
    values: impl Iterator<Item = i64>,
) -> PyResult<()> {
    // SAFETY: the array was made by the caller, and nobody else has it yet.
    let elements = unsafe { array.as_slice_mut() }?;
    elements.iter_mut().zip(values).for_each(|(element, value)| *element = value);
    Ok(())
}

impl Denoiser for Called {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn evaluate(&self, states: &States, positions: &[usize], rows: LogitRows) -> Result<()> {
        if self.is_ended() {
            return Err(Error::Interrupted);
        }
        if positions.is_empty() {
            return Ok(());
        }
        // Once the interpreter ends, there is nobody to ask.
        let asked = attach(|py| self.ask(py, states, positions)).ok_or(Error::Interrupted)?;
        let logits = asked.map_err(|raised| self.keep_raised(raised))?;
        let done = rows(0..positions.len(), logits.values());
        let done = done.map_err(|error| match error {
            Error::NonFinite { .. } => logits.refused(states, positions, &self.spec).unwrap_or(error),
            error => error,
        });
        let _ = attach(|_| drop(logits));
        done
    }
}

/// Logits [P, C] in an array of NumPy's.
struct Logits {
    /// What keeps the elements alive.
    _array: Py<PyArray2<f32>>,
    start: *const f32,
    rows: usize,
    vocab_size: usize,
}

impl Logits {
    /// What a callable answered: borrowed where it is float32, C-contiguous and aligned, converted where it is of other floats.
    fn new(answer: Bound<'_, PyAny>, shape: [usize; 2]) -> PyResult<Self> {
        let array = match answer.cast_into_exact::<PyUntypedArray>() {
            Ok(array) => array,
            Err(other) => other_array(other.into_inner(), shape)?,
        };
        let array = match array.shape() == shape && is_plain(&array) {
            true => array.into_any(),
            false => converted(array, shape)?,
        };
        let mut array = array.cast_into::<PyArray2<f32>>()?;
        if !array.data().is_aligned() {
            array = array.call_method0("copy")?.cast_into::<PyArray2<f32>>()?;
        }
        Ok(Self {
            start: array.data().cast_const(),
            rows: shape[0],
            vocab_size: shape[1],
            _array: array.unbind(),
        })
    }

    /// All of them, row by row.
    fn values(&self) -> &[f32] {
        // SAFETY: `start` is that of an aligned, C-contiguous array [rows, vocab_size], which `_array` keeps alive; NumPy
        // does not move the elements of an array that somebody else holds, too. That nobody writes to it until the next
        // evaluation is asked of callables, in the documentation of `Network`.
        unsafe { std::slice::from_raw_parts(self.start, self.rows * self.vocab_size) }
    }

    /// The first logit that no distribution can have, with its place.
    fn refused(&self, states: &States, positions: &[usize], spec: &Spec) -> Option<Error> {
        let place = self.values().iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY)?;
        let (row, token) = (place / self.vocab_size, place % self.vocab_size);
        let seq_len = states.seq_len(spec.subtoken_len);
        let (sequence, i) = (positions[row] / seq_len, positions[row] % seq_len);
        let field = format!("logits[{row}, {token}] of the network");
        let given = format!(
            "{} in float32 [{}, {}], at position {i} of sequence {sequence} of the batch",
            self.values()[place],
            self.rows,
            self.vocab_size
        );
        Some(Error::invalid(field, given, "finite numbers, or -inf of tokens that cannot be"))
    }
}

// SAFETY: the pointer is that of elements which `_array` keeps alive, on whichever thread.
unsafe impl Send for Logits {}

/// Whether the elements of an array can be read as they stand.
fn is_plain(array: &Bound<'_, PyUntypedArray>) -> bool {
    array.is_c_contiguous() && array.dtype().is_equiv_to(&numpy::dtype::<f32>(array.py()))
}

/// An answer that is not a plain array, as NumPy makes it one.
///
/// # Errors
/// `InvalidError` of rows of different lengths, and of an array with masked elements.
fn other_array<'py>(answer: Bound<'py, PyAny>, shape: [usize; 2]) -> PyResult<Bound<'py, PyUntypedArray>> {
    let py = answer.py();
    let refused = |given: String| {
        let allowed = format!("float32 {shape:?}, and -inf of tokens that cannot be");
        invalid(py, "logits of the network", given, allowed)
    };
    let kind = answer.get_type().name()?.to_string();
    if is_masked(py)?.call1((&answer,))?.is_truthy()? {
        return Err(refused(format!("{kind} with masked elements")));
    }
    match as_array(py)?.call1((answer,)) {
        Ok(array) => Ok(array.cast_into::<PyUntypedArray>()?),
        Err(error) if error.is_instance_of::<PyValueError>(py) => {
            Err(refused(format!("{kind} ({})", error.value(py))))
        }
        Err(error) => Err(error),
    }
}

/// The same floats as float32, row by row.
///
/// # Errors
/// `InvalidError` of an array of another shape, or of no floats.
fn converted<'py>(array: Bound<'py, PyUntypedArray>, shape: [usize; 2]) -> PyResult<Bound<'py, PyAny>> {
    let (py, dtype) = (array.py(), array.dtype());
    let name = dtype.getattr("name")?.extract::<String>()?;
    if array.shape() != shape || !name.contains("float") {
        let [rows, vocab_size] = shape;
        let given = format!("{name} {:?}", array.shape());
        let allowed = format!("float32 {shape:?}, for {rows} positions and {vocab_size} tokens");
        return Err(invalid(py, "logits of the network", given, allowed));
    }
    as_contiguous(py)?.call1((array, numpy::dtype::<f32>(py)))
}

/// `numpy.asarray`.
fn as_array<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FUNCTION.import(py, "numpy", "asarray")
}

/// `numpy.ma.is_masked`.
fn is_masked<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FUNCTION.import(py, "numpy.ma", "is_masked")
}

/// `numpy.ascontiguousarray`.
fn as_contiguous<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FUNCTION.import(py, "numpy", "ascontiguousarray")
}
