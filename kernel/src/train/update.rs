//! The update: `dW` formed a tile at a time and consumed at once, or stored before and read again.

use super::gradient::{d_weight, operand_groups};
use super::norm::{NormForm, norm_form};
use super::outputs::Forward;
use super::scratch::packed_len;
use super::team::{Phase, split};
use super::{Anchor, Shape};
use crate::adam::{OptimizerKind, Stages, Update, update_lanes};
use crate::lanes::{LANES, Lanes, panels};
use crate::simd::{PREFETCHES, Simd, dispatch, prefetch};
use crate::tile::{
    LARGE, ROWS_BETWEEN, Sink, Store, columns_run_beside, columns_tile, columns_tile_beside, product_columns,
};
use crate::transpose::rows_to_panel;

/// Updates some panels of the weight, and transforms the next batch's queries by each of them while it is at hand.
pub(super) struct UpdatePanels<'a> {
    pub(super) shape: Shape,
    pub(super) update: Update,
    pub(super) anchor: Anchor<&'a [Lanes]>,
    /// The packed operand.
    pub(super) operand: &'a [Lanes],
    pub(super) first_panel: usize,
    /// `dT` in these panels of outputs.
    pub(super) outputs: &'a [Lanes],
    /// `dW` in these panels, or empty where it is formed on the way.
    pub(super) gradient: &'a [Lanes],
    pub(super) w: &'a mut [Lanes],
    /// Empty for a rule without moments; `v` alike.
    pub(super) m: &'a mut [Lanes],
    pub(super) v: &'a mut [Lanes],
    pub(super) ahead: Option<Ahead<'a>>,
}

/// The forward pass of the next batch.
pub(super) struct Ahead<'a> {
    /// How many queries there are.
    rows: usize,
    /// Row-major.
    queries: &'a [f32],
    /// The first of them in panels, a column per input; empty where no update hides behind their products.
    packed: &'a [Lanes],
    outputs: &'a mut [Lanes],
}

/// How many of the next batch's queries are transformed beside an update, at most: with so many the update of a panel is
/// over when all have been.
pub(super) const ROWS_BESIDE: usize = ROWS_BETWEEN * LANES;

/// How many panels are updated before they transform the next batch's queries: as many as share each scalar of them.
const PANELS: usize = 2;

impl<'a> Ahead<'a> {
    /// The forward pass of a batch of this shape. If an update is to hide behind its products, `room` has [`packed_len`]
    /// elements, otherwise none.
    pub(super) fn new(
        shape: Shape,
        queries: &'a [f32],
        room: &'a mut [Lanes],
        outputs: &'a mut [Lanes],
    ) -> Self {
        let Shape { rows, in_dim, level, .. } = shape;
        let len = if dispatch!(level, s => is_wide(s)) { packed_len(rows, in_dim) } else { 0 };
        let packed = room.get_mut(..len).unwrap_or_default();
        let panels = packed.chunks_exact_mut(in_dim.max(1));
        for (panel, rows) in panels.zip(queries.chunks((LANES * in_dim).max(1))) {
            dispatch!(level, s => rows_to_panel(s, rows, in_dim, panel));
        }
        Self { rows, queries, packed, outputs }
    }
}

fn is_wide<S: Simd>(_: S) -> bool {
    S::WIDE
}

impl Phase for UpdatePanels<'_> {
    fn panels(&self) -> usize {
        self.outputs.len() / self.shape.rows.max(1)
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let stride = self.shape.stride();
        let shared = |lanes: &'_ [Lanes], len: usize| (at * len).min(lanes.len());
        let (outputs_a, outputs_b) = self.outputs.split_at(shared(self.outputs, self.shape.rows));
        let (gradient_a, gradient_b) = self.gradient.split_at(shared(self.gradient, stride));
        let (w_a, w_b) = split(self.w, at, stride);
        let (m_a, m_b) = split(self.m, at, stride);
        let (v_a, v_b) = split(self.v, at, stride);
        let (ahead_a, ahead_b) = match self.ahead {
            Some(ahead) => {
                let (a, b) = split(ahead.outputs, at, ahead.rows);
                (Some(Ahead { outputs: a, ..ahead }), Some(Ahead { outputs: b, ..ahead }))
            }
            None => (None, None),
        };
        let a =
            Self { outputs: outputs_a, gradient: gradient_a, w: w_a, m: m_a, v: v_a, ahead: ahead_a, ..self };
        let b = Self {
            first_panel: self.first_panel + at,
            outputs: outputs_b,
            gradient: gradient_b,
            w: w_b,
            m: m_b,
            v: v_b,
            ahead: ahead_b,
            ..self
        };
        (a, b)
    }

    fn run(mut self) {
        let panels = self.panels();
        let Some(ahead) = self.ahead.take() else {
            return self.update(0..panels);
        };
        if !ahead.packed.is_empty() {
            return self.update_beside(ahead);
        }
        for first in (0..panels).step_by(PANELS) {
            let pair = first..panels.min(first + PANELS);
            self.update(pair.clone());
            self.transform(pair, ahead.rows, 0, ahead.queries, ahead.outputs);
        }
    }
}

impl UpdatePanels<'_> {
    /// Updates all panels by their stored gradient. While one is updated, the one before it transforms the first queries;
    /// the others follow when two panels are there.
    fn update_beside(&mut self, ahead: Ahead<'_>) {
        let Ahead { rows, queries, packed, outputs } = ahead;
        let (shape, gradient, panels) = (self.shape, self.gradient, self.panels());
        let stride = shape.stride();
        let (first_queries, others) = queries.split_at((ROWS_BESIDE * shape.in_dim).min(queries.len()));
        self.update(0..panels.min(1));
        for (p, next) in (0..panels).zip(1..) {
            if next < panels {
                let gradient = gradient.get(next * stride..(next + 1) * stride).unwrap_or_default();
                let outputs = outputs.get_mut(p * rows..next * rows).unwrap_or_default();
                let Some((before, mut panel)) = self.panel_and_before(next) else { return };
                dispatch!(shape.level, s => panel.update_beside(s, shape.in_dim, gradient, before, packed, outputs));
            } else {
                self.transform(p..next, rows, 0, first_queries, outputs);
            }
            if next % PANELS == 0 || next == panels {
                self.transform(p / PANELS * PANELS..next, rows, ROWS_BESIDE, others, outputs);
            }
        }
    }

    /// Transforms queries, those of the next batch from `first_row` on, by the panels of a range.
    fn transform(
        &self,
        range: core::ops::Range<usize>,
        rows: usize,
        first_row: usize,
        queries: &[f32],
        outputs: &mut [Lanes],
    ) {
        let Shape { level, in_dim, bias, .. } = self.shape;
        let stride = self.shape.stride();
        let weight = self.w.get(range.start * stride..range.end * stride).unwrap_or_default();
        let outputs = outputs.get_mut(range.start * rows..range.end * rows).unwrap_or_default();
        Forward { level, in_dim, bias, rows, first_row, queries, weight, outputs }.run();
    }

    /// Updates the panels of a range.
    fn update(&mut self, range: core::ops::Range<usize>) {
        let (shape, outputs, operand, gradient) = (self.shape, self.outputs, self.operand, self.gradient);
        match norm_form(shape.rows, shape.in_dim) {
            NormForm::Gram => {
                for (group, first) in operand_groups(shape, operand) {
                    for p in range.clone() {
                        let d_output = outputs.get(p * shape.rows..(p + 1) * shape.rows).unwrap_or_default();
                        let Some(mut panel) = self.panel(p) else { return };
                        dispatch!(shape.level, s => update_panel(s, shape, d_output, group, first, &mut panel));
                    }
                }
            }
            NormForm::Direct => {
                let stride = shape.stride();
                for p in range {
                    let gradient = gradient.get(p * stride..(p + 1) * stride).unwrap_or_default();
                    let Some(mut panel) = self.panel(p) else { return };
                    dispatch!(shape.level, s => {
                        for (column, gradient) in gradient.iter().enumerate() {
                            panel.put(s, column, [s.load(gradient)]);
                        }
                    });
                }
            }
        }
    }

    /// What the update of the `p`-th of these panels works on.
    fn panel(&mut self, p: usize) -> Option<PanelUpdate<'_>> {
        self.panel_and_before(p).map(|(_, panel)| panel)
    }

    /// The same, and the weight of the panel before it; that of the first panel is empty.
    fn panel_and_before(&mut self, p: usize) -> Option<(&[Lanes], PanelUpdate<'_>)> {
        let Shape { in_dim, out_dim, .. } = self.shape;
        let stride = self.shape.stride();
        let range = p * stride..(p + 1) * stride;
        let first_row = (self.first_panel + p) * LANES;
        let anchor = match self.anchor {
            Anchor::Zero => PanelAnchor::Zero,
            // Past the last output the diagonal would run on into padding rows, which must stay zero.
            Anchor::Identity => PanelAnchor::Identity { first_row, ones: in_dim.min(out_dim) },
            Anchor::Weights(weights) => {
                PanelAnchor::Weights(weights.get(self.first_panel * stride..)?.get(range.clone())?)
            }
        };
        let (before, w) = self.w.split_at_mut_checked(range.start)?;
        let before = before.get(range.start.saturating_sub(stride)..)?;
        let w = w.get_mut(..stride)?;
        let (m, v) = (self.m.get_mut(range.clone()), self.v.get_mut(range));
        Some((before, PanelUpdate { update: self.update, anchor, w, m, v }))
    }
}

/// How many columns ahead `W`, `m` and `v` are asked for where no gradient is stored, since together they seldom fit the
/// second-level cache: four tiles. Beside a forward pass, which takes longer, one tile is enough.
const COLUMNS_AHEAD: usize = 4 * LANES;

/// The same where they are asked for while the gradient is formed.
const COLUMNS_AHEAD_OF_GRADIENT: usize = 8 * LANES;

/// Whether `W`, `m` and `v` are asked for while a tile's gradient is formed, evenly, and not while its columns are updated: those of
/// large weights, with so many rows that forming a tile takes longer than updating it.
const fn asks_beside_gradient(shape: Shape) -> bool {
    shape.rows >= 20 && panels(shape.out_dim) * shape.in_dim >= LARGE
}

/// Updates one panel of the weight by the tiles of its gradient, those of one group of the operand.
#[inline(always)]
fn update_panel<S: Simd>(
    s: S,
    shape: Shape,
    d_output: &[Lanes],
    group: &[Lanes],
    first: usize,
    panel: &mut PanelUpdate<'_>,
) {
    #[cfg(cortex_m_fpu)]
    let (group, first) = panel.columns_by_assembly(shape, d_output, group, first);
    let mut done = 0;
    if !S::WHOLE_CHAINS && panel.update.kind == OptimizerKind::AdamW {
        let full = group.len() / shape.rows.max(1);
        done = full.min(shape.in_dim.saturating_sub(first) / LANES);
        let tiles = group.get(..done * shape.rows).unwrap_or_default();
        update_full_tiles(s, shape, d_output, tiles, first, panel);
    }
    let rest = group.get(done * shape.rows..).unwrap_or_default();
    d_weight(s, shape, [d_output], rest, first + done * LANES, core::array::from_mut(panel));
}

/// Tiles of sixteen columns each, by AdamW. Where there are registers enough, a tile's results wait until the next tile is
/// formed and are consumed between its rows.
#[inline(always)]
fn update_full_tiles<S: Simd>(
    s: S,
    shape: Shape,
    d_output: &[Lanes],
    tiles: &[Lanes],
    first: usize,
    panel: &mut PanelUpdate<'_>,
) {
    // The rule as a constant: no branch is left in the innermost loop.
    let update = Update { kind: OptimizerKind::AdamW, ..panel.update };
    let (mut gradients, mut anchor) = ([Lanes::ZERO; LANES], [Lanes::ZERO; LANES]);
    let beside_gradient = PREFETCHES && asks_beside_gradient(shape);
    let mut waiting = None;
    for (tile, first) in tiles.chunks_exact(shape.rows.max(1)).zip((first..).step_by(LANES)) {
        if !S::WIDE && beside_gradient {
            let Some(mut formed) = panel.tile(first, &mut anchor) else { return };
            let mut sink =
                [StoreAndAsk { gradients: &mut gradients, arrays: [formed.w, formed.m, formed.v] }];
            product_columns(s, [d_output], tile, 0, LANES, &mut sink);
            formed.columns::<S, false>(s, &update, &gradients);
            continue;
        }
        if !S::WIDE {
            product_columns(s, [d_output], tile, 0, LANES, &mut [Store(&mut gradients)]);
            if let Some(mut formed) = panel.tile(first, &mut anchor) {
                formed.columns::<S, true>(s, &update, &gradients);
            }
            continue;
        }
        let acc = match waiting.and_then(|first| panel.tile(first, &mut anchor)) {
            Some(TileUpdate { anchor: None, w, m, v }) => {
                let mut stages = Stages::new(s);
                let acc = columns_tile_beside(
                    s,
                    d_output,
                    tile,
                    #[inline(always)]
                    |c| stage(s, &mut stages, &update, c, &gradients, [w, m, v], COLUMNS_AHEAD),
                );
                stages.end(s, &update, w);
                acc
            }
            Some(mut before) => {
                before.columns::<S, true>(s, &update, &gradients);
                more_rows(s, d_output, tile, [s.splat(0.0); LANES])
            }
            None => more_rows(s, d_output, tile, [s.splat(0.0); LANES]),
        };
        for (place, value) in gradients.iter_mut().zip(acc) {
            *place = s.to_lanes(value);
        }
        waiting = Some(first);
    }
    if let Some(mut before) = waiting.and_then(|first| panel.tile(first, &mut anchor)) {
        before.columns::<S, true>(s, &update, &gradients);
    }
}

/// The next column of a tile; asks for those `ahead` of it.
#[inline(always)]
fn stage<S: Simd>(
    s: S,
    stages: &mut Stages<S>,
    update: &Update,
    c: usize,
    gradients: &[Lanes; LANES],
    [w, m, v]: [&mut [Lanes; LANES]; 3],
    ahead: usize,
) {
    ask(&[w, m, v], c + ahead);
    if let Some(gradient) = gradients.get(c) {
        stages.column(s, update, c, s.load(gradient), [w, m, v]);
    }
}

/// Asks for a column of `W`, `m` and `v`, counted from where these begin.
#[inline(always)]
fn ask(arrays: &[&mut [Lanes; LANES]; 3], column: usize) {
    for array in arrays {
        prefetch(&**array, column);
    }
}

/// Stores the gradient's columns of a tile and asks for as many of `W`, `m` and `v`, [`COLUMNS_AHEAD_OF_GRADIENT`].
struct StoreAndAsk<'a> {
    gradients: &'a mut [Lanes; LANES],
    arrays: [&'a mut [Lanes; LANES]; 3],
}

impl<S: Simd> Sink<S> for StoreAndAsk<'_> {
    #[inline(always)]
    fn put<const R: usize>(&mut self, s: S, first: usize, values: [S::F32; R]) {
        (first..first + R).for_each(|column| ask(&self.arrays, column + COLUMNS_AHEAD_OF_GRADIENT));
        Store(self.gradients).put(s, first, values);
    }
}

/// One panel of the weight, to be updated by the columns of its gradient.
struct PanelUpdate<'a> {
    update: Update,
    anchor: PanelAnchor<'a>,
    w: &'a mut [Lanes],
    m: Option<&'a mut [Lanes]>,
    v: Option<&'a mut [Lanes]>,
}

impl PanelUpdate<'_> {
    /// Sixteen columns from `first` on, for a rule with moments; `anchor` is room for theirs.
    #[inline(always)]
    fn tile<'a>(&'a mut self, first: usize, anchor: &'a mut [Lanes; LANES]) -> Option<TileUpdate<'a>> {
        Some(TileUpdate {
            anchor: self.anchor.tile(first, anchor),
            w: self.w.get_mut(first..)?.first_chunk_mut()?,
            m: self.m.as_mut()?.get_mut(first..)?.first_chunk_mut()?,
            v: self.v.as_mut()?.get_mut(first..)?.first_chunk_mut()?,
        })
    }

    /// Updates the panel by its `gradient`, by AdamW. Beside that the panel `before` transforms queries in panels, of which
    /// each gets one of the `outputs`.
    #[inline(always)]
    fn update_beside<S: Simd>(
        &mut self,
        s: S,
        in_dim: usize,
        gradient: &[Lanes],
        before: &[Lanes],
        queries: &[Lanes],
        outputs: &mut [Lanes],
    ) {
        // No other level has queries in panels here; without this, each had the code and at level 0 the stack for it.
        if !S::WIDE {
            return;
        }
        // The rule as a constant: no branch is left in the innermost loop.
        let update = Update { kind: OptimizerKind::AdamW, ..self.update };
        let mut anchor = [Lanes::ZERO; LANES];
        let (weight, bias) = before.split_at(in_dim.min(before.len()));
        let (runs, rest) = runs(weight);
        let (tiles, _) = gradient.get(..in_dim).unwrap_or_default().as_chunks::<LANES>();
        let mut tiles = tiles.iter().zip((0..).step_by(LANES));
        for (panel, outputs) in queries.chunks_exact(in_dim.max(1)).zip(outputs.chunks_mut(LANES)) {
            let (query_runs, query_rest) = self::runs(panel);
            let mut acc = [s.splat(0.0); LANES];
            for (run, query_run) in runs.iter().zip(query_runs) {
                let tile = tiles.next();
                let tile =
                    tile.and_then(|(gradients, first)| Some((gradients, self.tile(first, &mut anchor)?)));
                acc = match tile {
                    Some((gradients, TileUpdate { anchor: None, w, m, v })) => {
                        let mut stages = Stages::new(s);
                        let acc = columns_run_beside(
                            s,
                            run,
                            query_run,
                            acc,
                            #[inline(always)]
                            |c| {
                                prefetch(gradients, c + LANES);
                                stage(s, &mut stages, &update, c, gradients, [w, m, v], LANES);
                            },
                        );
                        stages.end(s, &update, w);
                        acc
                    }
                    Some((gradients, mut columns)) => {
                        columns.columns::<S, true>(s, &update, gradients);
                        more_rows(s, run.as_flattened(), query_run.as_flattened(), acc)
                    }
                    None => more_rows(s, run.as_flattened(), query_run.as_flattened(), acc),
                };
            }
            acc = more_rows(s, rest, query_rest, acc);
            for (place, chain) in outputs.iter_mut().zip(acc) {
                let output = bias.first().map_or(chain, |bias| s.fma(s.load(bias), s.splat(1.0), chain));
                *place = s.to_lanes(output);
            }
        }
        let done = tiles.next().map_or(in_dim / LANES * LANES, |(_, first)| first);
        for (column, gradient) in gradient.iter().enumerate().skip(done) {
            self.put(s, column, [s.load(gradient)]);
        }
    }
}

/// Columns of a panel that are multiplied while a tile is updated.
type Run = [[Lanes; ROWS_BETWEEN]; LANES];

/// A panel in runs, and the columns behind the last whole one.
#[inline(always)]
fn runs(panel: &[Lanes]) -> (&[Run], &[Lanes]) {
    let runs = panel.as_chunks().0.as_chunks().0;
    (runs, panel.get(size_of_val(runs) / size_of::<Lanes>()..).unwrap_or_default())
}

/// Goes on with sixteen chains of one panel over the rows of a tile.
#[inline(always)]
fn more_rows<S: Simd>(s: S, panel: &[Lanes], tile: &[Lanes], acc: [S::F32; LANES]) -> [S::F32; LANES] {
    let [acc] = columns_tile(s, [panel], tile, 0, [acc]);
    acc
}

#[cfg(cortex_m_fpu)]
impl PanelUpdate<'_> {
    /// All tiles of a group with neither a copy nor a check for each column, if the rule and the anchor are the common
    /// ones. What is left of the group, and its first column.
    fn columns_by_assembly<'a>(
        &mut self,
        shape: Shape,
        d_output: &[Lanes],
        group: &'a [Lanes],
        first: usize,
    ) -> (&'a [Lanes], usize) {
        let (OptimizerKind::AdamW, PanelAnchor::Zero, Some(m), Some(v)) =
            (self.update.kind, &self.anchor, &mut self.m, &mut self.v)
        else {
            return (group, first);
        };
        let scalars = self.update.adamw_scalars();
        let mut column = first;
        for tile in group.chunks_exact(shape.rows.max(1)) {
            let columns = column..shape.in_dim.min(column + LANES);
            let moments = (m.get_mut(columns.clone()), v.get_mut(columns.clone()));
            if let (Some(w), (Some(m), Some(v))) = (self.w.get_mut(columns), moments) {
                crate::simd::cortex_m::adamw_columns(&scalars, d_output, tile, w, m, v);
            }
            column += LANES;
        }
        (&[], column)
    }
}

impl<S: Simd> Sink<S> for PanelUpdate<'_> {
    #[inline(always)]
    fn put<const R: usize>(&mut self, s: S, first: usize, gradients: [S::F32; R]) {
        for (gradient, column) in gradients.into_iter().zip(first..) {
            let Some(w) = self.w.get_mut(column) else { return };
            let moments = match (&mut self.m, &mut self.v) {
                (Some(m), Some(v)) => m.get_mut(column).zip(v.get_mut(column)),
                _ => None,
            };
            let anchor = self.anchor.column(column);
            update_lanes(s, &self.update, gradient, anchor.as_ref(), w, moments);
        }
    }
}

/// Sixteen columns of a panel, as arrays: nothing is checked where every instruction counts.
struct TileUpdate<'a> {
    anchor: Option<&'a [Lanes; LANES]>,
    w: &'a mut [Lanes; LANES],
    m: &'a mut [Lanes; LANES],
    v: &'a mut [Lanes; LANES],
}

impl TileUpdate<'_> {
    /// Updates the columns by AdamW; with `ASK` asks for those to come.
    #[inline(always)]
    fn columns<S: Simd, const ASK: bool>(&mut self, s: S, update: &Update, gradients: &[Lanes; LANES]) {
        let Some(anchor) = self.anchor else {
            let mut stages = Stages::new(s);
            for (c, gradient) in gradients.iter().enumerate() {
                if ASK {
                    ask(&[self.w, self.m, self.v], c + COLUMNS_AHEAD);
                }
                stages.column(s, update, c, s.load(gradient), [self.w, self.m, self.v]);
            }
            return stages.end(s, update, self.w);
        };
        for c in 0..LANES {
            let moments = Some((&mut self.m[c], &mut self.v[c]));
            update_lanes(s, update, s.load(&gradients[c]), Some(&anchor[c]), &mut self.w[c], moments);
        }
    }
}

/// The anchor of one panel of the weight.
enum PanelAnchor<'a> {
    Zero,
    /// The first `ones` elements of the diagonal are 1.
    Identity {
        first_row: usize,
        ones: usize,
    },
    Weights(&'a [Lanes]),
}

impl PanelAnchor<'_> {
    /// The anchor of one column; `None` is zero.
    #[inline(always)]
    fn column(&self, column: usize) -> Option<Lanes> {
        match *self {
            Self::Zero => None,
            Self::Identity { first_row, ones } => {
                let mut lanes = Lanes::ZERO;
                let one = lanes.0.get_mut(column.wrapping_sub(first_row)).filter(|_| column < ones)?;
                *one = 1.0;
                Some(lanes)
            }
            Self::Weights(columns) => columns.get(column).copied(),
        }
    }

    /// The anchor of sixteen columns, in `tile` if need be; `None` is zero everywhere.
    #[inline(always)]
    fn tile<'a>(&'a self, first: usize, tile: &'a mut [Lanes; LANES]) -> Option<&'a [Lanes; LANES]> {
        match *self {
            Self::Zero => None,
            Self::Identity { first_row, .. } if first_row != first => None,
            Self::Identity { .. } => {
                for (place, column) in tile.iter_mut().zip(first..) {
                    *place = self.column(column).unwrap_or(Lanes::ZERO);
                }
                Some(tile)
            }
            Self::Weights(columns) => columns.get(first..).and_then(|columns| columns.first_chunk()),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::adam::{Optimizer, OptimizerState};
    use crate::sample::Generator;
    use crate::simd::Level;

    fn values(len: usize, seed: u64) -> Vec<Lanes> {
        let mut generator = Generator::new(seed);
        (0..len).map(|_| Lanes([(); LANES].map(|()| generator.below(2001) as f32 / 1000.0 - 1.0))).collect()
    }

    #[test]
    fn a_panel_of_a_large_weight_is_updated_as_that_of_a_small_one() {
        let optimizer = Optimizer { weight_decay: 0.1, ..Optimizer::adamw(1e-2) };
        let update = Update::new(&optimizer, &OptimizerState::START.next(&optimizer), 1.0, 0.75).unwrap();
        let [rows, in_dim] = [21, 4100];
        let updated = |level, out_dim, anchor| {
            let shape =
                Shape { rows, candidates: 2, block: 2, streaming: false, in_dim, out_dim, bias: true, level };
            let [mut w, mut m, mut v] = [1, 2, 3].map(|seed| values(shape.stride(), seed));
            v.iter_mut().flat_map(|lanes| &mut lanes.0).for_each(|v| *v = v.abs());
            let panels = UpdatePanels {
                shape,
                update,
                anchor,
                operand: &values(in_dim.div_ceil(LANES) * rows, 4),
                first_panel: 0,
                outputs: &values(rows, 5),
                gradient: &[],
                w: &mut w,
                m: &mut m,
                v: &mut v,
                ahead: None,
            };
            assert_eq!(asks_beside_gradient(panels.shape), out_dim > LANES);
            panels.run();
            [w, m, v].concat().iter().flat_map(|lanes| lanes.0).map(f32::to_bits).collect::<Vec<_>>()
        };
        let anchors = values(in_dim + 1, 6);
        let scalar = Level::by_name("scalar").unwrap();
        for anchor in [Anchor::Zero, Anchor::Identity, Anchor::Weights(&anchors[..])] {
            let expected = updated(scalar, LANES, anchor);
            for level in Level::available() {
                assert!(updated(level, 256, anchor) == expected, "{}", level.name());
            }
        }
    }
}
