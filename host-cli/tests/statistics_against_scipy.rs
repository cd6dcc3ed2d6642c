//! Tests of significance, effect sizes and intervals against SciPy's values, corrections against statsmodels'.

use core::num::NonZeroUsize;
use std::fs;
use std::path::Path;

use host_cli::significance::{Paired, holm, student_t_p};
use serde_json::Value;

fn fixture() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/paired_statistics.json");
    serde_json::from_slice(&fs::read(file).expect("readable")).expect("JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().expect("a list")
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().expect("a number")
}

fn numbers(value: &Value, key: &str) -> Vec<f64> {
    list(value, key).iter().map(|value| value.as_f64().expect("a number")).collect()
}

fn paired(differences: &[f64]) -> Paired {
    let threads = NonZeroUsize::new(2).expect("two");
    Paired::of(differences, threads).expect("queries")
}

fn assert_near(name: &str, what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{name}: {what} {found:e}, expected {expected:e}");
}

#[test]
fn p_values_effects_and_intervals_are_those_of_scipy() {
    let fixture = fixture();
    let cases = list(&fixture, "cases");
    assert!(cases.len() >= 11);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let found = paired(&numbers(case, "differences"));
        let relative = |what: &str, found: Option<f64>| {
            let expected = number(case, what);
            assert_near(name, what, found.expect("a spread"), expected, 1e-10 * expected.abs());
        };
        relative("t_test_p", found.t_test_p);
        relative("cohens_d", found.cohens_d);
        assert_near(name, "mean", found.mean, number(case, "mean"), 1e-15);

        let p = number(case, "randomization_p");
        let moved = found.wins + found.losses;
        // Drawn by both, each with a deviation of √(p (1 − p) ÷ draws), of which 4.5 are allowed: SciPy drew 40 times as often.
        let drawn = 4.5 * (p * (1.0 - p) / 10_000.0).sqrt() + 2e-4;
        let tolerance = if moved <= 13 { 1e-12 } else { drawn };
        assert_near(name, "randomisation p", found.randomization_p, p, tolerance);
        assert_eq!(moved <= 13, case["randomization_is_exact"] == Value::Bool(true) && moved <= 13, "{name}");

        // A percentile of 10,000 draws lies within 4.5 deviations of its place, √(0.025 × 0.975 ÷ 10,000) of the draws each;
        // the normal density there is 0.0584. Resamples of few values move in steps.
        let expected = numbers(case, "interval");
        let steps = if found.queries <= 13 { 0.06 } else { 0.0 };
        let tolerance = (4.5 * 0.00156 / 0.0584 + steps) * number(case, "standard_error");
        assert_near(name, "interval, low", found.interval.0, expected[0], tolerance);
        assert_near(name, "interval, high", found.interval.1, expected[1], tolerance);
    }
}

#[test]
fn the_interval_of_a_share_is_that_of_the_binomial_distribution() {
    for case in list(&fixture(), "zeros_and_ones") {
        let (ones, n) = (number(case, "ones"), number(case, "n"));
        let differences: Vec<f64> =
            (0..).map(f64::from).take_while(|&i| i < n).map(|i| if i < ones { 1.0 } else { 0.0 }).collect();
        let found = paired(&differences);
        let expected = numbers(case, "interval");
        assert_eq!([found.interval.0, found.interval.1], expected[..], "{ones} of {n}");
    }
}

#[test]
fn student_t_is_that_of_scipy_far_into_the_tail() {
    let fixture = fixture();
    let values = list(&fixture, "student");
    assert!(values.len() >= 100);
    for value in values {
        let (t, degrees, p) = (number(value, "t"), number(value, "degrees"), number(value, "p"));
        assert_near(&format!("t = {t}, {degrees} degrees"), "p", student_t_p(t, degrees), p, 1e-10 * p);
    }
}

#[test]
fn holms_correction_is_that_of_statsmodels() {
    for case in list(&fixture(), "holm") {
        let (found, expected) = (holm(&numbers(case, "p")), numbers(case, "holm"));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.into_iter().zip(expected) {
            assert_near("holm", "p", found, expected, 1e-15);
        }
    }
}
