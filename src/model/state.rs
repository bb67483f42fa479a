//! Named weights on the host, with the names and layouts of timm.
//!
//! Inside the model, a linear weight is `[in, out]` and the patch projection `[3·p·p, D]`. Outside, they have PyTorch's
//! layouts: `[out, in]`, and `[D, 3, p, p]` for the kernel of a convolution. Only this module knows both.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use std::collections::BTreeMap;
use thiserror::Error;

/// A tensor on the host: row-major 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Tensors in the order of their names.
pub type NamedTensors = BTreeMap<String, HostTensor>;

/// Why weights don't fit a model.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StateError {
    #[error("tensor {0} is missing")]
    Missing(String),
    #[error("tensor {name} has shape {found:?}, the model needs {expected:?}")]
    Shape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("tensor {0} belongs to nothing in the model")]
    Unknown(String),
}

/// What [`visit`] calls for each parameter with its dotted name.
pub trait ParamVisitor<B: Backend> {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<B, D>>);
}

/// What [`map`] calls for each parameter with its dotted name, to get its new value.
pub trait ParamMapper<B: Backend> {
    fn map<const D: usize>(&mut self, name: &str, tensor: Tensor<B, D>) -> Tensor<B, D>;
}

/// Visits all parameters in a fixed order.
pub fn visit<B: Backend>(model: &impl Module<B>, visitor: &mut impl ParamVisitor<B>) {
    model.visit(&mut Walk { path: Vec::new(), inner: visitor });
}

/// Replaces all parameters. Those that require gradients go on to do so.
pub fn map<B: Backend, M: Module<B>>(model: M, mapper: &mut impl ParamMapper<B>) -> M {
    model.map(&mut Walk { path: Vec::new(), inner: mapper })
}

/// Keeps track of the names of the modules around a parameter.
struct Walk<'a, T> {
    path: Vec<String>,
    inner: &'a mut T,
}

impl<B: Backend, T: ParamVisitor<B>> ModuleVisitor<B> for Walk<'_, T> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.inner.visit(&self.path.join("."), param);
    }
}

impl<B: Backend, T: ParamMapper<B>> ModuleMapper<B> for Walk<'_, T> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, burn_mapper) = param.consume();
        let trainable = tensor.is_require_grad();
        let value = self.inner.map(&self.path.join("."), tensor);
        Param::from_mapped_value(id, value.set_require_grad(trainable), burn_mapper)
    }
}

/// Returns all parameters of a model. This reads from the device once per tensor.
pub fn save<B: Backend>(model: &impl Module<B>) -> NamedTensors {
    struct Save(NamedTensors);
    impl<B: Backend> ParamVisitor<B> for Save {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<B, D>>) {
            let tensor = download(param.val()); // device sync
            self.0.insert(name.to_owned(), to_timm(name, tensor));
        }
    }
    let mut save = Save(NamedTensors::new());
    visit(model, &mut save);
    save.0
}

/// Fills a model with weights, whose names and shapes must be exactly its own.
///
/// # Errors
/// Returns an error about the first tensor that is missing, has a wrong shape or doesn't belong to the model.
pub fn load<B: Backend, M: Module<B>>(model: M, tensors: &NamedTensors) -> Result<M, StateError> {
    struct Load<'a> {
        tensors: &'a NamedTensors,
        used: usize,
        error: Option<StateError>,
    }
    impl<B: Backend> ParamMapper<B> for Load<'_> {
        fn map<const D: usize>(&mut self, name: &str, tensor: Tensor<B, D>) -> Tensor<B, D> {
            let dims = tensor.dims();
            match fetch(self.tensors, name, &dims) {
                Ok(values) => {
                    self.used += 1;
                    Tensor::from_data(TensorData::new(values, dims), &tensor.device())
                }
                Err(error) => {
                    self.error.get_or_insert(error);
                    tensor
                }
            }
        }
    }
    let mut known = Names::default();
    visit(&model, &mut known);
    let mut load = Load { tensors, used: 0, error: None };
    let model = map(model, &mut load);
    match load.error {
        Some(error) => Err(error),
        None if load.used == tensors.len() => Ok(model),
        None => {
            let surplus = tensors.keys().find(|name| !known.0.contains(name));
            Err(StateError::Unknown(surplus.cloned().unwrap_or_default()))
        }
    }
}

/// Returns the values of tensor `name` in the layout of the model, where its dimensions are `dims`.
///
/// # Errors
/// Returns [`StateError::Missing`] or [`StateError::Shape`].
pub fn fetch(tensors: &NamedTensors, name: &str, dims: &[usize]) -> Result<Vec<f32>, StateError> {
    let tensor = tensors.get(name).ok_or_else(|| StateError::Missing(name.to_owned()))?;
    let expected = timm_shape(name, dims);
    if tensor.shape != expected || tensor.data.len() != expected.iter().product::<usize>() {
        return Err(StateError::Shape {
            name: name.to_owned(),
            found: tensor.shape.clone(),
            expected,
        });
    }
    Ok(if is_matrix(name, dims) {
        transposed(&tensor.data, dims[1], dims[0])
    } else {
        tensor.data.clone()
    })
}

/// Converts a tensor from the layout of the model to that of timm.
pub fn to_timm(name: &str, tensor: HostTensor) -> HostTensor {
    let shape = timm_shape(name, &tensor.shape);
    if is_matrix(name, &tensor.shape) {
        let data = transposed(&tensor.data, tensor.shape[0], tensor.shape[1]);
        HostTensor { shape, data }
    } else {
        HostTensor { shape, data: tensor.data }
    }
}

/// Reads a tensor from the device.
pub fn download<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> HostTensor {
    let shape = tensor.dims().to_vec();
    let data = tensor.into_data().convert::<f32>(); // device sync
    HostTensor { shape, data: data.to_vec().expect("converted to f32 above") }
}

/// Collects the names of all parameters.
#[derive(Default)]
struct Names(Vec<String>);
impl<B: Backend> ParamVisitor<B> for Names {
    fn visit<const D: usize>(&mut self, name: &str, _param: &Param<Tensor<B, D>>) {
        self.0.push(name.to_owned());
    }
}

/// Returns whether the layouts of this tensor differ.
fn is_matrix(name: &str, dims: &[usize]) -> bool {
    dims.len() == 2 && name.ends_with(".weight")
}

/// Returns the shape in timm of a tensor that has dimensions `dims` in the model.
fn timm_shape(name: &str, dims: &[usize]) -> Vec<usize> {
    if !is_matrix(name, dims) {
        return dims.to_vec();
    }
    if name.ends_with("patch_embed.proj.weight") {
        let side = (dims[0] / 3).isqrt();
        return vec![dims[1], 3, side, side];
    }
    vec![dims[1], dims[0]]
}

/// Returns the dimensions in the model of a tensor that has this `shape` in timm.
pub fn model_dims(name: &str, shape: &[usize]) -> Vec<usize> {
    if shape.len() < 2 || !name.ends_with(".weight") {
        return shape.to_vec();
    }
    vec![shape[1..].iter().product(), shape[0]]
}

/// Returns the transpose of a row-major matrix. It goes by squares that fit into the cache: along whole columns, nearly
/// every number of a large matrix would come from memory.
fn transposed(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const SIDE: usize = 32;
    if data.is_empty() {
        return Vec::new();
    }
    let mut out = vec![0.0; data.len()];
    for (band, first) in out.chunks_mut(SIDE * rows).zip((0..columns).step_by(SIDE)) {
        for top in (0..rows).step_by(SIDE) {
            let bottom = rows.min(top + SIDE);
            for (column, line) in (first..).zip(band.chunks_exact_mut(rows)) {
                for (row, value) in (top..bottom).zip(&mut line[top..bottom]) {
                    *value = data[row * columns + column];
                }
            }
        }
    }
    out
}
