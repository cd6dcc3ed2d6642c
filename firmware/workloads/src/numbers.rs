//! Made-up numbers, the same on every machine.

/// A linear congruential generator: poor, but small, and enough for inputs.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 32 bits.
    pub(crate) const fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// A value in −1 .. 1. Every step is exact.
    #[cfg(any(feature = "image", feature = "train"))]
    pub(crate) fn value(&mut self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "24 bits are exact")]
        let value = (self.bits() >> 8) as f32;
        value / 8_388_608.0 - 1.0
    }

    /// Fills `out` with values in −1 .. 1.
    #[cfg(any(feature = "image", feature = "train"))]
    pub(crate) fn fill(&mut self, out: &mut [f32]) {
        for place in out {
            *place = self.value();
        }
    }
}
