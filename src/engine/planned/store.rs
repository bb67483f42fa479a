//! The weights of a model in the memory of a machine, each with its gradient, its moments and its copy in bf16.

use crate::config::Position;
use crate::cuda::machine::{Address, Arithmetic, Fault, Machine};
use crate::cuda::plan::{PlacedWeight, PlacedWeights, WeightPiece};
use crate::engine::learner::LearnerConfig;
use crate::engine::optim::decays;
use crate::model::position::sincos;
use crate::model::state::{self, HostTensor, NamedTensors, StateError};
use crate::model::{ModelShape, init};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// One parameter.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    /// Dimensions in the layout of the model.
    pub(super) dims: Vec<usize>,
    /// Whether it is trained. A fixed position isn't.
    pub(super) trained: bool,
    pub(super) weight: PlacedWeight,
    pub(super) moments: [Address; 2],
}

/// All parameters by name, and the table of the pieces that `AdamW` updates.
pub(super) struct Store {
    pub(super) parameters: BTreeMap<String, Parameter>,
    /// The same for plans.
    pub(super) weights: PlacedWeights,
    pub(super) table: Address,
    pub(super) pieces: usize,
}

/// Which of the tensors of a parameter is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Value,
    Gradient,
    Moment(usize),
}

impl Parameter {
    pub(super) fn at(&self, which: Which) -> Address {
        match which {
            Which::Value => self.weight.value,
            Which::Gradient => self.weight.gradient,
            Which::Moment(number) => self.moments[number],
        }
    }
}

/// A model on the host: the parameters in the order of the model, and their fresh values.
pub(super) struct Fresh {
    /// Names and dimensions, and whether a parameter is trained.
    parameters: Vec<(String, Vec<usize>, bool)>,
    pub(super) values: NamedTensors,
}

impl Fresh {
    /// Draws the weights of a model from a seed. The model itself isn't built.
    pub(super) fn draw(shape: &ModelShape, seed: u64) -> Self {
        let (mut parameters, mut values) = (Vec::new(), NamedTensors::new());
        for (name, dims) in shape.tensors() {
            let fixed = shape.position == Position::Sincos && name.ends_with("pos_embed");
            let data = if fixed {
                sincos(shape.grid, shape.dim)
            } else {
                vec![0.0; dims.iter().product()]
            };
            parameters.push((name.clone(), state::model_dims(&name, &dims), !fixed));
            values.insert(name, HostTensor { shape: dims, data });
        }
        init::initialize(&mut values, shape, seed);
        Self { parameters, values }
    }
}

impl Store {
    /// Makes room for all parameters of a model. They hold nothing yet.
    ///
    /// # Errors
    /// If the machine has no room.
    pub(super) fn new(
        machine: &mut dyn Machine,
        config: &LearnerConfig,
        arithmetic: Arithmetic,
        fresh: &Fresh,
    ) -> Result<Self, Fault> {
        const ALIGNMENT: usize = 256;
        let copied = arithmetic == Arithmetic::Bf16;
        let names = &fresh.parameters;
        let room = |elements: usize| {
            let wide = (4 * elements).next_multiple_of(ALIGNMENT);
            let copy = if copied { (2 * elements).next_multiple_of(ALIGNMENT) } else { 0 };
            [wide, wide, wide, wide, copy]
        };
        let elements = |dims: &[usize]| dims.iter().product::<usize>();
        let whole = names.iter().flat_map(|(_, dims, _)| room(elements(dims))).sum();
        let mut next = machine.allocate(whole)?;
        let mut parameters = BTreeMap::new();
        for (name, dims, trained) in names {
            let elements = elements(dims);
            let [value, gradient, first, second, copy] = room(elements).map(|bytes| {
                let at = next;
                next += bytes as Address;
                if bytes == 0 { 0 } else { at }
            });
            let weight = PlacedWeight { value, gradient, copy, elements };
            let (dims, trained, moments) = (dims.clone(), *trained, [first, second]);
            parameters.insert(name.clone(), Parameter { dims, trained, weight, moments });
        }
        let weights = parameters.iter().map(|(name, p)| (name.clone(), p.weight)).collect();
        let mut store = Self { parameters, weights, table: 0, pieces: 0 };
        store.write_table(machine, config)?;
        Ok(store)
    }

    fn write_table(
        &mut self,
        machine: &mut dyn Machine,
        config: &LearnerConfig,
    ) -> Result<(), Fault> {
        let mut table = Vec::new();
        let pieces = self.trained().flat_map(|(name, parameter)| {
            let decay = if decays(name, parameter.dims.len()) {
                config.optimizer.weight_decay
            } else {
                0.0
            };
            let PlacedWeight { value, gradient, copy, elements } = parameter.weight;
            let rate = config.layer_decay.scale(name) as f32;
            let moments = parameter.moments;
            WeightPiece { value, gradient, moments, copy, elements, decay: decay as f32, rate }
                .cut()
        });
        let mut count = 0;
        for piece in pieces {
            piece.write(&mut table);
            count += 1;
        }
        self.pieces = count;
        self.table = machine.allocate(table.len())?;
        machine.write(self.table, &table)
    }

    /// Returns the parameters that are trained.
    pub(super) fn trained(&self) -> impl Iterator<Item = (&String, &Parameter)> {
        self.parameters.iter().filter(|(_, parameter)| parameter.trained)
    }

    /// Returns the values of `tensors`, where `prefix` stands before each name, in the layout of the model.
    ///
    /// # Errors
    /// If one of the `wanted` parameters is missing or misshapen.
    pub(super) fn fetch<'a>(
        tensors: &NamedTensors,
        prefix: &str,
        wanted: impl Iterator<Item = (&'a String, &'a Parameter)>,
    ) -> Result<Vec<(Parameter, Vec<f32>)>, StateError> {
        let wanted: Vec<_> = wanted.collect();
        let fetch = |(name, parameter): (&'a String, &'a Parameter)| {
            let key = format!("{prefix}{name}");
            Ok((parameter.clone(), state::fetch(tensors, &key, &parameter.dims)?))
        };
        wanted.into_par_iter().map(fetch).collect()
    }

    /// Checks that every tensor belongs to a parameter.
    ///
    /// # Errors
    /// If one doesn't.
    pub(super) fn check_names(&self, tensors: &NamedTensors) -> Result<(), StateError> {
        match tensors.keys().find(|name| !self.parameters.contains_key(*name)) {
            Some(name) => Err(StateError::Unknown(name.clone())),
            None => Ok(()),
        }
    }

    /// Returns tensors of parameters in timm's layout, with `prefix` before each name. Device sync.
    ///
    /// # Errors
    /// If the machine has failed.
    pub(super) fn save<'a>(
        machine: &mut dyn Machine,
        prefix: &str,
        wanted: impl Iterator<Item = (&'a String, &'a Parameter)>,
        which: Which,
    ) -> Result<NamedTensors, Fault> {
        let mut read = Vec::new();
        for (name, parameter) in wanted {
            let mut data = vec![0.0_f32; parameter.weight.elements];
            machine.read(parameter.at(which), bytemuck::cast_slice_mut(&mut data))?; // device sync
            read.push((name, HostTensor { shape: parameter.dims.clone(), data }));
        }
        let convert = |(name, tensor): (&String, HostTensor)| {
            (format!("{prefix}{name}"), state::to_timm(name, tensor))
        };
        Ok(read.into_par_iter().map(convert).collect())
    }
}
