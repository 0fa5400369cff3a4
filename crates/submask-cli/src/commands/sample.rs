//! `submask sample`.

use std::time::{Duration, Instant};

use submask::model::visual::VisualConfig;
use submask::model::{GenerateRequest, Generated, Model};
use submask::sampler::{RevealUnit, Steps};

use crate::args::{SampleArgs, StepsArg, TemperatureArg, UnitArg};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::output::{self, SampleCost, SampleResult, SampleText};
use crate::prompt::{self, Part};
use crate::trace::{Painter, Style, frames};
use crate::{format, locate, progress};

/// Writes texts.
pub fn run(args: &SampleArgs, compute: Compute) -> Result<(), Failure> {
    let parts = prompt::parse(args.prompt.as_deref().unwrap_or_default())?;
    let folder = locate::model(&args.model)?;
    if VisualConfig::is_in(&folder) {
        return super::visual::sample(args, &folder, compute);
    }
    check(args)?;
    let (device, kernels) = compute.open()?;
    let model = Model::load(&folder, kernels)?;
    let request = request(args, &model, &parts)?;
    let start = Instant::now();
    let mut counter = progress::Counter::new("sub-tokens");
    let generated = model.generate_observed(&request, &device, &mut |progress| {
        counter.set(progress.digits as u64, progress.digits_total as u64);
        Ok(())
    })?;
    drop(counter);
    if args.json {
        return output::write_json(&result(args, &folder.display().to_string(), generated));
    }
    if args.trace {
        show_traces(&model, &generated)?;
    }
    output::write(&(generated.texts.join("\n---\n") + "\n"))?;
    let rate = generated.report.digits as f64 / start.elapsed().as_secs_f64().max(1e-9);
    eprintln!("{}, {} sub-tokens/s", output::sampling_cost(&generated.report), format::count(rate as u64));
    Ok(())
}

/// Flags that have a meaning for images only.
fn check(args: &SampleArgs) -> Result<(), Failure> {
    let images = &args.images;
    let flags = [
        ("--out", images.out.is_some()),
        ("--preset", images.preset.is_some()),
        ("--draw", images.draw.is_some()),
        ("--warp", images.warp.is_some()),
        ("--corrector", images.corrector.is_some()),
        ("--carry-over", images.carry_over.is_some()),
        ("--label", images.label.is_some()),
        ("--given", images.given.is_some()),
        ("--mask", images.mask.is_some()),
        ("--keep-digits", images.keep_digits.is_some()),
        ("--keep-channels", !images.keep_channels.is_empty()),
        ("--temperature a,n,c", matches!(args.temperature, Some(TemperatureArg::Schedule(_)))),
    ];
    let Some((flag, _)) = flags.iter().find(|(_, given)| *given) else { return Ok(()) };
    Err(Failure::usage(format!("{flag} has a meaning for images only"))
        .hint("`submask sample --help` lists these under \"Images and points\"; this is a model of text"))
}

/// What the library is asked for.
fn request(args: &SampleArgs, model: &Model, parts: &[Part]) -> Result<GenerateRequest, Failure> {
    let defaults = GenerateRequest::new(model);
    let mut sharpening = defaults.sharpening;
    if let Some(TemperatureArg::Constant(temperature)) = args.temperature {
        sharpening.temperature = temperature;
    }
    sharpening.top_p = args.top_p.unwrap_or(sharpening.top_p);
    if let Some(top_k) = args.top_k {
        sharpening.top_k = Some(top_k).filter(|&k| k > 0);
    }
    sharpening.validate()?;
    let longest = model.config.model.seq_len;
    Ok(GenerateRequest {
        num: usize::try_from(args.num.get()).map_err(|_| Failure::usage("--num is too large"))?,
        prompt: sequence(model, parts, args.length.map(Into::into), longest)?,
        steps: match args.steps {
            None => defaults.steps,
            Some(StepsArg::Exact) => Steps::Exact,
            Some(StepsArg::Grid(steps)) => Steps::Grid(steps.get()),
        },
        unit: match args.unit {
            UnitArg::Subtoken => RevealUnit::Digits,
            UnitArg::Token => RevealUnit::Tokens,
        },
        sharpening,
        seed: args.seed,
        batch: args.batch.get(),
        trajectories: args.trace,
    })
}

/// The tokens of a prompt, holes being none; it begins where a text begins.
fn sequence(
    model: &Model,
    parts: &[Part],
    length: Option<usize>,
    longest: usize,
) -> Result<Vec<Option<u32>>, Failure> {
    let wanted = length.unwrap_or(longest);
    if wanted > longest {
        return Err(Failure::usage(format!(
            "--length {wanted} is too long: at most {longest} for this model"
        )));
    }
    // Of long holes, what is not held here.
    let mut taken = 0_usize;
    let mut tokens: Vec<Option<u32>> = model.tokenizer.end_of_text().map(Some).into_iter().collect();
    for part in parts {
        match part {
            Part::Text(text) => tokens.extend(model.tokenizer.encode(text)?.into_iter().map(Some)),
            // One more than fits is enough to see that it does not.
            Part::Hole(size) => {
                let held = (*size).min(longest + 1);
                taken = taken.saturating_add(size - held);
                tokens.extend(vec![None; held]);
            }
            Part::Rest => tokens.extend(vec![None; wanted.saturating_sub(tokens.len())]),
        }
    }
    let taken = taken.saturating_add(tokens.len());
    let least = format!("the prompt takes {taken} tokens, its beginning included");
    if tokens.len() > wanted {
        return Err(Failure::usage(format!("{least}: at most {wanted} are allowed")));
    }
    if length.is_some_and(|length| length != tokens.len()) {
        return Err(Failure::usage(format!("{least}, but --length is {wanted}"))
            .hint("[[*]] at the end of the prompt fills the rest"));
    }
    if tokens.iter().all(Option::is_some) {
        return Err(Failure::usage(format!("{least}: nothing is left to write")));
    }
    Ok(tokens)
}

/// Replays how the texts came about; in place, it takes a few seconds.
fn show_traces(model: &Model, generated: &Generated) -> Result<(), Failure> {
    let style = Style::for_stdout();
    for (n, trajectory) in generated.trajectories.iter().enumerate() {
        let frames = frames(model, trajectory)?;
        if generated.trajectories.len() > 1 {
            output::write(&format!("text {n}\n"))?;
        }
        let pause = Duration::from_secs(6) / frames.len().max(1) as u32;
        let mut painter = Painter::new(style);
        for frame in &frames {
            output::write(&painter.paint(frame))?;
            if style.screen.is_some() {
                std::thread::sleep(pause.min(Duration::from_millis(150)));
            }
        }
    }
    Ok(())
}

fn result(args: &SampleArgs, model: &str, generated: Generated) -> SampleResult {
    let cost = SampleCost::from(&generated.report);
    let texts = generated.texts.into_iter().enumerate();
    SampleResult {
        model: model.to_owned(),
        seed: args.seed,
        samples: texts.map(|(n, text)| SampleText { index: n as u64, text }).collect(),
        cost,
    }
}
