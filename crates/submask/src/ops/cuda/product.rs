//! Products of matrices by cuBLASLt, on CubeCL's stream.
//!
//! Which algorithm multiplies is a function of the kind of product alone: of both inner sizes, types and transpositions, and
//! of the version of cuBLASLt and the GPU, which together are asked once, for a fixed number of rows. No sum is split. So a
//! row of a result has the same bits whatever rows stand beside it, and so has a run that is repeated. Where a version has no
//! algorithm that finishes a result, it multiplies alone, and a kernel of ours finishes it. Where the algorithm of the fixed
//! number of rows does not take the true number, it is asked for that one, and only there bits may depend on the rows.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::from_ref;

use burn::backend::ops::FloatTensorOps;
use burn::backend::{Cube, TensorMetadata};
use burn::tensor::{DType, Shape};
use cudarc::cublaslt::result::{self as lt, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::sys::CUstream;

use super::device::{Array, enqueue, ordinal, room, workspace};
use super::epilogue::{Epilogue, Finish};
use crate::ops::Precision;

/// Memory that an algorithm may use, as NVIDIA recommends for its newest devices.
const WORKSPACE: usize = 32 << 20;

/// The number of rows for which an algorithm is chosen, whatever their true number.
const NOMINAL_ROWS: u64 = 8192;

/// What the addresses of factors and results are multiples of.
const ALIGNMENT: u32 = 16;

/// A matrix of a tensor's elements: `rows` of `columns` numbers, `leading` apart, from element `first` on.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub array: Array,
    pub first: usize,
    pub rows: usize,
    pub columns: usize,
    pub leading: usize,
    /// Whether the factor is the transpose of what is stored.
    pub transposed: bool,
}

impl Matrix {
    /// A contiguous tensor [rows, columns].
    pub fn of(array: &Array) -> Self {
        let [rows, columns] = array.shape().dims();
        Self { array: array.clone(), first: 0, rows, columns, leading: columns, transposed: false }
    }

    /// Some of its stored rows.
    pub fn narrow(mut self, first: usize, rows: usize) -> Self {
        assert!(first + rows <= self.rows);
        self.first += first * self.leading;
        self.rows = rows;
        self
    }

    /// Its transpose.
    pub fn transpose(mut self) -> Self {
        self.transposed = !self.transposed;
        self
    }

    /// Rows and columns of the factor.
    fn shape(&self) -> [usize; 2] {
        if self.transposed { [self.columns, self.rows] } else { [self.rows, self.columns] }
    }

    fn data_type(&self) -> sys::cudaDataType {
        match self.array.dtype {
            DType::F32 => sys::cudaDataType::CUDA_R_32F,
            DType::BF16 => sys::cudaDataType::CUDA_R_16BF,
            other => panic!("products of {other:?}"),
        }
    }

    /// What is stored, in the order of columns that cuBLASLt has.
    fn stored(&self) -> Stored {
        Stored {
            data_type: self.data_type(),
            rows: self.columns as u64,
            columns: self.rows as u64,
            leading: self.leading as i64,
        }
    }

    fn offset(&self) -> u64 {
        (self.first * self.array.dtype.size()) as u64
    }
}

/// Which dimension of a product is a number of rows, on which no algorithm may depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rows {
    /// Of the first factor: outputs of a layer, gradients of its inputs.
    Outer,
    /// The inner one: gradients of weights.
    Inner,
}

/// A product that is to be computed.
pub(super) struct Product {
    pub a: Matrix,
    pub b: Matrix,
    pub rows: Rows,
    pub precision: Precision,
    pub epilogue: Epilogue,
}

impl Product {
    /// a·b without an epilogue.
    pub fn new(a: Matrix, b: Matrix, rows: Rows, precision: Precision) -> Self {
        Self { a, b, rows, precision, epilogue: Epilogue::None }
    }

    /// a·b, finished, as a tensor of its own.
    pub fn run(self, dtype: DType) -> Array {
        let [rows, columns] = [self.a.shape()[0], self.b.shape()[1]];
        if self.a.shape()[1] == 0 {
            return Cube::float_zeros(Shape::new([rows, columns]), &self.a.array.device, dtype.into());
        }
        let out = room(&self.a.array, [rows, columns], dtype);
        self.run_into(&Matrix::of(&out), false);
        out
    }

    /// a·b, finished, into a matrix, or added to what stands there.
    pub fn run_into(self, out: &Matrix, adds: bool) {
        let ([rows, inner], [other, columns]) = (self.a.shape(), self.b.shape());
        assert_eq!((other, [rows, columns], out.transposed), (inner, [out.rows, out.columns], false));
        assert_eq!(self.a.array.dtype, self.b.array.dtype, "factors of one type");
        let (a_transposed, b_transposed) = (self.a.transposed, self.b.transposed);
        match self.rows {
            Rows::Outer => assert!(!a_transposed, "rows of the first factor stand one after the other"),
            Rows::Inner => assert!(a_transposed && !b_transposed, "so do rows of both factors"),
        }
        if rows * columns == 0 {
            return;
        }
        let workspace = workspace(&out.array, WORKSPACE);
        let mut arrays = vec![&self.a.array, &self.b.array, &out.array, &workspace];
        let mut written = vec![&out.array];
        let [bias, auxiliary] = self.epilogue.arrays();
        let [bias_at, auxiliary_at] = [bias, auxiliary].map(|beside| {
            let (array, is_written) = beside?;
            arrays.push(array);
            written.extend(is_written.then_some(array));
            Some(arrays.len() - 1)
        });
        self.epilogue.check(&self.a, out);
        let finish = self.epilogue.launch(&self.a, out);
        let on = ordinal(&out.array);
        let buffers = |arrays: &[&Array]| arrays.iter().map(|array| array.handle.clone().binding()).collect();
        let call = Call {
            // In the order of columns the result's transpose is bᵀ·aᵀ.
            kind: Kind {
                first: self.b.stored().without_rows(self.rows == Rows::Inner),
                first_transposed: self.b.transposed,
                second: self.a.stored().without_rows(true),
                second_transposed: self.a.transposed,
                out: out.stored().without_rows(self.rows == Rows::Outer),
                rows: self.rows,
                compute: match self.precision {
                    Precision::Tf32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
                    Precision::Fp32 | Precision::Bf16 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                },
                epilogue: self.epilogue.name(),
            },
            first: self.b.stored(),
            second: self.a.stored(),
            out: out.stored(),
            offsets: [self.a.offset(), self.b.offset(), out.offset()],
            bias_at,
            auxiliary_at,
            beta: if adds { 1.0 } else { 0.0 },
        };
        enqueue(&out.array, buffers(&arrays), buffers(&written), move |pointers, stream| {
            let failed = |error: CublasError| format!("cuBLASLt, {call:?}: {error:?}");
            match (call.multiply(call.kind, pointers, stream), finish) {
                (Ok(()), _) => Ok(()),
                (Err(error), Some(Finish { launch, reads_first })) if is_refusal(error) => {
                    call.multiply(call.kind.without_epilogue(), pointers, stream).map_err(failed)?;
                    let of = if reads_first { 0 } else { 2 };
                    let mut beside = pointers[of..=of].to_vec();
                    beside[0] += if reads_first { call.offsets[0] } else { call.offsets[2] };
                    beside.extend(&pointers[4..]);
                    launch.enqueue(&beside, stream, on)
                }
                (Err(error), _) => Err(failed(error)),
            }
        });
    }
}

/// A matrix in memory, in the order of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stored {
    data_type: sys::cudaDataType,
    rows: u64,
    columns: u64,
    leading: i64,
}

impl Stored {
    /// With a nominal number of columns, where these are a batch's rows.
    fn without_rows(self, are_rows: bool) -> Self {
        Self { columns: if are_rows { NOMINAL_ROWS } else { self.columns }, ..self }
    }

    fn layout(&self) -> Result<Layout, CublasError> {
        lt::create_matrix_layout(self.data_type, self.rows, self.columns, self.leading).map(Layout)
    }
}

/// All that the choice of an algorithm may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    first: Stored,
    first_transposed: bool,
    second: Stored,
    second_transposed: bool,
    out: Stored,
    rows: Rows,
    compute: sys::cublasComputeType_t,
    epilogue: sys::cublasLtEpilogue_t,
}

/// A product on the device's thread.
#[derive(Clone, Copy, Debug)]
struct Call {
    kind: Kind,
    first: Stored,
    second: Stored,
    out: Stored,
    /// Bytes before a, b and the result in their buffers.
    offsets: [u64; 3],
    /// Which of the addresses is that of a bias or its gradient, and of an auxiliary matrix.
    bias_at: Option<usize>,
    auxiliary_at: Option<usize>,
    /// What the result's old elements are multiplied by.
    beta: f32,
}

/// Of the device's thread.
#[derive(Default)]
struct Library {
    handle: Option<sys::cublasLtHandle_t>,
    /// Choices of cuBLASLt, also that there is none.
    algorithms: HashMap<Kind, Result<sys::cublasLtMatmulAlgo_t, CublasError>>,
}

thread_local! {
    static LIBRARY: RefCell<Library> = RefCell::default();
}

/// Descriptions that cuBLASLt keeps, destroyed in the end.
struct Layout(sys::cublasLtMatrixLayout_t);
struct Description(sys::cublasLtMatmulDesc_t);
struct Preference(sys::cublasLtMatmulPreference_t);

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: it was created by cuBLASLt, and is destroyed once. A failure leaves a few bytes behind.
        _ = unsafe { lt::destroy_matrix_layout(self.0) };
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: as above.
        _ = unsafe { lt::destroy_matmul_desc(self.0) };
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: as above.
        _ = unsafe { lt::destroy_matmul_pref(self.0) };
    }
}

impl Description {
    fn new(compute: sys::cublasComputeType_t) -> Result<Self, CublasError> {
        lt::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F).map(Self)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: T) -> Result<(), CublasError> {
        // SAFETY: the description is not destroyed, and cuBLASLt copies the value, which has the attribute's type.
        unsafe { lt::set_matmul_desc_attribute(self.0, attribute, from_ref(&value).cast(), size_of::<T>()) }
    }
}

impl Preference {
    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: T,
    ) -> Result<(), CublasError> {
        // SAFETY: as of a description.
        unsafe { lt::set_matmul_pref_attribute(self.0, attribute, from_ref(&value).cast(), size_of::<T>()) }
    }
}

/// Whether cuBLASLt has no algorithm for what it was asked; everything else is a failure.
fn is_refusal(error: CublasError) -> bool {
    use sys::cublasStatus_t::{CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_NOT_SUPPORTED};
    [CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_NOT_SUPPORTED].contains(&error.0)
}

impl Call {
    /// Multiplies by the algorithm of a kind, or where that does not take the true number of rows, by that of the true one.
    fn multiply(&self, kind: Kind, pointers: &[u64], stream: CUstream) -> Result<(), CublasError> {
        let handle = LIBRARY.with_borrow_mut(|library| match library.handle {
            Some(handle) => Ok(handle),
            None => lt::create_handle().inspect(|&handle| library.handle = Some(handle)),
        })?;
        let exact = Kind { first: self.first, second: self.second, out: self.out, ..kind };
        let multiply = |of: Kind| self.multiply_by(&of.algorithm(handle)?, kind, handle, pointers, stream);
        let is_other = |error: &CublasError| exact != kind && is_refusal(*error);
        multiply(kind).or_else(|error| if is_other(&error) { multiply(exact) } else { Err(error) })
    }

    fn multiply_by(
        &self,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        kind: Kind,
        handle: sys::cublasLtHandle_t,
        pointers: &[u64],
        stream: CUstream,
    ) -> Result<(), CublasError> {
        let [a, b, out, workspace] = [pointers[0], pointers[1], pointers[2], pointers[3]];
        let description =
            kind.description([self.bias_at, self.auxiliary_at].map(|at| Some(pointers[at?])))?;
        let [first, second, result] = [self.first, self.second, self.out].map(|stored| stored.layout());
        let (first, second, result) = (first?, second?, result?);
        let (alpha, beta) = (1f32, self.beta);
        let at = |address: u64, offset: u64| (address + offset) as *mut c_void;
        let [of_a, of_b, of_out] = self.offsets;
        // SAFETY: the layouts lie inside the buffers, whose shapes they were made of, and what frees the buffers later comes
        // later on the same stream.
        unsafe {
            lt::matmul(
                handle,
                description.0,
                from_ref(&alpha).cast(),
                from_ref(&beta).cast(),
                at(b, of_b),
                first.0,
                at(a, of_a),
                second.0,
                at(out, of_out),
                result.0,
                at(out, of_out),
                result.0,
                algorithm,
                at(workspace, 0),
                WORKSPACE,
                stream.cast(),
            )
        }
    }
}

impl Kind {
    fn without_epilogue(self) -> Self {
        Self { epilogue: sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT, ..self }
    }

    /// What is computed, with the addresses of a bias or its gradient and of an auxiliary matrix, where the epilogue has them.
    fn description(&self, [bias, auxiliary]: [Option<u64>; 2]) -> Result<Description, CublasError> {
        use sys::cublasLtEpilogue_t as Epilogue;
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let description = Description::new(self.compute)?;
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, i32::from(self.first_transposed))?;
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, i32::from(self.second_transposed))?;
        description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, self.epilogue)?;
        let (has_bias, has_auxiliary) = match self.epilogue {
            Epilogue::CUBLASLT_EPILOGUE_DEFAULT => (false, false),
            Epilogue::CUBLASLT_EPILOGUE_GELU_AUX_BIAS => (true, true),
            Epilogue::CUBLASLT_EPILOGUE_DGELU => (false, true),
            _ => (true, false),
        };
        if let Some(bias) = bias.filter(|_| has_bias) {
            description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias)?;
        }
        if let Some(auxiliary) = auxiliary.filter(|_| has_auxiliary) {
            description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, auxiliary)?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, self.out.rows as i64)?;
        }
        Ok(description)
    }

    /// The first choice of cuBLASLt among algorithms that do not split a sum, found out once.
    fn algorithm(&self, handle: sys::cublasLtHandle_t) -> Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        let known = LIBRARY.with_borrow(|library| library.algorithms.get(self).copied());
        known.unwrap_or_else(|| {
            let found = self.choose(handle);
            LIBRARY.with_borrow_mut(|library| library.algorithms.insert(*self, found));
            found
        })
    }

    fn choose(&self, handle: sys::cublasLtHandle_t) -> Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        // The choice goes by what addresses are multiples of.
        let description = self.description([Some(u64::from(ALIGNMENT)); 2])?;
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Preference(lt::create_matmul_pref()?);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE as u64)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 0u32)?;
        for attribute in [
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            preference.set(attribute, ALIGNMENT)?;
        }
        let [first, second, out] = [self.first, self.second, self.out].map(|stored| stored.layout());
        let (first, second, out) = (first?, second?, out?);
        // SAFETY: all of them are alive.
        let found = unsafe {
            lt::get_matmul_algo_heuristic(
                handle,
                description.0,
                first.0,
                second.0,
                out.0,
                out.0,
                preference.0,
            )
        }?;
        Ok(found.algo)
    }
}
