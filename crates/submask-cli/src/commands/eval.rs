//! `submask eval`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use submask::Model;
use submask::denoiser::Wanted;
use submask::likelihood::Kind as Meaning;
use submask::model::{
    Estimator, EvaluateRequest, EvaluationValues, ItemValue, ModelConfig, SCORE_DRAWS, Session, Subject,
};
use submask::parts::PartSet;

use crate::args::{EvalArgs, fits};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::output::{self, EvalResult, Evaluated};
use crate::settings::estimate;
use crate::shares::{self, ModelFacts};
use crate::subject::{Chosen, Kind, Part, Parts};
use crate::{flags, locate, progress};

/// As parts call it.
pub const VERB: &str = "eval";

/// Measures a model on held-out text, images or points.
pub fn run(args: &EvalArgs, compute: Compute) -> Result<(), Failure> {
    // Before the model is looked for; `choose` does it for other callers.
    check(args)?;
    let folder = locate::checkpoint(&args.model, args.checkpoint)?;
    let chosen = choose(args, &folder, &ModelConfig::read(&folder)?)?;
    let model = Model::open(&folder)?;
    let session = model.session(&compute.open()?)?;
    let request = request(args, &session)?;
    let part = chosen(session.architecture(), args.shard.shard)?;
    let values = {
        let (estimator, name) = (request.estimator.name(), &part.name);
        let _waiting = progress::Waiting::new(format!("{estimator} of {}, {name}", part.parts.count()));
        values(&session, &request, &part, &|| Ok(()))?
    };
    let about = About::new(&session, &folder, &request, (&part.name, part.documents), &values);
    let Some(shard) = args.shard.shard else { return show(&about, &values, args.json) };
    let facts = Facts {
        json: args.json,
        data_fingerprint: part.whole.map(|whole| shares::fingerprint(whole.fingerprint)),
        model: ModelFacts::of(&folder, &model, &session)?,
        about,
    };
    let count = part.whole.map_or(0, |whole| whole.count);
    let items = shares::Items { count, unit: if values.by_document { "documents" } else { "sequences" } };
    let records = |records: &mut submask::parts::Records| {
        values.values.iter().try_for_each(|value| records.push(&value.to_bytes()))
    };
    shares::write((&args.shard, shard), VERB, &items, &facts, records, &[(EVALUATIONS, values.evaluations)])
}

/// What a part says of itself alone.
const EVALUATIONS: &str = "evaluations";

/// What the parts of an evaluation say alike.
#[derive(Serialize, Deserialize)]
struct Facts {
    #[serde(flatten)]
    about: About,
    data_fingerprint: Option<String>,
    model: ModelFacts,
    json: bool,
}

/// What was evaluated, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    folder: String,
    data: String,
    documents: Option<u64>,
    estimator: Estimator,
    draws: u64,
    seed: u64,
    carry_over: Option<bool>,
    conditional_on_class: bool,
    subject: Subject,
    name: String,
    meaning: Meaning,
    by_document: bool,
}

impl About {
    /// Of values of what is called so, in which there is something of so many documents, where they are known.
    pub fn new(
        session: &Session,
        folder: &Path,
        request: &EvaluateRequest,
        (data, documents): (&str, Option<u64>),
        values: &EvaluationValues,
    ) -> Self {
        let architecture = session.architecture();
        Self {
            folder: folder.display().to_string(),
            data: data.to_owned(),
            documents,
            estimator: request.estimator,
            draws: request.draws as u64,
            seed: request.seed,
            carry_over: (!session.is_autoregressive())
                .then(|| request.carry_over.unwrap_or(architecture.predictive().carry_over())),
            conditional_on_class: architecture.config().classes().is_some(),
            subject: architecture.config().subject.clone(),
            name: values.name.clone(),
            meaning: values.kind,
            by_document: values.by_document,
        }
    }

    /// What is printed as JSON.
    ///
    /// # Errors
    /// As [`EvaluationValues::evaluation`].
    pub fn result(&self, values: &EvaluationValues) -> Result<EvalResult, Failure> {
        let evaluation = values.evaluation(&self.subject).map_err(|error| flags::EVAL.name_in(error))?;
        let evaluated = Evaluated::new(values.sequences(), self.documents, &evaluation.sequences);
        let (by_document, by_sequence) = match self.by_document {
            true => (Some(evaluation.sequences), None),
            false => (None, Some(evaluation.sequences)),
        };
        Ok(EvalResult {
            model: self.folder.clone(),
            data: self.data.clone(),
            estimator: self.estimator.name(),
            evaluated,
            draws: self.draws,
            seed: self.seed,
            steps: self.estimator.steps(),
            unit: estimate::unit(self.estimator),
            per_step: estimate::per_step(self.estimator),
            carry_over: self.carry_over,
            conditional_on_class: self.conditional_on_class,
            figures: evaluation.figures,
            by_sequence,
            by_document,
        })
    }
}

/// Prints the figures of all values.
fn show(about: &About, values: &EvaluationValues, json: bool) -> Result<(), Failure> {
    let result = about.result(values)?;
    match json {
        true => output::write_json(&result),
        false => output::write(&output::evaluation_table(&result.figures, &result.evaluated)),
    }
}

/// Prints the figures of all parts.
pub fn merge(set: &PartSet) -> Result<(), Failure> {
    let Facts { about, json, .. } = set.facts()?;
    set.check_records(0)?;
    let values = EvaluationValues {
        name: about.name.clone(),
        kind: about.meaning,
        by_document: about.by_document,
        values: set.read(ItemValue::read)?,
        evaluations: set.sum_of(EVALUATIONS)?,
    };
    show(&about, &values, json)
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

/// The values of a part, as long as they are `wanted`.
pub fn values(
    session: &Session,
    request: &EvaluateRequest,
    part: &Part,
    wanted: Wanted,
) -> Result<EvaluationValues, Failure> {
    let values = match &part.parts {
        Parts::Sequences(share) => session.values_while(request, share, wanted),
        Parts::Documents { first, passages } => {
            session.values_by_document_while(request, *first, passages, wanted)
        }
    };
    Ok(values.map_err(|error| flags::EVAL.name_in(error))?)
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
