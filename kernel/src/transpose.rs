//! Sixteen by sixteen: between rows along memory and rows in lanes.

use crate::lanes::{LANES, Lanes, flat};
use crate::simd::Simd;

/// What stands for a row that is not there.
const NO_ROW: &[f32; LANES] = &Lanes::ZERO.0;

/// Up to sixteen rows of `dim` values from column `first` on into the lanes of as many columns as `to` has, value by value
/// and with no block in between. Lanes without a row become `+0`. Once in the program, however often it is called.
#[inline(never)]
fn move_each(rows: &[f32], dim: usize, first: usize, to: &mut [Lanes]) {
    let rows = rows.chunks_exact(dim.max(1)).take(LANES);
    if rows.len() < LANES {
        to.fill(Lanes::ZERO);
    }
    for (lane, row) in rows.enumerate() {
        for (column, value) in to.iter_mut().zip(row.get(first..).unwrap_or_default()) {
            if let Some(place) = column.0.get_mut(lane) {
                *place = *value;
            }
        }
    }
}

/// Brings up to sixteen row-major rows of `dim` values into the lanes of a panel: one [`Lanes`] per column. Lanes without
/// a row become `+0`.
#[inline(always)]
pub(crate) fn rows_to_panel<S: Simd>(s: S, rows: &[f32], dim: usize, panel: &mut [Lanes]) {
    for (columns, first) in panel.chunks_mut(LANES).zip((0..dim).step_by(LANES)) {
        block_of_rows_to_panel(s, rows, dim, first, columns);
    }
}

/// [`rows_to_panel`] for up to sixteen columns from column `first` on.
#[inline(always)]
pub(crate) fn block_of_rows_to_panel<S: Simd>(
    s: S,
    rows: &[f32],
    dim: usize,
    first: usize,
    columns: &mut [Lanes],
) {
    if S::LANE_BY_LANE {
        return move_each(rows, dim, first, columns);
    }
    if first + LANES > dim {
        let mut ends = [Lanes::ZERO; LANES];
        pack_columns(rows, dim, first, &mut ends);
        return block_to_lanes(s, &ends, columns);
    }
    let mut block = [NO_ROW; LANES];
    for (place, row) in block.iter_mut().zip(rows.chunks_exact(dim.max(1))) {
        *place = row.get(first..).and_then(|values| values.first_chunk()).unwrap_or(NO_ROW);
    }
    s.transpose(block, columns);
}

/// Copies columns `first .. first + 16` of row-major rows of `dim` values, a [`Lanes`] per row, so that a product reads them
/// one after the other. Columns past `dim` become `+0`.
pub(crate) fn pack_columns(rows: &[f32], dim: usize, first: usize, tile: &mut [Lanes]) {
    for (place, row) in tile.iter_mut().zip(rows.chunks_exact(dim.max(1))) {
        let values = row.get(first..).unwrap_or_default();
        *place = values.first_chunk::<LANES>().map_or_else(|| padded(values), |values| Lanes(*values));
    }
}

/// Up to fifteen values and `+0` behind them.
#[inline(always)]
fn padded(values: &[f32]) -> Lanes {
    let mut lanes = Lanes::ZERO;
    for (place, value) in lanes.0.iter_mut().zip(values) {
        *place = *value;
    }
    lanes
}

/// Brings up to sixteen vectors from `from` on into the lanes of `to`, which has up to sixteen columns. Lanes without a
/// vector become `+0`.
#[inline(always)]
pub(crate) fn block_to_lanes<S: Simd>(s: S, from: &[Lanes], to: &mut [Lanes]) {
    if S::LANE_BY_LANE {
        return move_each(flat(from), LANES, 0, to);
    }
    let mut block = [NO_ROW; LANES];
    for (place, lanes) in block.iter_mut().zip(from) {
        *place = &lanes.0;
    }
    s.transpose(block, to);
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use crate::simd::{Level, dispatch};

    fn value(row: usize, column: usize) -> f32 {
        f32::from(u16::try_from(row * 100 + column).unwrap_or_default()) + 1.0
    }

    #[test]
    fn rows_reach_their_lanes_on_every_level_at_every_size() {
        for level in Level::available() {
            for rows in 1..=LANES {
                for dim in (1..=33).chain([48]) {
                    let values: Vec<f32> =
                        (0..rows).flat_map(|r| (0..dim).map(move |k| value(r, k))).collect();
                    let mut panel = vec![Lanes([-1.0; LANES]); dim];
                    dispatch!(level, s => rows_to_panel(s, &values, dim, &mut panel));
                    for (k, column) in panel.iter().enumerate() {
                        for (lane, found) in column.0.into_iter().enumerate() {
                            let expected = if lane < rows { value(lane, k) } else { 0.0 };
                            assert_eq!(
                                found.to_bits(),
                                expected.to_bits(),
                                "{rows} × {dim} on {}",
                                level.name()
                            );
                        }
                    }
                }
            }
        }
    }

    #[cfg(feature = "train")]
    #[test]
    fn a_block_turns_over_on_every_level() {
        for level in Level::available() {
            for (vectors, columns) in [(16, 16), (1, 16), (16, 1), (7, 11)] {
                let from: Vec<Lanes> =
                    (0..vectors).map(|i| Lanes(core::array::from_fn(|lane| value(i, lane)))).collect();
                let mut to = vec![Lanes([-1.0; LANES]); columns];
                dispatch!(level, s => block_to_lanes(s, &from, &mut to));
                for (column, lanes) in to.iter().enumerate() {
                    for (lane, found) in lanes.0.into_iter().enumerate() {
                        assert_eq!(found, if lane < vectors { value(lane, column) } else { 0.0 });
                    }
                }
            }
        }
    }
}
