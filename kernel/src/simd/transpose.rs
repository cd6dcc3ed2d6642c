//! Sixteen rows turned into up to sixteen columns, by the instructions of a level.

use fearless_simd::{Simd, SimdBase as _, f32x4, f32x16};

use crate::lanes::{LANES, Lanes};

/// With all rows in registers: four rounds of interleaving the upper half with the lower, each of which rotates the eight
/// bits of row and lane by one.
#[inline(always)]
pub(super) fn in_registers<T: Simd>(token: T, rows: [&[f32; LANES]; LANES], columns: &mut [Lanes]) {
    let mut block = rows.map(|row| f32x16::load_array_ref(token, row));
    for _ in 0..4 {
        let before = block;
        for (i, pair) in block.as_chunks_mut().0.iter_mut().enumerate() {
            let (low, high) = before[i].interleave(before[i + LANES / 2]);
            *pair = [low, high];
        }
    }
    for (column, lanes) in columns.iter_mut().zip(block) {
        lanes.store_array(&mut column.0);
    }
}

/// Where registers do not hold sixteen rows: four by four values at a time, eight instructions each.
#[inline(always)]
pub(super) fn by_fours<T: Simd>(token: T, rows: [&[f32; LANES]; LANES], columns: &mut [Lanes]) {
    for (columns, j) in columns.chunks_mut(4).zip(0..LANES / 4) {
        for (i, rows) in rows.as_chunks::<4>().0.iter().enumerate() {
            let [a, b, c, d] = rows.map(|row| f32x4::load_array_ref(token, &row.as_chunks().0[j]));
            let (low, high) = ([a.zip_low(c), b.zip_low(d)], [a.zip_high(c), b.zip_high(d)]);
            let turned = [
                low[0].zip_low(low[1]),
                low[0].zip_high(low[1]),
                high[0].zip_low(high[1]),
                high[0].zip_high(high[1]),
            ];
            for (column, four) in columns.iter_mut().zip(turned) {
                four.store_array(&mut column.0.as_chunks_mut().0[i]);
            }
        }
    }
}
