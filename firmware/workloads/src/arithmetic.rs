//! The operations that differ most between processors: fused multiply-add and square root.

use query_adapter::math;

use crate::Digest;
use crate::numbers::Numbers;

/// Each with each with each of these, then as many again at random.
const EDGES: [u32; 14] = [
    0x0000_0000,
    0x8000_0000,
    0x0000_0001,
    0x8000_0001,
    0x007f_ffff,
    0x0080_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x3f80_0001,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
];
const RANDOM: u32 = 20_000;

/// A digest of fused multiply-adds, square roots, exponentials and logarithms of any bits at all.
#[must_use]
pub fn arithmetic() -> u32 {
    let mut digest = Digest::new();
    let mut put = |a: u32, b: u32, c: u32| {
        let [a, b, c] = [a, b, c].map(f32::from_bits);
        digest.values(&[math::fma(a, b, c), math::sqrt(a), math::exp(b), math::ln(c)]);
    };
    for a in EDGES {
        for b in EDGES {
            for c in EDGES {
                put(a, b, c);
            }
        }
    }
    // compiler-builtins issue 1262: a result that other software forms round twice.
    put(0x9700_0800, 0x1cff_f001, 0x0001_0002);
    let mut numbers = Numbers::new(1);
    for _ in 0..RANDOM {
        let (a, b, c) = (numbers.bits(), numbers.bits(), numbers.bits());
        put(a, b, c);
        // The same product with an addend that nearly cancels it.
        let product = f32::from_bits(a) * f32::from_bits(b);
        put(a, b, (-product).to_bits() ^ (c & 1));
    }
    digest.finish()
}
