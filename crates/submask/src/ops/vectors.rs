//! The vectors in which the CPU computes, which a variable of the environment can make shorter.

use std::env;
use std::sync::OnceLock;

use pulp::Arch;

use crate::{Error, Result};

/// The variable that says how many bits a vector has at most.
pub const VECTOR_BITS: &str = "SUBMASK_VECTOR_BITS";

/// Bits that it may name.
const CHOICES: [&str; 3] = ["128", "256", "512"];

/// Vectors with a fused multiply-add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// None: plain Rust.
    Portable,
    /// 128 bits of an x86 processor with FMA3.
    #[cfg(target_arch = "x86_64")]
    Fma128,
    /// 256 bits: AVX2 and FMA3.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512 bits: AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 128 bits.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Isa {
    /// The longest vectors that the processor has and `SUBMASK_VECTOR_BITS` allows, as they were when this was first asked.
    pub fn get() -> Self {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(|| {
            let most = most_bits().ok().flatten().unwrap_or(usize::MAX);
            *Self::all().iter().rfind(|isa| isa.bits() <= most).unwrap_or(&Self::Portable)
        })
    }

    /// All that the processor has, in order of their bits.
    pub fn all() -> Vec<Self> {
        #[allow(unused_mut, reason = "some architectures have no others")]
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx") && is_x86_feature_detected!("fma") {
            all.push(Self::Fma128);
            if is_x86_feature_detected!("avx2") {
                all.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Self::Neon);
        all
    }

    /// Bits of a vector; 0 for plain Rust.
    fn bits(self) -> usize {
        match self {
            Self::Portable => 0,
            #[cfg(target_arch = "x86_64")]
            Self::Fma128 => 128,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 256,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 512,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => 128,
        }
    }
}

/// The vector instructions with which the CPU computes, as people call them: `AVX-512`, `AVX2`, `FMA3 of 128 bits`, `NEON`, or
/// `no fused multiply-add`.
pub fn vector_instructions() -> &'static str {
    match Isa::get() {
        Isa::Portable => "no fused multiply-add",
        #[cfg(target_arch = "x86_64")]
        Isa::Fma128 => "FMA3 of 128 bits",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => "AVX2",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => "AVX-512",
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => "NEON",
    }
}

/// Bits of a vector at most, if the environment says so.
///
/// # Errors
/// [`Error::Invalid`] for a value of `SUBMASK_VECTOR_BITS` other than 128, 256 and 512.
pub fn most_bits() -> Result<Option<usize>> {
    env::var_os(VECTOR_BITS).map(|value| parsed(&value.to_string_lossy())).transpose()
}

fn parsed(value: &str) -> Result<usize> {
    let allowed = || Error::invalid(VECTOR_BITS, value, "128, 256 or 512 in the environment");
    CHOICES.iter().find(|choice| **choice == value).and_then(|choice| choice.parse().ok()).ok_or_else(allowed)
}

/// What kernels that are written once for all vectors are compiled for.
pub(super) fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(|| match Isa::get() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        #[cfg(target_arch = "x86_64")]
        Isa::Fma128 | Isa::Portable => Arch::Scalar,
        _ => Arch::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lengths_of_vectors_are_read() {
        for choice in CHOICES {
            assert_eq!(parsed(choice).unwrap().to_string(), choice);
        }
        for wrong in ["", "64", "0256", " 128", "512 ", "auto", "-128"] {
            let error = parsed(wrong).unwrap_err().to_string();
            assert!(error.contains(VECTOR_BITS) && error.contains("128, 256 or 512"), "{error}");
        }
    }
}
