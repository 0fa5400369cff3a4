use super::*;
use crate::random::{Draws, Purpose};
use weights::{EPSILON, folded};

const SHAPE: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };

/// Weights that keep the size of what flows through: kernels U(−r, r) of variance 2/fan_in, norms near the identity.
fn synthetic(classes: usize) -> RawWeights {
    let draws = Draws::new(7, Purpose::Init);
    let weight = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
        let count: usize = shape.iter().product();
        let radius = (6.0 * shape[0] as f64 / count as f64).sqrt();
        let uniform = |i: usize| 2.0 * draws.uniform(index as u64, i as u32, 0) - 1.0;
        let value = |i: usize| match name.rsplit('.').next() {
            _ if shape.len() > 1 => radius * uniform(i),
            Some("running_var" | "weight") => 1.0 + 0.1 * uniform(i),
            _ => 0.1 * uniform(i),
        };
        let values = (0..count).map(|i| value(i) as f32).collect();
        (name, (shape, values))
    };
    parameters(classes).into_iter().enumerate().map(weight).collect()
}

fn network(classes: usize, preprocessing: Preprocessing) -> Inception {
    let device = Device::default();
    Inception::of(synthetic(classes), Path::new("w.safetensors"), preprocessing, &device).unwrap()
}

fn problem(raw: RawWeights) -> String {
    let device = Device::default();
    let inception = Inception::of(raw, Path::new("w.safetensors"), Preprocessing::PytorchFid, &device);
    inception.unwrap_err().to_string()
}

#[test]
fn the_parameters_are_torchvisions() {
    // 94 convolutions of 5 tensors each and the classifier; torchvision's network without the auxiliary classifier
    // counts 23,834,568 trained numbers with 1000 classes.
    let all = parameters(1008);
    assert_eq!(all.len(), 94 * 5 + 2);
    let trained = all.iter().filter(|(name, _)| !name.contains("running"));
    let count: usize = trained.map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!(count, 23_834_568 + 8 * 2049);
    let shape = |name: &str| all.iter().find(|(known, _)| known == name).unwrap().1.clone();
    assert_eq!(shape("Conv2d_1a_3x3.conv.weight"), [32, 3, 3, 3]);
    assert_eq!(shape("Mixed_5b.branch_pool.bn.running_mean"), [32]);
    assert_eq!(shape("Mixed_6c.branch7x7dbl_2.conv.weight"), [160, 160, 7, 1]);
    assert_eq!(shape("Mixed_7c.branch3x3dbl_3a.conv.weight"), [384, 384, 1, 3]);
    assert_eq!(shape("fc.weight"), [1008, 2048]);
}

#[test]
fn an_image_gives_2048_features_and_its_logits() {
    let network = network(1008, Preprocessing::TorchFidelity);
    assert_eq!((network.weights(), network.space()), (InceptionWeights::Fid, FeatureSpace::InceptionFidTf1));
    let tokens: Vec<u8> = (0..SHAPE.tokens()).map(|i| (i * i % 256) as u8).collect();
    let mut done = 0;
    let output = network.run(&tokens, SHAPE, &mut |count| done = count).unwrap();
    assert_eq!((output.features.len(), output.logits.len(), done), (2048, 1008, 1));
    assert!(output.features.iter().all(|value| value.is_finite() && *value >= 0.0));
    assert!(output.features.iter().any(|value| *value > 1e-3));
    // The FID weights' logits are without the bias.
    let (_, fc) = synthetic(1008).remove("fc.weight").unwrap();
    let first: f32 = fc.iter().zip(&output.features).map(|(weight, feature)| weight * feature).sum();
    assert!((first - output.logits[0]).abs() < 1e-3 * first.abs().max(1.0), "{first} {}", output.logits[0]);
}

#[test]
fn the_two_networks_differ_in_their_pooling() {
    let tokens = vec![200; SHAPE.tokens()];
    let run = |classes| {
        let network = network(classes, Preprocessing::PytorchFid);
        network.run(&tokens, SHAPE, &mut |_| ()).unwrap().features
    };
    // The weights of both agree but for the classifier.
    let (fid, torchvision) = (run(1008), run(1000));
    assert!(fid.iter().zip(&torchvision).any(|(a, b)| (a - b).abs() > 1e-3));
}

#[test]
fn folding_is_batch_norm_after_the_convolution() {
    let layer = layers::layers().remove(1);
    let mut raw = synthetic(1008);
    let values = |name: &str| synthetic(1008).remove(&format!("Conv2d_2a_3x3.{name}")).unwrap().1;
    let [kernel, gamma, beta, mean, variance] =
        ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"].map(values);
    let (folded_kernel, folded_bias) = folded(&mut raw, &layer);
    let dot = |kernel: &[f32]| -> f64 {
        kernel.iter().enumerate().map(|(i, weight)| f64::from(*weight) * (i as f64).sin()).sum()
    };
    let fan_in = 32 * 9;
    for channel in 0..32 {
        let rows = channel * fan_in..(channel + 1) * fan_in;
        let deviation = (f64::from(variance[channel]) + EPSILON).sqrt();
        let normed = (dot(&kernel[rows.clone()]) - f64::from(mean[channel])) / deviation;
        let expected = normed * f64::from(gamma[channel]) + f64::from(beta[channel]);
        let found = dot(&folded_kernel[rows]) + f64::from(folded_bias[channel]);
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn missing_and_wrong_weights_are_named_and_counted() {
    let mut raw = synthetic(1008);
    raw.remove("Mixed_6b.branch7x7_2.conv.weight");
    raw.insert("Mixed_5b.branch1x1.bn.bias".into(), (vec![63], vec![0.0; 63]));
    raw.insert("Mixed_8a.conv.weight".into(), (vec![1], vec![0.0]));
    raw.get_mut("fc.weight").unwrap().1[0] = f32::NAN;
    let error = problem(raw);
    for expected in [
        "w.safetensors: 4 weights",
        "Mixed_6b.branch7x7_2.conv.weight [128, 128, 1, 7] is missing",
        "Mixed_5b.branch1x1.bn.bias has shape [63], not [64]",
        "Mixed_8a.conv.weight belongs to no layer",
        "fc.weight holds numbers that are not finite",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    let bare = |classes: usize| RawWeights::from([("fc.bias".into(), (vec![classes], vec![0.0; classes]))]);
    let error = problem(bare(1000));
    assert!(error.contains("471 weights") && error.contains("and 466 more"), "{error}");
    assert!(problem(bare(10)).contains("1008 are the FID weights"));
    assert!(problem(RawWeights::new()).contains("no weight fc.bias"));
}

#[test]
fn torchvisions_weights_go_with_one_preprocessing_only() {
    let device = Device::default();
    let raw = RawWeights::from([("fc.bias".into(), (vec![1000], vec![0.0; 1000]))]);
    let path = Path::new("w.safetensors");
    let error = Inception::of(raw, path, Preprocessing::TorchFidelity, &device).unwrap_err().to_string();
    assert!(error.contains("preprocessing = TorchFidelity"), "{error}");
}

#[test]
fn a_file_is_read_without_what_is_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    let view = |count: usize, bytes: &'static [u8]| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![count], &bytes[..4 * count])
            .unwrap()
    };
    let number = safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![], &[0; 8]).unwrap();
    let tensors = [
        ("fc.bias", view(3, &[0; 12])),
        ("AuxLogits.fc.bias", view(2, &[0; 8])),
        ("Conv2d_1a_3x3.bn.num_batches_tracked", number),
    ];
    std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    assert_eq!(weights::read(&path).unwrap().keys().collect::<Vec<_>>(), ["fc.bias"]);
    let error = Inception::load(&path, Preprocessing::PytorchFid, &Compute::cpu()).unwrap_err().to_string();
    assert!(error.contains("some.safetensors: fc.bias has shape [3]"), "{error}");
}

/// Names the folder that scripts/inception_fixture.py has written.
const FIXTURE: &str = "SUBMASK_INCEPTION_FIXTURE";

#[test]
fn features_and_logits_are_torchvisions() {
    let Some(folder) = std::env::var_os(FIXTURE) else {
        println!("nothing compared: {FIXTURE} is not set; scripts/inception_fixture.py writes the folder");
        return;
    };
    let folder = Path::new(&folder);
    let bytes = std::fs::read(folder.join("cases.safetensors")).unwrap();
    let cases = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |name: String| -> Vec<f32> {
        let data = cases.tensor(&name).unwrap().data().to_vec();
        data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let images = cases.tensor("images").unwrap();
    let &[_, channels, height, width] = images.shape() else { panic!("images have four dimensions") };
    let shape = ImageShape { channels, height, width };
    for (case, file, preprocessing) in [
        ("fid", "fid", Preprocessing::PytorchFid),
        ("fid_tf1", "fid", Preprocessing::TorchFidelity),
        ("torchvision", "torchvision", Preprocessing::PytorchFid),
    ] {
        let path = folder.join(format!("{file}.safetensors"));
        let network = Inception::load(&path, preprocessing, &Compute::cpu()).unwrap();
        let output = network.run(images.data(), shape, &mut |_| ()).unwrap();
        for (what, found) in [("features", output.features), ("logits", output.logits)] {
            let expected = numbers(format!("{case}.{what}"));
            assert_eq!(found.len(), expected.len());
            let size = expected.iter().fold(0.0f32, |size, value| size.max(value.abs()));
            let deviation =
                found.iter().zip(&expected).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs()));
            println!("{case} {what}: largest deviation {deviation:e} of values up to {size}");
            assert!(deviation < 1e-4 * size, "{case} {what}: {deviation} of {size}");
        }
    }
}

#[test]
fn features_of_an_image_depend_on_no_other() {
    let network = network(1008, Preprocessing::PytorchFid);
    let draws = Draws::new(3, Purpose::Token);
    let token =
        |i: usize| draws.below(256, (i / SHAPE.tokens()) as u64, (i % SHAPE.tokens()) as u32, 0) as u8;
    let tokens: Vec<u8> = (0..10 * SHAPE.tokens()).map(token).collect();
    let run = |images: std::ops::Range<usize>| {
        let tokens = &tokens[images.start * SHAPE.tokens()..images.end * SHAPE.tokens()];
        network.run(tokens, SHAPE, &mut |_| ()).unwrap()
    };
    let whole = run(0..10);
    for images in [0..1, 1..4, 4..9, 9..10] {
        let part = run(images.clone());
        assert!(part.features == whole.features[images.start * 2048..images.end * 2048], "{images:?}");
        assert!(part.logits == whole.logits[images.start * 1008..images.end * 1008], "{images:?}");
    }
}
