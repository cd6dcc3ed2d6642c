//! The kernel and the oracle against what PyTorch, sentence-transformers and trec_eval computed:
//! `scripts/fixtures/README.md` says how the files were made.
//!
//! PyTorch ran in `f64` and in `f32`. The oracle must be the former to the last digits. The kernel computes in `f32` as
//! PyTorch did there, in another order, so it may be as far from the truth as a few times what PyTorch was.

use std::fs;
use std::path::Path;

use host_cli::oracle::{self, Exact, Matrix, Ranking, Rule, Settings, Training};
use nalgebra::DMatrix;
use query_adapter::{
    Batch, Decay, Documents, Lanes, Level, Linear, Optimizer, PanelMatrix, Schedule, Trainer, linear_len,
    normalize_rows, scratch_len,
};
use serde::Deserialize;
use serde_json::Value;

/// Between two ways of computing the same thing in `f64`.
const SAME_F64: f64 = 1e-12;

/// What rounding in `f32` cost PyTorch on these cases, as `scripts/fixtures/README.md` says.
const TORCH_WEIGHT: f64 = 5e-7;
const TORCH_LOSS: f64 = 2e-6;
const TORCH_NORM: f64 = 5e-6;

/// How many times as much it may cost the kernel.
const TIMES: f64 = 2.0;

type Rows = Vec<Vec<f64>>;

#[derive(Deserialize)]
struct TorchCase {
    name: String,
    settings: TorchSettings,
    queries: Rows,
    documents: Rows,
    float32: Vec<TorchStep>,
    float64: Vec<TorchStep>,
}

#[derive(Deserialize)]
struct TorchSettings {
    bias: bool,
    lr: f64,
    total_steps: u32,
    warmup_steps: u32,
    scale: f64,
    max_norm: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
}

#[derive(Deserialize)]
struct TorchStep {
    step: u32,
    rows: [usize; 2],
    lr: f64,
    loss: f64,
    grad_norm: f64,
    weight: Rows,
    bias: Option<Vec<f64>>,
}

impl TorchStep {
    /// The weight, with the bias as its last column.
    fn weight(&self) -> Matrix {
        let weight = matrix(&self.weight);
        let Some(bias) = &self.bias else { return weight };
        let columns = weight.ncols();
        let mut weight = weight.insert_column(columns, 0.0);
        weight.column_mut(columns).copy_from_slice(bias);
        weight
    }
}

#[test]
fn the_oracle_takes_the_steps_of_pytorch_in_f64() {
    let mut steps = 0;
    for case in torch_cases() {
        let settings = &case.settings;
        let dim = case.queries[0].len();
        let columns = dim + usize::from(settings.bias);
        let zeros = Matrix::zeros(dim, columns);
        let start = Matrix::from_fn(dim, columns, |r, k| if r == k && k < dim { 1.0 } else { 0.0 });
        let schedule = oracle::Schedule {
            decay: oracle::Decay::Linear,
            warmup: settings.warmup_steps,
            total: settings.total_steps,
        };
        let of_oracle = Settings {
            rule: Rule::AdamW,
            lr: settings.lr,
            beta1: settings.beta1,
            beta2: settings.beta2,
            eps: settings.eps,
            weight_decay: settings.weight_decay,
            max_norm: settings.max_norm,
            scale: settings.scale,
            schedule,
        };
        let mut training = Training::new(of_oracle, start, settings.bias, zeros);
        for step in &case.float64 {
            let [first, end] = step.rows;
            let queries = matrix(&case.queries[first..end]);
            let report = training.step(&mut Exact, &in_batch(queries, matrix(&case.documents[first..end])));
            let at = format!("{}, step {}", case.name, step.step);
            assert_close(&at, "loss", report.loss, step.loss, SAME_F64);
            assert_close(&at, "norm", report.grad_norm, step.grad_norm, SAME_F64);
            assert_close(&at, "lr", report.lr, step.lr, 1e-17);
            assert_all_close(&at, "weight", &training.weight, &step.weight(), SAME_F64);
            steps += 1;
        }
    }
    assert_eq!(steps, 39, "all steps of all cases");
}

#[test]
fn the_kernel_takes_the_steps_of_pytorch() {
    for case in torch_cases() {
        let settings = &case.settings;
        let dim = case.queries[0].len();
        let len = linear_len(dim, dim, settings.bias);
        let lanes = || vec![Lanes::ZERO; len];
        let adapter =
            Linear::identity(dim, dim, settings.bias, lanes(), Level::detect()).expect("an adapter");
        let optimizer = Optimizer {
            beta1: narrow(settings.beta1),
            beta2: narrow(settings.beta2),
            eps: narrow(settings.eps),
            weight_decay: narrow(settings.weight_decay),
            max_norm: narrow(settings.max_norm),
            ..Optimizer::adamw(narrow(settings.lr))
        };
        let schedule =
            Schedule { decay: Decay::Linear, warmup: settings.warmup_steps, total: settings.total_steps };
        let scale = narrow(settings.scale);
        let mut trainer =
            Trainer::new(adapter, lanes(), lanes(), scale, optimizer, schedule).expect("a trainer");
        for (step, single) in case.float64.iter().zip(&case.float32) {
            let [first, end] = step.rows;
            let queries = row_major(&case.queries[first..end]);
            let mut documents = row_major(&case.documents[first..end]);
            normalize_rows(Level::detect(), &mut documents, dim).expect("normalised");
            let targets: Vec<u32> = (0..).take(end - first).collect();
            let batch = Batch {
                queries: &queries,
                gradient_operand: None,
                documents: Documents::Rows(&documents),
                targets: &targets,
                weights: &vec![1.0; targets.len()],
                mask: &[],
            };
            let mut scratch = vec![Lanes::ZERO; scratch_len(targets.len(), targets.len(), dim, dim)];
            let report = trainer.step(&batch, &mut scratch).expect("a step");
            let at = format!("{}, step {}", case.name, step.step);
            assert_close(&at, "loss", report.loss.into(), step.loss, TIMES * TORCH_LOSS);
            assert_close(
                &at,
                "norm",
                report.grad_norm.into(),
                step.grad_norm,
                TIMES * TORCH_NORM * step.grad_norm,
            );
            assert_close(&at, "lr", report.lr.into(), step.lr, f64::from(f32::EPSILON) * step.lr);
            let weight = trainer.adapter().weight();
            let mut found = vec![0.0; weight.rows() * weight.cols()];
            weight.copy_to_row_major(&mut found).expect("of this size");
            let found = Matrix::from_row_iterator(dim, weight.cols(), found.into_iter().map(f64::from));
            assert_all_close(&at, "weight", &found, &step.weight(), TIMES * TORCH_WEIGHT);
            // And so is PyTorch's own.
            assert_all_close(&at, "weight of PyTorch", &single.weight(), &step.weight(), TORCH_WEIGHT);
            assert_close(&at, "loss of PyTorch", single.loss, step.loss, TORCH_LOSS);
        }
    }
}

#[derive(Deserialize)]
struct LossCase {
    name: String,
    queries: Rows,
    documents: Rows,
    hard_negatives: Vec<Rows>,
    float32: LossValues,
    float64: LossValues,
}

#[derive(Deserialize)]
struct LossValues {
    loss: f64,
    d_query: Rows,
}

impl LossCase {
    /// The candidates in sentence-transformers' order.
    fn candidates(&self) -> Rows {
        self.documents.iter().chain(self.hard_negatives.iter().flatten()).cloned().collect()
    }
}

#[test]
fn the_oracle_has_the_loss_of_sentence_transformers_in_f64() {
    let (scale, cases) = loss_cases();
    for case in &cases {
        let queries = matrix(&case.queries);
        let batch = in_batch(queries.clone(), matrix(&case.candidates()));
        let loss = oracle::loss(&mut Exact, scale, &batch, &queries);
        assert_close(&case.name, "loss", loss.mean, case.float64.loss, SAME_F64);
        let expected = matrix(&case.float64.d_query);
        assert_all_close(
            &case.name,
            "gradient",
            &loss.d_outputs,
            &expected,
            SAME_F64 * (1.0 + expected.amax()),
        );
    }
    assert_eq!(cases.len(), 13);
}

#[test]
fn the_kernel_has_the_loss_of_sentence_transformers() {
    let (scale, cases) = loss_cases();
    for case in &cases {
        let (loss, d_queries) = kernel_loss(narrow(scale), case);
        // A cosine is off by a few roundings, and the loss is 2·scale-Lipschitz in the cosines.
        let of_loss = 4.0 * scale * f64::from(f32::EPSILON);
        assert_close(&case.name, "loss", loss, case.float64.loss, of_loss);
        let expected = matrix(&case.float64.d_query);
        let largest = expected.amax();
        // The same for the gradient, of which the scale is a factor; where all documents are equal it is nothing.
        let of_gradient = 4.0 * f64::from(f32::EPSILON) * scale * (1.0 + largest);
        assert_all_close(&case.name, "gradient", &d_queries, &expected, of_gradient);
        assert_close(&case.name, "loss in f32", case.float32.loss, case.float64.loss, of_loss);
    }
}

/// The kernel's loss, and its gradient with respect to the queries.
///
/// With the identity as weight that is the gradient of the outputs, `dT`. A step shows it: with rows of the identity as
/// gradient operand the gradient of the weight is `dTᵀ`, and with a `beta1` of 0 it stands in `m`.
fn kernel_loss(scale: f32, case: &LossCase) -> (f64, Matrix) {
    let dim = case.queries[0].len();
    let rows = case.queries.len();
    let queries = row_major(&case.queries);
    let mut documents = row_major(&case.candidates());
    normalize_rows(Level::detect(), &mut documents, dim).expect("normalised");
    let targets: Vec<u32> = (0..).take(rows).collect();
    let mut loss = 0.0;
    let mut d_queries = Matrix::zeros(rows, dim);
    for first in (0..rows).step_by(dim) {
        let mut operand = vec![0.0; rows * dim];
        for (row, k) in (first..rows).zip(0..dim) {
            operand[row * dim + k] = 1.0;
        }
        let batch = Batch {
            queries: &queries,
            gradient_operand: Some(&operand),
            documents: Documents::Rows(&documents),
            targets: &targets,
            weights: &vec![1.0; rows],
            mask: &[],
        };
        let lanes = || vec![Lanes::ZERO; linear_len(dim, dim, false)];
        let adapter = Linear::identity(dim, dim, false, lanes(), Level::detect()).expect("an adapter");
        let optimizer = Optimizer { beta1: 0.0, max_norm: f32::INFINITY, ..Optimizer::adamw(0.0) };
        let mut trainer =
            Trainer::new(adapter, lanes(), lanes(), scale, optimizer, Schedule::CONSTANT).expect("a trainer");
        let mut scratch = vec![Lanes::ZERO; scratch_len(rows, documents.len() / dim, dim, dim)];
        loss = trainer.step(&batch, &mut scratch).expect("a step").loss.into();
        let gradient = PanelMatrix::new(dim, dim, trainer.m()).expect("of this size");
        for (row, k) in (first..rows).zip(0..dim) {
            for r in 0..dim {
                d_queries[(row, r)] = gradient.get(r, k).expect("an element").into();
            }
        }
    }
    (loss, d_queries)
}

#[test]
fn the_oracle_has_the_metrics_of_trec_eval() {
    let fixture: Value = serde_json::from_slice(&fixture("pytrec_metrics.json")).expect("JSON");
    let mut compared = 0;
    for case in fixture["cases"].as_array().expect("cases") {
        for (query, results) in case["results"].as_object().expect("results") {
            let (run, qrels) = (&case["run"][query], &case["qrels"][query]);
            let run = run.as_object().expect("a run");
            let ids: Vec<&str> = run.keys().map(String::as_str).collect();
            let scores: Vec<f64> = run.values().map(|score| score.as_f64().expect("a score")).collect();
            let grades: Vec<f64> = ids.iter().map(|id| qrels[id].as_f64().unwrap_or(0.0)).collect();
            let mut ranking = Ranking::new(&scores, &ids, &grades);
            // A relevant document that is missing from the run counts as never found.
            let judged = qrels.as_object().expect("judgements");
            let missing = judged.iter().filter(|(id, _)| !run.contains_key(*id));
            ranking
                .ideal
                .extend(missing.filter_map(|(_, grade)| grade.as_f64()).filter(|grade| *grade > 0.0));
            ranking.ideal.sort_by(|a, b| b.total_cmp(a));
            for (measure, expected) in results.as_object().expect("values") {
                let found = match measure.as_str() {
                    "P_5" => ranking.precision(5),
                    "P_10" => ranking.precision(10),
                    "recall_5" => ranking.recall(5),
                    "recall_10" => ranking.recall(10),
                    "success_1" => ranking.hit_rate(1),
                    "success_5" => ranking.hit_rate(5),
                    "success_10" => ranking.hit_rate(10),
                    "mrr_cut_10" => ranking.mrr(10),
                    "recip_rank" => ranking.mrr(ids.len()),
                    "ndcg_cut_5" => ranking.ndcg(5),
                    "ndcg_cut_10" => ranking.ndcg(10),
                    "map_cut_100" => ranking.map(100),
                    other => panic!("unknown measure {other}"),
                };
                let name = case["name"].as_str().expect("a name");
                assert_close(name, measure, found, expected.as_f64().expect("a value"), SAME_F64);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 12 * 27, "every measure of every query");
}

fn torch_cases() -> Vec<TorchCase> {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<TorchCase>,
    }
    serde_json::from_slice::<File>(&fixture("torch_reference.json")).expect("JSON of this form").cases
}

fn loss_cases() -> (f64, Vec<LossCase>) {
    #[derive(Deserialize)]
    struct File {
        scale: f64,
        cases: Vec<LossCase>,
    }
    let file: File =
        serde_json::from_slice(&fixture("sentence_transformers_loss.json")).expect("JSON of this form");
    (file.scale, file.cases)
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).expect("a fixture")
}

/// Row `i` belongs to document `i`; nothing is masked or weighted. The documents are normalised here.
fn in_batch(queries: Matrix, mut documents: Matrix) -> oracle::Batch {
    for mut document in documents.row_iter_mut() {
        let norm = document.iter().map(|x| x * x).sum::<f64>().sqrt();
        document.iter_mut().for_each(|x| *x /= norm);
    }
    oracle::Batch {
        operand: queries.clone(),
        targets: (0..queries.nrows()).collect(),
        weights: vec![1.0; queries.nrows()],
        masked: DMatrix::from_element(queries.nrows(), documents.nrows(), false),
        queries,
        documents,
    }
}

fn matrix(rows: &[Vec<f64>]) -> Matrix {
    Matrix::from_row_iterator(rows.len(), rows[0].len(), rows.iter().flatten().copied())
}

fn row_major(rows: &[Vec<f64>]) -> Vec<f32> {
    rows.iter().flatten().map(|&x| narrow(x)).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "the fixtures' inputs are exact; settings are rounded")]
fn narrow(x: f64) -> f32 {
    x as f32
}

#[track_caller]
fn assert_close(at: &str, what: &str, found: f64, expected: f64, tolerance: f64) {
    let error = (found - expected).abs();
    assert!(
        error <= tolerance,
        "{at}: {what} {found:e}, expected {expected:e}: {error:.2e} > {tolerance:.2e}"
    );
}

#[track_caller]
fn assert_all_close(at: &str, what: &str, found: &Matrix, expected: &Matrix, tolerance: f64) {
    assert_eq!(found.shape(), expected.shape(), "{at}: {what}");
    for (&found, &expected) in found.iter().zip(expected) {
        assert_close(at, what, found, expected, tolerance);
    }
}
