//! Fits an adapter to the pairs of a task: the recipe around the kernel's training step.

mod loss_curve;
mod state;

use clap::ValueEnum;
pub use loss_curve::LossCurve;
use query_adapter::sample::epoch_order;
use query_adapter::{
    Anchor, Decay, Error, Join as _, Lanes, Level, Linear, NormForm, Optimizer, OptimizerKind, Schedule,
    Trainer, linear_len, norm_form,
};
use rayon::ThreadPoolBuilder;
use serde::{Deserialize, Serialize};
pub use state::FitState;
use state::{Course, Position};
pub(crate) use state::{adapter_of, not_of_this_run, panels_of};

use crate::averaging::Average;
use crate::batches::Batches;
use crate::failpoints::pause;
use crate::failure::Failure;
use crate::json::quoted;
use crate::metrics::Metric;
use crate::parallel::PoolThreads;
use crate::ranking::Index;
use crate::retrieval_task::{Query, RetrievalTask};

/// Which settings to start from, and how pairs, order and the kept epoch are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// All positives, shuffled, false negatives masked, best epoch on validation kept, the base among them
    Single,
    /// The arithmetic of LlamaIndex's engine: first positive, file order, no mask, last epoch kept
    Reference,
}

/// The documents a query's positive is told apart from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Negatives {
    /// The positives of the other pairs in the batch, and what `negative_docs` lists for its queries
    InBatch,
    /// The positives of all training queries, and all that `negative_docs` lists
    Positives,
    /// The positives, and for each query the documents nearest to it that do not answer it, as the base sees them
    Mined,
    /// The positives, and a sample of the other documents, at most 2048, drawn by the seed
    Sampled,
    /// All documents of the corpus
    Corpus,
}

/// Multiplications of a step's forward pass, or of its scores where they are more, below which threads would wait for one another
/// more than they work: 384 × 384 × 10 are below, 384 × 384 × 32 are not.
const WORTH_THREADS: usize = 1 << 21;

/// Beyond so many documents telling each positive from all others takes longer than it is worth by default.
pub const MOST_POSITIVES: usize = 4096;

/// Everything that decides what a fit gives, beside the data.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// The recipe.
    pub recipe: Recipe,
    /// Passes over the pairs, at least 1.
    pub epochs: u32,
    /// Pairs a step, at least 2.
    pub batch_size: u32,
    /// 1 / temperature.
    #[serde(serialize_with = "serialize_shortest")]
    pub scale: f32,
    /// The optimiser's settings.
    #[serde(serialize_with = "serialize_optimizer")]
    pub optimizer: Optimizer,
    /// Steps of warm-up; none for a tenth of all steps.
    pub warmup: Option<u32>,
    /// How the learning rate falls after the warm-up.
    #[serde(serialize_with = "serialize_schedule")]
    pub schedule: Decay,
    /// Whether there is a bias.
    pub bias: bool,
    /// The negatives; none for [`Negatives::Positives`] as long as they are at most [`MOST_POSITIVES`] documents.
    pub negatives: Option<Negatives>,
    /// Damping of the second-order step whose gradient operand is the queries times the inverse of their second moments;
    /// none for a first-order step.
    #[serde(serialize_with = "serialize_optional")]
    pub precondition: Option<f32>,
    /// Whether an epoch's adapter is the mean of the weights over the last part of the run, up to its second half, and
    /// not the last weights.
    pub average: bool,
    /// Seed of the order.
    pub seed: u64,
}

impl Settings {
    /// The settings of a single run.
    #[must_use]
    pub fn single() -> Self {
        Self::of(Recipe::Single)
    }

    /// A recipe's own settings.
    #[must_use]
    pub fn of(recipe: Recipe) -> Self {
        match recipe {
            Recipe::Single => Self {
                recipe: Recipe::Single,
                epochs: 16,
                batch_size: 64,
                scale: 20.0,
                optimizer: Optimizer::adamw(5e-4),
                warmup: None,
                schedule: Decay::Linear,
                bias: false,
                negatives: None,
                precondition: None,
                average: false,
                seed: 0,
            },
            Recipe::Reference => Self {
                recipe,
                epochs: 1,
                batch_size: 10,
                scale: 20.0,
                optimizer: Optimizer::adamw(2e-5),
                warmup: None,
                schedule: Decay::Linear,
                bias: false,
                negatives: Some(Negatives::InBatch),
                precondition: None,
                average: false,
                seed: 0,
            },
        }
    }
}

fn serialize_optimizer<S: serde::Serializer>(
    optimizer: &Optimizer,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeStruct as _;
    let mut out = serializer.serialize_struct("Optimizer", 7)?;
    out.serialize_field("kind", optimizer_name(optimizer.kind))?;
    out.serialize_field("lr", &shortest(optimizer.lr))?;
    out.serialize_field("beta1", &shortest(optimizer.beta1))?;
    out.serialize_field("beta2", &shortest(optimizer.beta2))?;
    out.serialize_field("eps", &shortest(optimizer.eps))?;
    out.serialize_field("weight_decay", &shortest(optimizer.weight_decay))?;
    // JSON has no infinity: no clipping is null.
    out.serialize_field("clip", &Some(shortest(optimizer.max_norm)).filter(|norm| norm.is_finite()))?;
    out.end()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn serialize_shortest<S: serde::Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(shortest(*value))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn serialize_optional<S: serde::Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(shortest).serialize(serializer)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn serialize_schedule<S: serde::Serializer>(schedule: &Decay, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match schedule {
        Decay::Constant => "constant",
        Decay::Cosine => "cosine",
        _ => "linear",
    })
}

/// The `f64` that prints as the `f32` does: 0.9, not 0.8999999761581421.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

/// The name of an update rule on the command line and in files.
#[must_use]
pub fn optimizer_name(kind: OptimizerKind) -> &'static str {
    match kind {
        OptimizerKind::Sgd => "sgd",
        OptimizerKind::Adam => "adam",
        _ => "adamw",
    }
}

/// What one epoch did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Mean loss over the pairs, each before the step it took part in.
    pub loss: f64,
    /// nDCG@10 on validation after the epoch, where there is a validation set.
    pub validation_ndcg: Option<f64>,
}

/// What a fit tells while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The first step is about to be taken.
    Start(&'a Shapes),
    /// A step was taken.
    Step(Progress),
    /// An epoch is over.
    Epoch(Progress, &'a Epoch),
    /// Between two steps, and after the last: where the fit stands, to go on from another time.
    Between(&'a FitState<'a>),
}

/// How large a fit is, and in which form it runs.
#[derive(Clone, Debug, Serialize)]
pub struct Shapes {
    /// Components of a vector.
    pub dim: usize,
    /// Queries to learn from.
    pub queries: usize,
    /// Pairs of a query and a document that answers it.
    pub pairs: usize,
    /// Documents of the corpus.
    pub documents: usize,
    /// What the answers are told apart from.
    pub negatives: Negatives,
    /// Documents in a step, at most.
    pub candidates: usize,
    /// Pairs in a step, at most.
    pub batch_size: usize,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Steps of the run.
    pub steps: u32,
    /// Steps that an interrupted run had taken; 0 for a run from the beginning.
    pub resumed_after: u32,
    /// Steps of warm-up.
    pub warmup: u32,
    /// Threads that share a step.
    pub threads: usize,
    /// The SIMD level.
    pub simd: &'static str,
    /// How the gradient's norm is computed in a step of `batch_size` pairs: `gram` or `direct`.
    pub norm: &'static str,
    /// Whether the gradient is `fused` into the update, or `stored` and read again.
    pub gradient: &'static str,
    /// Bytes of weights, moments, means and the buffers of the batches.
    pub memory: u64,
}

/// How far a fit is after a step.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Progress {
    /// Steps done.
    pub step: u32,
    /// Epoch, from 1.
    pub epoch: u32,
    /// Mean loss of the step's pairs.
    pub loss: f32,
    /// Norm of the step's gradient before clipping.
    pub grad_norm: f32,
    /// Learning rate of the step.
    pub lr: f32,
}

/// An adapter over host memory.
pub type Adapter = Linear<Vec<Lanes>>;

/// The result of a fit.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The adapter of the kept epoch.
    pub adapter: Adapter,
    /// The kept epoch, from 1; 0 is the untouched base.
    pub kept_epoch: u32,
    /// All epochs in order.
    pub epochs: Vec<Epoch>,
    /// The losses of all steps.
    pub losses: LossCurve,
    /// Steps taken.
    pub steps: u32,
    /// Pairs trained on.
    pub pairs: usize,
    /// Distinct queries that took part in a step.
    pub queries_visited: usize,
    /// What a careful user would want to know.
    pub notes: Vec<String>,
}

/// A query with one of its positives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) query: u32,
    pub(crate) document: u32,
}

impl Pair {
    /// What it counts: all pairs of a query together count 1.
    #[allow(clippy::cast_precision_loss, reason = "a query has far fewer than 2^24 positives")]
    pub(crate) fn weight(self, task: &RetrievalTask, recipe: Recipe) -> f32 {
        1.0 / taken(task.query(self.query as usize), recipe).len() as f32
    }
}

/// Fits an adapter to `task`, whose corpus is in `index`; `validation` chooses the epoch where the recipe does so. After
/// the first step of a run, a step asks for no memory.
///
/// With the state that a fit of the same data and settings was in, `from`, the rest of it follows, to the same bits.
///
/// # Errors
///
/// [`Failure::Input`] when the pairs offer no negatives, [`Failure::Numerical`] when the kernel refuses a step,
/// [`Failure::Other`] when `from` is not a state of this fit, and those of `observe`.
pub fn fit(
    task: &RetrievalTask,
    index: &Index,
    validation: Option<(&RetrievalTask, &Index)>,
    settings: &Settings,
    from: Option<&FitState<'_>>,
    level: Level,
    mut observe: impl FnMut(Event<'_>) -> Result<(), Failure> + Send,
) -> Result<Fit, Failure> {
    let job = Job { task, index, settings, from, level };
    let threads = index.threads();
    if threads.get() > 1 {
        // Without a pool, for want of threads, one thread does it all, to the same bits.
        if let Ok(pool) = ThreadPoolBuilder::new().num_threads(threads.get()).build() {
            return pool.install(|| fit_on(PoolThreads(threads), job, validation, &mut observe));
        }
    }
    fit_on(PoolThreads::ONE, job, validation, &mut observe)
}

/// How large a fit is, without a step of it.
///
/// # Errors
///
/// As [`fit`], before its first step.
pub fn plan(
    task: &RetrievalTask,
    index: &Index,
    settings: &Settings,
    level: Level,
) -> Result<Shapes, Failure> {
    let mut shapes = None;
    let fitted = fit(task, index, None, settings, None, level, |event| match event {
        Event::Start(found) => {
            shapes = Some(found.clone());
            Err(Failure::Usage("this is as far as a plan goes".to_owned()))
        }
        _ => Ok(()),
    });
    match (shapes, fitted) {
        (Some(shapes), _) => Ok(shapes),
        (None, Err(failure)) => Err(failure),
        (None, Ok(_)) => Err(Failure::Usage("the run has no step".to_owned())),
    }
}

/// What is fitted to what, and from where.
#[derive(Clone, Copy)]
struct Job<'a> {
    task: &'a RetrievalTask,
    index: &'a Index,
    settings: &'a Settings,
    from: Option<&'a FitState<'a>>,
    level: Level,
}

/// Who is told of a fit, by a pointer: what follows is compiled once and not for each caller.
type Observe<'a> = dyn FnMut(Event<'_>) -> Result<(), Failure> + 'a;

fn fit_on(
    threads: PoolThreads,
    job: Job<'_>,
    validation: Option<(&RetrievalTask, &Index)>,
    observe: &mut Observe<'_>,
) -> Result<Fit, Failure> {
    let Job { task, settings, from, level, .. } = job;
    let Some((held_out, held_out_index)) = validation.filter(|_| settings.recipe == Recipe::Single) else {
        let run = run(threads, job, observe, &mut NoLook)?;
        return Ok(run.kept(settings.epochs, None));
    };
    let base = identity(task.dim(), settings.bias, level)?;
    let mut choice = Choice::new(ndcg_values(held_out_index, held_out, &base)?, base);
    if let Some((epoch, best)) =
        from.map(|from| from.best(task.dim(), settings.bias, level)).transpose()?.flatten()
    {
        choice.best = Some((epoch, ndcg_values(held_out_index, held_out, &best)?, best));
    }
    let mut validation = Validation { task: held_out, index: held_out_index, choice };
    let mut run = run(threads, job, observe, &mut validation)?;
    let (kept_epoch, adapter) = validation.choice.decide(&mut run.notes);
    Ok(run.kept(kept_epoch, Some(adapter)))
}

/// Fits on the calling thread, and returns the adapter after each of the epochs `stops`, which ascend; the last of them
/// ends the run. Stop 0 is the starting point. `go_on` is asked before each step, and its failure ends the run.
pub(crate) fn fit_to_stops(
    task: &RetrievalTask,
    index: &Index,
    settings: &Settings,
    stops: &[u32],
    level: Level,
    go_on: impl Fn() -> Result<(), Failure>,
) -> Result<Vec<Adapter>, Failure> {
    pause("fit");
    let mut kept = Stops { stops, adapters: Vec::with_capacity(stops.len()) };
    let job = Job { task, index, settings, from: None, level };
    run(PoolThreads::ONE, job, &mut |_| go_on(), &mut kept)?;
    Ok(kept.adapters)
}

/// Looks at a fit at the end of its epochs.
trait Look {
    /// Takes the epoch, 0 before the first, and the adapter as it is then; says what validation says.
    fn look(&mut self, epoch: u32, adapter: &Adapter) -> Result<Option<f64>, Failure>;

    /// The best epoch so far, and its adapter.
    fn best(&self) -> Option<(u32, &Adapter)> {
        None
    }
}

struct NoLook;

impl Look for NoLook {
    fn look(&mut self, _: u32, _: &Adapter) -> Result<Option<f64>, Failure> {
        Ok(None)
    }
}

/// Measures each epoch on queries held out.
struct Validation<'a> {
    task: &'a RetrievalTask,
    index: &'a Index,
    choice: Choice,
}

impl Look for Validation<'_> {
    fn look(&mut self, epoch: u32, adapter: &Adapter) -> Result<Option<f64>, Failure> {
        if epoch == 0 {
            return Ok(None);
        }
        let values = ndcg_values(self.index, self.task, adapter)?;
        Ok(Some(self.choice.offer(epoch, values, adapter)))
    }

    fn best(&self) -> Option<(u32, &Adapter)> {
        self.choice.best.as_ref().map(|(epoch, _, adapter)| (*epoch, adapter))
    }
}

/// Keeps the adapters of some epochs.
struct Stops<'a> {
    stops: &'a [u32],
    adapters: Vec<Adapter>,
}

impl Look for Stops<'_> {
    fn look(&mut self, epoch: u32, adapter: &Adapter) -> Result<Option<f64>, Failure> {
        if self.stops.contains(&epoch) {
            self.adapters.push(adapter.clone());
        }
        Ok(None)
    }
}

/// The untouched base.
pub(crate) fn identity(dim: usize, bias: bool, level: Level) -> Result<Adapter, Failure> {
    Ok(Linear::identity(dim, dim, bias, vec![Lanes::ZERO; linear_len(dim, dim, bias)], level)?)
}

/// What all epochs of a run did.
struct Run {
    /// The adapter after the last epoch.
    last: Adapter,
    epochs: Vec<Epoch>,
    losses: LossCurve,
    steps: u32,
    pairs: usize,
    queries_visited: usize,
    notes: Vec<String>,
}

impl Run {
    /// The fit that keeps `adapter`, or the last one, from epoch `kept_epoch`.
    fn kept(self, kept_epoch: u32, adapter: Option<Adapter>) -> Fit {
        let Self { last, epochs, losses, steps, pairs, queries_visited, notes } = self;
        Fit {
            adapter: adapter.unwrap_or(last),
            kept_epoch,
            epochs,
            losses,
            steps,
            pairs,
            queries_visited,
            notes,
        }
    }
}

/// Takes all steps, on all of the threads where they gain something.
fn run(
    threads: PoolThreads,
    job: Job<'_>,
    observe: &mut Observe<'_>,
    look: &mut dyn Look,
) -> Result<Run, Failure> {
    let Job { task, index, settings, from, level } = job;
    let dim = task.dim();
    require_negatives(task, settings, "training pairs")?;
    let all_pairs = pairs_of(task, settings.recipe);
    let mut pairs = Vec::with_capacity(all_pairs.clone().count());
    pairs.extend(all_pairs);
    let batch_size = (settings.batch_size as usize).min(pairs.len());
    let steps_per_epoch = pairs.len().div_ceil(batch_size);
    let steps = u32::try_from(steps_per_epoch)
        .ok()
        .and_then(|steps| steps.checked_mul(settings.epochs))
        .ok_or_else(|| Failure::Usage("the run has more than 2^32 steps; lower --epochs".to_owned()))?;
    let warmup = settings.warmup.unwrap_or(steps / 10);
    let mut notes = Vec::new();
    if warmup >= steps {
        notes.push(format!(
            "the warm-up of {warmup} steps is as long as the whole run of {steps}: the full learning rate is never \
             reached; lower --warmup"
        ));
    }
    if settings.optimizer.lr == 0.0 {
        notes.push("the learning rate is 0: nothing is learnt".to_owned());
    }

    let (adapter, average) = match from {
        Some(from) => (from.adapter(dim, settings.bias, level)?, from.average(dim, settings.bias, level)?),
        None => {
            let base = identity(dim, settings.bias, level)?;
            let average = settings.average.then(|| Average::new(&base));
            (base, average)
        }
    };
    let len = linear_len(dim, dim, settings.bias);
    let len_bytes = (len * size_of::<Lanes>()) as u64;
    let moments = if settings.optimizer.kind.has_moments() { len } else { 0 };
    let schedule = Schedule { decay: settings.schedule, warmup, total: steps };
    let state = || vec![Lanes::ZERO; moments];
    let mut trainer = Trainer::new(adapter, state(), state(), settings.scale, settings.optimizer, schedule)?;
    if settings.recipe == Recipe::Single {
        trainer.set_anchor(Anchor::Identity)?;
    }
    let (at, epochs, losses) = match from {
        Some(from) => {
            from.restore(&mut trainer)?;
            (from.position(), from.epochs.to_vec(), from.losses.clone().into_owned())
        }
        None => (Position::begin(1), Vec::new(), LossCurve::new(steps)),
    };
    if let Some(from) = from {
        let before = epochs.len() * steps_per_epoch + at.step as usize;
        if epochs.len() + 1 != at.epoch as usize || before != from.steps as usize || from.steps > steps {
            return Err(not_of_this_run("its counts of steps and epochs do not fit together"));
        }
    }
    let mut course = Course { at, trainer, epochs, losses, average };

    let mut batches = Batches::new(task, index, &pairs, settings, batch_size, level)?;
    let work = batch_size.saturating_mul(dim).saturating_mul(dim.max(batches.most_candidates));
    let threads = if work < WORTH_THREADS { PoolThreads::ONE } else { threads };
    let (norm, gradient) = match norm_form(batch_size, dim) {
        NormForm::Gram => ("gram", "fused"),
        NormForm::Direct => ("direct", "stored"),
    };
    observe(Event::Start(&Shapes {
        dim,
        queries: task.queries().len(),
        pairs: pairs.len(),
        documents: task.corpus().len(),
        negatives: batches.negatives,
        candidates: batches.most_candidates,
        batch_size,
        steps_per_epoch,
        steps,
        resumed_after: course.trainer.state().steps,
        warmup,
        threads: threads.threads(),
        simd: level.name(),
        norm,
        gradient,
        memory: batches.memory() + (1 + 2 * u64::from(moments > 0) + u64::from(settings.average)) * len_bytes,
    }))?;
    if from.is_none() {
        look.look(0, course.trainer.adapter())?;
    }
    let mut order: Vec<u32> = (0..).take(pairs.len()).collect();
    // All took part in an epoch that is over.
    let mut visited = vec![course.at.epoch > 1; task.queries().len()];
    for epoch in course.at.epoch..=settings.epochs {
        if settings.recipe == Recipe::Single {
            epoch_order(&mut order, settings.seed, epoch - 1);
        }
        let mut last = Progress {
            step: course.trainer.state().steps,
            epoch,
            loss: f32::NAN,
            grad_norm: f32::NAN,
            lr: f32::NAN,
        };
        for (step, chosen) in (1..).zip(order.chunks(batch_size)) {
            for &pair in chosen {
                visited[pairs[pair as usize].query as usize] = true;
            }
            if step <= course.at.step {
                continue;
            }
            let (batch, scratch) = batches.fill(chosen)?;
            let report = course
                .trainer
                .step_on(&threads, &batch, scratch)
                .map_err(|error| refusal(error, course.trainer.state().steps, chosen, &pairs, task))?;
            let weight: f64 = batch.weights.iter().map(|&weight| f64::from(weight)).sum();
            course.at.step = step;
            course.at.loss_sum += f64::from(report.loss) * weight;
            course.at.weight_sum += weight;
            course.losses.add(course.trainer.state().steps, report.loss);
            if let Some(average) = &mut course.average {
                average.offer(course.trainer.adapter(), epoch, step as usize, steps_per_epoch);
            }
            last = Progress {
                step: course.trainer.state().steps,
                epoch,
                loss: report.loss,
                grad_norm: report.grad_norm,
                lr: report.lr,
            };
            observe(Event::Step(last))?;
            pause("step");
            observe(Event::Between(&course.state(look.best())))?;
        }
        let loss = course.at.loss_sum / course.at.weight_sum;
        let done = Epoch { loss, validation_ndcg: look.look(epoch, course.adapter())? };
        observe(Event::Epoch(last, &done))?;
        course.epochs.push(done);
        course.at = Position::begin(epoch.saturating_add(1));
        observe(Event::Between(&course.state(look.best())))?;
    }

    let queries_visited = visited.iter().filter(|&&visited| visited).count();
    let last = course.adapter().clone();
    let Course { epochs, losses, .. } = course;
    Ok(Run { last, epochs, losses, steps, pairs: pairs.len(), queries_visited, notes })
}

pub(crate) fn ndcg_values(
    index: &Index,
    task: &RetrievalTask,
    adapter: &Adapter,
) -> Result<Vec<f64>, Failure> {
    let evaluation = index.evaluate(task, Some(adapter))?;
    Ok(evaluation.values(Metric::NDCG_AT_10).map(Iterator::collect).unwrap_or_default())
}

/// Which epoch to keep: the one of the best mean nDCG@10 on validation, the earliest of equals, and the untouched base
/// unless that gain exceeds its own standard error. The best of many noisy means is too good by about as much.
struct Choice {
    base_values: Vec<f64>,
    base: Adapter,
    best: Option<(u32, Vec<f64>, Adapter)>,
}

impl Choice {
    fn new(base_values: Vec<f64>, base: Adapter) -> Self {
        Self { base_values, base, best: None }
    }

    /// Takes an epoch's values, query by query; returns their mean.
    fn offer(&mut self, epoch: u32, values: Vec<f64>, adapter: &Adapter) -> f64 {
        let offered = mean(&values);
        let to_beat = mean(self.best.as_ref().map_or(&self.base_values, |(_, values, _)| values));
        if offered > to_beat {
            self.best = Some((epoch, values, adapter.clone()));
        }
        offered
    }

    fn decide(self, notes: &mut Vec<String>) -> (u32, Adapter) {
        let Some((epoch, values, adapter)) = self.best else { return (0, self.base) };
        let gains: Vec<f64> =
            values.iter().zip(&self.base_values).map(|(value, base)| value - base).collect();
        let (gain, error) = (mean(&gains), standard_error(&gains));
        if gain > error {
            return (epoch, adapter);
        }
        notes.push(format!(
            "the best epoch, {epoch}, gained {gain:+.4} nDCG@10 on {} validation queries, which is within its standard \
             error of {error:.4}: the base is kept",
            gains.len()
        ));
        (0, self.base)
    }
}

#[allow(clippy::cast_precision_loss, reason = "numbers of queries are far below 2^53")]
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of the mean; 0 for a single value, of which nothing is known.
#[allow(clippy::cast_precision_loss, reason = "numbers of queries are far below 2^53")]
pub(crate) fn standard_error(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let (mean, n) = (mean(values), values.len() as f64);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (squares / (n - 1.0) / n).sqrt()
}

/// The pairs that a recipe trains on, query by query.
fn pairs_of(task: &RetrievalTask, recipe: Recipe) -> impl Iterator<Item = Pair> + Clone {
    (0..).zip(task.queries().iter()).flat_map(move |(query, entry)| {
        taken(entry, recipe).iter().map(move |&document| Pair { query, document })
    })
}

/// The positives of a query that a recipe takes: the default one every one, the reference the first.
fn taken(query: Query<'_>, recipe: Recipe) -> &[u32] {
    let positives = query.positives.documents();
    match recipe {
        Recipe::Single => positives,
        Recipe::Reference => &positives[..positives.len().min(1)],
    }
}

/// Refuses `which` pairs when their answers are one document, or, where equal texts are masked, one text: the loss would
/// be 0 whatever the adapter does.
pub(crate) fn require_negatives(
    task: &RetrievalTask,
    settings: &Settings,
    which: &str,
) -> Result<(), Failure> {
    let pairs = pairs_of(task, settings.recipe);
    let corpus = task.corpus();
    let identity = |document: u32| match settings.recipe {
        Recipe::Single => corpus.text_group(document),
        Recipe::Reference => document,
    };
    let first = pairs.clone().next().map(|pair| identity(pair.document));
    let listed = task.queries().iter().flat_map(|query| query.negatives.iter().copied());
    let listed = listed.filter(|_| settings.recipe == Recipe::Single);
    let mut others = pairs.clone().map(|pair| pair.document).chain(listed);
    let mut all = (0..).take(corpus.len());
    let differs = |document: u32| Some(identity(document)) != first;
    let enough = match settings.negatives {
        Some(Negatives::Corpus | Negatives::Mined | Negatives::Sampled) => all.any(differs),
        _ => others.any(differs),
    };
    if enough {
        return Ok(());
    }
    let problem = format!(
        "{which}: {}, with one document between them, expected at least two documents; without another one to tell \
         the answer from there is nothing to learn",
        pairs.count()
    );
    Err(Failure::input(task.file(), problem))
}

/// Says what the kernel refused, and names the query where it is one query's.
fn refusal(error: Error, step: u32, chosen: &[u32], pairs: &[Pair], task: &RetrievalTask) -> Failure {
    let cause = match error {
        Error::NotFinite { what: what @ ("transformed query" | "loss" | "gradient"), row } => {
            let query = chosen.get(row).map(|&pair| task.query(pairs[pair as usize].query as usize).id);
            let query = query.map_or_else(String::new, |id| format!(" of query {}", quoted(id)));
            format!("the {what}{query} is not finite")
        }
        Error::NotFinite { what, .. } => format!("the {what} is not finite"),
        error => error.to_string(),
    };
    Failure::Numerical(format!(
        "training stopped at step {}: {cause}; try a smaller --lr or --scale, and look at the vectors' norms",
        step + 1
    ))
}
