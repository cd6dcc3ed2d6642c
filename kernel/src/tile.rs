//! The two products everything is made of: a panel times columns of scalars, accumulated in registers.
//!
//! Each output is one chain: `acc ← fma(a, b, acc)` from `+0`, in ascending order, in an accumulator of its own.
//! Tiles only decide how many chains are in flight; they never split one.

#[cfg(feature = "train")]
use crate::lanes::LANES;
use crate::lanes::Lanes;
use crate::simd::Simd;
#[cfg(feature = "train")]
use crate::simd::prefetch;

/// `emit(p, c, Σₖ panels[p][k] · rows[c][k])` for every panel and every row of `depth` scalars.
///
/// `panels` is a sequence of panels of `stride` columns of which the first `depth` take part; `rows` is row-major.
#[inline(always)]
pub(crate) fn product_rows<S: Simd>(
    s: S,
    panels: &[Lanes],
    stride: usize,
    rows: &[f32],
    depth: usize,
    mut emit: impl FnMut(usize, usize, S::F32),
) {
    if depth == 0 || stride < depth {
        return;
    }
    if S::WHOLE_CHAINS {
        for (p, panel) in panels.chunks_exact(stride.max(1)).enumerate() {
            for (c, row) in rows.chunks_exact(depth.max(1)).enumerate() {
                emit(p, c, s.chain_rows(panel, row, s.splat(0.0)));
            }
        }
        return;
    }
    let mut first = 0;
    // A matrix-vector product has too few chains in one panel to hide the latency of fma: take several panels.
    if rows.len() == depth {
        macro_rules! rung {
            ($P:literal) => {
                while let Some(group) = group::<$P>(panels, stride, depth, first) {
                    rows_tile(s, group, [rows], |p, _, acc| emit(first + p, 0, acc));
                    first += $P;
                }
            };
        }
        if S::WIDE {
            rung!(12);
            rung!(8);
        }
        rung!(4);
    }
    let most = if S::WIDE { rows_together(rows.len() / depth, depth) } else { rows.len() / depth };
    for (rows, before) in rows.chunks(most.saturating_mul(depth).max(1)).zip((0..).step_by(most.max(1))) {
        let mut first = first;
        if S::WIDE {
            while let Some([a, b]) = group(panels, stride, depth, first) {
                rows_ladder(s, [a, b], rows, depth, |p, c, acc| emit(first + p, before + c, acc));
                first += 2;
            }
        }
        while let Some([a]) = group(panels, stride, depth, first) {
            rows_ladder(s, [a], rows, depth, |p, c, acc| emit(first + p, before + c, acc));
            first += 1;
        }
    }
}

/// How many of `rows` rows meet all panels before the next rows do: about equal shares of at most a mebibyte, which stay in a
/// second-level cache while the panels pass, in whole tiles.
const fn rows_together(rows: usize, depth: usize) -> usize {
    const MOST: usize = 1 << 18;
    let shares = rows.saturating_mul(depth).div_ceil(MOST);
    if shares > 1 { rows.div_ceil(shares).next_multiple_of(12) } else { rows }
}

/// The first `depth` columns of `P` consecutive panels, if there are as many.
#[inline(always)]
fn group<const P: usize>(
    panels: &[Lanes],
    stride: usize,
    depth: usize,
    first: usize,
) -> Option<[&[Lanes]; P]> {
    let mut group: [&[Lanes]; P] = [&[]; P];
    for (p, place) in group.iter_mut().enumerate() {
        let start = (first + p).checked_mul(stride)?;
        *place = panels.get(start..)?.get(..stride)?.get(..depth)?;
    }
    Some(group)
}

/// All rows against `P` panels, shared out evenly over tiles of as many rows as the registers hold: ten rows are five and
/// five, because a tile of two would wait for its own results.
#[inline(always)]
fn rows_ladder<S: Simd, const P: usize>(
    s: S,
    panels: [&[Lanes]; P],
    rows: &[f32],
    depth: usize,
    mut emit: impl FnMut(usize, usize, S::F32),
) {
    let most = if S::WIDE { 12 } else { 6 };
    let count = rows.len() / depth.max(1);
    let tiles = count.div_ceil(most);
    let mut done = 0;
    for tile in 0..tiles {
        macro_rules! rung {
            ($R:literal) => {
                if let Some(group) = row_group::<$R>(rows, depth, done) {
                    rows_tile(s, panels, group, |p, c, acc| emit(p, done + c, acc));
                }
            };
        }
        let share = (count - done).div_ceil(tiles - tile);
        match share {
            1 => rung!(1),
            2 => rung!(2),
            3 => rung!(3),
            4 => rung!(4),
            5 => rung!(5),
            6 => rung!(6),
            7 if S::WIDE => rung!(7),
            8 if S::WIDE => rung!(8),
            9 if S::WIDE => rung!(9),
            10 if S::WIDE => rung!(10),
            11 if S::WIDE => rung!(11),
            _ if S::WIDE => rung!(12),
            _ => {}
        }
        done += share;
    }
}

/// `R` consecutive rows of `depth` values, if there are as many.
#[inline(always)]
fn row_group<const R: usize>(rows: &[f32], depth: usize, first: usize) -> Option<[&[f32]; R]> {
    let mut group: [&[f32]; R] = [&[]; R];
    for (r, place) in group.iter_mut().enumerate() {
        let start = (first + r).checked_mul(depth)?;
        *place = rows.get(start..)?.get(..depth)?;
    }
    Some(group)
}

/// One tile of `P × R` chains.
#[inline(always)]
fn rows_tile<S: Simd, const P: usize, const R: usize>(
    s: S,
    panels: [&[Lanes]; P],
    rows: [&[f32]; R],
    mut emit: impl FnMut(usize, usize, S::F32),
) {
    let Some(depth) = panels.first().map(|panel| panel.len()) else { return };
    // Lets the compiler see that no index below can be out of bounds.
    if panels.iter().any(|panel| panel.len() != depth) || rows.iter().any(|row| row.len() != depth) {
        return;
    }
    let mut acc = [[s.splat(0.0); R]; P];
    for k in 0..depth {
        let mut weights = [s.splat(0.0); P];
        for (weight, panel) in weights.iter_mut().zip(&panels) {
            *weight = s.load(&panel[k]);
        }
        for (r, row) in rows.iter().enumerate() {
            let scalar = s.splat(row[k]);
            for (chains, weight) in acc.iter_mut().zip(weights) {
                chains[r] = s.fma(weight, scalar, chains[r]);
            }
        }
    }
    for (p, chains) in acc.into_iter().enumerate() {
        for (c, chain) in chains.into_iter().enumerate() {
            emit(p, c, chain);
        }
    }
}

/// Where the results of [`product_columns`] go.
///
/// A trait and not a closure: `put` must be inlined wherever a tile ends, or it is compiled without the level's
/// instructions and every operation in it becomes a call.
#[cfg(feature = "train")]
pub(crate) trait Sink<S: Simd> {
    /// Takes the results of columns `first .. first + R`. Implementations are `#[inline(always)]`.
    fn put<const R: usize>(&mut self, s: S, first: usize, values: [S::F32; R]);
}

/// Stores results in columns of a panel.
#[cfg(feature = "train")]
pub(crate) struct Store<'a>(pub(crate) &'a mut [Lanes]);

#[cfg(feature = "train")]
impl<S: Simd> Sink<S> for Store<'_> {
    #[inline(always)]
    fn put<const R: usize>(&mut self, s: S, first: usize, values: [S::F32; R]) {
        if let Some(places) = self.0.get_mut(first..).and_then(|places| places.first_chunk_mut::<R>()) {
            for (place, value) in places.iter_mut().zip(values) {
                *place = s.to_lanes(value);
            }
        }
    }
}

/// Runs `$rung!(R)` for each number of columns that a level takes at a time with `$P` panels, the largest first.
#[cfg(feature = "train")]
macro_rules! at_every_width {
    ($S:ident, $P:expr, $rung:ident) => {
        if $S::WIDE {
            if $P == 1 {
                $rung!(16);
            }
            $rung!(8);
        } else if !$S::WHOLE_CHAINS {
            $rung!(6);
        }
        if !$S::WHOLE_CHAINS {
            $rung!(4);
        }
        $rung!(1);
    };
}

/// Puts `Σᵢ panels[p][i] · tile[i].lane(c)` as column `first + c` into `sinks[p]`, for up to sixteen columns, those below
/// `cols`.
///
/// `tile` holds sixteen columns of a matrix, packed one row after the other, with as many rows as each panel has columns.
#[cfg(feature = "train")]
#[inline(always)]
pub(crate) fn product_columns<S: Simd, const P: usize>(
    s: S,
    panels: [&[Lanes]; P],
    tile: &[Lanes],
    first: usize,
    cols: usize,
    sinks: &mut [impl Sink<S>; P],
) {
    let width = cols.saturating_sub(first).min(LANES);
    let mut done = 0;
    macro_rules! rung {
        ($R:literal) => {
            while width - done >= $R {
                let results = columns_tile::<S, P, $R>(s, panels, tile, done, [[s.splat(0.0); $R]; P]);
                for (sink, values) in sinks.iter_mut().zip(results) {
                    sink.put(s, first + done, values);
                }
                done += $R;
            }
        };
    }
    at_every_width!(S, P, rung);
}

/// Goes on with `P × R` chains over the rows of a tile, for its columns `first .. first + R`.
///
/// Sixteen chains of one panel read seventeen operands a row, more than many a processor reads while it multiplies; three
/// panels share each scalar, so that twenty-four chains read eleven.
#[cfg(feature = "train")]
#[inline(always)]
pub(crate) fn columns_tile<S: Simd, const P: usize, const R: usize>(
    s: S,
    panels: [&[Lanes]; P],
    tile: &[Lanes],
    first: usize,
    mut acc: [[S::F32; R]; P],
) -> [[S::F32; R]; P] {
    if S::WHOLE_CHAINS {
        for (chains, panel) in acc.iter_mut().zip(panels) {
            for (chain, column) in chains.iter_mut().zip(first..) {
                *chain = s.chain_columns(panel, tile, column, *chain);
            }
        }
        return acc;
    }
    if let ([panel], [chains]) = (panels.as_slice(), acc.as_mut_slice()) {
        for (column, row) in panel.iter().zip(tile) {
            let Some(scalars) = row.0.get(first..).and_then(|row| row.first_chunk::<R>()) else { continue };
            let lanes = s.load(column);
            for (chain, &scalar) in chains.iter_mut().zip(scalars) {
                *chain = s.fma(lanes, s.splat(scalar), *chain);
            }
        }
        return acc;
    }
    // Lets the compiler see that no index below can be out of bounds.
    if panels.iter().any(|panel| panel.len() != tile.len()) {
        return acc;
    }
    for (i, row) in tile.iter().enumerate() {
        let Some(scalars) = row.0.get(first..).and_then(|row| row.first_chunk::<R>()) else { continue };
        let mut lanes = [s.splat(0.0); P];
        for (lanes, panel) in lanes.iter_mut().zip(panels) {
            *lanes = s.load(&panel[i]);
        }
        for (r, &scalar) in scalars.iter().enumerate() {
            let scalar = s.splat(scalar);
            for (chains, lanes) in acc.iter_mut().zip(lanes) {
                chains[r] = s.fma(lanes, scalar, chains[r]);
            }
        }
    }
    acc
}

/// `columns[c] += Σᵢ panel[i] · tile[i].lane(c)`, up to sixteen columns; their chains begin here, or go on if they are `begun`.
#[cfg(feature = "train")]
#[inline(always)]
pub(crate) fn accumulate_columns<S: Simd>(
    s: S,
    panel: &[Lanes],
    tile: &[Lanes],
    columns: &mut [Lanes],
    begun: bool,
) {
    let mut done = 0;
    macro_rules! rung {
        ($R:literal) => {
            while let Some(chains) = columns.get_mut(done..).and_then(|rest| rest.first_chunk_mut::<$R>()) {
                let acc = if begun { chains.map(|chain| s.load(&chain)) } else { [s.splat(0.0); $R] };
                let [acc] = columns_tile(s, [panel], tile, done, [acc]);
                for (chain, value) in chains.iter_mut().zip(acc) {
                    *chain = s.to_lanes(value);
                }
                done += $R;
            }
        };
    }
    at_every_width!(S, 1, rung);
}

/// How many rows ahead a tile that lies in the second-level cache is asked for: about as long as that takes.
#[cfg(feature = "train")]
const ROWS_AHEAD: usize = 16;

/// Sixteen chains over the rows of a tile, with `beside(c)` for all sixteen `c` in between: where one waits for the
/// divider, the other keeps the multipliers busy.
///
/// The rows are the only loop around the multiply-adds: as a loop within a loop over `c` they take a quarter longer. They
/// are asked for ahead, since a tile comes from the second-level cache once for each panel.
#[cfg(feature = "train")]
#[inline(always)]
pub(crate) fn columns_tile_beside<S: Simd>(
    s: S,
    panel: &[Lanes],
    tile: &[Lanes],
    mut beside: impl FnMut(usize),
) -> [S::F32; LANES] {
    let rows = panel.len().min(tile.len());
    let mut acc = [s.splat(0.0); LANES];
    // Spreads the calls evenly: call `c` comes before the row with which `(c + 1) / 16` of all rows are begun.
    let due = |c: usize| ((c + 1) * rows).div_ceil(LANES);
    let (mut c, mut next) = (0, due(0));
    for (i, (column, row)) in (1..).zip(panel.iter().zip(tile)) {
        while i == next {
            beside(c);
            c += 1;
            next = due(c);
        }
        prefetch(row, ROWS_AHEAD);
        let lanes = s.load(column);
        for (chain, &scalar) in acc.iter_mut().zip(&row.0) {
            *chain = s.fma(lanes, s.splat(scalar), *chain);
        }
    }
    acc
}

/// Rows of a product between two things done beside them, where a product has many rows.
#[cfg(feature = "train")]
pub(crate) const ROWS_BETWEEN: usize = 4;

/// Goes on with sixteen chains over sixteen times [`ROWS_BETWEEN`] rows, with `beside(c)` for all sixteen `c` in between.
#[cfg(feature = "train")]
#[inline(always)]
pub(crate) fn columns_run_beside<S: Simd>(
    s: S,
    panel: &[[Lanes; ROWS_BETWEEN]; LANES],
    tile: &[[Lanes; ROWS_BETWEEN]; LANES],
    mut acc: [S::F32; LANES],
    mut beside: impl FnMut(usize),
) -> [S::F32; LANES] {
    for (c, (columns, rows)) in panel.iter().zip(tile).enumerate() {
        beside(c);
        for (column, row) in columns.iter().zip(rows) {
            let lanes = s.load(column);
            for (chain, &scalar) in acc.iter_mut().zip(&row.0) {
                *chain = s.fma(lanes, s.splat(scalar), *chain);
            }
        }
    }
    acc
}
