//! Adapter files on disk: saved whole or not at all, opened with every check there is.

use std::fs;
use std::path::{Path, PathBuf};

use query_adapter::image::{Image, ImageSpec, Kind, Metadata};
use query_adapter::sample::Generator;
use query_adapter::{
    ByteLanes, Int8Linear, Lanes, Level, Linear, Transform, encode_int8_adapter, panel_len, panels,
};

use crate::failure::Failure;
use crate::files::write_atomically;
use crate::fit::Adapter;

/// The bytes of an adapter file: a function of the adapter, its metadata and the golden query alone.
///
/// `golden` is the vector of the metadata's golden text; without one the golden query is made of no one's data.
///
/// # Errors
///
/// [`Failure::Usage`] when a text of the metadata is too long, [`Failure::Numerical`] when a weight is not finite.
pub fn encode(adapter: &Adapter, metadata: Metadata<'_>, golden: Option<&[f32]>) -> Result<Vec<u8>, Failure> {
    let golden_query = golden.map_or_else(|| golden_query(adapter.in_dim()), <[f32]>::to_vec);
    let mut golden_output = vec![0.0; adapter.out_dim()];
    adapter.apply(&golden_query, &mut golden_output)?;
    let spec = ImageSpec {
        in_dim: adapter.in_dim(),
        out_dim: adapter.out_dim(),
        bias: adapter.has_bias(),
        metadata,
        golden_query: &golden_query,
        golden_output: &golden_output,
    };
    let refused = |error: query_adapter::Error| match error {
        query_adapter::Error::TextTooLong { .. } => Failure::Usage(format!("{error}; shorten it")),
        _ => Failure::from(error),
    };
    let mut bytes = vec![0; spec.encoded_len().map_err(refused)?];
    let length = spec.encode(adapter.weight().as_lanes(), &mut bytes).map_err(refused)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// The bytes of an adapter file in eight bits, with the metadata and the golden query of the file it was made from.
///
/// # Errors
///
/// [`Failure::Numerical`] when a bias, or an output for the golden query, is not finite.
pub fn encode_int8(
    adapter: &Int8Adapter,
    metadata: Metadata<'_>,
    golden_query: &[f32],
) -> Result<Vec<u8>, Failure> {
    let adapter = adapter.linear()?;
    let mut golden_output = vec![0.0; adapter.dim()];
    adapter.apply(golden_query, &mut golden_output)?;
    let spec = ImageSpec {
        in_dim: adapter.dim(),
        out_dim: adapter.dim(),
        bias: adapter.has_bias(),
        metadata,
        golden_query,
        golden_output: &golden_output,
    };
    let mut bytes = vec![0; spec.encoded_int8_len()?];
    spec.encode_int8(&adapter, &mut bytes)?;
    Ok(bytes)
}

/// Writes an adapter file; see [`write_atomically`].
///
/// # Errors
///
/// As [`encode`], and [`Failure::Output`].
pub fn save(
    path: &Path,
    force: bool,
    adapter: &Adapter,
    metadata: Metadata<'_>,
    golden: Option<&[f32]>,
) -> Result<(), Failure> {
    let bytes = encode(adapter, metadata, golden)?;
    write_atomically(path, force, |out| out.write_all(&bytes))
}

/// A query of the length that normalised vectors have, made of no user's data.
fn golden_query(dim: usize) -> Vec<f32> {
    let mut generator = Generator::new(0);
    // 2⁻²⁴ × 24 bits: exact, from −½ to ½.
    let mut component = || f32::from_bits(0x3f80_0000 | (generator.below(1 << 23))) - 1.5;
    (0..dim).map(|_| component()).collect()
}

/// An opened adapter file.
#[derive(Clone, Debug)]
pub struct AdapterFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl AdapterFile {
    /// Reads an adapter file and checks its structure, checksums and golden pair.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when it cannot be read, is no adapter file, is damaged, or this machine does not reproduce
    /// its golden output.
    pub fn open(path: &Path, level: Level) -> Result<Self, Failure> {
        let bytes = fs::read(path).map_err(|error| Failure::unreadable(path, &error))?;
        let file = Self { path: path.to_owned(), bytes };
        file.image()?.verify().map_err(|error| file.refused(error))?;
        file.verify_golden(level)?;
        Ok(file)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that a SIMD level of this machine computes what the writer's machine computed, every bit of it.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] naming the level when it does not.
    pub fn verify_golden(&self, level: Level) -> Result<(), Failure> {
        let adapter = self.adapter(level)?;
        let mut query = vec![0.0; adapter.in_dim()];
        self.image()?.verify_golden(&adapter, &mut query).map_err(|error| {
            let problem =
                format!("at SIMD level {}: {error}; the file or this machine is faulty", level.name());
            Failure::input(&self.path, problem)
        })
    }

    /// The image in the file.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when header or metadata are damaged.
    pub fn image(&self) -> Result<Image<'_>, Failure> {
        Image::parse(&self.bytes).map_err(|error| self.refused(error))
    }

    /// The file's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The size of the file in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the file is empty; an opened one never is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The adapter, its weights copied to where they are aligned.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when header or metadata are damaged.
    pub fn adapter(&self, level: Level) -> Result<StoredAdapter, Failure> {
        let image = self.image()?;
        match image.kind() {
            Kind::Residual => {
                let adapter = Int8Adapter::copied(&image, level).map_err(|error| self.refused(error))?;
                Ok(StoredAdapter::Int8(adapter))
            }
            // What is not known here is refused by name.
            _ => self.dense(level).map(StoredAdapter::Dense),
        }
    }

    /// The adapter in `f32`, for what works on its weight.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when it is stored in fewer bits, and when header or metadata are damaged.
    pub fn dense(&self, level: Level) -> Result<Adapter, Failure> {
        let image = self.image()?;
        let mut weights = vec![Lanes::ZERO; image.weights_len()];
        image.copy_weights(&mut weights).map_err(|error| match error {
            query_adapter::Error::StoredAs { dtype } => {
                let problem =
                    format!("the adapter is stored in {dtype}, expected f32; take the file it was made from");
                Failure::input(&self.path, problem)
            }
            error => self.refused(error),
        })?;
        Linear::from_lanes(image.in_dim(), image.out_dim(), image.has_bias(), weights, level)
            .map_err(|error| self.refused(error))
    }

    /// Refuses vectors of another dimension than the adapter takes.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] naming both dimensions.
    pub fn require_in_dim(&self, dim: usize, what: &str) -> Result<(), Failure> {
        let expected = self.image()?.in_dim();
        if expected == dim {
            return Ok(());
        }
        let problem = format!(
            "the adapter takes vectors of {expected} components, {what} have {dim}; use vectors of the model it was \
             trained for"
        );
        Err(Failure::input(&self.path, problem))
    }

    /// Refuses an adapter that does not turn queries of a data set of `dim` components into vectors that can be compared
    /// with its documents.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] naming both dimensions.
    pub fn require_dim(&self, dim: usize) -> Result<(), Failure> {
        self.require_in_dim(dim, "the queries")?;
        let found = self.image()?.out_dim();
        if found == dim {
            return Ok(());
        }
        let problem = format!(
            "the adapter gives vectors of {found} components, the documents have {dim}; use an adapter that gives as many \
             as the documents have, or apply it to the queries' vectors and search among documents of {found}"
        );
        Err(Failure::input(&self.path, problem))
    }

    fn refused(&self, error: query_adapter::Error) -> Failure {
        use query_adapter::Error;
        let advice = match error {
            Error::Magic => ", expected a file that train, quantize or import wrote",
            Error::ImageLength { needed, given } if given < needed => {
                "; the file is cut off or no adapter file, write it again"
            }
            Error::ImageLength { .. } => "; something was added to the file, write it again",
            Error::Version { .. } | Error::MetadataSchema { .. } => {
                "; use the version of the program that wrote it"
            }
            Error::Header { .. } | Error::Checksum { .. } | Error::Padding { .. } | Error::Range { .. } => {
                "; write the file again"
            }
            _ => "",
        };
        Failure::input(&self.path, format!("{error}{advice}"))
    }
}

/// An adapter as a file holds it.
#[derive(Clone, Debug)]
pub enum StoredAdapter {
    /// In `f32`.
    Dense(Adapter),
    /// As its difference from the identity, in eight bits.
    Int8(Int8Adapter),
}

impl Transform for StoredAdapter {
    fn in_dim(&self) -> usize {
        match self {
            Self::Dense(adapter) => adapter.in_dim(),
            Self::Int8(adapter) => adapter.dim,
        }
    }

    fn out_dim(&self) -> usize {
        match self {
            Self::Dense(adapter) => adapter.out_dim(),
            Self::Int8(adapter) => adapter.dim,
        }
    }

    fn apply_batch(&self, queries: &[f32], outputs: &mut [f32]) -> Result<(), query_adapter::Error> {
        match self {
            Self::Dense(adapter) => adapter.apply_batch(queries, outputs),
            Self::Int8(adapter) => adapter.linear()?.apply_batch(queries, outputs),
        }
    }

    fn apply_panel(&self, panel: usize, query: &[f32]) -> Result<Lanes, query_adapter::Error> {
        match self {
            Self::Dense(adapter) => adapter.apply_panel(panel, query),
            Self::Int8(adapter) => adapter.linear()?.apply_panel(panel, query),
        }
    }
}

/// An adapter in eight bits, in memory of its own.
#[derive(Clone, Debug)]
pub struct Int8Adapter {
    dim: usize,
    values: Vec<ByteLanes>,
    scales: Vec<Lanes>,
    bias: Option<Vec<Lanes>>,
    level: Level,
}

impl Int8Adapter {
    /// Rounds a square adapter.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`](query_adapter::Error::Setting) when it is not square, [`Error::NotFinite`](query_adapter::Error::NotFinite).
    pub fn rounded(adapter: &Adapter) -> Result<Self, query_adapter::Error> {
        let mut rounded = Self::zero(adapter.in_dim(), true, adapter.level());
        let bias = rounded.bias.as_deref_mut().unwrap_or_default();
        encode_int8_adapter(adapter, &mut rounded.values, &mut rounded.scales, bias)?;
        rounded.bias = rounded.bias.filter(|_| adapter.has_bias());
        Ok(rounded)
    }

    fn copied(image: &Image<'_>, level: Level) -> Result<Self, query_adapter::Error> {
        let mut copied = Self::zero(image.in_dim(), image.has_bias(), level);
        let bias = copied.bias.as_deref_mut().unwrap_or_default();
        image.copy_int8(&mut copied.values, &mut copied.scales, bias)?;
        Ok(copied)
    }

    fn zero(dim: usize, bias: bool, level: Level) -> Self {
        let column = vec![Lanes::ZERO; panels(dim)];
        let values = vec![ByteLanes::ZERO; panel_len(dim, dim)];
        Self { dim, values, bias: bias.then(|| column.clone()), scales: column, level }
    }

    /// As the kernel takes it.
    ///
    /// # Errors
    ///
    /// [`Error::FlushToZero`](query_adapter::Error::FlushToZero).
    pub fn linear(&self) -> Result<Int8Linear<'_>, query_adapter::Error> {
        Int8Linear::new(self.dim, &self.values, &self.scales, self.bias.as_deref(), self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_query_is_spread_over_both_signs() {
        let query = golden_query(1000);
        assert!(query.iter().all(|x| (-0.5..0.5).contains(x)));
        assert!(query.iter().filter(|x| **x < 0.0).count().abs_diff(500) < 60);
    }
}
