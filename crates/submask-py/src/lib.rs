//! Python's door: the extension module `submask._native`, on which the package `submask` (in `python/`) stands. What is written here
//! computes without the GIL, takes and gives NumPy arrays, and turns errors into those of `submask.errors`; names, defaults and
//! documentation for people stand in the package.

mod ending;
mod errors;
mod failures;
mod own;
mod owned_event;
mod program;
mod session;
mod train;
mod work;

use pyo3::prelude::*;

/// Milliseconds for which memory that is not used is kept for the next call.
const KEPT: i32 = 1000;

/// The extension module.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        submask_cli::keep_quiet_about_what_is_caught();
        submask_cli::allocator::keep_memory_for(super::KEPT);
        super::ending::end_work_at_exit(module.py())
    }

    #[pymodule_export]
    use super::ending::begin_end;
    #[pymodule_export]
    use super::own::codes::Codes;
    #[pymodule_export]
    use super::own::likelihood::{SequenceEstimate, estimate};
    #[pymodule_export]
    use super::own::network::CallableNetwork;
    #[pymodule_export]
    use super::own::predictive::TokenPredictive;
    #[pymodule_export]
    use super::own::sampler::{SampleStream, sample};
    #[pymodule_export]
    use super::own::schedule::NoiseSchedule;
    #[pymodule_export]
    use super::program::main;
    #[pymodule_export]
    use super::session::evaluate::{evaluate_data, evaluate_images, evaluate_tokens, spread};
    #[pymodule_export]
    use super::session::images::images_of;
    #[pymodule_export]
    use super::session::logits::logits;
    #[pymodule_export]
    use super::session::open::ModelSession;
    #[pymodule_export]
    use super::session::sample::sample_model;
    #[pymodule_export]
    use super::session::score::score_texts;
    #[pymodule_export]
    use super::session::stream::EventStream;
    #[pymodule_export]
    use super::session::tokenizer::ModelTokenizer;
    #[pymodule_export]
    use super::train::plan::{TrainPlan, train_plan};
    #[pymodule_export]
    use super::train::prepare::{PreparePlan, prepare_plan};
}
