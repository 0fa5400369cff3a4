//! The allocator: mimalloc, which is told to keep the memory it has. A training step frees and takes the same buffers
//! again and again; giving them back to the system between costs a page fault and a pass of zeros each time.

use libmimalloc_sys::{mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of `mi_option_purge_delay` in mimalloc's `enum mi_option_e`, which the crate does not name.
const PURGE_DELAY: mi_option_t = 15;

/// No memory is given back before the program ends. To be called first.
pub fn keep_memory() {
    // SAFETY: sets a number that the allocator reads.
    unsafe { mi_option_set(PURGE_DELAY, -1) }
}
