//! What is done with every input.

use std::path::Path;

use submask::Error;
use submask::import::torch::{TorchFile, TorchType};

/// Opens a checkpoint and reads all its tensors; an error must name the file.
pub fn everything(bytes: Vec<u8>) {
    let file = match TorchFile::from_bytes(Path::new("fuzzed.pt"), bytes) {
        Ok(file) => file,
        Err(error) => return check(&error),
    };
    for value in file.root().reachable() {
        let _ = format!("{value:?}");
        let numbers = match file.tensor(value) {
            None => continue,
            Some(Err(error)) => Err(error),
            Some(Ok(tensor)) => match tensor.dtype() {
                TorchType::F64 | TorchType::F32 | TorchType::F16 | TorchType::Bf16 => {
                    file.read_f32(&tensor).map(|numbers| numbers.len())
                }
                _ => file.read_i64(&tensor).map(|numbers| numbers.len()),
            },
        };
        if let Err(error) = numbers {
            check(&error);
        }
    }
}

fn check(error: &Error) {
    assert!(error.to_string().contains("fuzzed.pt"), "{error}");
}
