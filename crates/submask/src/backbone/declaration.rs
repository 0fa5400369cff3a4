//! How a network declares its weights: once, in definition order, when it is put together. What it keeps of each is a
//! handle, with which it finds the weight at every call.

use std::fmt::Display;

use super::weights::{Init, Parameter};
use crate::denoiser::Spec;
use crate::ops::Kernels;

/// Where a weight of D dimensions stands in the definition of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle<const D: usize>(pub(super) usize);

impl<const D: usize> Handle<D> {
    /// The weight called `name` among the `parameters` of a network; `None` where none of D dimensions has that name.
    pub fn find(parameters: &[Parameter], name: &str) -> Option<Self> {
        let place = parameters.iter().position(|parameter| parameter.name == name)?;
        (parameters[place].shape.len() == D).then_some(Self(place))
    }
}

/// What a network is known by, beside what it computes.
#[derive(Clone, Debug)]
pub struct Definition {
    /// What it takes and gives.
    pub spec: Spec,
    /// Which operations run.
    pub kernels: Kernels,
    /// All its weights, in the order of their [`Declaration`].
    pub parameters: Vec<Parameter>,
}

/// Collects the weights of a network. They are initialised, trained and saved in the order in which they are declared,
/// and initial values are drawn by place: a network that declares them in another order starts with other values.
///
/// ```
/// use submask::backbone::{Declaration, LinearConfig};
/// use submask::ops::Kernels;
///
/// let mut parameters = Vec::new();
/// let mut declaration = Declaration::new(&mut parameters, Kernels::FUSED);
/// for index in 0..2 {
///     let mut block = declaration.within(format!("blocks.{index}"));
///     LinearConfig::new(16, 8).declare(&mut block, "linear");
/// }
/// let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
/// assert_eq!(names[1..3], ["blocks.0.linear.bias", "blocks.1.linear.weight"]);
/// ```
#[derive(Debug)]
pub struct Declaration<'a> {
    parameters: &'a mut Vec<Parameter>,
    /// What the names begin with: empty, or with a dot at its end.
    prefix: String,
    kernels: Kernels,
}

impl<'a> Declaration<'a> {
    /// Appends to `parameters`, which are empty for a new network, the weights of a network that computes with `kernels`.
    pub fn new(parameters: &'a mut Vec<Parameter>, kernels: Kernels) -> Self {
        Self { parameters, prefix: String::new(), kernels }
    }

    /// The same list, for weights whose names begin with `name` and a dot.
    pub fn within(&mut self, name: impl Display) -> Declaration<'_> {
        Declaration {
            parameters: &mut *self.parameters,
            prefix: format!("{}{name}.", self.prefix),
            kernels: self.kernels,
        }
    }

    /// Which operations the network's layers run.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Declares a weight. No other of the network has its name.
    pub fn weight<const D: usize>(&mut self, name: &str, shape: [usize; D], init: Init) -> Handle<D> {
        self.weight_kept(name, shape, init, |parameter, _| parameter)
    }

    /// The same, where `keep` says how inference keeps the weight.
    pub(super) fn weight_kept<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
        init: Init,
        keep: fn(Parameter, Kernels) -> Parameter,
    ) -> Handle<D> {
        let parameter = Parameter::new(format!("{}{name}", self.prefix), &shape, init);
        self.parameters.push(keep(parameter, self.kernels));
        Handle(self.parameters.len() - 1)
    }
}
