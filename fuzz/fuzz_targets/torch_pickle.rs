//! Any bytes as the pickle of an otherwise proper checkpoint: checksums do not stop them.

#![no_main]

mod read;
#[path = "../../crates/submask/tests/it/stored_zip.rs"]
mod stored_zip;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|pickle: &[u8]| {
    let mut zip = stored_zip::StoredZip::default();
    zip.file("c/data.pkl", pickle);
    zip.file("c/data/0", &[0x3f; 64]);
    zip.file("c/data/1", &[0; 49 * 8]);
    read::everything(zip.finish());
});
