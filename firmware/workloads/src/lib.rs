//! What the programs on a device compute, as functions that the host runs as well.
//!
//! Each ends in a [`Digest`] of the bits of all its results, which must be the same on every machine.

#![no_std]

#[cfg(feature = "write")]
extern crate alloc;

#[cfg(feature = "image")]
mod apply;
#[cfg(feature = "image")]
mod apply_int8;
mod arithmetic;
mod digest;
#[cfg(all(feature = "write", feature = "train"))]
mod host;
mod numbers;
#[cfg(feature = "image")]
mod refuse;
#[cfg(feature = "image")]
mod search;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "write")]
mod write;

#[cfg(feature = "image")]
pub use apply::{ApplyBuffers, apply, apply_only, apply_streamed};
#[cfg(feature = "image")]
pub use apply_int8::apply_int8;
pub use arithmetic::arithmetic;
pub use digest::Digest;
#[cfg(all(feature = "write", feature = "train"))]
pub use host::{WORKLOADS, digests};
#[cfg(feature = "image")]
pub use refuse::{REFUSE_LEN, refuse};
#[cfg(feature = "image")]
pub use search::{
    Corpus, DOCUMENT_DIM, DOCUMENTS, DOCUMENTS_LEN, SCALES_LEN, fill_document, search_documents,
};
#[cfg(feature = "train")]
pub use train::{TrainBuffers, train};
#[cfg(feature = "write")]
pub use write::{CorpusData, write_corpus, write_image, write_int8_image};

use query_adapter::Error;

/// The shape of an adapter that a program includes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Elements of a query.
    pub in_dim: usize,
    /// Elements of an adapted query.
    pub out_dim: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

/// An adapter whose last panel is one row short, with a bias: 576 KB of flash.
pub const SQUARE: Shape = Shape { in_dim: 383, out_dim: 383, bias: true };
/// An adapter with fewer outputs than inputs, without a bias.
pub const NARROW: Shape = Shape { in_dim: 96, out_dim: 40, bias: false };
/// A square adapter that is small enough for every one of its bytes to be damaged.
pub const SMALL: Shape = Shape { in_dim: 40, out_dim: 40, bias: true };

/// Why a workload has no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The kernel refused what it should have taken.
    Refused(Error),
    /// The kernel took the damaged image of this number.
    Accepted(u32),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}
