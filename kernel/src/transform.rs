//! What all adapters have in common, however they are stored.

use crate::error::Error;
use crate::lanes::Lanes;

/// An adapter that can be applied: [`Linear`](crate::Linear), [`Int8Linear`](crate::Int8Linear).
///
/// For programs that take whatever an adapter file holds. `&dyn Transform` works.
///
/// ```
/// use query_adapter::{Error, Lanes, Level, Linear, Transform};
///
/// fn transform(adapter: &dyn Transform, query: &[f32], output: &mut [f32]) -> Result<(), Error> {
///     adapter.apply(query, output)
/// }
///
/// let identity = Linear::identity(2, 2, false, [Lanes::ZERO; 2], Level::baseline())?;
/// let mut output = [0.0; 2];
/// transform(&identity, &[0.6, 0.8], &mut output)?;
/// assert_eq!(output, [0.6, 0.8]);
/// # Ok::<(), Error>(())
/// ```
pub trait Transform {
    /// Length of a query.
    fn in_dim(&self) -> usize;

    /// Length of a transformed query.
    fn out_dim(&self) -> usize;

    /// Transforms `rows × in_dim` queries into `rows × out_dim` outputs, both row-major. A row gets the bits that it would
    /// get alone.
    ///
    /// # Errors
    /// [`Error::Length`] when `queries` is not a whole number of rows, or `outputs` has not as many; `outputs` is as
    /// before.
    fn apply_batch(&self, queries: &[f32], outputs: &mut [f32]) -> Result<(), Error>;

    /// Sixteen outputs, rows `16 panel .. 16 panel + 15`, of one query; rows past `out_dim` are `+0` if the
    /// query is finite.
    ///
    /// # Errors
    /// [`Error::Length`] when `query` has not `in_dim` elements or there is no such panel.
    fn apply_panel(&self, panel: usize, query: &[f32]) -> Result<Lanes, Error>;

    /// Transforms one query.
    ///
    /// # Errors
    /// [`Error::Length`] when `query` has not `in_dim` or `output` not `out_dim` elements; `output` is as before.
    fn apply(&self, query: &[f32], output: &mut [f32]) -> Result<(), Error> {
        crate::lanes::check_len("query", self.in_dim(), query.len())?;
        self.apply_batch(query, output)
    }
}
