//! Adam, AdamW and SGD: settings, state, and the update of sixteen elements.

use crate::error::Error;
use crate::lanes::{LANES, Lanes};
use crate::math;
use crate::simd::Simd;

/// Which update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptimizerKind {
    /// `w ← w − lr × g`; weight decay is added to the gradient.
    Sgd,
    /// Kingma and Ba, 2015; weight decay is added to the gradient.
    Adam,
    /// Loshchilov and Hutter, 2019: Adam with decoupled weight decay.
    AdamW,
}

impl OptimizerKind {
    /// Whether the rule keeps first and second moments `m` and `v`.
    #[must_use]
    pub const fn has_moments(self) -> bool {
        !matches!(self, Self::Sgd)
    }
}

/// Settings of an optimiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    /// The rule.
    pub kind: OptimizerKind,
    /// Learning rate, finite and at least 0; the schedule multiplies it.
    pub lr: f32,
    /// Decay of the first moment, in `[0, 1)`.
    pub beta1: f32,
    /// Decay of the second moment, in `[0, 1)`.
    pub beta2: f32,
    /// Added to the root of the second moment; positive.
    pub eps: f32,
    /// Strength of the decay toward the anchor, finite and at least 0.
    pub weight_decay: f32,
    /// Largest global norm of the gradient; `f32::INFINITY` for no clipping. Positive.
    pub max_norm: f32,
}

impl Optimizer {
    /// AdamW as PyTorch and the reference system set it: betas 0.9 and 0.999, eps 1e-8, weight decay 0.01, norm
    /// clipped at 1.
    #[must_use]
    pub const fn adamw(lr: f32) -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            max_norm: 1.0,
        }
    }

    /// Checks every field's range.
    ///
    /// # Errors
    /// [`Error::Setting`] with the name of the first field out of range.
    pub fn check(&self) -> Result<(), Error> {
        let checks = [
            ("lr", self.lr >= 0.0 && self.lr.is_finite()),
            ("beta1", (0.0..1.0).contains(&self.beta1)),
            ("beta2", (0.0..1.0).contains(&self.beta2)),
            ("eps", self.eps > 0.0 && self.eps.is_finite()),
            ("weight_decay", self.weight_decay >= 0.0 && self.weight_decay.is_finite()),
            ("max_norm", self.max_norm > 0.0),
        ];
        match checks.into_iter().find(|(_, ok)| !ok) {
            Some((name, _)) => Err(Error::Setting { name }),
            None => Ok(()),
        }
    }
}

/// How far an optimiser has come: the part of its state that is not per element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerState {
    /// Steps taken.
    pub steps: u32,
    /// `beta1` to the power of `steps`, by running products.
    pub beta1_power: f32,
    /// `beta2` to the power of `steps`, by running products.
    pub beta2_power: f32,
}

impl OptimizerState {
    /// Before the first step.
    pub const START: Self = Self { steps: 0, beta1_power: 1.0, beta2_power: 1.0 };

    /// After one more step.
    pub(crate) const fn next(&self, optimizer: &Optimizer) -> Self {
        Self {
            steps: self.steps.saturating_add(1),
            beta1_power: self.beta1_power * optimizer.beta1,
            beta2_power: self.beta2_power * optimizer.beta2,
        }
    }
}

/// `coef = min(1, max_norm ÷ (norm + 1e-6))`, PyTorch's form.
pub(crate) fn clip_coefficient(norm: f32, max_norm: f32) -> f32 {
    math::min(1.0, max_norm / (norm + 1e-6))
}

/// Largest gradient (clipped, with the decay term where it is added) for which the second moment cannot overflow:
/// its square is 2¹²⁶.
pub(crate) const GRADIENT_LIMIT: f32 = 9.223_372e18;

/// The scalars of one step of an update rule.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The rule.
    pub kind: OptimizerKind,
    /// Clipping factor of the gradient.
    pub coef: f32,
    /// `beta1`.
    pub beta1: f32,
    /// `1 − beta1`.
    pub one_minus_beta1: f32,
    /// `beta2`.
    pub beta2: f32,
    /// `1 − beta2`.
    pub one_minus_beta2: f32,
    /// `eps`.
    pub eps: f32,
    /// `weight_decay`, for rules which add it to the gradient.
    pub weight_decay: f32,
    /// `−(lr × weight_decay)`, for decoupled decay.
    pub minus_decay: f32,
    /// `−step`: minus the learning rate, for the moments' rules corrected for the first moment's bias.
    pub minus_step: f32,
    /// `1 ÷ sqrt(1 − beta2ᵗ)`.
    pub r2: f32,
}

impl Update {
    /// The scalars for the step that leads to `state`.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when a correction is not finite.
    pub fn new(optimizer: &Optimizer, state: &OptimizerState, factor: f32, coef: f32) -> Result<Self, Error> {
        let lr = optimizer.lr * factor;
        let (step, r2) = if optimizer.kind.has_moments() {
            (lr / (1.0 - state.beta1_power), 1.0 / math::sqrt(1.0 - state.beta2_power))
        } else {
            (lr, 1.0)
        };
        let minus_decay = -(lr * optimizer.weight_decay);
        if !(step.is_finite() && r2.is_finite() && minus_decay.is_finite() && coef.is_finite()) {
            return Err(Error::NotFinite { what: "schedule", row: 0 });
        }
        Ok(Self {
            kind: optimizer.kind,
            coef,
            beta1: optimizer.beta1,
            one_minus_beta1: 1.0 - optimizer.beta1,
            beta2: optimizer.beta2,
            one_minus_beta2: 1.0 - optimizer.beta2,
            eps: optimizer.eps,
            weight_decay: optimizer.weight_decay,
            minus_decay,
            minus_step: -step,
            r2,
        })
    }

    /// What AdamW needs, as the assembly takes it.
    #[cfg(cortex_m_fpu)]
    pub(crate) const fn adamw_scalars(&self) -> crate::simd::cortex_m::Scalars {
        [
            self.coef,
            self.beta1,
            self.one_minus_beta1,
            self.beta2,
            self.one_minus_beta2,
            self.eps,
            self.minus_decay,
            self.minus_step,
            self.r2,
        ]
    }
}

/// Updates sixteen elements by their raw gradient `d_weight`; `anchor` is where decay leads, `None` zero: `w − 0` is `w`.
///
/// `m` and `v` are not touched by [`OptimizerKind::Sgd`].
#[inline(always)]
pub(crate) fn update_lanes<S: Simd>(
    s: S,
    u: &Update,
    d_weight: S::F32,
    anchor: Option<&Lanes>,
    w: &mut Lanes,
    moments: Option<(&mut Lanes, &mut Lanes)>,
) {
    #[cfg(cortex_m_fpu)]
    if S::LANE_BY_LANE {
        return update_each(u, &s.to_lanes(d_weight), anchor, w, moments);
    }
    if S::WHOLE_CHAINS {
        return update_apart(s, u, &s.to_lanes(d_weight), anchor, w, moments);
    }
    update_here(s, u, d_weight, anchor, w, moments);
}

/// [`update_lanes`] where multiply-adds are computed in software: some hundred instructions, once for a level.
#[inline(never)]
fn update_apart<S: Simd>(
    s: S,
    u: &Update,
    d_weight: &Lanes,
    anchor: Option<&Lanes>,
    w: &mut Lanes,
    moments: Option<(&mut Lanes, &mut Lanes)>,
) {
    update_here(s, u, s.load(d_weight), anchor, w, moments);
}

#[inline(always)]
fn update_here<S: Simd>(
    s: S,
    u: &Update,
    d_weight: S::F32,
    anchor: Option<&Lanes>,
    w: &mut Lanes,
    moments: Option<(&mut Lanes, &mut Lanes)>,
) {
    let gradient = s.mul(s.splat(u.coef), d_weight);
    let weight = s.load(w);
    let offset = anchor.map_or(weight, |anchor| s.sub(weight, s.load(anchor)));
    let new_weight = match (u.kind, moments) {
        (OptimizerKind::AdamW, Some((m, v))) => {
            let (new_m, root) = advance_moments(s, u, gradient, m, v);
            decayed_step(s, u, offset, weight, ratio(s, u, new_m, root))
        }
        (OptimizerKind::Adam, Some((m, v))) => {
            let gradient = s.fma(s.splat(u.weight_decay), offset, gradient);
            let (new_m, root) = advance_moments(s, u, gradient, m, v);
            s.fma(s.splat(u.minus_step), ratio(s, u, new_m, root), weight)
        }
        _ => {
            let gradient = s.fma(s.splat(u.weight_decay), offset, gradient);
            s.fma(s.splat(u.minus_step), gradient, weight)
        }
    };
    *w = s.to_lanes(new_weight);
}

/// [`update_lanes`] where sixteen lanes are sixteen turns of a loop: once in the program, however often it is called.
#[cfg(cortex_m_fpu)]
#[inline(never)]
fn update_each(
    u: &Update,
    d_weight: &Lanes,
    anchor: Option<&Lanes>,
    w: &mut Lanes,
    mut moments: Option<(&mut Lanes, &mut Lanes)>,
) {
    if let (OptimizerKind::AdamW, None, Some((m, v))) = (u.kind, anchor, &mut moments) {
        return crate::simd::cortex_m::adamw(&u.adamw_scalars(), d_weight, w, m, v);
    }
    let (mut no_m, mut no_v) = (Lanes::ZERO, Lanes::ZERO);
    let (m, v) = moments.unwrap_or((&mut no_m, &mut no_v));
    let anchor = anchor.unwrap_or(&Lanes::ZERO);
    let elements = w.0.iter_mut().zip(&mut m.0).zip(&mut v.0);
    for (((w, m), v), (&d, &a)) in elements.zip(d_weight.0.iter().zip(&anchor.0)) {
        (*w, *m, *v) = reference_update(u, d, a, *w, *m, *v);
    }
}

/// Advances both moments; returns `m` and the root of `v`.
#[inline(always)]
fn advance_moments<S: Simd>(
    s: S,
    u: &Update,
    gradient: S::F32,
    m: &mut Lanes,
    v: &mut Lanes,
) -> (S::F32, S::F32) {
    let new_m = s.fma(s.splat(u.beta1), s.load(m), s.mul(s.splat(u.one_minus_beta1), gradient));
    let square = s.mul(s.mul(s.splat(u.one_minus_beta2), gradient), gradient);
    let new_v = s.fma(s.splat(u.beta2), s.load(v), square);
    *m = s.to_lanes(new_m);
    *v = s.to_lanes(new_v);
    (new_m, s.sqrt(new_v))
}

/// `m ÷ (root × r2 + eps)`.
#[inline(always)]
fn ratio<S: Simd>(s: S, u: &Update, m: S::F32, root: S::F32) -> S::F32 {
    s.div(m, s.fma(root, s.splat(u.r2), s.splat(u.eps)))
}

/// AdamW's new weight.
#[inline(always)]
fn decayed_step<S: Simd>(s: S, u: &Update, offset: S::F32, weight: S::F32, ratio: S::F32) -> S::F32 {
    let decayed = s.fma(s.splat(u.minus_decay), offset, weight);
    s.fma(s.splat(u.minus_step), ratio, decayed)
}

/// AdamW with decay toward zero on one column after another, each in three stages: while its root is taken, the ratio of the
/// column before is, and the one before that gets its weight. So nothing waits for the divider, and a processor need not
/// look far ahead to keep its multipliers busy as well. The bits are those of [`update_lanes`].
pub(crate) struct Stages<S: Simd> {
    /// Of the last column.
    m: S::F32,
    root: S::F32,
    /// Of the column before.
    ratio: S::F32,
}

impl<S: Simd> Stages<S> {
    /// Before the first column.
    #[inline(always)]
    pub(crate) fn new(s: S) -> Self {
        Self { m: s.splat(0.0), root: s.splat(1.0), ratio: s.splat(0.0) }
    }

    /// Begins with column `c`, whose raw gradient is `d_weight`; columns ascend from 0.
    #[inline(always)]
    pub(crate) fn column(
        &mut self,
        s: S,
        u: &Update,
        c: usize,
        d_weight: S::F32,
        [w, m, v]: [&mut [Lanes; LANES]; 3],
    ) {
        if let Some(w) = c.checked_sub(2).and_then(|c| w.get_mut(c)) {
            self.end_column(s, u, w);
        }
        self.ratio = ratio(s, u, self.m, self.root);
        if let (Some(m), Some(v)) = (m.get_mut(c), v.get_mut(c)) {
            (self.m, self.root) = advance_moments(s, u, s.mul(s.splat(u.coef), d_weight), m, v);
        }
    }

    /// Ends with the last two of sixteen columns.
    #[inline(always)]
    pub(crate) fn end(mut self, s: S, u: &Update, w: &mut [Lanes; LANES]) {
        let [.., before, last] = w;
        self.end_column(s, u, before);
        self.ratio = ratio(s, u, self.m, self.root);
        self.end_column(s, u, last);
    }

    #[inline(always)]
    fn end_column(&self, s: S, u: &Update, w: &mut Lanes) {
        let weight = s.load(w);
        *w = s.to_lanes(decayed_step(s, u, weight, weight, self.ratio));
    }
}

/// The definition of the update of one element; `(w, m, v)` after it.
#[must_use]
pub fn reference_update(u: &Update, d_weight: f32, anchor: f32, w: f32, m: f32, v: f32) -> (f32, f32, f32) {
    let mut g = u.coef * d_weight;
    if u.kind != OptimizerKind::AdamW {
        g = math::fma(u.weight_decay, w - anchor, g);
    }
    if u.kind == OptimizerKind::Sgd {
        return (math::fma(u.minus_step, g, w), m, v);
    }
    let m = math::fma(u.beta1, m, u.one_minus_beta1 * g);
    let v = math::fma(u.beta2, v, (u.one_minus_beta2 * g) * g);
    let ratio = m / math::fma(math::sqrt(v), u.r2, u.eps);
    let w = if u.kind == OptimizerKind::AdamW { math::fma(u.minus_decay, w - anchor, w) } else { w };
    (math::fma(u.minus_step, ratio, w), m, v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let good = Optimizer::adamw(1e-3);
        assert_eq!(good.check(), Ok(()));
        for (name, bad) in [
            ("lr", Optimizer { lr: -1.0, ..good }),
            ("lr", Optimizer { lr: f32::NAN, ..good }),
            ("lr", Optimizer { lr: f32::INFINITY, ..good }),
            ("beta1", Optimizer { beta1: 1.0, ..good }),
            ("beta2", Optimizer { beta2: f32::NAN, ..good }),
            ("eps", Optimizer { eps: 0.0, ..good }),
            ("weight_decay", Optimizer { weight_decay: -0.1, ..good }),
            ("max_norm", Optimizer { max_norm: 0.0, ..good }),
            ("max_norm", Optimizer { max_norm: f32::NAN, ..good }),
        ] {
            assert_eq!(bad.check(), Err(Error::Setting { name }), "{bad:?}");
        }
        assert_eq!(Optimizer { max_norm: f32::INFINITY, ..good }.check(), Ok(()));
    }

    #[test]
    fn clipping_is_pytorchs() {
        assert_eq!(clip_coefficient(0.5, 1.0), 1.0);
        assert_eq!(clip_coefficient(5.0, 1.0), 1.0 / 5.000_001);
        assert_eq!(clip_coefficient(1e30, f32::INFINITY), 1.0);
        assert_eq!(clip_coefficient(0.0, 1.0), 1.0);
    }

    #[test]
    fn eps_stands_outside_the_root_behind_the_bias_correction() {
        // One step with a gradient of 1e-8: 5e-4 of the learning rate 1e-3 (eps inside the root would give 1e-7).
        let optimizer = Optimizer { weight_decay: 0.0, ..Optimizer::adamw(1e-3) };
        let state = OptimizerState::START.next(&optimizer);
        let update = Update::new(&optimizer, &state, 1.0, 1.0).unwrap();
        let (w, _, _) = reference_update(&update, 1e-8, 0.0, 0.0, 0.0, 0.0);
        assert!((w + 5.0e-4).abs() < 1e-8, "{w}");
        // No gradient at all: exactly where it was.
        assert_eq!(reference_update(&update, 0.0, 0.0, 0.0, 0.0, 0.0).0.to_bits(), 0);
    }
}
