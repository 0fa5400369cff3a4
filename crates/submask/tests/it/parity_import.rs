//! Foreign checkpoints against the reference's vectors: what is imported gives the logits that the reference gives.

use std::collections::BTreeMap;
use std::path::Path;

use submask::denoiser::{Spec, States};
use submask::import::{Foreign, ImportOptions, Imported, WeightSet, import, read_permutation};
use submask::model::{ExportFormat, NetworkConfig};
use submask::{Compute, Model, Session};

use crate::fixtures::{Case, assert_close, cases, deviation};

/// Relative to the largest magnitude, as the fixtures say.
const TOLERANCE: f64 = 1e-5;

/// What the case says of its network, where the file does not.
fn options(case: &Case) -> ImportOptions {
    let permutation = case.dir.join("perm.pt");
    ImportOptions {
        heads: Some(case.integer("heads")),
        seq_len: Some(case.integer("length")),
        carry_over: Some(true),
        permutation: permutation.exists().then(|| read_permutation(&permutation).unwrap()),
        ..ImportOptions::default()
    }
}

pub fn imported(file: &Path, options: &ImportOptions) -> Imported {
    import(&Foreign::open(file).unwrap(), options).unwrap()
}

/// The model after it has been written to a folder and read again.
fn reloaded(imported: &Imported) -> Model {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("model");
    imported.save(&folder).unwrap();
    Model::open(&folder).unwrap()
}

/// The same, ready to be evaluated.
pub fn session_on(imported: &Imported, compute: &Compute) -> Session {
    reloaded(imported).session(compute).unwrap()
}

fn session(imported: &Imported) -> Session {
    session_on(imported, &Compute::cpu())
}

/// Logits [B·L, C] at all positions, in the order of the positions.
fn logits(session: &Session, y_t: &[u32], times: &[f64]) -> Vec<f64> {
    let network = session.denoiser().unwrap();
    let Spec { vocab_size: classes, subtoken_len, .. } = *network.spec();
    let batch = times.len();
    let positions: Vec<usize> = (0..y_t.len() / subtoken_len).collect();
    assert_eq!(positions.len(), batch * session.architecture().config().seq_len());
    let mut all = vec![0.0; positions.len() * classes];
    let states = States { y_t, t: times, labels: None };
    network
        .evaluate(&states, &positions, &mut |range, rows| {
            let place = &mut all[range.start * classes..range.end * classes];
            place.iter_mut().zip(rows).for_each(|(to, from)| *to = f64::from(*from));
            Ok(())
        })
        .unwrap();
    all
}

/// The first `classes` of every row.
fn first(classes: usize, rows: &[f64], width: usize) -> Vec<f64> {
    rows.chunks(width).flat_map(|row| row[..classes].to_vec()).collect()
}

/// Compares with `vectors[name]`, [B, L, C] or with one more class, the mask, which is never predicted.
fn compare(case: &Case, session: &Session, name: &str) {
    let Some((shape, expected)) = case.tensor("vectors", name) else { return };
    let (classes, given) = (session.architecture().config().vocab_size(), shape[2]);
    assert!(given == classes || given == classes + 1);
    let ours = logits(session, &case.ids("vectors", "y_t"), &vec![0.0; shape[0]]);
    let found = deviation(&ours, &first(classes, &expected, given));
    println!("{}: {name} {found:.1e}", case.name);
    assert!(found <= TOLERANCE, "{}: {name} deviates by {found}", case.name);
}

#[test]
fn lightning_checkpoints_give_the_logits_of_both_sets_of_weights() {
    for case in cases("ckpt_") {
        let file = case.dir.join("checkpoint.ckpt");
        for (set, name) in [(WeightSet::Raw, "logits_raw_weights"), (WeightSet::Ema, "logits_ema_weights")] {
            // The file says everything itself.
            let options = ImportOptions { weights: Some(set), ..ImportOptions::default() };
            compare(&case, &session(&imported(&file, &options)), name);
        }
        let by_default = imported(&file, &ImportOptions::default());
        assert_eq!(by_default.report.weights, WeightSet::Ema);
        assert!(by_default.report.unused.is_empty() && !by_default.report.skipped.is_empty());
    }
}

#[test]
fn encoders_give_the_reference_logits() {
    for case in cases("encoder_") {
        compare(&case, &session(&imported(&case.dir.join("model.pth"), &options(&case))), "logits");
    }
}

#[test]
fn variants_give_the_reference_logits_with_their_permuted_codes() {
    for case in cases("variant_") {
        let session = session(&imported(&case.dir.join("weights.safetensors"), &options(&case)));
        compare(&case, &session, "logits");
        let (x_0, y_0) = (case.ids("vectors", "x_0"), case.ids("vectors", "y_0"));
        assert_eq!(session.architecture().predictive().codes().encode(&x_0).unwrap(), y_0, "{}", case.name);
    }
}

#[test]
fn autoregressive_networks_give_the_reference_log_probabilities() {
    for case in cases("ar_") {
        let session = session(&imported(&case.dir.join("weights.safetensors"), &options(&case)));
        let Some((shape, expected)) = case.tensor("vectors", "log_prob") else { continue };
        let x = case.ids("vectors", "x");
        let network = session.autoregressive().unwrap();
        // `log_prob[:, i]` is the prediction after tokens 0..=i.
        let batch = x.len() / case.integer("length");
        let logits: Vec<f64> = network.logits(&x, batch).unwrap().into_iter().map(f64::from).collect();
        let (classes, given) = (session.architecture().config().vocab_size(), shape[2]);
        let log_prob = |row: &[f64]| -> Vec<f64> {
            let total = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            row.iter().map(|logit| logit - total).collect()
        };
        let ours: Vec<f64> = logits.chunks(classes).flat_map(log_prob).collect();
        let found = deviation(&ours, &first(classes, &expected, given));
        println!("{}: log_prob {found:.1e}", case.name);
        assert!(found <= TOLERANCE, "{}: {found}", case.name);
    }
}

/// Compares the logits of all tokens with `vectors[name]`, [B, …, C] or with one more class, the mask, which is
/// never predicted.
pub fn compare_visual(case: &Case, session: &Session, name: &str, allowed: f64) {
    let Some((shape, expected)) = case.tensor("vectors", name) else { return };
    let spec = session.denoiser().unwrap().spec();
    let (len, classes, given) = (spec.subtoken_len, spec.vocab_size, shape[shape.len() - 1]);
    assert!(given == classes || given == classes + 1);
    // Digits of a channel stand in planes of their own in the vectors, and together here.
    let area = if shape.len() == 5 { shape[2] * shape[3] } else { 1 };
    let y_t: Vec<u32> = case
        .ids("vectors", "y_t")
        .chunks(len * area)
        .flat_map(|planes| (0..area).flat_map(move |at| (0..len).map(move |j| planes[j * area + at])))
        .collect();
    let ours = logits(session, &y_t, &case.tensor("vectors", "t").unwrap().1);
    let what = format!("{} {name} in {}", case.name, session.compute().precision());
    assert_close(&what, &ours, &first(classes, &expected, given), allowed);
}

/// What the case says of its images, where the file does not.
pub fn image_options(case: &Case, weights: Option<WeightSet>) -> ImportOptions {
    ImportOptions {
        weights,
        height: Some(case.integer("height")),
        width: Some(case.integer("width")),
        head_channels: case.json["unet"]["num_head_channels"].as_u64().map(|channels| channels as usize),
        ..ImportOptions::default()
    }
}

#[test]
fn image_checkpoints_give_the_logits_of_both_sets_of_weights() {
    for case in cases("image_") {
        let file = case.dir.join("checkpoint-3.pth");
        for (set, name) in [(WeightSet::Raw, "logits_raw_weights"), (WeightSet::Ema, "logits_ema_weights")] {
            let imported = imported(&file, &image_options(&case, Some(set)));
            compare_visual(&case, &session(&imported), name, TOLERANCE);
        }
        let by_default = imported(&file, &image_options(&case, None));
        assert_eq!(by_default.report.weights, WeightSet::Ema);
        assert!(by_default.report.unused.is_empty());
    }
}

#[test]
fn toy_state_dicts_and_modules_give_the_reference_logits() {
    for case in cases("toy_") {
        for file in ["state_dict.pth", "denoiser.pth", "weights.safetensors"] {
            let imported = imported(&case.dir.join(file), &ImportOptions::default());
            assert!(imported.report.unused.is_empty(), "{file}: {:?}", imported.report.unused);
            compare_visual(&case, &session(&imported), "logits", TOLERANCE);
        }
    }
}

/// Import, export, import again: the same bits, under the reference's names and shapes.
#[test]
fn image_and_toy_exports_hold_what_was_imported() {
    let room = tempfile::tempdir().unwrap();
    let check = |case: &Case, file: &str, options: &ImportOptions| {
        let path = case.dir.join(file);
        let first = imported(&path, options);
        let folder = room.path().join(&case.name);
        reloaded(&first).export(&folder, ExportFormat::Safetensors).unwrap();
        let again = imported(&folder, &ImportOptions::default());
        assert!(bits(&again.values) == bits(&first.values), "{}", case.name);
        let written = names_and_shapes(&Foreign::open(&folder).unwrap());
        assert_eq!(written, names_and_shapes(&Foreign::open(&path).unwrap()), "{}", case.name);
    };
    for case in cases("image_") {
        check(&case, "checkpoint-3.pth", &image_options(&case, None));
    }
    for case in cases("toy_") {
        check(&case, "state_dict.pth", &ImportOptions::default());
    }
}

fn bits(values: &[Vec<f32>]) -> Vec<Vec<u32>> {
    values.iter().map(|values| values.iter().map(|x| x.to_bits()).collect()).collect()
}

fn names_and_shapes(foreign: &Foreign) -> BTreeMap<String, Vec<usize>> {
    foreign.raw().iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect()
}

/// Import, export, import again: the same bits, under the reference's names and shapes.
#[test]
fn exports_hold_what_was_imported_under_the_reference_names() {
    let files =
        [("ckpt_", "checkpoint.ckpt"), ("encoder_", "model.pth"), ("variant_", "weights.safetensors")];
    for (prefix, file) in files {
        for case in cases(prefix) {
            let path = case.dir.join(file);
            let options = if prefix == "ckpt_" { ImportOptions::default() } else { options(&case) };
            let first = imported(&path, &options);
            let room = tempfile::tempdir().unwrap();
            for (format, name) in
                [(ExportFormat::Reference, "reference"), (ExportFormat::Safetensors, "plain")]
            {
                let folder = room.path().join(name);
                reloaded(&first).export(&folder, format).unwrap();
                let again = imported(&folder, &ImportOptions::default());
                assert!(bits(&again.values) == bits(&first.values), "{} {name}", case.name);
                let codes = |of: &Imported| of.architecture.predictive().codes().clone();
                assert_eq!(codes(&again).subtoken_len(), codes(&first).subtoken_len());
                assert_eq!(codes(&again).permutation(), codes(&first).permutation());
            }
            let mut expected = names_and_shapes(&Foreign::open(&path).unwrap());
            if prefix == "variant_" {
                // These fixtures hold parameters only.
                let NetworkConfig::Diffusion(sizes) = &first.architecture.config().network else {
                    panic!("{}: not a diffusion transformer", case.name)
                };
                let half = sizes.hidden / sizes.heads / 2;
                expected.insert("rotary_emb.inv_freq".to_owned(), vec![half]);
            }
            let written = Foreign::open(&room.path().join("reference")).unwrap();
            assert_eq!(names_and_shapes(&written), expected, "{}", case.name);
        }
    }
}

#[test]
fn the_rotary_buffer_is_the_reference_buffer() {
    for case in cases("ckpt_") {
        let original = Foreign::open(&case.dir.join("checkpoint.ckpt")).unwrap();
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().join("reference");
        let model = reloaded(&import(&original, &ImportOptions::default()).unwrap());
        model.export(&folder, ExportFormat::Reference).unwrap();
        let written = Foreign::open(&folder).unwrap();
        let buffer = |foreign: &Foreign| -> Vec<f64> {
            let tensor = foreign.raw().iter().find(|tensor| tensor.name == "rotary_emb.inv_freq").unwrap();
            foreign.read(tensor).unwrap().into_iter().map(f64::from).collect()
        };
        let found = deviation(&buffer(&written), &buffer(&original));
        println!("{}: inv_freq {found:.1e}", case.name);
        assert!(found <= 1e-6);
    }
}
