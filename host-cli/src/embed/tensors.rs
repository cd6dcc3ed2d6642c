//! The tensors of a `model.safetensors`, as `f32`.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use crate::failure::Failure;

/// A file of tensors, in memory.
pub(crate) struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl TensorFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when it cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = fs::read(path).map_err(|error| Failure::unreadable(path, &error))?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// The contents.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The tensors in it.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when it is no safetensors file, or damaged.
    pub(crate) fn tensors(&self) -> Result<Tensors<'_>, Failure> {
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(|error| {
            let problem = format!("found no sound safetensors file ({error}); download the model again");
            Failure::input(&self.path, problem)
        })?;
        Ok(Tensors { path: &self.path, tensors })
    }
}

/// Named tensors.
pub(crate) struct Tensors<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl Tensors<'_> {
    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// The sizes of a tensor; none when it is absent.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.tensor(name).ok()?.shape().to_vec())
    }

    /// An error about this file.
    pub(crate) fn refuse(&self, problem: impl Into<String>) -> Failure {
        Failure::input(self.path, problem)
    }

    /// A list of row numbers.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when it is absent, of another type than 32- or 64-bit integers, or holds a negative number.
    pub(crate) fn indices(&self, name: &str) -> Result<Vec<u32>, Failure> {
        let tensor =
            self.tensors.tensor(name).map_err(|_| self.refuse(format!("there is no tensor {name:?}")))?;
        let data = tensor.data();
        let wide: Vec<i64> = match tensor.dtype() {
            Dtype::I64 => data.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect(),
            Dtype::I32 => {
                data.as_chunks().0.iter().map(|&bytes| i64::from(i32::from_le_bytes(bytes))).collect()
            }
            other => {
                let problem = format!("the tensor {name:?} has the type {other:?}, expected I32 or I64");
                return Err(self.refuse(problem));
            }
        };
        let narrow = |&index: &i64| {
            u32::try_from(index)
                .map_err(|_| self.refuse(format!("the tensor {name:?} holds {index}, expected a row number")))
        };
        wide.iter().map(narrow).collect()
    }

    /// The values of a tensor of the given sizes, row-major.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when it is absent, has other sizes or another type than 16- or 32-bit floats, or a value
    /// is not finite.
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Failure> {
        let fail = |problem| Failure::input(self.path, problem);
        let Ok(tensor) = self.tensors.tensor(name) else {
            return Err(fail(format!(
                "there is no tensor {name:?}, which a model of this kind has; the folder's config.json and weights \
                 do not belong together, or the weights are not those of an embedding model"
            )));
        };
        if tensor.shape() != shape {
            return Err(fail(format!(
                "the tensor {name:?} has the sizes {:?}, expected {shape:?} by config.json",
                tensor.shape()
            )));
        }
        let data = tensor.data();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
            Dtype::F16 => {
                data.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect()
            }
            Dtype::BF16 => {
                data.as_chunks().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect()
            }
            other => {
                let problem =
                    format!("the tensor {name:?} has the type {other:?}, expected F32, F16 or BF16");
                return Err(fail(problem));
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(fail(format!(
                "element {at} of the tensor {name:?} is {}, expected a finite number; download the model again",
                values[at]
            ))),
            None => Ok(values),
        }
    }
}
