//! How a likelihood is estimated: what `eval` and `score` ask for, checked against the model.

use submask::model::{Estimator, EvaluateRequest, Sampling, Session};
use submask::order::Order;
use submask::schedule::{RevealUnit, TemperatureSchedule};

use crate::args::{EstimateArgs, EstimatorArg, UnitArg};
use crate::failure::Failure;
use crate::notes;

/// What is asked for of a model, with `draws` per sequence unless they are given.
pub fn request(args: &EstimateArgs, session: &Session, draws: usize) -> Result<EvaluateRequest, Failure> {
    Ok(EvaluateRequest {
        estimator: estimator(args, session)?,
        draws: args.draws.map_or(draws, Into::into),
        seed: args.seed,
        batch: args.batch.into(),
        carry_over: args.carry_over,
    })
}

/// The estimator asked for, or what fits the network.
fn estimator(args: &EstimateArgs, session: &Session) -> Result<Estimator, Failure> {
    let Some(estimator) = args.estimator else {
        if session.is_autoregressive() && args.carry_over.is_some() {
            return Err(Failure::usage("--carry-over has no meaning for an autoregressive model"));
        }
        let usual = session.usual_estimator();
        if usual == Estimator::LEFT_TO_RIGHT {
            check_draws(args, EstimatorArg::Exact)?;
        }
        return Ok(usual);
    };
    check_draws(args, estimator)?;
    let config = session.architecture().config();
    let estimator = match estimator {
        EstimatorArg::NelboSubtoken => Estimator::NelboSubtoken,
        EstimatorArg::NelboToken => Estimator::NelboToken,
        EstimatorArg::Path => {
            if let Some(what) = beyond_the_path_bound(&config.sample) {
                let bound = "the bound is of joint draws on an even grid at temperature 1";
                notes::say("note: ", format!("{bound}: the model's {what} differs"));
            }
            let sampler = Some(config.sample.steps).filter(|&steps| steps > 0);
            let together = match config.network.block_len() {
                0 => config.seq_len(),
                block_len => block_len,
            };
            Estimator::Path { steps: args.steps.map(Into::into).or(sampler).unwrap_or(together) }
        }
        EstimatorArg::Exact => Estimator::Exact {
            order: order(args)?,
            unit: args.unit.unwrap_or(UnitArg::Token).into(),
            per_step: args.per_step.map_or(1, Into::into),
        },
        EstimatorArg::Orders => Estimator::Orders { unit: args.unit.unwrap_or(UnitArg::Subtoken).into() },
        EstimatorArg::JointObjective => Estimator::JointObjective,
    };
    if session.is_autoregressive() && args.carry_over.is_some() {
        return Err(Failure::usage("--carry-over has no meaning for an autoregressive model"));
    }
    if session.is_autoregressive() && estimator != Estimator::LEFT_TO_RIGHT {
        let message =
            "an autoregressive model has an exact likelihood, from left to right, and no other estimate";
        return Err(Failure::usage(message).hint(
            "leave out --estimator, --order, --unit and --per-step, or ask for --estimator exact alone",
        ));
    }
    Ok(estimator)
}

/// What an exact likelihood or a bound over orders reveals at once.
pub fn unit(estimator: Estimator) -> Option<&'static str> {
    match estimator {
        Estimator::Exact { unit, .. } | Estimator::Orders { unit } => Some(match unit {
            RevealUnit::Digits => "subtoken",
            RevealUnit::Tokens => "token",
        }),
        _ => None,
    }
}

/// Units that an exact likelihood reveals per evaluation.
pub fn per_step(estimator: Estimator) -> Option<u64> {
    match estimator {
        Estimator::Exact { per_step, .. } => Some(per_step as u64),
        _ => None,
    }
}

/// The order of an exact likelihood.
fn order(args: &EstimateArgs) -> Result<Order, Failure> {
    match args.order.unwrap_or(Order::LeftToRight) {
        Order::Random => Err(Failure::usage("--order random has no exact likelihood: it mixes all orders")
            .hint("--estimator nelbo-subtoken bounds it, and so does --estimator orders --draws K")),
        order => Ok(order),
    }
}

/// What of the model's sampling is not that of the path bound.
fn beyond_the_path_bound(sampling: &Sampling) -> Option<&'static str> {
    let plain = Sampling::default();
    [
        ("sample.draw", sampling.draw != plain.draw),
        ("sample.temperature", !is_one(sampling.temperature.schedule())),
        ("sample.warp", !sampling.warp.is_off()),
        ("sample.corrector", sampling.corrector.is_some()),
        ("sample.top_p", sampling.top_p != plain.top_p),
        ("sample.top_k", sampling.top_k != plain.top_k),
    ]
    .into_iter()
    .find_map(|(key, differs)| differs.then_some(key))
}

/// Whether it is the constant 1, however that is written.
fn is_one(temperature: TemperatureSchedule) -> bool {
    let [scale, exponent, _] = temperature.into();
    (scale == 0.0 || exponent == 0.0) && temperature.at(0.0) == 1.0
}

/// Options that mean nothing for the estimator are errors, as far as it is known before the model is read.
pub fn check(args: &EstimateArgs) -> Result<(), Failure> {
    if args.steps.is_some() && args.estimator != Some(EstimatorArg::Path) {
        return Err(Failure::usage("--steps has no meaning without --estimator path")
            .hint("--estimator path gives the bound of the sampler with T steps"));
    }
    let flags: [(&str, bool, &[EstimatorArg]); 3] = [
        ("--order", args.order.is_some(), &[EstimatorArg::Exact]),
        ("--per-step", args.per_step.is_some(), &[EstimatorArg::Exact]),
        ("--unit", args.unit.is_some(), &[EstimatorArg::Exact, EstimatorArg::Orders]),
    ];
    let read = |by: &[EstimatorArg]| args.estimator.is_some_and(|estimator| by.contains(&estimator));
    if let Some((flag, ..)) = flags.iter().find(|(_, given, by)| *given && !read(by)) {
        let by = if *flag == "--unit" { "exact or orders" } else { "exact" };
        return Err(Failure::usage(format!("{flag} has no meaning without --estimator {by}"))
            .hint("an exact likelihood is that of generation in a deterministic order"));
    }
    if args.estimator == Some(EstimatorArg::Exact) {
        order(args)?;
    }
    args.estimator.map_or(Ok(()), |estimator| check_draws(args, estimator))
}

fn check_draws(args: &EstimateArgs, estimator: EstimatorArg) -> Result<(), Failure> {
    if args.draws.is_some() && estimator == EstimatorArg::Exact {
        return Err(Failure::usage("--draws has no meaning for --estimator exact: nothing is drawn")
            .hint("leave out --draws"));
    }
    Ok(())
}
