//! What `cubecl-cuda` names of `cubecl-llvm`, with no compiler behind it. `cubecl-cuda` depends on both of its compilers
//! and runs one: with its cargo feature `cpp` that is CUDA C++ by NVRTC, and nothing here is ever called. Without that
//! feature opening a device is a panic that says so, and a kernel is an error.

use std::convert::Infallible;
use std::ffi::c_char;
use std::fmt;

use cubecl_core::ir::nvidia::SmArch;
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::compiler::{CompilationError, Compiler};
use cubecl_runtime::kernel::{BufferIOAttr, KernelDefinition};

const NO_LLVM: &str =
    "this program was built without LLVM, and cubecl-cuda without its feature `cpp`: kernels cannot be compiled";

/// What code is generated for.
#[derive(Clone, Debug, Default)]
pub enum LlvmTarget {
    /// NVIDIA's virtual machine.
    #[default]
    Nvptx,
}

/// The compiler that is not here.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// What it would generate code for.
    pub target: LlvmTarget,
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    fn compile(
        &mut self,
        _: KernelDefinition,
        _: &PlironOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic { reason: NO_LLVM.to_owned(), backtrace: BackTrace::capture() })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}

/// Its settings.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// An AMD architecture, of which there is none here.
    pub arch: Option<Infallible>,
    /// NVIDIA's architecture.
    pub sm_arch: Option<SmArch>,
    /// The version of PTX.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether kernels take their numbers as parameters.
    pub grid_constants: bool,
}

/// Compiled code: no value of this type can be made.
#[derive(Clone, Debug)]
pub enum PlironArtifact {
    /// For NVIDIA's virtual machine.
    NvptxCode(NvptxModule),
}

impl fmt::Display for PlironArtifact {
    fn fmt(&self, _: &mut fmt::Formatter) -> fmt::Result {
        let Self::NvptxCode(module) = self;
        match module.nothing {}
    }
}

/// A module of compiled code: no value of this type can be made.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// The assembly.
    pub ptx: Vec<c_char>,
    /// The kernel's name.
    pub entrypoint: String,
    /// LLVM's representation.
    pub ir: String,
    /// In bytes.
    pub shared_memory_size: usize,
    /// Which buffers are read and written.
    pub io: Vec<BufferIOAttr>,
    /// What cannot be made.
    pub nothing: Infallible,
}

/// Module paths as in the crate that this stands for.
pub mod nvptx {
    /// Versions of PTX.
    pub mod ptx_version {
        use std::fmt;

        /// A version of PTX that LLVM writes: there is none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum PtxVersion {}

        impl PtxVersion {
            /// The newest that a driver reads.
            pub fn for_driver(_: i32) -> Option<Self> {
                None
            }
        }

        impl fmt::Display for PtxVersion {
            fn fmt(&self, _: &mut fmt::Formatter) -> fmt::Result {
                match *self {}
            }
        }
    }
}

/// Module paths as in the crate that this stands for.
pub mod shared {
    /// What LLVM cannot express.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// Kinds of GPUs.
        pub enum GpuTarget {
            /// NVIDIA's.
            Nvptx,
        }

        /// Called when a device is opened whose kernels LLVM would compile.
        ///
        /// # Panics
        /// Always.
        pub fn restrict_features(_: &mut DeviceProperties, _: GpuTarget) {
            panic!("{}", crate::NO_LLVM);
        }
    }
}
