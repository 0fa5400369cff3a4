//! Any bytes as a whole checkpoint file.

#![no_main]

mod read;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read::everything(bytes.to_vec()));
