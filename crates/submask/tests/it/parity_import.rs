//! Foreign checkpoints against the reference's vectors: what is imported gives the logits that the reference gives.

use std::collections::BTreeMap;
use std::path::Path;

use submask::Device;
use submask::backbone::Denoiser;
use submask::import::{Foreign, ImportOptions, Imported, WeightSet, import, read_permutation};
use submask::model::{ExportFormat, Model};

use crate::fixtures::{Case, cases, deviation};

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

fn imported(file: &Path, options: &ImportOptions) -> Imported {
    import(&Foreign::open(file).unwrap(), options).unwrap()
}

/// The model after it has been written to a folder and read again.
fn reloaded(imported: &Imported) -> Model {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("model");
    imported.save(&folder).unwrap();
    Model::load(&folder, &Device::flex()).unwrap()
}

/// Logits [B·L, C] at all positions.
fn logits(model: &Model, y_t: &[u32]) -> Vec<f64> {
    let network = model.denoiser(&Device::flex()).unwrap();
    let width = model.config.model.seq_len * network.subtoken_len();
    let batch = y_t.len() / width;
    let positions: Vec<usize> = (0..batch * model.config.model.seq_len).collect();
    let mut all = vec![0.0; positions.len() * network.vocab_size()];
    let classes = network.vocab_size();
    network
        .evaluate(y_t, &vec![0.0; batch], &positions, &mut |range, rows| {
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
fn compare(case: &Case, model: &Model, name: &str) {
    let Some((shape, expected)) = case.tensor("vectors", name) else { return };
    let (classes, given) = (model.config.vocab_size, shape[2]);
    assert!(given == classes || given == classes + 1);
    let found = deviation(&logits(model, &case.ids("vectors", "y_t")), &first(classes, &expected, given));
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
            compare(&case, &reloaded(&imported(&file, &options)), name);
        }
        let by_default = imported(&file, &ImportOptions::default());
        assert_eq!(by_default.report.weights, WeightSet::Ema);
        assert!(by_default.report.unused.is_empty() && !by_default.report.skipped.is_empty());
    }
}

#[test]
fn encoders_give_the_reference_logits() {
    for case in cases("encoder_") {
        compare(&case, &reloaded(&imported(&case.dir.join("model.pth"), &options(&case))), "logits");
    }
}

#[test]
fn variants_give_the_reference_logits_with_their_permuted_codes() {
    for case in cases("variant_") {
        let model = reloaded(&imported(&case.dir.join("weights.safetensors"), &options(&case)));
        compare(&case, &model, "logits");
        let (x_0, y_0) = (case.ids("vectors", "x_0"), case.ids("vectors", "y_0"));
        assert_eq!(model.predictive.codes().encode(&x_0).unwrap(), y_0, "{}", case.name);
    }
}

#[test]
fn autoregressive_networks_give_the_reference_log_probabilities() {
    for case in cases("ar_") {
        let model = reloaded(&imported(&case.dir.join("weights.safetensors"), &options(&case)));
        let Some((shape, expected)) = case.tensor("vectors", "log_prob") else { continue };
        let x = case.ids("vectors", "x");
        let network = model.autoregressive(&Device::flex()).unwrap();
        // `log_prob[:, i]` is the prediction after tokens 0..=i.
        let batch = x.len() / case.integer("length");
        let logits: Vec<f64> = network.logits(&x, batch).unwrap().into_iter().map(f64::from).collect();
        let (classes, given) = (model.config.vocab_size, shape[2]);
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

fn names_and_shapes(foreign: &Foreign) -> BTreeMap<String, Vec<usize>> {
    foreign.raw.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect()
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
                let bits = |values: &[Vec<f32>]| -> Vec<Vec<u32>> {
                    values.iter().map(|values| values.iter().map(|x| x.to_bits()).collect()).collect()
                };
                assert!(bits(&again.values) == bits(&first.values), "{} {name}", case.name);
                assert_eq!(again.config.model.subtokens, first.config.model.subtokens);
                assert_eq!(again.codes.permutation(), first.codes.permutation());
            }
            let mut expected = names_and_shapes(&Foreign::open(&path).unwrap());
            if prefix == "variant_" {
                // These fixtures hold parameters only.
                let half = first.config.model.hidden / first.config.model.heads / 2;
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
            let tensor = foreign.raw.iter().find(|tensor| tensor.name == "rotary_emb.inv_freq").unwrap();
            foreign.read(tensor).unwrap().into_iter().map(f64::from).collect()
        };
        let found = deviation(&buffer(&written), &buffer(&original));
        println!("{}: inv_freq {found:.1e}", case.name);
        assert!(found <= 1e-6);
    }
}
