//! The allocator: mimalloc, which is told how long to keep the memory it has. A training step frees and takes the same
//! buffers again and again; giving them back to the system between costs a page fault and a pass of zeros each time.
//! Evaluations take buffers of ever other sizes: there, what was kept for ever would be more and more.

use libmimalloc_sys::{mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of `mi_option_purge_delay` in mimalloc's `enum mi_option_e`, which the crate does not name.
const PURGE_DELAY: mi_option_t = 15;

/// No memory is given back before the program ends.
pub fn keep_memory() {
    // SAFETY: sets a number that the allocator reads.
    unsafe { mi_option_set(PURGE_DELAY, -1) }
}

/// What is not used for so many milliseconds is given back.
#[allow(dead_code, reason = "programs of experiments share this file")]
pub fn keep_memory_for(milliseconds: i32) {
    // SAFETY: as above.
    unsafe { mi_option_set(PURGE_DELAY, milliseconds.into()) }
}
