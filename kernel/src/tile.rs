//! The two products everything is made of: a panel times columns of scalars, accumulated in registers.
//!
//! Each output is one chain: `acc ← fma(a, b, acc)` from `+0`, in ascending order, in an accumulator of its own.
//! Tiles only decide how many chains are in flight; they never split one.

use core::ops::Range;

use crate::lanes::{LANES, Lanes};
use crate::simd::{Level, PREFETCHES, Scalar, Simd, dispatch, prefetch};

/// Products of every panel with every row: `Σₖ panels[p][k] · rows[c][k] + bias[p]`, sixteen outputs for each pair.
///
/// A type and not a function of a closure, so that the tiles are compiled once for each level and not for each use.
pub(crate) struct RowProducts<'a> {
    /// Panel after panel, each of `depth` columns and, with a bias, one more.
    pub(crate) panels: &'a [Lanes],
    /// Whether the column behind the others is added to the products: `fma(bias, 1, chain)`, which is their sum.
    pub(crate) bias: bool,
    /// Row-major, `depth` scalars each.
    pub(crate) rows: &'a [f32],
    /// Whether they may come from beyond the second-level cache; then the next ones are asked for ahead.
    pub(crate) far: bool,
    pub(crate) depth: usize,
    /// Those of panel `p` and row `c` begin at `p · panel_step + c · row_step`; what has no room is left out.
    pub(crate) outputs: &'a mut [f32],
    pub(crate) panel_step: usize,
    /// At least sixteen.
    pub(crate) row_step: usize,
}

/// How many rows, or panels, a caller without room for all outputs takes at a time: whole tiles, but one where stacks are small.
pub(crate) const AT_A_TIME: usize = if Scalar::LANE_BY_LANE { 1 } else { 12 };

impl<'a> RowProducts<'a> {
    // Where it is a loop around one piece of assembly, a call and what it hands over take more flash and stack than it does.
    #[cfg_attr(cortex_m_fpu, inline(always))]
    #[cfg_attr(not(cortex_m_fpu), inline(never))]
    pub(crate) fn run(mut self, level: Level) {
        if self.depth > 0 {
            dispatch!(level, s => self.run_on(s));
        }
    }

    #[inline(always)]
    fn run_on<S: Simd>(&mut self, s: S) {
        let Self { panels, rows, far, depth, .. } = *self;
        let count = rows.len() / depth.max(1);
        if S::WHOLE_CHAINS {
            for (p, panel) in panels.chunks_exact(self.stride().max(1)).enumerate() {
                for (c, row) in rows.chunks_exact(depth.max(1)).enumerate() {
                    let bias = self.bias_of(p);
                    let Some(place) = self.places(p, c).first_chunk_mut() else { return };
                    *place = s.to_lanes(s.chain_rows(panel, row, s.splat(0.0))).0;
                    if let Some(bias) = bias {
                        place.iter_mut().zip(&bias.0).for_each(|(x, bias)| *x += bias);
                    }
                }
            }
            return;
        }
        let mut first = 0;
        // A matrix-vector product has too few chains in one panel to hide the latency of fma: take several panels.
        if count == 1 {
            macro_rules! rung {
                ($P:literal) => {
                    while let Some(group) = self.panel_group::<$P>(first) {
                        let products = rows_tile::<S, $P, 1, NOTHING>(s, group, [rows]);
                        self.put(s, first, 0, products);
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
        let most = rows_together::<S>(count, depth);
        for first_row in (0..count).step_by(most.max(1)) {
            let some = first_row..count.min(first_row + most);
            // For the other panels they are in the cache.
            let are_far = |panel| far && panel == 0;
            let bring = PREFETCHES && !S::WIDE && panels_are_far(panels.len(), some.len());
            let mut first = first;
            if S::WIDE {
                while let Some(pair) = self.panel_group::<2>(first) {
                    self.put_rows(s, first, pair, some.clone(), are_far(first), bring);
                    first += 2;
                }
            }
            while let Some(single) = self.panel_group::<1>(first) {
                self.put_rows(s, first, single, some.clone(), are_far(first), bring);
                first += 1;
            }
        }
    }

    /// Some rows against the `P` panels from `first` on, shared out evenly over tiles of as many rows as the registers hold: ten
    /// rows are five and five, because a tile of two would wait for its own results. Far rows are asked for ahead: those of a tile
    /// are as many streams, each too short for the processor to go ahead by itself. With `bring` the first tile asks for its panel
    /// ahead, a single stream, which the processor by itself reads at less than half of the rate of four.
    #[inline(always)]
    fn put_rows<S: Simd, const P: usize>(
        &mut self,
        s: S,
        first: usize,
        panels: [&[Lanes]; P],
        rows: Range<usize>,
        far: bool,
        bring: bool,
    ) {
        let most = if S::WIDE { 12 } else { 6 };
        let tiles = rows.len().div_ceil(most);
        let mut done = rows.start;
        for tile in 0..tiles {
            macro_rules! rung {
                ($R:literal) => {
                    rung!($R, NOTHING)
                };
                ($R:literal, $AHEAD:ident) => {
                    if let Some(group) = self.row_group::<$R>(done) {
                        let products = rows_tile::<S, P, $R, $AHEAD>(s, panels, group);
                        self.put(s, first, done, products);
                    }
                };
            }
            let share = (rows.end - done).div_ceil(tiles - tile);
            // In a match of their own: in the other one they would add instructions to its tiles.
            if bring && tile == 0 {
                match share {
                    1 => rung!(1),
                    2 => rung!(2, PANELS),
                    3 => rung!(3, PANELS),
                    4 => rung!(4, PANELS),
                    5 => rung!(5, PANELS),
                    _ => rung!(6, PANELS),
                }
            } else {
                match share {
                    1 => rung!(1),
                    2 => rung!(2),
                    3 => rung!(3),
                    4 => rung!(4),
                    5 => rung!(5),
                    6 if !S::WIDE && far => rung!(6, ROWS),
                    6 => rung!(6),
                    7 if S::WIDE => rung!(7),
                    8 if S::WIDE => rung!(8),
                    9 if S::WIDE => rung!(9),
                    10 if S::WIDE => rung!(10),
                    11 if S::WIDE && far => rung!(11, ROWS),
                    11 if S::WIDE => rung!(11),
                    12 if S::WIDE && far => rung!(12, ROWS),
                    _ if S::WIDE => rung!(12),
                    _ => {}
                }
            }
            done += share;
        }
    }

    /// Finishes products and puts them in their places.
    #[inline(always)]
    fn put<S: Simd, const P: usize, const R: usize>(
        &mut self,
        s: S,
        first_panel: usize,
        first_row: usize,
        products: [[S::F32; R]; P],
    ) {
        for (mut chains, panel) in products.into_iter().zip(first_panel..) {
            if let Some(bias) = self.bias_of(panel) {
                for chain in &mut chains {
                    *chain = s.add(*chain, s.load(bias));
                }
            }
            let row_step = self.row_step.max(1);
            for (place, chain) in self.places(panel, first_row).chunks_mut(row_step).zip(chains) {
                if let Some(place) = place.first_chunk_mut() {
                    *place = s.to_lanes(chain).0;
                }
            }
        }
    }

    /// The bias of a panel, if it has one.
    #[inline(always)]
    fn bias_of(&self, panel: usize) -> Option<&'a Lanes> {
        self.panels.get(panel * self.stride() + self.depth).filter(|_| self.bias)
    }

    /// From the outputs of a panel and a row on.
    #[inline(always)]
    fn places(&mut self, panel: usize, row: usize) -> &mut [f32] {
        self.outputs.get_mut(panel * self.panel_step + row * self.row_step..).unwrap_or_default()
    }

    /// Columns of a panel, at least one.
    fn stride(&self) -> usize {
        self.depth + usize::from(self.bias)
    }

    /// The columns that are multiplied of the `P` panels from `first` on, if there are as many.
    #[inline(always)]
    fn panel_group<const P: usize>(&self, first: usize) -> Option<[&'a [Lanes]; P]> {
        let mut group: [&'a [Lanes]; P] = [&[]; P];
        for (place, panel) in group.iter_mut().zip(first..) {
            *place = self.panels.get(panel * self.stride()..)?.get(..self.stride())?.get(..self.depth)?;
        }
        Some(group)
    }

    /// The `R` rows from `first` on, if there are as many.
    #[inline(always)]
    fn row_group<const R: usize>(&self, first: usize) -> Option<[&'a [f32]; R]> {
        let mut group: [&'a [f32]; R] = [&[]; R];
        for (place, row) in group.iter_mut().zip(first..) {
            *place = self.rows.get(row * self.depth..)?.get(..self.depth)?;
        }
        Some(group)
    }
}

/// How many of `rows` rows meet all panels before the next rows do: all, unless they are more than caches hold; then about equal shares, in
/// whole tiles, which stay in a second-level cache while the panels pass. Narrow tiles read rows so slowly that a third-level one
/// is near enough.
const fn rows_together<S: Simd>(rows: usize, depth: usize) -> usize {
    let (held, share) = if S::WIDE { (1 << 18, 1 << 18) } else { (1 << 20, 1 << 16) };
    let len = rows.saturating_mul(depth);
    if len > held { rows.div_ceil(len.div_ceil(share)).next_multiple_of(12) } else { rows }
}

/// The columns of a large weight's panels, at least: 4 MiB, which come from beyond the second-level cache.
pub(crate) const LARGE: usize = 1 << 16;

/// Whether asking for panels ahead gains more than it costs, given how many columns they have in all: those of large weights, and from
/// 1 MiB on if more than two tiles of rows share what it costs.
const fn panels_are_far(columns: usize, rows: usize) -> bool {
    columns >= if rows > AT_A_TIME { 1 << 14 } else { LARGE }
}

/// What a tile asks for ahead. A number, because a constant parameter cannot be an enum.
type Ahead = u8;
const NOTHING: Ahead = 0;
/// The rows behind its own.
const ROWS: Ahead = 1;
/// The columns to come of its own panels.
const PANELS: Ahead = 2;

/// One tile of `P × R` chains, which asks for what `AHEAD` says.
#[inline(always)]
fn rows_tile<S: Simd, const P: usize, const R: usize, const AHEAD: Ahead>(
    s: S,
    panels: [&[Lanes]; P],
    rows: [&[f32]; R],
) -> [[S::F32; R]; P] {
    let mut acc = [[s.splat(0.0); R]; P];
    let depth = panels.first().map_or(0, |panel| panel.len());
    // Lets the compiler see that no index below can be out of bounds.
    if panels.iter().any(|panel| panel.len() != depth) || rows.iter().any(|row| row.len() != depth) {
        return acc;
    }
    let done = if S::WIDE { 0 } else { add_runs::<S, P, R, AHEAD>(s, panels, rows, &mut acc) };
    // Whole runs have asked for theirs.
    let next = rows.last().and_then(|row| row.last()).filter(|_| S::WIDE && AHEAD == ROWS);
    for k in done..depth {
        if let Some(next) = next {
            prefetch(next, k * R / LANES);
        }
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
    acc
}

/// How many columns one turn of a loop multiplies, but for wide tiles, whose rows have too many addresses for that.
const RUN: usize = 4;

/// For how many turns of that loop rows are asked for at a time.
const ROW_TURNS: usize = 8;

/// For how many turns panels are, each of whose columns is a line.
const PANEL_TURNS: usize = 2;

/// How many columns ahead panels are asked for.
const COLUMNS_AHEAD: usize = 128;

/// Goes on with the chains of a tile by whole runs of columns; returns how many columns those are. Taken one by one they are a
/// third more instructions, which count where somebody else has the other half of a core.
#[inline(always)]
fn add_runs<S: Simd, const P: usize, const R: usize, const AHEAD: Ahead>(
    s: S,
    panels: [&[Lanes]; P],
    rows: [&[f32]; R],
    acc: &mut [[S::F32; R]; P],
) -> usize {
    let mut panel_runs: [&[[Lanes; RUN]]; P] = [&[]; P];
    for (runs, panel) in panel_runs.iter_mut().zip(panels) {
        *runs = panel.as_chunks().0;
    }
    let mut row_runs: [&[[f32; RUN]]; R] = [&[]; R];
    for (runs, row) in row_runs.iter_mut().zip(rows) {
        *runs = row.as_chunks().0;
    }
    let runs = panel_runs.first().map_or(0, |runs| runs.len());
    // As above.
    if panel_runs.iter().any(|panel| panel.len() != runs) || row_runs.iter().any(|row| row.len() != runs) {
        return 0;
    }
    let next = row_runs.last().and_then(|row| row.last()).filter(|_| AHEAD == ROWS);
    let turns = match AHEAD {
        ROWS => ROW_TURNS,
        PANELS => PANEL_TURNS,
        _ => runs.max(1),
    };
    for first in (0..runs).step_by(turns) {
        // Outside of the loop of multiply-adds: in it one instruction that is not arithmetic sends chains through memory.
        if let Some(next) = next {
            // As much of the next tile's rows as these turns read of this one's.
            let line = |run: usize| run * R * RUN / LANES;
            (line(first)..line(first + turns)).for_each(|line| prefetch(next, line));
        }
        if AHEAD == PANELS {
            for here in panel_runs.iter().filter_map(|panel| panel.get(first)) {
                (0..turns * RUN).for_each(|column| prefetch(here, COLUMNS_AHEAD + column));
            }
        }
        for run in first..runs.min(first + turns) {
            for k in 0..RUN {
                let mut weights = [s.splat(0.0); P];
                for (weight, panel) in weights.iter_mut().zip(&panel_runs) {
                    *weight = s.load(&panel[run][k]);
                }
                for (r, row) in row_runs.iter().enumerate() {
                    let scalar = s.splat(row[run][k]);
                    for (chains, weight) in acc.iter_mut().zip(weights) {
                        chains[r] = s.fma(weight, scalar, chains[r]);
                    }
                }
            }
        }
    }
    runs * RUN
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
