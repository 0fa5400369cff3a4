//! `submask sample`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use submask::model::{
    Architecture, Generated, Label, Model, ModelConfig, Request, Sampling, Session, Temperature, TextPrompt,
};
use submask::order::Order;
use submask::sampler::{self, Draw, Event, SampleReport};

use crate::args::{CorrectorArg, DrawArg, SampleArgs, StepsArg, TemperatureArg, TripleArg, fits};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::output::{self, PictureResult, SampleCost, SampleResult, SampleText};
use crate::present::{picture, text};
use crate::{format, given, locate, progress};

/// Writes texts, or draws images or points.
pub fn run(args: &SampleArgs, compute: Compute) -> Result<(), Failure> {
    let prompt = prompt(args)?;
    let folder = locate::model(&args.model)?;
    check(args, &ModelConfig::read(&folder)?)?;
    let session = Model::open(&folder)?.session(&compute.open()?)?;
    let request = request(args, &session, prompt.as_ref())?;
    let start = Instant::now();
    let mut counter = progress::Counter::new("sub-tokens");
    let generated = session.generate(&request, &mut |event: &Event| {
        if let Event::Progress(progress) = event {
            counter.set(progress.digits as u64, progress.digits_total as u64);
        }
        Ok(())
    })?;
    drop(counter);
    let (report, time) = (generated.report, start.elapsed());
    let shown = present(args, &folder.display().to_string(), session.architecture(), generated);
    if shown.is_ok() && !args.json {
        say_cost(&report, time);
    }
    shown
}

/// What was asked for is known before a model is read.
fn prompt(args: &SampleArgs) -> Result<Option<TextPrompt>, Failure> {
    let Some(text) = &args.prompt else { return Ok(None) };
    text.parse().map(Some).map_err(|error| {
        let problem = match error {
            submask::Error::Conflict { problem, .. } => problem,
            error => error.to_string(),
        };
        Failure::usage(format!("bad prompt: {problem}"))
            .hint("[[5]] is a hole of five tokens, [[*]] one to the end of the sequence, \\[[ two brackets")
    })
}

/// Flags that say nothing to this model.
fn check(args: &SampleArgs, config: &ModelConfig) -> Result<(), Failure> {
    let kind = fits::Kind::of(&config.subject);
    fits::sample(args, kind)?;
    if args.trace && kind == fits::Kind::Point {
        return Err(Failure::usage("--trace shows images: points have nothing in between to be seen"));
    }
    match args.length {
        Some(length) if length.get() > config.seq_len() => Err(Failure::usage(format!(
            "--length {length} is too long: at most {} for this model",
            config.seq_len()
        ))),
        _ => Ok(()),
    }
}

/// What the library is asked for.
fn request(args: &SampleArgs, session: &Session, prompt: Option<&TextPrompt>) -> Result<Request, Failure> {
    let architecture = session.architecture();
    let defaults = session.request();
    let length = args.length.map(Into::into);
    let prompt = match (fits::Kind::of(&architecture.config().subject), prompt) {
        (fits::Kind::Text, None) if length.is_none() => defaults.prompt.clone(),
        (fits::Kind::Text, prompt) => {
            let continued = TextPrompt::default();
            session.prompt(prompt.unwrap_or(&continued), length)?
        }
        _ => given::digits(&args.images, architecture)?,
    };
    let sampling = sampling(args, defaults.sampling.clone())?;
    Ok(Request {
        num: usize::try_from(args.num.get()).map_err(|_| Failure::usage("--num is too large"))?,
        prompt,
        label: label(args, architecture.config())?,
        sampling,
        unit: args.unit.into(),
        order: order(args, session)?,
        per_step: args.per_step.map_or(1, Into::into),
        carry_over: args.images.carry_over,
        seed: args.seed,
        batch: args.batch.get(),
        trajectories: args.trace,
    })
}

/// The order; one that the predictions decide leaves no room for a grid, a corrector and marginal draws.
fn order(args: &SampleArgs, session: &Session) -> Result<Order, Failure> {
    let images = &args.images;
    let others = [
        ("--steps", args.steps.is_some()),
        ("--preset", images.preset.is_some()),
        ("--warp", images.warp.is_some()),
        ("--corrector", matches!(images.corrector, Some(CorrectorArg::On(_)))),
        ("--draw marginal", images.draw == Some(DrawArg::Marginal)),
    ];
    let order = args.order;
    if session.is_autoregressive() {
        if args.per_step.is_some() {
            return Err(Failure::usage(
                "--per-step has no meaning for an autoregressive model, which writes sub-token by sub-token",
            ));
        }
        return match order {
            Order::Random | Order::LeftToRight => Ok(order),
            _ => Err(Failure::usage(format!(
                "--order {order}: an autoregressive model writes from left to right"
            ))),
        };
    }
    match (order, others.into_iter().find(|(_, given)| *given)) {
        (Order::Random, _) if args.per_step.is_some() => {
            Err(Failure::usage("--per-step has no meaning with --order random").hint(
                "--order left-to-right, confidence, margin or entropy reveals N units per evaluation; \
                 --steps T is the grid of the random order",
            ))
        }
        (Order::Random, _) | (_, None) => Ok(order),
        (_, Some((flag, _))) => Err(Failure::usage(format!("{flag} has no meaning with --order {order}"))
            .hint(
                "such an order reveals --per-step units per evaluation, one after the other, by joint draws",
            )),
    }
}

/// The model's sampling, changed by a preset, and that by flags.
fn sampling(args: &SampleArgs, mut sampling: Sampling) -> Result<Sampling, Failure> {
    let images = &args.images;
    if let Some(name) = &images.preset {
        let preset = sampler::preset(name).map_err(|_| {
            Failure::usage(format!("unknown sampler preset `{name}`"))
                .hint("`submask help presets` lists them")
        })?;
        sampling = preset.sampling.into();
    }
    match args.steps {
        None => {}
        Some(StepsArg::FirstHitting) => sampling.steps = 0,
        Some(StepsArg::Grid(steps)) => sampling.steps = steps.get(),
    }
    match args.temperature {
        None => {}
        Some(TemperatureArg::Constant(temperature)) => {
            sampling.temperature = Temperature::Constant(temperature);
        }
        Some(TemperatureArg::Schedule(triple)) => {
            sampling.temperature = Temperature::Schedule(triple.into());
        }
    }
    sampling.top_p = args.top_p.unwrap_or(sampling.top_p);
    sampling.top_k = args.top_k.unwrap_or(sampling.top_k);
    if let Some(TripleArg(warp)) = images.warp {
        sampling.warp = warp.into();
    }
    match images.corrector {
        None => {}
        Some(CorrectorArg::Off) => sampling.corrector = None,
        Some(CorrectorArg::On(triple)) => sampling.corrector = Some(triple.into()),
    }
    match images.draw {
        None => {}
        Some(DrawArg::Joint) => sampling.draw = Draw::Joint,
        Some(DrawArg::Marginal) => sampling.draw = Draw::Marginal,
    }
    if args.order != Order::Random {
        let plain = Sampling::default();
        sampling = Sampling { steps: 0, draw: plain.draw, warp: plain.warp, corrector: None, ..sampling };
    }
    sampling.validate().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(sampling)
}

fn label(args: &SampleArgs, config: &ModelConfig) -> Result<Label, Failure> {
    let Some(text) = args.images.label.as_deref() else { return Ok(Label::Every) };
    if config.classes().is_none() {
        return Err(Failure::usage(format!("--label {text}: the model does not read classes")));
    }
    if text == "mixture" {
        return Ok(Label::Mixture);
    }
    let names = config.subject.class_names();
    let by_name = names.iter().position(|name| name == text);
    let by_number = text.parse().ok().filter(|number| *number < names.len());
    by_name.or(by_number).map(Label::Class).ok_or_else(|| {
        let last = names.len().saturating_sub(1);
        Failure::usage(format!("--label {text}: there is no such class"))
            .hint(format!("classes are 0 to {last}: {}; or mixture", names.join(", ")))
    })
}

/// Writes what was generated, in the form of its subject.
fn present(
    args: &SampleArgs,
    model: &str,
    architecture: &Architecture,
    generated: Generated,
) -> Result<(), Failure> {
    match fits::Kind::of(&architecture.config().subject) {
        fits::Kind::Text => present_texts(args, model, architecture, generated),
        fits::Kind::Image | fits::Kind::Point => present_pictures(args, model, architecture, generated),
    }
}

fn present_texts(
    args: &SampleArgs,
    model: &str,
    architecture: &Architecture,
    generated: Generated,
) -> Result<(), Failure> {
    if args.json {
        let cost = SampleCost::from(&generated.report);
        let texts = generated.texts.into_iter().enumerate();
        return output::write_json(&SampleResult {
            model: model.to_owned(),
            seed: args.seed,
            samples: texts.map(|(n, text)| SampleText { index: n as u64, text }).collect(),
            cost,
        });
    }
    if args.trace {
        text::show_traces(architecture, &generated)?;
    }
    output::write(&(generated.texts.join("\n---\n") + "\n"))
}

fn present_pictures(
    args: &SampleArgs,
    model: &str,
    architecture: &Architecture,
    generated: Generated,
) -> Result<(), Failure> {
    let out = args.images.out.as_deref().unwrap_or(Path::new("samples.png"));
    let mut written: Vec<PathBuf> = vec![picture::write(architecture, &generated, out)?];
    if args.trace {
        written.push(picture::write_traces(architecture, &generated, out)?);
    }
    let pictures: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    if args.json {
        let cost = SampleCost::from(&generated.report);
        return output::write_json(&PictureResult {
            model: model.to_owned(),
            seed: args.seed,
            pictures,
            samples: generated.tokens,
            cost,
        });
    }
    output::write(&pictures.into_iter().map(|path| path + "\n").collect::<String>())
}

fn say_cost(report: &SampleReport, time: Duration) {
    let rate = report.digits as f64 / time.as_secs_f64().max(1e-9);
    eprintln!("{}, {} sub-tokens/s", output::sampling_cost(report), format::count(rate as u64));
}
