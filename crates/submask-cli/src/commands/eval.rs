//! `submask eval`.

use std::path::Path;

use submask::denoiser::Wanted;
use submask::model::{EvaluateRequest, Evaluation, Model, ModelConfig, SCORE_DRAWS, Session};

use crate::args::{EvalArgs, fits};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::output::{self, EvalResult, Evaluated};
use crate::settings::estimate;
use crate::subject::{Chosen, Kind, Part, Parts};
use crate::{flags, locate, progress};

/// Measures a model on held-out text, images or points.
pub fn run(args: &EvalArgs, compute: Compute) -> Result<(), Failure> {
    // Before the model is looked for; `choose` does it for other callers.
    check(args)?;
    let folder = locate::checkpoint(&args.model, args.checkpoint)?;
    let chosen = choose(args, &folder, &ModelConfig::read(&folder)?)?;
    let session = Model::open(&folder)?.session(&compute.open()?)?;
    let request = request(args, &session)?;
    let part = chosen(session.architecture())?;
    let evaluation = {
        let (estimator, name) = (request.estimator.name(), &part.name);
        let _waiting = progress::Waiting::new(format!("{estimator} of {}, {name}", part.parts.count()));
        evaluate(&session, &request, &part, &|| Ok(()))?
    };
    match args.json {
        true => output::write_json(&result(&session, &folder, &request, &part, evaluation)),
        false => {
            let evaluated = Evaluated::new(&part, &evaluation.sequences);
            output::write(&output::evaluation_table(&evaluation.figures, &evaluated))
        }
    }
}

/// What is evaluated of a model that stands in `folder`, or in no folder of a run; what can be refused before the model is there
/// is.
pub fn choose<'a>(args: &'a EvalArgs, folder: &'a Path, config: &ModelConfig) -> Result<Chosen<'a>, Failure> {
    check(args)?;
    let kind = Kind::of(config)?;
    fits::eval(args, kind)?;
    kind.door().held_out(args, folder, config)
}

/// What the library is asked for.
pub fn request(args: &EvalArgs, session: &Session) -> Result<EvaluateRequest, Failure> {
    estimate::request(&args.estimate, session, if args.by_document { SCORE_DRAWS } else { 1 })
}

/// Evaluates a part as long as it is `wanted`.
pub fn evaluate(
    session: &Session,
    request: &EvaluateRequest,
    part: &Part,
    wanted: Wanted,
) -> Result<Evaluation, Failure> {
    let evaluation = match &part.parts {
        Parts::Sequences(sequences) => session.evaluation_while(request, sequences, wanted),
        Parts::Documents(documents) => session.evaluation_by_document_while(request, documents, wanted),
    };
    Ok(evaluation.map_err(|error| flags::EVAL.name_in(error))?)
}

/// What is printed as JSON.
pub fn result(
    session: &Session,
    folder: &Path,
    request: &EvaluateRequest,
    part: &Part,
    evaluation: Evaluation,
) -> EvalResult {
    let evaluated = Evaluated::new(part, &evaluation.sequences);
    let architecture = session.architecture();
    let (by_document, by_sequence) = match part.parts {
        Parts::Documents(_) => (Some(evaluation.sequences), None),
        Parts::Sequences(_) => (None, Some(evaluation.sequences)),
    };
    EvalResult {
        model: folder.display().to_string(),
        data: part.name.clone(),
        estimator: request.estimator.name(),
        evaluated,
        draws: request.draws as u64,
        seed: request.seed,
        steps: request.estimator.steps(),
        unit: estimate::unit(request.estimator),
        per_step: estimate::per_step(request.estimator),
        carry_over: (!session.is_autoregressive())
            .then(|| request.carry_over.unwrap_or(architecture.predictive().carry_over())),
        conditional_on_class: architecture.config().classes().is_some(),
        figures: evaluation.figures,
        by_sequence,
        by_document,
    }
}

/// What can be refused before the model is read.
fn check(args: &EvalArgs) -> Result<(), Failure> {
    for (flag, given) in [("--end", args.layout.end), ("--stride", args.layout.stride.is_some())] {
        if given && !args.by_document {
            return Err(Failure::usage(format!("{flag} has no meaning without --by-document"))
                .hint("documents stand one behind the other in sequences of the model's length"));
        }
    }
    estimate::check(&args.estimate)
}
