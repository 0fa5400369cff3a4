//! Scores of texts.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use submask::model::{Passage, SCORE_DRAWS, Score};
use submask_cli::commands::score;
use submask_cli::failure::Failure;
use submask_cli::notes;
use submask_cli::settings::estimate;

use super::open::ModelSession;
use super::options::{EstimateOptions, LayoutOptions};
use crate::own::likelihood::kind_name;
use crate::work;

/// Scores of `texts` given `prompts`, as many: `(nats, kind, estimator, draw error, tokens, characters, windows, [(token, text,
/// nats), …])` of each; and what there is to note. `names` are what errors call the prompts and the texts.
#[pyfunction]
pub fn score_texts<'py>(
    py: Python<'py>,
    model: &ModelSession,
    prompts: Vec<String>,
    texts: Vec<String>,
    names: Vec<(String, String)>,
    layout: LayoutOptions,
    options: EstimateOptions,
) -> PyResult<(Vec<Bound<'py, PyTuple>>, Vec<String>)> {
    let session = model.get(py)?;
    let architecture = session.architecture();
    let (scores, notes) = work::run(py, |cancel| {
        let args = options.args()?;
        estimate::check(&args)?;
        let layout = score::layout(layout.into(), architecture.config().pairs())?;
        let (request, notes) = notes::collected(|| estimate::request(&args, &session, SCORE_DRAWS));
        let passage = |((prompt, text), (of_prompt, of_text)): ((&String, &String), &(String, String))| {
            cancel.check()?;
            architecture.passage(layout, prompt, text).map_err(|error| {
                error.rename_field(|field| match field {
                    "prompt" => of_prompt.clone(),
                    "text" => of_text.clone(),
                    field => field.to_owned(),
                })
            })
        };
        let passages = prompts.iter().zip(&texts).zip(&names).map(passage);
        let passages = passages.collect::<submask::Result<Vec<Passage>>>()?;
        let scores = session.score_while(&request?, &passages, &|| cancel.check())?;
        Ok::<_, Failure>((scores, notes))
    })?;
    let parts: PyResult<Vec<_>> = scores.into_iter().map(|score| parts(py, score)).collect();
    Ok((parts?, notes))
}

fn parts(py: Python<'_>, score: Score) -> PyResult<Bound<'_, PyTuple>> {
    let Score { nats, kind, estimator, draw_error, tokens, characters, windows, by_token } = score;
    let by_token = by_token.map(|tokens| {
        tokens.into_iter().map(|token| (token.token, token.text, token.nats)).collect::<Vec<_>>()
    });
    (nats, kind_name(kind), estimator, draw_error, tokens, characters, windows, by_token).into_pyobject(py)
}
