//! `submask eval`.

use submask::likelihood::LikelihoodSettings;
use submask::model::visual::VisualConfig;
use submask::model::{Estimator, Model, NetworkChoice};

use crate::args::{EstimatorArg, EvalArgs};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::heldout::HeldOut;
use crate::output::{self, EvalResult};
use crate::{locate, progress};

/// Measures a model on held-out text.
pub fn run(args: &EvalArgs, compute: Compute) -> Result<(), Failure> {
    check(args)?;
    let folder = locate::model(&args.model)?;
    if VisualConfig::is_in(&folder) {
        return super::visual::eval(args, &folder, compute);
    }
    let images = &args.images;
    if images.images.is_some() || images.labels.is_some() || images.carry_over.is_some() {
        let message = "--images, --labels and --carry-over have a meaning for images only";
        return Err(Failure::usage(message).hint("this is a model of text"));
    }
    let text = HeldOut::choose(args, &folder)?;
    let (device, kernels) = compute.open()?;
    let model = Model::load(&folder, kernels)?;
    let estimator = estimator(args, &model)?;
    for note in text.notes(&model.tokenizer) {
        eprintln!("data  {note}");
    }
    let blocks = text.blocks(&model, args.sequences.map(Into::into))?;
    let settings = LikelihoodSettings {
        draws: args.draws.map_or(1, Into::into),
        seed: args.seed,
        batch: args.batch.into(),
        schedule: model.schedule(),
    };
    let name = estimator.name();
    let waiting = progress::Waiting::new(format!("{name} of {} sequences, {}", blocks.len(), text.name()));
    let figures = model.evaluate(&device, estimator, &blocks, &settings)?;
    drop(waiting);
    if !args.json {
        return output::write(&output::figure_table(&figures));
    }
    output::write_json(&EvalResult {
        model: folder.display().to_string(),
        data: text.name(),
        estimator: name.to_owned(),
        sequences: blocks.len() as u64,
        draws: settings.draws as u64,
        seed: args.seed,
        steps: estimator.steps(),
        carry_over: None,
        conditional_on_class: None,
        figures,
    })
}

/// The estimator asked for, or what fits the network.
fn estimator(args: &EvalArgs, model: &Model) -> Result<Estimator, Failure> {
    let default = match model.config.model.network {
        NetworkChoice::Diffusion | NetworkChoice::Encoder => EstimatorArg::NelboSubtoken,
        NetworkChoice::Autoregressive => EstimatorArg::Exact,
    };
    let estimator = args.estimator.unwrap_or(default);
    check_draws(args, estimator)?;
    Ok(match estimator {
        EstimatorArg::NelboSubtoken => Estimator::NelboSubtoken,
        EstimatorArg::NelboToken => Estimator::NelboToken,
        EstimatorArg::Path => {
            let sampler = Some(model.config.sample.steps).filter(|&steps| steps > 0);
            let steps = args.steps.map(Into::into).or(sampler).unwrap_or(model.config.model.seq_len);
            Estimator::Path { steps }
        }
        EstimatorArg::Exact => Estimator::LEFT_TO_RIGHT,
        EstimatorArg::JointObjective => Estimator::JointObjective,
    })
}

/// Options that mean nothing for the estimator are errors, as far as it is known before the model is read.
pub fn check(args: &EvalArgs) -> Result<(), Failure> {
    if args.steps.is_some() && args.estimator != Some(EstimatorArg::Path) {
        return Err(Failure::usage("--steps has no meaning without --estimator path")
            .hint("--estimator path gives the bound of the sampler with T steps"));
    }
    args.estimator.map_or(Ok(()), |estimator| check_draws(args, estimator))
}

fn check_draws(args: &EvalArgs, estimator: EstimatorArg) -> Result<(), Failure> {
    if args.draws.is_some() && estimator == EstimatorArg::Exact {
        return Err(Failure::usage("--draws has no meaning for --estimator exact: nothing is drawn")
            .hint("leave out --draws"));
    }
    Ok(())
}
