//! What cuBLASLt does to a product before it writes it, and kernels that do the same where it refuses.

use burn::backend::TensorMetadata;
use burn::tensor::DType;
use cudarc::cublaslt::sys;

use super::columns::sums_of_rows;
use super::device::{Array, Launch, name_of};
use super::linear::SOURCE;
use super::product::Matrix;

/// What happens to a result before it is written.
#[allow(clippy::large_enum_variant, reason = "it lives as long as a call")]
#[derive(Clone, Debug)]
pub(super) enum Epilogue {
    /// Nothing.
    None,
    /// A bias is added to every row, of the result's type.
    Bias(Array),
    /// The same, then GELU in its tanh form; what GELU takes is written, too, if there is room for it.
    BiasGelu { bias: Array, before: Option<Array> },
    /// Elements are multiplied by GELU's derivative at those of a matrix of the result's shape and type.
    GeluGradient { before: Array },
    /// Nothing, but the sums in single precision of the first factor's stored columns are written, too: of the gradient of a
    /// layer's weight, that of its bias.
    BiasGradient { sums: Array },
}

impl Epilogue {
    /// As cuBLASLt calls it.
    pub fn name(&self) -> sys::cublasLtEpilogue_t {
        use sys::cublasLtEpilogue_t as Name;
        match self {
            Self::None => Name::CUBLASLT_EPILOGUE_DEFAULT,
            Self::Bias(_) => Name::CUBLASLT_EPILOGUE_BIAS,
            Self::BiasGelu { before: Some(_), .. } => Name::CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
            Self::BiasGelu { before: None, .. } => Name::CUBLASLT_EPILOGUE_GELU_BIAS,
            Self::GeluGradient { .. } => Name::CUBLASLT_EPILOGUE_DGELU,
            // In the order of columns the first factor is the second.
            Self::BiasGradient { .. } => Name::CUBLASLT_EPILOGUE_BGRADB,
        }
    }

    /// A bias or its gradient, and an auxiliary matrix, each with whether it is written.
    pub fn arrays(&self) -> [Option<(&Array, bool)>; 2] {
        match self {
            Self::None => [None, None],
            Self::Bias(bias) => [Some((bias, false)), None],
            Self::BiasGelu { bias, before } => {
                [Some((bias, false)), before.as_ref().map(|before| (before, true))]
            }
            Self::GeluGradient { before } => [None, Some((before, false))],
            Self::BiasGradient { sums } => [Some((sums, true)), None],
        }
    }

    /// Checks types and sizes of what stands beside a product.
    pub fn check(&self, first: &Matrix, out: &Matrix) {
        match self {
            Self::None => {}
            Self::Bias(bias) | Self::BiasGelu { bias, .. } => {
                assert_eq!(bias.dtype, out.array.dtype, "a bias of the result's type");
            }
            Self::GeluGradient { before } => {
                let [rows, columns]: [usize; 2] = before.shape().dims();
                let expected = (out.array.dtype, out.rows, out.columns);
                assert_eq!((before.dtype, rows, columns), expected, "what GELU takes");
            }
            Self::BiasGradient { sums } => {
                assert_eq!((sums.dtype, sums.shape().num_elements()), (DType::F32, out.rows), "sums");
                assert!(first.transposed && first.leading == first.columns, "rows one after the other");
            }
        }
    }

    /// The kernel that does the same to a product of `first` that stands in `out`.
    pub fn launch(&self, first: &Matrix, out: &Matrix) -> Option<Finish> {
        const BLOCK: usize = 256;
        let launch =
            |name| Launch::new(&SOURCE, name).define("STORED", name_of(out.array.dtype)).write(&out.array);
        let sized = |launch: Launch| {
            let launch = launch.size(out.rows).int(out.columns).int(out.leading);
            launch.sized([(out.rows * out.columns).div_ceil(BLOCK), 1, 1], BLOCK)
        };
        let (launch, reads_first) = match self {
            Self::None => return None,
            Self::Bias(bias) => (sized(launch("finish").read(bias).write_if(None).int(0u32)), false),
            Self::BiasGelu { bias, before } => {
                (sized(launch("finish").read(bias).write_if(before.as_ref()).int(1u32)), false)
            }
            Self::GeluGradient { before } => (sized(launch("finish_gelu_gradient").read(before)), false),
            Self::BiasGradient { sums } => (sums_of_rows(&first.array, sums, first.rows), true),
        };
        Some(Finish { launch, reads_first })
    }
}

/// What does the work of an epilogue that cuBLASLt refuses.
pub(super) struct Finish {
    pub launch: Launch,
    /// Whether it reads the first factor, and not the result.
    pub reads_first: bool,
}
