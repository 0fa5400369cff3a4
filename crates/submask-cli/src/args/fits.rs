//! Which flag has a meaning for which subject: the one table of it.

use super::{EvalArgs, SampleArgs, TrainArgs};
use crate::failure::Failure;
use crate::subject::Kind;

/// A flag, whether it was given, and the subjects that read it.
struct Fit<A> {
    flag: &'static str,
    given: fn(&A) -> bool,
    subjects: &'static [Kind],
}

const TEXT: &[Kind] = &[Kind::Text];
const IMAGES: &[Kind] = &[Kind::Image];
const POINTS: &[Kind] = &[Kind::Point];
/// What has something in between to be seen.
const SHOWN: &[Kind] = &[Kind::Text, Kind::Image];
const DRAWN: &[Kind] = &[Kind::Image, Kind::Point];

const fn fit<A>(flag: &'static str, subjects: &'static [Kind], given: fn(&A) -> bool) -> Fit<A> {
    Fit { flag, given, subjects }
}

/// Flags of `submask sample` that not every subject reads.
const SAMPLE: [Fit<SampleArgs>; 12] = [
    fit("--prompt", TEXT, |args| args.prompt.is_some()),
    fit("--prompts", TEXT, |args| args.prompts.is_some()),
    fit("--length", TEXT, |args| args.length.is_some()),
    fit("--window", TEXT, |args| args.window.is_some()),
    fit("--trace", SHOWN, |args| args.trace),
    fit("--out", DRAWN, |args| args.images.out.is_some()),
    fit("--label", IMAGES, |args| args.images.label.is_some()),
    fit("--given", IMAGES, |args| args.images.given.is_some()),
    fit("--mask", IMAGES, |args| args.images.mask.is_some()),
    fit("--keep-digits", IMAGES, |args| args.images.keep_digits.is_some()),
    fit("--keep-channels", IMAGES, |args| !args.images.keep_channels.is_empty()),
    fit("--sampler", DRAWN, |args| args.images.sampler.is_some() || args.images.preset.is_some()),
];

/// Flags of `submask eval` that not every subject reads.
const EVAL: [Fit<EvalArgs>; 14] = [
    fit("--split", TEXT, |args| args.split.is_some()),
    fit("--field", TEXT, |args| args.field.is_some()),
    fit("--by-document", TEXT, |args| args.by_document),
    fit("--end", TEXT, |args| args.layout.end),
    fit("--stride", TEXT, |args| args.layout.stride.is_some()),
    fit("--format", TEXT, |args| args.reading.format.is_some()),
    fit("--join", TEXT, |args| args.reading.join.is_some()),
    fit("--separator", TEXT, |args| args.reading.separator.is_some()),
    fit("--skip-bad", TEXT, |args| args.reading.skip_bad.is_some()),
    fit("--prompt-field", TEXT, |args| args.prompt_field.is_some()),
    fit("--completion-field", TEXT, |args| args.completion_field.is_some()),
    fit("--images", IMAGES, |args| args.images.images.is_some()),
    fit("--labels", IMAGES, |args| args.images.labels.is_some()),
    fit("--part", IMAGES, |args| args.images.part.is_some()),
];

/// Flags of `submask train` that not every subject reads.
const TRAIN: [Fit<TrainArgs>; 2] = [
    fit("--image", POINTS, |args| args.image.is_some()),
    fit("--valid", SHOWN, |args| !args.settings.valid.is_empty()),
];

/// Refuses flags of `submask sample` that say nothing to a model of this kind.
pub fn sample(args: &SampleArgs, kind: Kind) -> Result<(), Failure> {
    check(&SAMPLE, args, "model", kind)
}

/// Refuses flags of `submask eval` that say nothing to a model of this kind.
pub fn eval(args: &EvalArgs, kind: Kind) -> Result<(), Failure> {
    check(&EVAL, args, "model", kind)
}

/// Refuses flags of `submask train` that say nothing to a run of this kind.
pub fn train(args: &TrainArgs, kind: Kind) -> Result<(), Failure> {
    check(&TRAIN, args, "run", kind)
}

fn check<A>(table: &[Fit<A>], args: &A, what: &str, kind: Kind) -> Result<(), Failure> {
    let unread = table.iter().find(|fit| !fit.subjects.contains(&kind) && (fit.given)(args));
    let Some(Fit { flag, subjects, .. }) = unread else { return Ok(()) };
    let read_by: Vec<&str> = subjects.iter().map(|subject| subject.name()).collect();
    Err(Failure::usage(format!("{flag} has a meaning for {} only", read_by.join(" and ")))
        .hint(format!("the {what} is of {}; `--help` says what reads the flag", kind.name())))
}
