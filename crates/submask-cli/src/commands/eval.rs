//! `submask eval`.

use submask::model::{EvaluateRequest, Evaluation, Model, ModelConfig, SCORE_DRAWS, Session};

use crate::args::{EvalArgs, fits};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::output::{self, EvalResult, Evaluated};
use crate::settings::estimate;
use crate::subject::{Kind, Part, Parts};
use crate::{flags, locate, progress};

/// Measures a model on held-out text, images or points.
pub fn run(args: &EvalArgs, compute: Compute) -> Result<(), Failure> {
    check(args)?;
    let folder = locate::checkpoint(&args.model, args.checkpoint)?;
    let kind = Kind::of(&ModelConfig::read(&folder)?)?;
    fits::eval(args, kind)?;
    let chosen = kind.door().held_out(args, &folder)?;
    let session = Model::open(&folder)?.session(&compute.open()?)?;
    let request =
        estimate::request(&args.estimate, &session, if args.by_document { SCORE_DRAWS } else { 1 })?;
    let part = chosen(session.architecture())?;
    let evaluation = evaluate(&session, &request, &part)?;
    let evaluated = Evaluated::new(&part, &evaluation.sequences);
    if !args.json {
        return output::write(&output::evaluation_table(&evaluation.figures, &evaluated));
    }
    let architecture = session.architecture();
    let (by_document, by_sequence) = match args.by_document {
        true => (Some(evaluation.sequences), None),
        false => (None, Some(evaluation.sequences)),
    };
    output::write_json(&EvalResult {
        model: folder.display().to_string(),
        data: part.name,
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
    })
}

fn evaluate(session: &Session, request: &EvaluateRequest, part: &Part) -> Result<Evaluation, Failure> {
    let (estimator, name) = (request.estimator.name(), &part.name);
    let _waiting = progress::Waiting::new(format!("{estimator} of {}, {name}", part.parts.count()));
    let evaluation = match &part.parts {
        Parts::Sequences(sequences) => session.evaluation(request, sequences),
        Parts::Documents(documents) => session.evaluation_by_document(request, documents),
    };
    Ok(evaluation.map_err(|error| flags::EVAL.name_in(error))?)
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
