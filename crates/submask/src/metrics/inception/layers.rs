//! The convolutions of Inception-v3, declared once.

/// A convolution without bias, and the batch norm after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub name: String,
    pub inner: usize,
    pub outer: usize,
    /// Height and width.
    pub kernel: [usize; 2],
    pub stride: usize,
    /// Whether the input is padded so that a stride of 1 keeps the size.
    pub padded: bool,
}

/// What batch norm has for each channel.
pub(super) const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// The convolutions in the order of computation.
pub(super) fn layers() -> Vec<Layer> {
    let mut layers = Block { prefix: String::new(), layers: Vec::new() };
    layers.valid("Conv2d_1a_3x3", 3, 32, 3, 2);
    layers.valid("Conv2d_2a_3x3", 32, 32, 3, 1);
    layers.same("Conv2d_2b_3x3", 32, 64, [3, 3]);
    layers.same("Conv2d_3b_1x1", 64, 80, [1, 1]);
    layers.valid("Conv2d_4a_3x3", 80, 192, 3, 1);
    for (name, inner, pool) in [("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)] {
        layers.block_a(name, inner, pool);
    }
    layers.block_b("6a", 288);
    for (name, narrow) in [("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)] {
        layers.block_c(name, 768, narrow);
    }
    layers.block_d("7a", 768);
    for (name, inner) in [("7b", 1280), ("7c", 2048)] {
        layers.block_e(name, inner);
    }
    layers.layers
}

/// Names and shapes of all weights that are read, for `classes` outputs of `fc`.
pub fn parameters(classes: usize) -> Vec<(String, Vec<usize>)> {
    let mut parameters = Vec::new();
    for Layer { name, inner, outer, kernel, .. } in layers() {
        parameters.push((format!("{name}.conv.weight"), vec![outer, inner, kernel[0], kernel[1]]));
        parameters.extend(NORM.map(|part| (format!("{name}.bn.{part}"), vec![outer])));
    }
    parameters.push(("fc.weight".into(), vec![classes, super::DIMENSION]));
    parameters.push(("fc.bias".into(), vec![classes]));
    parameters
}

/// Collects layers of one block after the other.
struct Block {
    prefix: String,
    layers: Vec<Layer>,
}

impl Block {
    fn add(&mut self, name: &str, channels: [usize; 2], kernel: [usize; 2], stride: usize, padded: bool) {
        let name = format!("{}{name}", self.prefix);
        self.layers.push(Layer { name, inner: channels[0], outer: channels[1], kernel, stride, padded });
    }

    /// Keeps the size.
    fn same(&mut self, name: &str, inner: usize, outer: usize, kernel: [usize; 2]) {
        self.add(name, [inner, outer], kernel, 1, true);
    }

    /// Without padding.
    fn valid(&mut self, name: &str, inner: usize, outer: usize, kernel: usize, stride: usize) {
        self.add(name, [inner, outer], [kernel; 2], stride, false);
    }

    fn begin(&mut self, name: &str) {
        self.prefix = format!("Mixed_{name}.");
    }

    fn block_a(&mut self, name: &str, inner: usize, pool: usize) {
        self.begin(name);
        self.same("branch1x1", inner, 64, [1, 1]);
        self.same("branch5x5_1", inner, 48, [1, 1]);
        self.same("branch5x5_2", 48, 64, [5, 5]);
        self.same("branch3x3dbl_1", inner, 64, [1, 1]);
        self.same("branch3x3dbl_2", 64, 96, [3, 3]);
        self.same("branch3x3dbl_3", 96, 96, [3, 3]);
        self.same("branch_pool", inner, pool, [1, 1]);
    }

    fn block_b(&mut self, name: &str, inner: usize) {
        self.begin(name);
        self.valid("branch3x3", inner, 384, 3, 2);
        self.same("branch3x3dbl_1", inner, 64, [1, 1]);
        self.same("branch3x3dbl_2", 64, 96, [3, 3]);
        self.valid("branch3x3dbl_3", 96, 96, 3, 2);
    }

    fn block_c(&mut self, name: &str, inner: usize, narrow: usize) {
        self.begin(name);
        self.same("branch1x1", inner, 192, [1, 1]);
        self.same("branch7x7_1", inner, narrow, [1, 1]);
        self.same("branch7x7_2", narrow, narrow, [1, 7]);
        self.same("branch7x7_3", narrow, 192, [7, 1]);
        self.same("branch7x7dbl_1", inner, narrow, [1, 1]);
        self.same("branch7x7dbl_2", narrow, narrow, [7, 1]);
        self.same("branch7x7dbl_3", narrow, narrow, [1, 7]);
        self.same("branch7x7dbl_4", narrow, narrow, [7, 1]);
        self.same("branch7x7dbl_5", narrow, 192, [1, 7]);
        self.same("branch_pool", inner, 192, [1, 1]);
    }

    fn block_d(&mut self, name: &str, inner: usize) {
        self.begin(name);
        self.same("branch3x3_1", inner, 192, [1, 1]);
        self.valid("branch3x3_2", 192, 320, 3, 2);
        self.same("branch7x7x3_1", inner, 192, [1, 1]);
        self.same("branch7x7x3_2", 192, 192, [1, 7]);
        self.same("branch7x7x3_3", 192, 192, [7, 1]);
        self.valid("branch7x7x3_4", 192, 192, 3, 2);
    }

    fn block_e(&mut self, name: &str, inner: usize) {
        self.begin(name);
        self.same("branch1x1", inner, 320, [1, 1]);
        self.same("branch3x3_1", inner, 384, [1, 1]);
        self.same("branch3x3_2a", 384, 384, [1, 3]);
        self.same("branch3x3_2b", 384, 384, [3, 1]);
        self.same("branch3x3dbl_1", inner, 448, [1, 1]);
        self.same("branch3x3dbl_2", 448, 384, [3, 3]);
        self.same("branch3x3dbl_3a", 384, 384, [1, 3]);
        self.same("branch3x3dbl_3b", 384, 384, [3, 1]);
        self.same("branch_pool", inner, 192, [1, 1]);
    }
}
