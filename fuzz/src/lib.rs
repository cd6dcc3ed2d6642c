//! What the fuzz targets share: how numbers are drawn from the fuzzer's bytes, and what equal bits are.

use arbitrary::{Result, Unstructured};
use host_cli::failure::Failure;
use query_adapter::sample::Generator;
use query_adapter::{LANES, Lanes, PanelMatrix, panel_len};

/// Values at which arithmetic changes its ways.
const EDGES: [f32; 12] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::from_bits(1),
    f32::MIN_POSITIVE,
    1e-12,
    3e18,
    f32::MAX,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// One number: mostly an ordinary one from −4 to 4, so that sums stay finite, and now and then an edge or any bits.
///
/// # Errors
/// None: bytes that ran out read as zero.
pub fn number(input: &mut Unstructured<'_>) -> Result<f32> {
    Ok(match input.arbitrary::<u8>()? {
        255 => f32::from_bits(input.arbitrary()?),
        254 => *input.choose(&EDGES)?,
        class => {
            let fraction = input.arbitrary::<u8>()?;
            f32::from(i16::from_be_bytes([class, fraction])) / 8192.0
        }
    })
}

/// Numbers from −1 to 1 from a generator, so that few bytes make a large matrix, with a few of them replaced by
/// [`number`]s of the fuzzer's choice.
///
/// # Errors
/// As [`number`].
pub fn numbers(input: &mut Unstructured<'_>, len: usize) -> Result<Vec<f32>> {
    let mut generator = Generator::new(input.arbitrary::<u16>()?.into());
    let mut values: Vec<f32> = (0..len).map(|_| generator.below(2049) as f32 / 1024.0 - 1.0).collect();
    for _ in 0..input.int_in_range(0..=4)? {
        if let Some(place) = (len > 0).then(|| input.choose_index(len)).transpose()? {
            values[place] = number(input)?;
        }
    }
    Ok(values)
}

/// Whether two values have the same bits; two NaNs have.
#[must_use]
pub fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Stops unless both have the same bits throughout.
///
/// # Panics
/// When they differ: this is the finding.
#[track_caller]
pub fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        let (a_bits, b_bits) = (a.to_bits(), b.to_bits());
        assert!(same(a, b), "{what}, element {i}: {a:e} ({a_bits:08x}), defined as {b:e} ({b_bits:08x})");
    }
}

/// The panels of a row-major matrix, laid out element by element as the format's page says, not by the kernel's copy.
#[must_use]
pub fn panels_of(values: &[f32], rows: usize, cols: usize) -> Vec<Lanes> {
    let mut panels = vec![Lanes::ZERO; panel_len(rows, cols)];
    for (i, &value) in values.iter().enumerate() {
        let (r, k) = (i / cols, i % cols);
        panels[r / LANES * cols + k].0[r % LANES] = value;
    }
    panels
}

/// The row-major matrix that lies in panels; stops unless the padding is `+0`.
///
/// # Panics
/// When a padding row holds anything else: this is the finding.
#[must_use]
#[track_caller]
pub fn row_major(panels: &[Lanes], rows: usize, cols: usize) -> Vec<f32> {
    let matrix = PanelMatrix::new(rows, cols, panels).expect("as many panels as the matrix has");
    for (index, lanes) in panels.iter().enumerate() {
        for (lane, value) in lanes.0.iter().enumerate() {
            let row = index / cols * LANES + lane;
            assert!(row < rows || value.to_bits() == 0, "padding row {row} holds {value:e}");
        }
    }
    (0..rows * cols).map(|i| matrix.get(i / cols, i % cols).expect("inside the matrix")).collect()
}

/// Stops unless a refusal is one line that names the file, with the exit code of refused input.
///
/// # Panics
/// When it is anything else: this is the finding.
#[track_caller]
pub fn check_refusal(failure: &Failure, file: &str) {
    let message = failure.to_string();
    let named = message.strip_prefix(file).is_some_and(|rest| rest.starts_with(": "));
    assert!(named && !message.contains(char::is_control), "{message:?}");
    assert_eq!(failure.exit_code(), 3, "{message}");
}
