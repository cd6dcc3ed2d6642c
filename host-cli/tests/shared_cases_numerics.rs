//! The numerical cases of the shared collection, where it is present: the kernel against values of 60 digits, of other
//! libraries and of hand-made formulas. `check` and the reference fixtures hold the same things without it.

#![allow(
    clippy::cast_possible_truncation,
    clippy::type_complexity,
    reason = "small numbers of a test, and a table of its cases"
)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use host_cli::adapter_file;
use host_cli::export::{self, ExportFormat, ExportOptions};
use host_cli::metrics::{Gain, Judged, Measure, Metric, best_documents};
use host_cli::retrieval_task::RetrievalTask;
use query_adapter::image::{Image, Metadata};
use query_adapter::reference::reference_softmax_cross_entropy;
use query_adapter::{
    Batch, Decay, Documents, Error, Lanes, Level, Linear, Optimizer, OptimizerKind, PanelMatrix, Schedule,
    StepReport, Trainer, cosine_scores, linear_len, math, normalize_rows, panel_len, scratch_len,
};
use serde_json::Value;

#[test]
fn every_numerical_case_has_its_stated_values() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/inputs");
    if !folder.is_dir() {
        // Past the test harness, which hides what a test prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} is absent", folder.display());
        return;
    }
    let mut cases = Cases { folder, compared: 0 };
    let mut ran = Vec::new();
    let all: [(&str, fn(&mut Cases)); 14] = [
        ("B1", forward_and_backward),
        ("B2", extreme_logits),
        ("B4", zero_vectors),
        ("B6", adam_steps),
        ("B8", weight_decay),
        ("B9", clipping),
        ("B12", fused_products),
        ("B13", long_dot_products),
        ("B14", exponentials),
        ("B15", losses_near_zero),
        ("B17", orientation),
        ("B19", one_sum_everywhere),
        ("C1", exported_bits),
        ("E20", whole_runs),
    ];
    for (name, case) in all {
        let before = cases.compared;
        case(&mut cases);
        assert!(cases.compared > before, "{name} compared nothing");
        ran.push(format!("{name} ({})", cases.compared - before));
    }
    let _ = writeln!(std::io::stderr(), "compared with the shared cases: {}", ran.join(", "));
}

/// The folder, and how many values were compared.
struct Cases {
    folder: PathBuf,
    compared: usize,
}

impl Cases {
    fn read(&self, file: &str) -> Value {
        let file = self.folder.join(file);
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[track_caller]
    fn near(&mut self, what: &str, found: impl Into<f64>, expected: f64, tolerance: f64) {
        let found = found.into();
        let error = (found - expected).abs();
        assert!(
            error <= tolerance,
            "{what}: {found:e}, expected {expected:e}, off by {error:.1e}, not {tolerance:.1e}"
        );
        self.compared += 1;
    }

    #[track_caller]
    fn holds(&mut self, what: &str, condition: bool) {
        assert!(condition, "{what}");
        self.compared += 1;
    }
}

/// B1: loss and gradients of six shapes.
fn forward_and_backward(cases: &mut Cases) {
    for case in list(&cases.read("B1/mnrl_forward_backward.json")) {
        let (in_dim, out_dim) = (integer(&case["dim_in"]), integer(&case["dim_out"]));
        let name = format!("B1, {} rows, {in_dim} → {out_dim}", case["B"]);
        let mut documents = floats(&case["D"]);
        normalize_rows(Level::detect(), &mut documents, out_dim).expect("normalised");
        let step = Step {
            in_dim,
            out_dim,
            weight: floats(&case["W_row_major"]),
            bias: Some(floats(&case["b"])),
            queries: floats(&case["Q"]),
            operand: None,
            documents: documents.clone(),
            scale: float(&case["scale"]),
        };
        let expected = &case["expected"];
        let (report, gradient) = step.gradient().expect("a step");
        let loss = number(&expected["loss"]);
        let tolerance = number(&case["tol"]["loss_abs"]) + number(&case["tol"]["loss_rel"]) * loss;
        cases.near(&name, report.loss, loss, tolerance);
        let tolerance = number(&case["tol"]["grad_abs"]);
        for (r, row) in gradient.chunks_exact(in_dim + 1).enumerate() {
            let d_weight = numbers(&expected["dW"][r]);
            for (found, expected) in row.iter().zip(d_weight.iter().chain([&number(&expected["db"][r])])) {
                cases.near(&name, *found, *expected, tolerance);
            }
        }

        let mut outputs = vec![0.0; step.queries.len() / in_dim * out_dim];
        step.adapter().apply_batch(&step.queries, &mut outputs).expect("outputs");
        for (i, row) in cosines(&outputs, &documents, out_dim).iter().enumerate() {
            for (j, cosine) in row.iter().enumerate() {
                let logit = number(&expected["logits"][i][j]);
                cases.near(&name, f64::from(cosine * step.scale), logit, 2e-5 * f64::from(step.scale));
            }
        }
    }
}

/// B2: the softmax of scores far from each other.
fn extreme_logits(cases: &mut Cases) {
    for case in list(&cases.read("B2/logits.json")) {
        let name = format!("B2, {}", text(&case["name"]));
        let logits = floats(&case["logits"]);
        let target = integer(&case["label"]);
        let (loss, expected) = (number(&case["loss"]), numbers(&case["grad"]));
        // Both change by at most as much as the scores, of which some are no f32.
        let of_input = numbers(&case["logits"])
            .iter()
            .zip(&logits)
            .map(|(exact, logit)| (exact - f64::from(*logit)).abs())
            .sum::<f64>();
        let mut results = Vec::new();
        let mut d_scores = logits.clone();
        let by_definition = reference_softmax_cross_entropy(&mut d_scores, target, 1.0, 1.0, |_| false);
        results.push((f64::from(by_definition), d_scores));
        // What a step can have as scores: it refuses a gradient whose square overflows.
        if logits.iter().all(|logit| logit.abs() < 1e6) {
            results.push(loss_of_logits(&logits, target));
        }
        for (found, d_scores) in results {
            if loss > f64::from(f32::MAX) {
                // No f32: saturated, but with the right gradient.
                cases.holds(&name, found == f64::INFINITY);
            } else {
                cases.near(&name, found, loss, 1e-6 * loss + of_input);
            }
            for (found, expected) in d_scores.iter().zip(&expected) {
                cases.near(&name, *found, *expected, 1e-6 + of_input);
            }
        }
    }
}

/// B4: what has no direction. The contract: such a row has loss 0 and no gradient, and is counted; the case's own mean
/// has ln 2 for it.
fn zero_vectors(cases: &mut Cases) {
    let case = cases.read("B4/zero_vectors.json");
    let documents = floats(&case["D"]);
    let step = Step {
        in_dim: 2,
        out_dim: 2,
        weight: vec![1.0, 0.0, 0.0, 1.0],
        bias: None,
        queries: floats(&case["Q"]),
        operand: None,
        documents,
        scale: 20.0,
    };
    let (report, gradient) = step.gradient().expect("a step");
    let of_zero_row = core::f64::consts::LN_2 / 2.0;
    cases.near("B4", report.loss, number(&case["expected"]["loss"]) - of_zero_row, 1e-5);
    cases.holds("B4: one row is counted", report.zero_rows == 1);
    cases.holds("B4: the gradient is finite", gradient.iter().all(|g| g.is_finite()));
    let mut scores = cosines(&step.queries, &step.documents, 2).concat();
    scores.iter_mut().for_each(|score| *score *= 20.0);
    cases.holds("B4: scores", scores == [0.0, 0.0, 20.0, 0.0]);

    let top = &case["expected"]["topk"];
    let mut documents = floats(&top["docs"]);
    normalize_rows(Level::detect(), &mut documents, 2).expect("normalised");
    let scores = cosines(&floats(&top["query"]), &documents, 2).concat();
    let best = best_documents(&scores, &[0, 1, 2], integer(&top["k"]));
    let expected: Vec<u32> = numbers(&top["indices"]).iter().map(|&index| index as u32).collect();
    cases.holds("B4: the best documents", best == expected);
    for (document, score) in best.iter().zip(numbers(&top["scores"])) {
        cases.near("B4: the best documents", scores[*document as usize], score, 1e-6);
    }
}

/// B6: where eps stands, and the correction of the bias.
fn adam_steps(cases: &mut Cases) {
    for case in list(&cases.read("B6/adam_steps.json")) {
        let optimizer = Optimizer {
            kind: OptimizerKind::Adam,
            beta1: float(&case["betas"][0]),
            beta2: float(&case["betas"][1]),
            eps: float(&case["eps"]),
            weight_decay: 0.0,
            max_norm: f32::INFINITY,
            ..Optimizer::adamw(float(&case["lr"]))
        };
        let mut run = GivenGradients::new(float(&case["w0"]), optimizer);
        for (gradient, expected) in numbers(&case["grads"]).into_iter().zip(numbers(&case["expected_w"])) {
            run.step(&[gradient]).expect("a step");
            let name = format!("B6, {}", text(&case["name"]));
            cases.near(&name, run.weight(), expected, 1e-5 * expected.abs());
        }
    }
}

/// B8: decay beside the gradient, and in it.
fn weight_decay(cases: &mut Cases) {
    let case = cases.read("B8/weight_decay.json");
    for (name, kind) in [("adamw", OptimizerKind::AdamW), ("adam_l2", OptimizerKind::Adam)] {
        let optimizer = Optimizer {
            kind,
            beta1: float(&case["betas"][0]),
            beta2: float(&case["betas"][1]),
            eps: float(&case["eps"]),
            weight_decay: float(&case["weight_decay"]),
            max_norm: f32::INFINITY,
            ..Optimizer::adamw(float(&case["lr"]))
        };
        let mut run = GivenGradients::new(float(&case["w0"]), optimizer);
        for (gradient, expected) in numbers(&case["grads"]).into_iter().zip(numbers(&case[name])) {
            run.step(&[gradient]).expect("a step");
            cases.near(&format!("B8, {name}"), run.weight(), expected, 1e-6);
        }
    }
}

/// B9: clipping, and gradients that must not be taken.
fn clipping(cases: &mut Cases) {
    for case in list(&cases.read("B9/clip.json")) {
        let name = format!("B9, {}", text(&case["name"]));
        let gradient = list(&case["g"]).iter().map(value_or_not_finite).collect::<Vec<_>>();
        // With a beta1 of 0 the clipped gradient stands in m.
        let optimizer =
            Optimizer { beta1: 0.0, max_norm: float(&case["max_norm"]), ..Optimizer::adamw(1e-3) };
        let mut run = GivenGradients::new(0.25, optimizer);
        let before = format!("{:?}", run.trainer);
        match run.step(&gradient) {
            Ok(report) => {
                // Squares below 2⁻¹⁴⁹ are none.
                let norm = number(&case["norm"]);
                cases.near(&name, report.grad_norm, norm, 2e-6 * norm + 1e-22);
                let m = run.moments();
                for (found, expected) in m.iter().zip(numbers(&case["expected"])) {
                    cases.near(&name, *found, expected, 2e-6 * expected + 2e-45);
                }
            }
            // 2e20 is no norm of f32 squares: an error rather than zeros in silence.
            Err(error) => {
                let refused = ["1e20_x4", "nan", "inf"].contains(&text(&case["name"]));
                cases.holds(&name, refused && matches!(error, Error::NotFinite { .. }));
                cases.holds("B9: nothing was changed", format!("{:?}", run.trainer) == before);
            }
        }
    }
}

/// B13: the bound of a single chain, n·2⁻²⁴·Σ|x·y|; the case's own is that of sums of many lanes.
fn long_dot_products(cases: &mut Cases) {
    let mut within_the_cases_bound = 0;
    for case in list(&cases.read("B13/dots.json")) {
        let (x, y) = (floats(&case["x"]), floats(&case["y"]));
        let mut weight =
            PanelMatrix::new(1, x.len(), vec![Lanes::ZERO; panel_len(1, x.len())]).expect("a row");
        weight.copy_from_row_major(&x).expect("of this size");
        let adapter = Linear::from_lanes(x.len(), 1, false, weight.into_storage(), Level::detect());
        let mut output = [0.0];
        adapter.expect("an adapter").apply(&y, &mut output).expect("an output");
        let exact = number(&case["exact"]);
        let bound = x.len() as f64 * number(&case["sum_abs"]) / 16_777_216.0;
        cases.near(&format!("B13, {}", text(&case["name"])), output[0], exact, bound);
        within_the_cases_bound += usize::from((f64::from(output[0]) - exact).abs() <= number(&case["bound"]));
    }
    cases.holds("B13: also the case's bound, for all but one", within_the_cases_bound >= 3);
}

/// B14: exp, within one unit in the last place where the case allows two.
fn exponentials(cases: &mut Cases) {
    let ordered = |x: f32| i64::from(x.to_bits());
    for case in list(&cases.read("B14/expf.json")) {
        let bits = |name: &str| f32::from_bits(case[name].as_u64().expect("bits") as u32);
        let (x, expected) = (bits("x_bits"), bits("f32_bits"));
        let found = math::exp(x);
        cases.holds(
            &format!("B14, {x:e}: {found:e}, expected {expected:e}"),
            ordered(found).abs_diff(ordered(expected)) <= 1,
        );
        if x == 0.0 || expected.is_infinite() {
            cases.holds("B14: exact", found.to_bits() == expected.to_bits());
        }
        cases.holds("B14: at most 1 up to 0", x > 0.0 || found <= 1.0);
    }
    cases.holds("B14: subnormal results are kept", math::exp(-100.0) > 0.0);
}

/// B15: a loss that is nearly nothing is not negative.
fn losses_near_zero(cases: &mut Cases) {
    for case in list(&cases.read("B15/near_zero.json")) {
        let candidates = integer(&case["B"]);
        let mut logits = vec![float(&case["negative_logit"]); candidates];
        logits[0] = float(&case["positive_logit"]);
        let (loss, d_scores) = loss_of_logits(&logits, 0);
        cases.near("B15", loss, number(&case["loss"]), 6e-8);
        cases.holds("B15: not negative, not even −0", loss.is_sign_positive());
        cases.near("B15", d_scores[0], number(&case["grad_pos"]), 6e-8);
    }
}

/// B17: `W` and not its transpose.
fn orientation(cases: &mut Cases) {
    for file in ["B17/apply.json", "B17/nonsquare.json"] {
        let case = cases.read(file);
        let expected = floats(&case["expected"]);
        let (bias, query) = (floats(&case["b"]), floats(&case["q"]));
        let storage = vec![Lanes::ZERO; linear_len(query.len(), bias.len(), true)];
        let mut adapter =
            Linear::identity(query.len(), bias.len(), true, storage, Level::detect()).expect("an adapter");
        adapter.set_weight(&floats(&case["W_row_major"])).expect("of this size");
        adapter.set_bias(&bias).expect("of this size");
        let mut output = vec![0.0; bias.len()];
        adapter.apply(&query, &mut output).expect("an output");
        cases.holds(file, output == expected);
    }
}

/// B12: the fused multiply-add is rounded once, and a sum has the same bits on every level.
fn fused_products(cases: &mut Cases) {
    let case = cases.read("B12/fma.json");
    let bits = |name: &str| case[name].as_u64().expect("bits") as u32;
    let [a, b, c] = ["a_bits", "b_bits", "c_bits"].map(|name| f32::from_bits(bits(name)));
    cases.holds("B12: rounded once", math::fma(a, b, c).to_bits() == bits("fma_bits"));
    let dot = &case["dot"];
    let sums = sums(&floats(&dot["x"]), &floats(&dot["y"]));
    cases.holds("B12: every level", sums.iter().all(|sum| sum.to_bits() == sums[0].to_bits()));
    let legal = ["fma_result", "mul_then_add_result"].map(|name| float(&dot[name]));
    cases.holds("B12: a legal sum", legal.contains(&sums[0]));
}

/// B19: a sum whose order shows has the same bits on every level, every time.
fn one_sum_everywhere(cases: &mut Cases) {
    let case = cases.read("B19/order_sensitive.json");
    let (x, y) = (floats(&case["x"]), floats(&case["y"]));
    let expected = sums(&x, &y)[0].to_bits();
    for _ in 0..5 {
        cases.holds("B19", sums(&x, &y).iter().all(|sum| sum.to_bits() == expected));
    }
}

/// The product of a row and a query on each level of this machine.
fn sums(x: &[f32], y: &[f32]) -> Vec<f32> {
    let of_level = |level| {
        let storage = vec![Lanes::ZERO; linear_len(x.len(), 1, false)];
        let mut adapter = Linear::identity(x.len(), 1, false, storage, level).expect("an adapter");
        adapter.set_weight(x).expect("of this size");
        let mut output = [0.0];
        adapter.apply(y, &mut output).expect("an output");
        output[0]
    };
    Level::available().map(of_level).collect()
}

/// C1: an adapter built into a program has every bit of what was trained.
fn exported_bits(cases: &mut Cases) {
    let case = cases.read("C1/weights_bits.json");
    let hexadecimal = |text: &Value| {
        let digits = text.as_str().and_then(|text| text.strip_prefix("0x")).expect("0x…");
        u32::from_str_radix(digits, 16).expect("a number")
    };
    let bits: Vec<u32> = list(&case["bits"]).iter().map(hexadecimal).collect();
    let weight: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
    let storage = vec![Lanes::ZERO; linear_len(weight.len(), 1, false)];
    let mut adapter = Linear::identity(weight.len(), 1, false, storage, Level::detect()).expect("an adapter");
    adapter.set_weight(&weight).expect("of this size");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [file, header] = ["a.qad", "a.h"].map(|name| folder.path().join(name));
    // Small, so that the largest weight gives a finite output.
    let golden = vec![9.5e-7; weight.len()];
    let metadata = Metadata { tool: "test", ..Metadata::UNKNOWN };
    adapter_file::save(&file, false, &adapter, metadata, Some(&golden)).expect("saved");
    let (adapter, output) = (file.clone(), header.clone());
    let options = ExportOptions { adapter, format: ExportFormat::C, output, name: None, force: false };
    export::run(&options).expect("exported");
    let source = fs::read_to_string(header).expect("written");
    let array = source.split_once("] = {").and_then(|(_, rest)| rest.split_once("};")).expect("an array").0;
    let bytes: Vec<u8> = array
        .split(',')
        .filter_map(|byte| u8::from_str_radix(byte.trim().strip_prefix("0x")?, 16).ok())
        .collect();
    let image = Image::parse(&bytes).expect("an adapter");
    let mut weights = vec![Lanes::ZERO; image.weights_len()];
    image.copy_weights(&mut weights).expect("copied");
    let found: Vec<u32> = row_major(&weights, 1, weight.len()).iter().map(|value| value.to_bits()).collect();
    cases.holds("C1", found == bits);
}

/// E20: three whole runs of the reference's trainer.
fn whole_runs(cases: &mut Cases) {
    let task = RetrievalTask::load(&cases.folder.join("E20/train.json"), None).expect("a data set");
    for file in ["adam_no_decay_no_schedule", "llamaindex_default_bias_false", "lr1e-2_bias_true"] {
        let case = cases.read(&format!("E20/{file}.json"));
        let settings = &case["settings"];
        let (epochs, batch) = (integer(&settings["epochs"]), integer(&settings["batch"]));
        let pairs = task.queries().len();
        let total = epochs * pairs.div_ceil(batch);
        let scheduled = settings["schedule"].as_bool().unwrap_or(true);
        let optimizer = Optimizer {
            beta1: float(&settings["betas"][0]),
            beta2: float(&settings["betas"][1]),
            eps: float(&settings["eps"]),
            weight_decay: float(&settings["wd"]),
            max_norm: if settings["clip"].is_null() { f32::INFINITY } else { float(&settings["clip"]) },
            ..Optimizer::adamw(float(&settings["lr"]))
        };
        let schedule = Schedule {
            decay: if scheduled { Decay::Linear } else { Decay::Constant },
            // int(steps · epochs · 0.1)
            warmup: if scheduled { (total / 10) as u32 } else { 0 },
            total: total as u32,
        };
        let bias = settings["bias"].as_bool().expect("a truth value");
        let dim = task.dim();
        let lanes = || vec![Lanes::ZERO; linear_len(dim, dim, bias)];
        let adapter = Linear::identity(dim, dim, bias, lanes(), Level::detect()).expect("an adapter");
        let scale = float(&settings["scale"]);
        let mut trainer =
            Trainer::new(adapter, lanes(), lanes(), scale, optimizer, schedule).expect("a trainer");
        let mut scratch = vec![Lanes::ZERO; scratch_len(batch, batch, dim, dim)];
        for expected in numbers(&case["epoch_losses_sample_weighted"]) {
            let mut loss = 0.0;
            for first in (0..pairs).step_by(batch) {
                let rows = first..pairs.min(first + batch);
                let queries: Vec<f32> =
                    rows.clone().flat_map(|query| task.query_vector(query)).copied().collect();
                let mut documents: Vec<f32> = rows.clone().flat_map(|query| positive(&task, query)).collect();
                normalize_rows(Level::detect(), &mut documents, dim).expect("normalised");
                let targets: Vec<u32> = (0..).take(rows.len()).collect();
                let batch = Batch {
                    queries: &queries,
                    gradient_operand: None,
                    documents: Documents::Rows(&documents),
                    targets: &targets,
                    weights: &vec![1.0; rows.len()],
                    mask: &[],
                };
                let report = trainer.step(&batch, &mut scratch).expect("a step");
                loss += f64::from(report.loss) * rows.len() as f64;
            }
            cases.near(&format!("E20, {file}, loss"), loss / pairs as f64, expected, 1e-4);
        }
        let adapter = trainer.adapter();
        let (mut weight, mut b) = (vec![0.0; dim * dim], vec![0.0; dim]);
        adapter.copy_weight_to(&mut weight).expect("of this size");
        adapter.copy_bias_to(&mut b).expect("of this size");
        let expected: Vec<f64> =
            list(&case["W"]).iter().flat_map(numbers).chain(numbers(&case["b"])).collect();
        for (found, expected) in weight.iter().chain(&b).zip(expected) {
            cases.near(&format!("E20, {file}, weight"), *found, expected, 2e-5);
        }
        let mrr = mean_reciprocal_rank(&task, adapter);
        cases.near(&format!("E20, {file}, MRR"), mrr, number(&case["mrr_train"]), 1e-9);
    }
}

fn positive(task: &RetrievalTask, query: usize) -> Vec<f32> {
    task.corpus().vector(task.query(query).positives.documents()[0]).to_vec()
}

fn mean_reciprocal_rank(task: &RetrievalTask, adapter: &Linear<Vec<Lanes>>) -> f64 {
    let (dim, corpus) = (task.dim(), task.corpus());
    let mut documents: Vec<f32> =
        (0..).take(corpus.len()).flat_map(|document| corpus.vector(document)).copied().collect();
    normalize_rows(Level::detect(), &mut documents, dim).expect("normalised");
    let metric = Metric::new(Measure::Mrr, corpus.len()).expect("few documents");
    let mut sum = 0.0;
    for (index, query) in task.queries().iter().enumerate() {
        let mut output = vec![0.0; dim];
        adapter.apply(task.query_vector(index), &mut output).expect("an output");
        let scores = cosines(&output, &documents, dim).concat();
        let ranking = best_documents(&scores, corpus.byte_ranks(), corpus.len());
        sum += metric.value(&Judged::new(&ranking, &query.positives.to_vec(), Gain::Binary));
    }
    sum / task.queries().len() as f64
}

/// One step in which row `i` belongs to document `i`, and nothing is masked.
struct Step {
    in_dim: usize,
    out_dim: usize,
    /// `out × in`, row-major.
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    queries: Vec<f32>,
    operand: Option<Vec<f32>>,
    documents: Vec<f32>,
    scale: f32,
}

impl Step {
    fn adapter(&self) -> Linear<Vec<Lanes>> {
        let bias = self.bias.is_some();
        let storage = vec![Lanes::ZERO; linear_len(self.in_dim, self.out_dim, bias)];
        let mut adapter =
            Linear::identity(self.in_dim, self.out_dim, bias, storage, Level::detect()).expect("an adapter");
        adapter.set_weight(&self.weight).expect("of this size");
        if let Some(bias) = &self.bias {
            adapter.set_bias(bias).expect("of this size");
        }
        adapter
    }

    fn take<S: AsRef<[Lanes]> + AsMut<[Lanes]>>(
        &self,
        trainer: &mut Trainer<S>,
    ) -> Result<StepReport, Error> {
        let rows = self.queries.len() / self.in_dim;
        let targets: Vec<u32> = (0..).take(rows).collect();
        let batch = Batch {
            queries: &self.queries,
            gradient_operand: self.operand.as_deref(),
            documents: Documents::Rows(&self.documents),
            targets: &targets,
            weights: &vec![1.0; rows],
            mask: &[],
        };
        let candidates = self.documents.len() / self.out_dim;
        let scratch = scratch_len(rows, candidates, self.in_dim, self.out_dim);
        trainer.step(&batch, &mut vec![Lanes::ZERO; scratch])
    }

    /// The gradient of the weight, row-major with the bias as its last column: with a `beta1` of 0 it stands in `m`.
    fn gradient(&self) -> Result<(StepReport, Vec<f32>), Error> {
        let adapter = self.adapter();
        let lanes = || vec![Lanes::ZERO; adapter.weight().as_lanes().len()];
        let (m, v) = (lanes(), lanes());
        let optimizer = Optimizer { beta1: 0.0, max_norm: f32::INFINITY, ..Optimizer::adamw(0.0) };
        let mut trainer = Trainer::new(adapter, m, v, self.scale, optimizer, Schedule::CONSTANT)?;
        let report = self.take(&mut trainer)?;
        Ok((report, row_major(trainer.m(), self.out_dim, self.in_dim + usize::from(self.bias.is_some()))))
    }
}

/// The loss of one row whose scores are these to the bit, and its gradient with respect to them, as a step has them.
///
/// The output is the first unit vector; document `j` has the score ÷ a power of two there, and a 1 in a place of its own,
/// at right angles to the output, where its score's gradient comes back unchanged.
fn loss_of_logits(logits: &[f32], target: usize) -> (f64, Vec<f32>) {
    let dim = 1 + logits.len();
    let mut scale = 1.0;
    while logits.iter().any(|logit| logit.abs() > scale) {
        scale *= 2.0;
    }
    // Row 0 has document 0 as its positive.
    let order = || core::iter::once(target).chain((0..logits.len()).filter(|&j| j != target));
    let mut documents = Vec::new();
    for (place, j) in order().enumerate() {
        let mut document = vec![0.0; dim];
        (document[0], document[1 + place]) = (logits[j] / scale, 1.0);
        documents.extend(document);
    }
    let unit = |k: usize| (0..dim).map(|r| if r == k { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
    let step = Step {
        in_dim: dim,
        out_dim: dim,
        weight: (0..dim).flat_map(unit).collect(),
        bias: None,
        queries: unit(0),
        operand: Some(unit(0)),
        documents,
        scale,
    };
    let (report, gradient) = step.gradient().expect("a step");
    let mut d_scores = vec![0.0; logits.len()];
    for (place, j) in order().enumerate() {
        d_scores[j] = gradient[(1 + place) * dim] / scale;
    }
    (report.loss.into(), d_scores)
}

/// Steps of a trainer by gradients that are given.
///
/// The query is the first unit vector, so the other columns of the weight do not reach the output; but the gradient
/// operand does reach their gradient, which is `dT × operand`, so it can be chosen.
struct GivenGradients {
    trainer: Trainer<Vec<Lanes>>,
}

impl GivenGradients {
    /// Columns of the weight: one that makes the output, and up to four that are given gradients.
    const COLUMNS: usize = 5;

    /// The element under test, row 1 and column 1, begins at `w0`.
    fn new(w0: f32, optimizer: Optimizer) -> Self {
        let lanes = || vec![Lanes::ZERO; linear_len(Self::COLUMNS, 2, false)];
        let mut adapter =
            Linear::identity(Self::COLUMNS, 2, false, lanes(), Level::detect()).expect("an adapter");
        let mut weight = vec![0.0; 2 * Self::COLUMNS];
        (weight[0], weight[Self::COLUMNS + 1]) = (1.0, w0);
        adapter.set_weight(&weight).expect("of this size");
        let trainer =
            Trainer::new(adapter, lanes(), lanes(), 20.0, optimizer, Schedule::CONSTANT).expect("a trainer");
        Self { trainer }
    }

    /// A step with these gradients, from the element under test on; the others' are 0.
    fn step(&mut self, gradient: &[f64]) -> Result<StepReport, Error> {
        let mut weight = vec![0.0; 2 * Self::COLUMNS];
        self.trainer.adapter().copy_weight_to(&mut weight).expect("of this size");
        let mut step = Step {
            in_dim: Self::COLUMNS,
            out_dim: 2,
            weight,
            bias: None,
            queries: unit_query(Self::COLUMNS, 0),
            operand: Some(unit_query(Self::COLUMNS, 1)),
            documents: vec![0.8, 0.6, 0.6, -0.8],
            scale: 20.0,
        };
        // With a 1 in the operand the gradient is dT.
        let d_output = f64::from(step.gradient().expect("a step").1[Self::COLUMNS + 1]);
        let mut operand = vec![0.0; Self::COLUMNS];
        for (place, gradient) in operand[1..].iter_mut().zip(gradient) {
            *place = narrow(gradient / d_output);
        }
        step.operand = Some(operand);
        step.take(&mut self.trainer)
    }

    /// The element under test.
    fn weight(&self) -> f32 {
        self.trainer.adapter().weight().get(1, 1).expect("an element")
    }

    /// The first moments of the elements with given gradients.
    fn moments(&self) -> Vec<f32> {
        row_major(self.trainer.m(), 2, Self::COLUMNS)[Self::COLUMNS + 1..].to_vec()
    }
}

fn unit_query(dim: usize, k: usize) -> Vec<f32> {
    (0..dim).map(|i| if i == k { 1.0 } else { 0.0 }).collect()
}

/// For each query the cosines with all documents, which are normalised already.
fn cosines(queries: &[f32], documents: &[f32], dim: usize) -> Vec<Vec<f32>> {
    let (rows, candidates) = (queries.len() / dim, documents.len() / dim);
    let mut scratch = vec![Lanes::ZERO; panel_len(rows, dim)];
    let mut scores = vec![Lanes::ZERO; panel_len(rows, candidates)];
    cosine_scores(Level::detect(), queries, documents, dim, &mut scratch, &mut scores).expect("scores");
    row_major(&scores, rows, candidates).chunks_exact(candidates).map(<[f32]>::to_vec).collect()
}

fn row_major(panels: &[Lanes], rows: usize, columns: usize) -> Vec<f32> {
    let mut values = vec![0.0; rows * columns];
    let matrix = PanelMatrix::new(rows, columns, panels).expect("of this size");
    matrix.copy_to_row_major(&mut values).expect("of this size");
    values
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().expect("a list").clone()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(number).collect()
}

fn integer(value: &Value) -> usize {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).expect("a whole number")
}

fn float(value: &Value) -> f32 {
    narrow(number(value))
}

/// The numbers of a list, or of a list of lists.
fn floats(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        _ => vec![float(value)],
    }
}

/// A number, or one of the texts that stand for what JSON cannot write.
fn value_or_not_finite(value: &Value) -> f64 {
    match value.as_str() {
        Some("NaN") => f64::NAN,
        Some("Infinity") => f64::INFINITY,
        _ => number(value),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "inputs are f32 as decimals")]
fn narrow(x: f64) -> f32 {
    x as f32
}
