//! Figures and samples of a model while it trains.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exchange::Ranks;
use super::search::{Found, IntervalSearch};
use super::subject::HeldOutData;
use super::task::{TrainedModel, check_same_network};
use crate::compute::Compute;
use crate::likelihood::Figure;
use crate::model::{
    Architecture, Estimator, EvaluateRequest, EvaluationValues, Generated, HeldOut, ItemValue, Model,
    Request, Session,
};
use crate::parts::{Bytes, Fields};
use crate::sampler::{SampleReport, Unobserved};
use crate::shard::Peers;
use crate::{Error, Result};

/// States per network call.
const BATCH: usize = 16;

/// Folder of a run that holds pictures of samples.
const SAMPLES: &str = "samples";

/// Figures and samples of a model.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// Valid bound or exact value, and the joint objective, of held-out data.
    pub figures: Vec<Figure>,
    /// Texts, or the paths of pictures.
    pub samples: Vec<String>,
    /// What the samples cost.
    pub report: SampleReport,
}

/// How much a validation evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationSize {
    /// Held-out sequences; 0: all.
    pub sequences: u64,
    /// Monte Carlo draws per sequence.
    pub draws: usize,
}

/// A model of this library, and what it is validated on.
pub(super) struct Validated {
    pub architecture: Arc<Architecture>,
    pub held_out: Box<dyn HeldOutData>,
    pub seed: u64,
    pub compute: Compute,
    /// Folder of the run.
    pub out: PathBuf,
    /// Who evaluates with it.
    pub ranks: Ranks,
}

impl TrainedModel for Validated {
    fn validate(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        step: u64,
    ) -> Result<Validation> {
        let session = Session::new(self.architecture.clone(), average, &self.compute)?;
        let config = self.architecture.config();
        let held_out = self.held_out.sequences(config, size.sequences)?;
        let figures = figures(&session, &held_out, size, self.seed, &self.ranks)?;
        let mut validation = Validation { figures, ..Validation::default() };
        if samples > 0 {
            let generated = self.samples(&session, samples)?;
            validation.report = generated.report;
            let picture = self.out.join(SAMPLES).join(format!("step-{step}.png"));
            validation.samples = self.held_out.show(config, generated, &picture)?;
        }
        Ok(validation)
    }

    fn search(&mut self, average: &[Vec<f32>], sequences: u64, search: &IntervalSearch) -> Result<Found> {
        let session = Session::new(self.architecture.clone(), average, &self.compute)?;
        let held_out = self.held_out.sequences(self.architecture.config(), sequences)?;
        search.run(session.denoiser()?, &held_out)
    }

    fn save(&self, average: &[Vec<f32>], folder: &Path) -> Result<()> {
        self.architecture.save(average, folder)
    }

    fn init_weights(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        let init = Model::open(folder)?;
        let ours = self.architecture.tokenizer();
        if let (Some(theirs), Some(ours)) = (init.tokenizer(), ours)
            && theirs.fingerprint() != ours.fingerprint()
        {
            let given = format!("a tokenizer of {} tokens", self.architecture.config().vocab_size());
            return Err(Error::invalid(
                "tokenizer",
                given,
                "the tokenizer of the model whose weights are the start",
            ));
        }
        check_same_network(init.architecture(), &self.architecture)?;
        Ok(init.weights().to_vec())
    }
}

impl Validated {
    /// Samples of the model: of nothing given, or of the prompts of what is held out, one each.
    fn samples(&self, session: &Session, count: usize) -> Result<Generated> {
        let request = Request { num: count, seed: self.seed, batch: BATCH, ..session.request() };
        let prompts = self.held_out.prompts(&self.architecture, count)?;
        if prompts.is_empty() {
            return session.generate(&request, &mut Unobserved);
        }
        let mut all = Generated::default();
        for (n, prompt) in prompts.into_iter().enumerate() {
            let seed = self.seed.wrapping_add(n as u64);
            let one =
                session.generate(&Request { num: 1, prompt, seed, ..request.clone() }, &mut Unobserved)?;
            all.texts.extend(one.texts);
            all.tokens.extend(one.tokens);
            all.report = [all.report, one.report].iter().sum();
        }
        Ok(all)
    }
}

/// The valid bound (exact value of an autoregressive model) and the joint objective, which only a diffusion network has. Every
/// rank evaluates its share of the sequences.
fn figures(
    session: &Session,
    held_out: &HeldOut,
    size: EvaluationSize,
    seed: u64,
    ranks: &Ranks,
) -> Result<Vec<Figure>> {
    let usual = session.usual_estimator();
    let surrogate = (!session.is_autoregressive()).then_some(Estimator::JointObjective);
    let mut figures = Vec::new();
    for estimator in std::iter::once(usual).chain(surrogate) {
        let request =
            EvaluateRequest { draws: size.draws, seed, batch: BATCH, ..EvaluateRequest::new(estimator) };
        figures.extend(evaluated(session, &request, held_out, ranks)?);
    }
    Ok(figures)
}

/// Figures of the sequences, of which every rank evaluates its share.
fn evaluated(
    session: &Session,
    request: &EvaluateRequest,
    held_out: &HeldOut,
    ranks: &Ranks,
) -> Result<Vec<Figure>> {
    if ranks.count() == 1 {
        return session.evaluate(request, held_out);
    }
    let config = session.architecture().config();
    let share = held_out.share(ranks.shard(), config.classes());
    let own = session.values_while(request, &share, &|| Ok(()))?;
    let head = Bytes::default().u64(own.evaluations).u64(own.values.len() as u64);
    let sent = own.values.iter().fold(head.into_vec(), |mut sent, value| {
        sent.extend(value.to_bytes());
        sent
    });
    let mut all = EvaluationValues { values: Vec::new(), evaluations: 0, ..own };
    for (rank, sent) in ranks.all(sent)?.iter().enumerate() {
        let place = PathBuf::from(format!("the values of rank {rank}"));
        let mut fields = Fields::new(sent, &place);
        all.evaluations += fields.u64()?;
        for _ in 0..fields.u64()? {
            all.values.push(ItemValue::read(&mut fields)?);
        }
        fields.end()?;
    }
    Ok(all.evaluation(&config.subject)?.figures)
}
