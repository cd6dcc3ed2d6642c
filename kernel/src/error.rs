//! The one error type of the kernel: flat, `Copy`, without heap or format strings.

use core::fmt;

/// Everything the kernel can refuse, and why.
///
/// A value of this type carries what was found and what was needed, never text made at run time, so it can be
/// returned on a device without a heap and turned into words by whoever has a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// A buffer has the wrong number of elements (`Lanes` for panel storage, `f32` or rows otherwise).
    Length {
        /// Which buffer.
        what: &'static str,
        /// How many elements the operation needs.
        needed: usize,
        /// How many it was given.
        given: usize,
    },
    /// A dimension is 0 or larger than [`MAX_DIM`](crate::MAX_DIM).
    Dimension {
        /// Which dimension.
        what: &'static str,
        /// Its value.
        given: usize,
        /// The largest allowed value.
        max: usize,
    },
    /// The processor flushes subnormal numbers to zero in this thread; results would not be reproducible.
    FlushToZero,
    /// The processor does not have the SIMD level that was asked for.
    LevelUnavailable,
    /// A setting is out of its range; the name is the field's.
    Setting {
        /// The name of the setting.
        name: &'static str,
    },
    /// A row's target is not the index of a candidate.
    Target {
        /// The row.
        row: usize,
        /// Its target.
        target: u32,
        /// The number of candidates.
        candidates: usize,
    },
    /// A row's own target is masked.
    MaskedTarget {
        /// The row.
        row: usize,
    },
    /// Mask entries are out of order, repeated, or point outside the batch.
    Mask {
        /// Position of the first bad entry.
        index: usize,
    },
    /// A row's weight is negative or not finite.
    Weight {
        /// The row.
        row: usize,
    },
    /// The weights of the batch sum to zero or overflow.
    TotalWeight,
    /// A value which must be finite is not.
    NotFinite {
        /// Which quantity.
        what: &'static str,
        /// Its row, or its place where it is one of a vector's; 0 for quantities of the whole batch.
        row: usize,
    },
    /// The gradient is so large that the second moment could overflow; nothing was changed.
    GradientTooLarge,
    /// An image does not begin with the magic bytes of an adapter file.
    Magic,
    /// An image was written by a newer, or an unknown, version of the format.
    Version {
        /// The version found.
        found: u16,
    },
    /// An image's header holds a value that this version does not know.
    Header {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u32,
    },
    /// A stored checksum does not match its bytes.
    Checksum {
        /// Which part: `"header"`, `"metadata"` or `"payload"`.
        part: &'static str,
        /// The checksum stored in the image.
        stored: u32,
        /// The checksum of the bytes found.
        computed: u32,
    },
    /// An image is shorter, or longer, than its header says.
    ImageLength {
        /// Bytes the header asks for.
        needed: usize,
        /// Bytes given.
        given: usize,
    },
    /// An image's payload does not lie at a multiple of 64 bytes, so it cannot be borrowed in place.
    Misaligned {
        /// Address modulo 64.
        offset: usize,
    },
    /// The metadata of an image follow a newer, or an unknown, schema.
    MetadataSchema {
        /// The schema found.
        found: u16,
    },
    /// A byte of an image that must be zero is not.
    Padding {
        /// Its offset in bytes from the start of the image.
        offset: usize,
    },
    /// An image holds another kind of adapter than it was opened as.
    StoredAs {
        /// How its numbers are stored.
        dtype: &'static str,
    },
    /// A value of an image is outside of what may stand there.
    Range {
        /// Which quantity.
        what: &'static str,
        /// The row it belongs to.
        row: usize,
    },
    /// An image is little-endian and this machine is not, so its payload cannot be borrowed in place.
    ByteOrder,
    /// An image's metadata cannot be decoded or encoded.
    Metadata,
    /// A text is longer than its fixed capacity.
    TextTooLong {
        /// Which text.
        what: &'static str,
        /// Its capacity in bytes.
        capacity: usize,
        /// Its length in bytes.
        given: usize,
    },
    /// The golden query of an image does not give its golden output: the arithmetic differs on this machine.
    Golden {
        /// First output element that differs.
        index: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length { what, needed, given } => {
                write!(f, "{what}: {needed} elements needed, {given} given")
            }
            Self::Dimension { what, given, max } => {
                write!(f, "{what} is {given}; it must be from 1 to {max}")
            }
            Self::FlushToZero => {
                f.write_str("this thread flushes subnormal numbers to zero; restore the default mode")
            }
            Self::LevelUnavailable => f.write_str("this processor does not have the requested SIMD level"),
            Self::Setting { name } => write!(f, "{name} is out of range"),
            Self::Target { row, target, candidates } => {
                write!(f, "row {row} has target {target}, but there are {candidates} candidates")
            }
            Self::MaskedTarget { row } => write!(f, "row {row} masks its own target"),
            Self::Mask { index } => write!(f, "mask entry {index} is out of order, repeated or out of range"),
            Self::Weight { row } => write!(f, "the weight of row {row} is negative or not finite"),
            Self::TotalWeight => {
                f.write_str("the weights of the batch do not sum to a positive finite number")
            }
            Self::NotFinite { what, row } => {
                write!(f, "{what} is not finite (row {row})")
            }
            Self::GradientTooLarge => {
                f.write_str("the gradient is too large for the optimiser; nothing was changed")
            }
            Self::Magic => f.write_str("not an adapter file: the magic bytes are missing"),
            Self::Version { found } => write!(f, "adapter format version {found} is not known to this build"),
            Self::Header { field, found } => {
                write!(f, "header field {field} holds {found}, which is not allowed")
            }
            Self::Checksum { part, stored, computed } => {
                write!(
                    f,
                    "checksum of the {part} is {computed:08x}, the file says {stored:08x}: it is damaged"
                )
            }
            Self::ImageLength { needed, given } => {
                write!(f, "the image needs {needed} bytes, {given} were given")
            }
            Self::Misaligned { offset } => {
                write!(f, "the payload lies {offset} bytes past a multiple of 64; align the image or copy it")
            }
            Self::MetadataSchema { found } => write!(f, "metadata schema {found} is not known to this build"),
            Self::Padding { offset } => write!(f, "byte {offset} of the image must be zero and is not"),
            Self::StoredAs { dtype } => write!(f, "the adapter is stored in {dtype}: open it as such"),
            Self::Range { what, row } => write!(f, "{what} of row {row} is out of range"),
            Self::ByteOrder => {
                f.write_str("this machine is big-endian: copy the payload instead of borrowing it")
            }
            Self::Metadata => f.write_str("the metadata cannot be decoded or does not fit"),
            Self::TextTooLong { what, capacity, given } => {
                write!(f, "{what} has {given} bytes; at most {capacity} fit")
            }
            Self::Golden { index } => write!(f, "the golden query gives another output at element {index}"),
        }
    }
}

impl core::error::Error for Error {}
