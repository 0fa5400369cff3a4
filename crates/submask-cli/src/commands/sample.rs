//! `submask sample`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use submask::data::Fingerprint;
use submask::model::{
    Architecture, Generated, Growth, Label, Model, ModelConfig, Request, Sample, Sampling, Session,
    Temperature, TextPrompt,
};
use submask::order::Order;
use submask::parts::{PartSet, Records};
use submask::sampler::{self, Draw, Event, RevealUnit, Window};
use submask::shard::Shard;

use crate::args::{CorrectorArg, DrawArg, SampleArgs, StepsArg, TemperatureArg, TripleArg, fits};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::prompts::{self, PromptLine};
use crate::shares::{self, ModelFacts};
use crate::subject::Kind;
use crate::{flags, format, json_lines, locate, output, progress};

/// As parts call it.
pub const VERB: &str = "sample";

/// Writes texts, or draws images or points.
pub fn run(args: &SampleArgs, compute: Compute) -> Result<(), Failure> {
    if args.images.preset.is_some() {
        eprintln!("note: `--preset` of `submask sample` is called `--sampler` now");
    }
    let prompt = prompt(args)?;
    let lines = args.prompts.as_deref().map(prompts::read).transpose()?.unwrap_or_default();
    let folder = locate::checkpoint(&args.model, args.checkpoint)?;
    let config = ModelConfig::read(&folder)?;
    check(args, &config)?;
    note_blocks(args, &config);
    let model = Model::open(&folder)?;
    let session = model.session(&compute.open()?)?;
    let about = About::new(args, &lines, &folder, &session)?;
    let door = about.kind.door();
    let request = request(args, &session, door.prompt(args, prompt.as_ref(), &session)?)?;
    let prompts = digits(args, &lines, &session)?.unwrap_or_else(|| vec![request.prompt.clone()]);
    if let Some(shard) = args.shard.shard {
        let model = ModelFacts::of(&folder, &model, &session)?;
        let facts = Facts { about, drawn: Drawn::new(&request, &prompts), model };
        return write_share(args, shard, &session, (&request, &prompts), &facts);
    }
    let start = Instant::now();
    let architecture = session.architecture();
    // A text that may be cut is not shown before that is known.
    let may_be_cut = request.sampling.min_entropy > 0.0;
    let by_blocks = architecture.config().network.block_len() > 0;
    let grows = by_blocks && !args.json && !args.trace && !may_be_cut;
    let generated = match grows {
        true => grown(&session, &request, &prompts)?.map(joined),
        false => counted(&session, &request, &prompts, Shard::WHOLE).map(Generated::from_iter),
    };
    let generated = generated.map_err(|error| flags::SAMPLE.name_in(error))?;
    let (report, time) = (generated.report, start.elapsed());
    if !grows {
        let shown = Shown { about: &about, architecture: &|| Ok(Arc::clone(architecture)) };
        door.show(&shown, generated)?;
    }
    if !args.json {
        let rate = report.digits as f64 / time.as_secs_f64().max(1e-9);
        eprintln!("{}, {} sub-tokens/s", output::sampling_cost(&report), format::count(rate as u64));
    }
    Ok(())
}

/// How samples are shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// What the model is of.
    pub kind: Kind,
    /// Folder of the model.
    pub folder: String,
    /// Samples of each prompt.
    pub num: u64,
    pub first_sequence: u64,
    pub seed: u64,
    /// What blocks read beyond the model's length, of models that write block by block.
    pub window: Option<Window>,
    /// What the lines of a file of prompts are called there, as it is written; `None` where there is no such file.
    pub ids: Option<Vec<Option<String>>>,
    pub json: bool,
    pub trace: bool,
    /// The picture to write.
    pub out: Option<PathBuf>,
}

/// How samples are shown, and the model of which they are.
pub struct Shown<'a> {
    pub about: &'a About,
    /// It is not needed for everything, and of parts it is read again.
    pub architecture: &'a dyn Fn() -> Result<Arc<Architecture>, Failure>,
}

impl About {
    fn new(
        args: &SampleArgs,
        lines: &[PromptLine],
        folder: &Path,
        session: &Session,
    ) -> Result<Self, Failure> {
        let config = session.architecture().config();
        let id = |line: &PromptLine| line.id.as_ref().map(|id| id.get().to_owned());
        Ok(Self {
            kind: Kind::of(config)?,
            folder: folder.display().to_string(),
            num: args.num.get(),
            first_sequence: args.first_sequence,
            seed: args.seed,
            window: (config.network.block_len() > 0)
                .then(|| args.window.map_or(config.sample.window, Into::into)),
            ids: args.prompts.as_ref().map(|_| lines.iter().map(id).collect()),
            json: args.json,
            trace: args.trace,
            out: args.images.out.clone(),
        })
    }
}

/// What the parts of samples say alike.
#[derive(Serialize, Deserialize)]
struct Facts {
    #[serde(flatten)]
    about: About,
    #[serde(flatten)]
    drawn: Drawn,
    model: ModelFacts,
}

/// How samples are drawn.
#[derive(Serialize, Deserialize)]
struct Drawn {
    prompts: String,
    label: String,
    sampling: Sampling,
    unit: RevealUnit,
    order: Order,
    per_step: usize,
    carry_over: Option<bool>,
}

impl Drawn {
    fn new(request: &Request, prompts: &[Vec<Option<u32>>]) -> Self {
        let digit = |digit: &Option<u32>| digit.map_or(0, |digit| u64::from(digit) + 1).to_le_bytes();
        let part = |print: Fingerprint, prompt: &Vec<Option<u32>>| {
            print.part(&prompt.iter().flat_map(digit).collect::<Vec<_>>())
        };
        Self {
            prompts: shares::fingerprint(prompts.iter().fold(Fingerprint::new(), part).value()),
            label: match request.label {
                Label::Every => "every".to_owned(),
                Label::Class(class) => class.to_string(),
                Label::Mixture => "mixture".to_owned(),
            },
            sampling: request.sampling.clone(),
            unit: request.unit,
            order: request.order,
            per_step: request.per_step,
            carry_over: request.carry_over,
        }
    }
}

/// Draws a share of the samples and writes it to a file.
fn write_share(
    args: &SampleArgs,
    shard: Shard,
    session: &Session,
    (request, prompts): (&Request, &[Vec<Option<u32>>]),
    facts: &Facts,
) -> Result<(), Failure> {
    let samples = counted(session, request, prompts, shard).map_err(|error| flags::SAMPLE.name_in(error))?;
    let items = shares::Items { count: (prompts.len() * request.num) as u64, unit: "samples" };
    let fill = |records: &mut Records| samples.iter().try_for_each(|one| records.push(&one.to_bytes()?));
    shares::write((&args.shard, shard), VERB, &items, facts, fill, &[])
}

/// Shows the samples of all parts.
pub fn merge(set: &PartSet) -> Result<(), Failure> {
    let Facts { about, model, .. } = set.facts()?;
    set.check_records(0)?;
    let generated: Generated = set.read(Sample::read)?.into_iter().collect();
    let report = generated.report;
    let folder = Path::new(&about.folder);
    let architecture = || {
        let architecture = Architecture::read(folder)
            .map_err(|error| Failure::from(error).context("the model that the parts are of"))?;
        match shares::fingerprint(architecture.fingerprint()?) == model.architecture {
            true => Ok(Arc::new(architecture)),
            false => {
                Err(Failure::failed(format!("{} is not the model that the parts are of", folder.display())))
            }
        }
    };
    about.kind.door().show(&Shown { about: &about, architecture: &architecture }, generated)?;
    if !about.json {
        eprintln!("{}", output::sampling_cost(&report));
    }
    Ok(())
}

/// Says where blocks beyond the model's length read nothing of what stands before them.
fn note_blocks(args: &SampleArgs, config: &ModelConfig) {
    let (block_len, seq_len) = (config.network.block_len(), config.seq_len());
    if block_len == seq_len && args.length.is_some_and(|length| length.get() > seq_len) {
        eprintln!(
            "note: a block is as long as the model: beyond {seq_len} tokens each block is written without what stands before it"
        );
    }
}

/// Draws a share of the samples, while their sub-tokens are counted.
fn counted(
    session: &Session,
    request: &Request,
    prompts: &[Vec<Option<u32>>],
    shard: Shard,
) -> submask::Result<Vec<Sample>> {
    let mut counter = progress::Counter::new("sub-tokens");
    session.generate_share(request, prompts, shard, &mut |event: &Event| {
        if let Event::Progress(progress) = event {
            counter.set(progress.digits as u64, progress.digits_total as u64);
        }
        Ok(())
    })
}

/// Samples, and writes them while they grow.
fn grown(
    session: &Session,
    request: &Request,
    prompts: &[Vec<Option<u32>>],
) -> Result<submask::Result<Vec<Generated>>, Failure> {
    let mut failure = None;
    let mut texts = session.architecture().growing_texts(|growth: Growth| {
        write_growth(growth).map_err(|error| {
            failure = Some(error);
            submask::Error::io("standard output")(std::io::ErrorKind::Other.into())
        })
    })?;
    let generated = session.generate_each(request, prompts, &mut texts);
    drop(texts);
    failure.map_or(Ok(generated), Err)
}

/// Writes what is new of a text at once; between texts stands the line that always does.
fn write_growth(growth: Growth) -> Result<(), Failure> {
    let Growth { number, text, is_whole, is_first } = growth;
    let before = if is_first && number > 0 { "---\n" } else { "" };
    let after = if is_whole { "\n" } else { "" };
    output::write(&format!("{before}{text}{after}"))
}

/// What was asked for is known before a model is read.
fn prompt(args: &SampleArgs) -> Result<Option<TextPrompt>, Failure> {
    let Some(text) = &args.prompt else { return Ok(None) };
    text.parse().map(Some).map_err(prompts::bad_prompt)
}

/// The digits that every line of the file of prompts gives; none without a file.
fn digits(
    args: &SampleArgs,
    lines: &[PromptLine],
    session: &Session,
) -> Result<Option<Vec<Vec<Option<u32>>>>, Failure> {
    let Some(path) = &args.prompts else { return Ok(None) };
    let digits = lines.iter().map(|one| {
        let given = session.prompt(&one.prompt, one.length.or(args.length.map(Into::into)));
        given.map_err(|error| Failure::from(error).context(json_lines::place(path, one.line)))
    });
    digits.collect::<Result<_, _>>().map(Some)
}

/// The samples of all prompts, one after the other.
fn joined(generated: Vec<Generated>) -> Generated {
    let report = generated.iter().map(|one| one.report).collect::<Vec<_>>().iter().sum();
    let mut all = Generated { report, ..Generated::default() };
    for one in generated {
        all.texts.extend(one.texts);
        all.tokens.extend(one.tokens);
        all.trajectories.extend(one.trajectories);
    }
    all
}

/// Flags that say nothing to this model.
pub fn check(args: &SampleArgs, config: &ModelConfig) -> Result<(), Failure> {
    fits::sample(args, Kind::of(config)?)?;
    if args.window.is_some() && config.network.block_len() == 0 {
        let hint = "model.block_len of a model that does is above 0";
        return Err(Failure::usage("--window has no meaning for a model that does not write block by block")
            .hint(hint));
    }
    match args.length {
        Some(length) if length.get() > config.longest_text() => Err(Failure::usage(format!(
            "--length {length} is too long: at most {} for this model",
            config.longest_text()
        ))),
        _ => Ok(()),
    }
}

/// What the library is asked for: `prompt` [L·ℓ] is given.
pub fn request(args: &SampleArgs, session: &Session, prompt: Vec<Option<u32>>) -> Result<Request, Failure> {
    let architecture = session.architecture();
    let sampling = sampling(args, architecture.config().sample.clone())?;
    Ok(Request {
        num: usize::try_from(args.num.get()).map_err(|_| Failure::usage("--num is too large"))?,
        prompt,
        label: label(args, architecture.config())?,
        sampling,
        unit: args.unit.into(),
        order: order(args, session)?,
        per_step: args.per_step.map_or(1, Into::into),
        carry_over: args.carry_over,
        seed: args.seed,
        first_sequence: args.first_sequence,
        batch: args.batch.get(),
        trajectories: args.trace,
        log_probs: None,
    })
}

/// The order; one that the predictions decide leaves no room for a grid, a corrector and marginal draws.
fn order(args: &SampleArgs, session: &Session) -> Result<Order, Failure> {
    let others = [
        ("--steps", args.steps.is_some()),
        ("--sampler", args.images.sampler.is_some() || args.images.preset.is_some()),
        ("--warp", args.warp.is_some()),
        ("--corrector", matches!(args.corrector, Some(CorrectorArg::On(_)))),
        ("--draw marginal", args.draw == Some(DrawArg::Marginal)),
    ];
    let order = args.order;
    if session.is_autoregressive() {
        let carry_over = ("--carry-over", args.carry_over.is_some());
        if let Some((flag, _)) = others.into_iter().chain([carry_over]).find(|(_, given)| *given) {
            return Err(Failure::usage(format!("{flag} has no meaning for an autoregressive model")));
        }
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
            let hint = format!(
                "--order {} reveals N units per evaluation; --steps T is the grid of the random order",
                Order::deterministic_names()
            );
            Err(Failure::usage("--per-step has no meaning with --order random").hint(hint))
        }
        (Order::Random, _) | (_, None) => Ok(order),
        (_, Some((flag, _))) => Err(Failure::usage(format!("{flag} has no meaning with --order {order}"))
            .hint(
                "such an order reveals --per-step units per evaluation, one after the other, by joint draws",
            )),
    }
}

/// The model's sampling, changed by a published sampler, and that by flags.
fn sampling(args: &SampleArgs, mut sampling: Sampling) -> Result<Sampling, Failure> {
    if let Some(name) = args.images.sampler.as_ref().or(args.images.preset.as_ref()) {
        let published = sampler::published_sampler(name).map_err(|_| {
            Failure::usage(format!("--sampler {name}: there is no such published sampler"))
                .hint("`submask help samplers` lists them")
        })?;
        sampling = published.sampling;
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
    sampling.nucleus = args.nucleus.map_or(sampling.nucleus, Into::into);
    if args.nucleus.is_some() && sampling.top_p == 1.0 {
        return Err(Failure::usage("--nucleus has no meaning with --top-p 1, which keeps all tokens")
            .hint("--top-p p, below 1, is the mass of the nucleus"));
    }
    sampling.top_k = args.top_k.unwrap_or(sampling.top_k);
    sampling.window = args.window.map_or(sampling.window, Into::into);
    sampling.min_entropy = args.min_entropy.unwrap_or(sampling.min_entropy);
    sampling.entropy_window = args.entropy_window.unwrap_or(sampling.entropy_window);
    if args.entropy_window.is_some() && sampling.min_entropy == 0.0 {
        return Err(Failure::usage("--entropy-window has no meaning with --min-entropy 0, which is off"));
    }
    if let Some(TripleArg(warp)) = args.warp {
        sampling.warp = warp.into();
    }
    match args.corrector {
        None => {}
        Some(CorrectorArg::Off) => sampling.corrector = None,
        Some(CorrectorArg::On(triple)) => sampling.corrector = Some(triple.into()),
    }
    match args.draw {
        None => {}
        Some(DrawArg::Joint) => sampling.draw = Draw::Joint,
        Some(DrawArg::Marginal) => sampling.draw = Draw::Marginal,
    }
    if args.order != Order::Random {
        let plain = Sampling::default();
        sampling = Sampling { steps: 0, draw: plain.draw, warp: plain.warp, corrector: None, ..sampling };
    }
    sampling.validate().map_err(|error| flags::SAMPLE.name_in(error))?;
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
