//! Which model vectors come from, and whether that is the model an adapter was trained for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::adapter_file::AdapterFile;
use crate::failure::Failure;
use crate::files::folder_of;
use crate::json::quoted;
use crate::options::ModelOptions;

/// The text whose vector tells models apart.
pub const GOLDEN_TEXT: &str = "Which door does the postman use when it rains?";

/// The file beside vectors that says where they come from.
pub(super) const FILE: &str = "model.json";

/// The least cosine between two vectors of the golden text by one model.
///
/// Other machines, 16-bit and 8-bit weights stay well above it. Vectors of different models are as good as orthogonal,
/// those of two versions of one model are not much closer.
const LEAST_COSINE: f64 = 0.99;

/// Where vectors come from: the model, the prefixes, and the golden text's vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// What the model is called.
    pub model: String,
    /// What was put before each query.
    pub query_prefix: String,
    /// What was put before each document.
    pub document_prefix: String,
    /// The text that was embedded as a query, [`GOLDEN_TEXT`] as far as this program wrote it.
    pub golden_text: String,
    /// Its vector.
    pub golden_vector: Vec<f32>,
}

impl Origin {
    /// The file that says it of the vectors in a folder, whether there or not.
    pub(crate) fn file_in(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// Reads the file beside vectors in `folder`; none when there is no such file.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when it cannot be read or is malformed.
    pub fn beside(folder: &Path) -> Result<Option<Self>, Failure> {
        let path = Self::file_in(folder);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::unreadable(&path, &error)),
        };
        let origin: Self = serde_json::from_slice(&bytes).map_err(|error| {
            let problem =
                format!("found no description of a model ({error}); embed the texts again, or delete it");
            Failure::input(&path, problem)
        })?;
        if origin.golden_vector.iter().any(|value| !value.is_finite()) {
            return Err(Failure::input(&path, "the golden vector is not finite; embed the texts again"));
        }
        Ok(Some(origin))
    }

    /// Refuses a file of vectors where what is said beside it tells of another model. What was tried with another text is not
    /// compared.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] naming both models, and as [`beside`](Self::beside).
    pub(crate) fn require_same_model(&self, file: &Path) -> Result<(), Failure> {
        let Some(other) = Self::beside(folder_of(file))? else { return Ok(()) };
        let comparable = other.golden_text == self.golden_text;
        if !comparable || is_one_model(&self.golden_vector, &other.golden_vector) {
            return Ok(());
        }
        let problem = format!(
            "its vectors are of {}, the others of {}, another space; embed both with one model",
            quoted(&other.model),
            quoted(&self.model)
        );
        Err(Failure::input(file, problem))
    }

    /// Refuses what is said here of the vectors in `folder` where they have another dimension, or the command line other prefixes.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] naming both.
    pub(crate) fn require_fit(&self, folder: &Path, dim: usize, given: &ModelOptions) -> Result<(), Failure> {
        if dim > 0 && self.golden_vector.len() != dim {
            let problem = format!(
                "the golden vector has {} components, the vectors beside it {dim}; embed the texts again, or delete it",
                self.golden_vector.len()
            );
            return Err(Failure::input(&Self::file_in(folder), problem));
        }
        let prefixes = [
            ("--query-prefix", &given.query_prefix, &self.query_prefix),
            ("--document-prefix", &given.document_prefix, &self.document_prefix),
        ];
        for (flag, given, known) in prefixes {
            if let Some(given) = given.as_ref().filter(|&given| given != known) {
                let problem = format!(
                    "{flag} is {}, but these vectors were made with {}; leave it out, or embed again",
                    quoted(given),
                    quoted(known)
                );
                return Err(Failure::input(&Self::file_in(folder), problem));
            }
        }
        Ok(())
    }

    /// Refuses vectors of another model, or made with other prefixes, than those the adapter was trained for. `source`
    /// is what errors call the vectors. A note says what could not be checked, where the adapter is for one model and
    /// nothing is known of the vectors.
    ///
    /// An adapter without a golden text says nothing of its model; then nothing is checked.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] naming both models, or both prefixes.
    pub fn require(
        origin: Option<&Self>,
        adapter: &AdapterFile,
        source: &str,
        note: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        let image = adapter.image()?;
        let metadata = image.metadata();
        let Some(golden_text) = metadata.golden_text else { return Ok(()) };
        let model = quoted(metadata.base_model);
        let Some(origin) = origin else {
            note(&format!(
                "the adapter was trained for vectors of {model}; nothing says which model those of {source} are of, so \
                 that was not checked"
            ));
            return Ok(());
        };
        let fail = |problem: String| Err(Failure::input(adapter.path(), problem));
        let prefixes = [
            ("query", "--query-prefix", metadata.query_prefix, &origin.query_prefix),
            ("document", "--document-prefix", metadata.document_prefix, &origin.document_prefix),
        ];
        for (what, flag, expected, found) in prefixes {
            if expected != found {
                return fail(format!(
                    "the adapter was trained on vectors with the {what} prefix {}, those of {source} have {}; give \
                     {flag} {} and embed again",
                    quoted(expected),
                    quoted(found),
                    quoted(expected)
                ));
            }
        }
        if golden_text != origin.golden_text {
            // One of the two is another program's.
            note(&format!(
                "the adapter was trained for vectors of {model}, those of {source} are of {}; they were tried with \
                 different texts, so whether it is one model was not checked",
                quoted(&origin.model)
            ));
            return Ok(());
        }
        let mut golden = vec![0.0; image.in_dim()];
        let mut output = vec![0.0; image.out_dim()];
        image.copy_golden(&mut golden, &mut output).map_err(anyhow::Error::from)?;
        if golden.len() != origin.golden_vector.len() {
            return fail(format!(
                "the adapter takes the vectors of {model} with {} components, those of {source} are of {} with {}; use \
                 vectors of the model it was trained for",
                golden.len(),
                quoted(&origin.model),
                origin.golden_vector.len()
            ));
        }
        let cosine = cosine(&golden, &origin.golden_vector);
        if cosine < LEAST_COSINE {
            return fail(format!(
                "the adapter was trained for vectors of {model}, those of {source} are of {}, another space: the \
                 cosine between the two models' vectors of one text is {cosine:.4}; use vectors of the model it was \
                 trained for",
                quoted(&origin.model)
            ));
        }
        Ok(())
    }
}

/// Whether two vectors of one text can be of one model.
fn is_one_model(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && cosine(a, b) >= LEAST_COSINE
}

/// The cosine of two vectors of one length; 0 when one of them is zero.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum() };
    let lengths = dot(a, a).sqrt() * dot(b, b).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}
