//! The reader of PyTorch checkpoints: every fixture opens and has the reference's numbers.

use std::path::PathBuf;

use submask::import::torch::{TorchFile, TorchType};
use submask::pickle::{Value, ValueRef};

use crate::fixtures::{Case, cases};

/// All PyTorch files of a case.
pub fn checkpoints(case: &Case) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&case.dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension().is_some_and(|end| ["ckpt", "pth", "pt"].iter().any(|one| end == *one))
        })
        .collect();
    paths.sort();
    paths
}

/// Whether a dict of tensors is one of the case's safetensors files, bit for bit.
fn assert_same(case: &Case, file: &TorchFile, dict: ValueRef<'_>, reference: &str) {
    let mut names = Vec::new();
    for (key, value) in dict.entries().unwrap() {
        let name = key.as_str().unwrap();
        let tensor = file.tensor(value).unwrap().unwrap();
        let (shape, numbers) = case.tensor_f32(reference, name);
        assert_eq!(tensor.shape(), shape, "{name}");
        let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(file.read_f32(&tensor).unwrap()), bits(numbers), "{name}");
        names.push(name.to_owned());
    }
    names.sort();
    let mut expected = case.tensor_names(reference);
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn parity_every_tensor_of_every_fixture_can_be_read() {
    for case in cases("") {
        for path in checkpoints(&case) {
            let file = TorchFile::open(&path).unwrap();
            let mut tensors = 0;
            for tensor in file.values().filter_map(|value| file.tensor(value)) {
                let tensor = tensor.unwrap();
                let numbers = match tensor.dtype() {
                    TorchType::F32 => file.read_f32(&tensor).unwrap().len(),
                    _ => file.read_i64(&tensor).unwrap().len(),
                };
                assert_eq!(numbers, tensor.numel());
                tensors += 1;
            }
            println!("{}: {tensors} tensors", path.display());
            assert!(tensors > 0);
        }
    }
}

#[test]
fn parity_encoder_weights_are_those_of_the_reference() {
    for case in cases("encoder_") {
        for path in checkpoints(&case) {
            let file = TorchFile::open(&path).unwrap();
            assert_same(&case, &file, file.root().get("model").unwrap(), "weights");
        }
    }
}

#[test]
fn parity_toy_weights_are_those_of_the_reference() {
    for case in cases("toy_") {
        let file = TorchFile::open(&case.dir.join("state_dict.pth")).unwrap();
        assert_same(&case, &file, file.root(), "weights");
    }
}

#[test]
fn parity_a_whole_module_holds_its_parameters() {
    for case in cases("toy_") {
        let file = TorchFile::open(&case.dir.join("denoiser.pth")).unwrap();
        let root = file.root();
        println!("a {}", root.class().unwrap());
        let mut found = 0;
        for (name, module) in root.attribute("_modules").unwrap().entries().unwrap() {
            let Some(parameters) = module.attribute("_parameters") else { continue };
            for (parameter, value) in parameters.entries().unwrap() {
                let full = format!("{}.{}", name.as_str().unwrap(), parameter.as_str().unwrap());
                let Some(tensor) = file.tensor(value) else { continue };
                let numbers = file.read_f32(&tensor.unwrap()).unwrap();
                assert_eq!(numbers, case.tensor_f32("weights", &full).1, "{full}");
                found += 1;
            }
        }
        assert!(found > 0);
    }
}

#[test]
fn parity_a_saved_permutation_is_read() {
    for case in cases("variant_") {
        let file = TorchFile::open(&case.dir.join("perm.pt")).unwrap();
        let tensor = file.tensor(file.root()).unwrap().unwrap();
        let (shape, permutation) = case.tensor_i64("vectors", "permutation");
        assert_eq!(tensor.dtype(), TorchType::I64);
        assert_eq!(tensor.shape(), shape);
        assert_eq!(file.read_i64(&tensor).unwrap(), permutation);
        let message = file.read_f32(&tensor).unwrap_err().to_string();
        assert!(message.contains("perm.pt") && message.contains("I64"), "{message}");
    }
}

/// The value of a node of an omegaconf configuration: containers know their children, leaves their value.
fn configured<'a>(node: ValueRef<'a>, path: &str) -> Option<ValueRef<'a>> {
    let mut node = node;
    for key in path.split('.') {
        node = node.attribute("_content")?.get(key)?;
    }
    node.attribute("_val")
}

#[test]
fn parity_the_configuration_in_a_training_checkpoint_can_be_read() {
    for case in cases("ckpt_") {
        for path in checkpoints(&case) {
            let file = TorchFile::open(&path).unwrap();
            let config = file.root().get("hyper_parameters").unwrap().get("config").unwrap();
            assert!(config.class().unwrap().is("omegaconf.dictconfig", "DictConfig"));
            // Its nodes know their parents, so it is a loop.
            let model = config.attribute("_content").unwrap().get("model").unwrap();
            assert_eq!(model.attribute("_parent"), Some(config));
            assert!(config.reachable().count() < 10_000);
            let entries = model.attribute("_content").unwrap().entries().unwrap();
            for (key, node) in entries {
                println!("model.{} = {:?}", key.as_str().unwrap(), node.attribute("_val"));
            }
            let length = configured(config, "model.length").unwrap().as_i64().unwrap();
            assert_eq!(length as usize, case.integer("length"));
        }
    }
}

#[test]
fn parity_averaged_weights_are_a_list_in_parameter_order() {
    for case in cases("ckpt_") {
        for path in checkpoints(&case) {
            let file = TorchFile::open(&path).unwrap();
            let root = file.root();
            let averaged = root.get("ema").unwrap().get("shadow_params").unwrap();
            assert_eq!(averaged.value(), Value::List);
            let state = root.get("state_dict").unwrap();
            assert_eq!(state.value(), Value::Dict);
            let parameters =
                state.entries().unwrap().filter(|(key, _)| !key.as_str().unwrap().ends_with("inv_freq"));
            for ((key, raw), average) in parameters.zip(averaged.items().unwrap()) {
                let (raw, average) =
                    (file.tensor(raw).unwrap().unwrap(), file.tensor(average).unwrap().unwrap());
                assert_eq!(raw.shape(), average.shape(), "{key:?}");
            }
        }
    }
}
