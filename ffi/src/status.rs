//! What a call returns, and what that means.

use core::ffi::{CStr, c_char};

use query_adapter::Error;

/// Success.
pub const QAD_OK: i32 = 0;
/// A pointer is null whose length is not 0, or a handle has not been opened.
pub const QAD_NULL: i32 = 1;
/// A pointer is not at a multiple of what its type needs: 64 bytes for `qad_lanes` and for an adapter file in place.
pub const QAD_MISALIGNED: i32 = 2;
/// Memory that is written overlaps other memory of the same call.
pub const QAD_OVERLAP: i32 = 3;
/// A buffer has another length than the operation needs.
pub const QAD_LENGTH: i32 = 4;
/// A dimension is 0 or too large.
pub const QAD_DIMENSION: i32 = 5;
/// A setting is out of its range.
pub const QAD_SETTING: i32 = 6;
/// The processor flushes subnormal numbers to zero; results would not be reproducible.
pub const QAD_FLUSH_TO_ZERO: i32 = 7;
/// A value that must be finite is not.
pub const QAD_NOT_FINITE: i32 = 8;
/// The gradient is too large for the optimiser.
pub const QAD_GRADIENT_TOO_LARGE: i32 = 9;
/// A target is not the index of a candidate.
pub const QAD_TARGET: i32 = 10;
/// A weight of a batch is negative or not finite, or they do not sum to a positive number.
pub const QAD_BATCH_WEIGHT: i32 = 11;
/// The bytes are no adapter file.
pub const QAD_MAGIC: i32 = 12;
/// A newer program wrote the adapter file.
pub const QAD_VERSION: i32 = 13;
/// The adapter file was cut short, or other bytes follow.
pub const QAD_IMAGE_LENGTH: i32 = 14;
/// A checksum of the adapter file does not match.
pub const QAD_CHECKSUM: i32 = 15;
/// The adapter file was written wrongly.
pub const QAD_IMAGE: i32 = 16;
/// This machine does not compute what the writer's did.
pub const QAD_GOLDEN: i32 = 17;
/// The weights cannot be used in place on a big-endian machine; use `qad_open_copy`.
pub const QAD_BYTE_ORDER: i32 = 18;
/// Anything else.
pub const QAD_OTHER: i32 = 19;
/// The adapter file is in int8, and the call takes files in f32 alone.
pub const QAD_STORED_AS: i32 = 20;

/// The text for a code: one line in English, in memory that is always there.
// SAFETY: no other symbol of this name is in this library.
#[unsafe(no_mangle)]
pub extern "C" fn qad_error_text(code: i32) -> *const c_char {
    text(code).as_ptr()
}

const fn text(code: i32) -> &'static CStr {
    match code {
        QAD_OK => c"success",
        QAD_NULL => c"a pointer is null, or a handle has not been opened",
        QAD_MISALIGNED => c"a pointer is not aligned as its type needs it",
        QAD_OVERLAP => c"memory that is written overlaps other memory of the call",
        QAD_LENGTH => c"a buffer has another length than is needed",
        QAD_DIMENSION => c"a dimension is 0 or too large",
        QAD_SETTING => c"a setting is out of its range",
        QAD_FLUSH_TO_ZERO => c"this thread flushes subnormal numbers to zero; restore the default mode",
        QAD_NOT_FINITE => c"a value is not finite",
        QAD_GRADIENT_TOO_LARGE => c"the gradient is too large for the optimiser; nothing was changed",
        QAD_TARGET => c"a target is not the index of a candidate",
        QAD_BATCH_WEIGHT => c"the weights of the batch are negative, not finite or sum to nothing",
        QAD_MAGIC => c"not an adapter file: the magic bytes are missing",
        QAD_VERSION => c"the version of this adapter file is not known to this build",
        QAD_IMAGE_LENGTH => c"the adapter file was cut short, or other bytes follow",
        QAD_CHECKSUM => c"a checksum does not match: the adapter file is damaged",
        QAD_IMAGE => c"the adapter file holds what is not allowed there",
        QAD_GOLDEN => c"the golden query gives another output: the arithmetic differs on this machine",
        QAD_BYTE_ORDER => c"this machine is big-endian: copy the weights instead of using them in place",
        QAD_OTHER => c"refused",
        QAD_STORED_AS => c"the adapter file is in int8, and this call takes files in f32 alone",
        _ => c"this is no code of this library",
    }
}

/// Why a call is refused.
pub(crate) struct Refusal(pub(crate) i32);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(match error {
            Error::Length { .. } => QAD_LENGTH,
            Error::Dimension { .. } => QAD_DIMENSION,
            Error::FlushToZero => QAD_FLUSH_TO_ZERO,
            Error::Setting { .. } => QAD_SETTING,
            Error::Target { .. } => QAD_TARGET,
            Error::Weight { .. } | Error::TotalWeight => QAD_BATCH_WEIGHT,
            Error::NotFinite { .. } => QAD_NOT_FINITE,
            Error::GradientTooLarge => QAD_GRADIENT_TOO_LARGE,
            Error::Magic => QAD_MAGIC,
            Error::Version { .. } | Error::MetadataSchema { .. } => QAD_VERSION,
            Error::Header { .. }
            | Error::Metadata
            | Error::TextTooLong { .. }
            | Error::Padding { .. }
            | Error::Range { .. } => QAD_IMAGE,
            Error::StoredAs { .. } => QAD_STORED_AS,
            Error::Checksum { .. } => QAD_CHECKSUM,
            Error::ImageLength { .. } => QAD_IMAGE_LENGTH,
            Error::Misaligned { .. } => QAD_MISALIGNED,
            Error::ByteOrder => QAD_BYTE_ORDER,
            Error::Golden { .. } => QAD_GOLDEN,
            _ => QAD_OTHER,
        })
    }
}

/// Runs what a function does.
pub(crate) fn status(call: impl FnOnce() -> Result<(), Refusal>) -> i32 {
    match call() {
        Ok(()) => QAD_OK,
        Err(Refusal(code)) => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_kernel_has_its_code() {
        let [what, part, field, name] = ["", "", "", ""];
        for (error, code) in [
            (Error::Length { what, needed: 1, given: 0 }, QAD_LENGTH),
            (Error::Dimension { what, given: 0, max: 1 }, QAD_DIMENSION),
            (Error::FlushToZero, QAD_FLUSH_TO_ZERO),
            (Error::Setting { name }, QAD_SETTING),
            (Error::Target { row: 0, target: 0, candidates: 0 }, QAD_TARGET),
            (Error::Weight { row: 0 }, QAD_BATCH_WEIGHT),
            (Error::TotalWeight, QAD_BATCH_WEIGHT),
            (Error::NotFinite { what, row: 0 }, QAD_NOT_FINITE),
            (Error::GradientTooLarge, QAD_GRADIENT_TOO_LARGE),
            (Error::Magic, QAD_MAGIC),
            (Error::Version { found: 0 }, QAD_VERSION),
            (Error::Header { field, found: 0 }, QAD_IMAGE),
            (Error::Metadata, QAD_IMAGE),
            (Error::Padding { offset: 0 }, QAD_IMAGE),
            (Error::Checksum { part, stored: 0, computed: 1 }, QAD_CHECKSUM),
            (Error::ImageLength { needed: 1, given: 0 }, QAD_IMAGE_LENGTH),
            (Error::Misaligned { offset: 1 }, QAD_MISALIGNED),
            (Error::ByteOrder, QAD_BYTE_ORDER),
            (Error::Golden { index: 0 }, QAD_GOLDEN),
            (Error::LevelUnavailable, QAD_OTHER),
        ] {
            assert_eq!(Refusal::from(error).0, code, "{error:?}");
        }
    }
}
