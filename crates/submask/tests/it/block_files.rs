//! Checkpoints of BD3-LM: read in both of its forms with every variant of their configuration, and written so that they
//! are read again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use submask::backbone::Embedding;
use submask::data::Tokenizer;
use submask::denoiser::{BlockDenoiser, Kept, States};
use submask::import::{
    Foreign, Format, ImportOptions, ImportTokenizer, Imported, WeightSet, import, inspect,
};
use submask::model::{Architecture, ExportFormat, ModelConfig, NetworkConfig};
use submask::schedule::Schedule;
use submask::{Compute, Error, Model, Result, Session};

use crate::fixtures::{Case, assert_close, cases};
use crate::pickled::{Saved, dict, save};

/// Relative to the largest magnitude, as the fixtures say.
const TOLERANCE: f64 = 1e-5;

fn options(weights: Option<WeightSet>) -> ImportOptions {
    ImportOptions { weights, ..ImportOptions::default() }
}

fn imported(path: &Path, options: &ImportOptions) -> Result<Imported> {
    import(&Foreign::open(path)?, options)
}

/// Both forms of a case that hold its averaged weights; the second is the published folder, copied to `room`.
fn files(case: &Case, room: &Path) -> [PathBuf; 2] {
    for file in ["config.json", "model.safetensors"] {
        fs::copy(case.dir.join(file), room.join(file)).unwrap();
    }
    [case.dir.join("checkpoint.ckpt"), room.to_path_buf()]
}

/// The model after it has been written to a folder and read again.
fn reloaded(imported: &Imported) -> Model {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("model");
    imported.save(&folder).unwrap();
    Model::open(&folder).unwrap()
}

fn session(imported: &Imported) -> Session {
    reloaded(imported).session(&Compute::cpu()).unwrap()
}

/// Logits [B·L, C] of all positions of blocks `x_t` that begin at position `first`, after the known tokens `x_0` [B, P].
fn logits(session: &Session, x_0: &[u32], first: usize, x_t: &[u32], batch: usize) -> Vec<f64> {
    let network = session.denoiser().unwrap();
    let classes = network.spec().vocab_size;
    let blocks: &dyn BlockDenoiser = network.by_blocks().expect("a network with blocks");
    let kept: Option<Kept> = (!x_0.is_empty()).then(|| blocks.keep(x_0, batch, None).unwrap());
    let positions: Vec<usize> = (0..x_t.len()).collect();
    let mut all = vec![f64::NAN; positions.len() * classes];
    let states = States { y_t: x_t, t: &vec![0.5; batch], labels: None };
    blocks
        .evaluate_after(kept.as_ref(), first, &states, &positions, &mut |range, rows| {
            let place = &mut all[range.start * classes..range.end * classes];
            place.iter_mut().zip(rows).for_each(|(to, from)| *to = f64::from(*from));
            Ok(())
        })
        .unwrap();
    all
}

/// The first C of every row of `vectors[name]`, whose last class is the mask, which is never predicted.
fn expected(case: &Case, name: &str) -> Vec<f64> {
    let (shape, rows) = case.tensor("vectors", name).unwrap();
    let classes = case.integer("vocab_size");
    assert_eq!(*shape.last().unwrap(), classes + 1);
    rows.chunks(classes + 1).flat_map(|row| row[..classes].to_vec()).collect()
}

fn sizes(architecture: &Architecture) -> &submask::backbone::dit::DitConfig {
    match &architecture.config().network {
        NetworkConfig::Diffusion(sizes) => sizes,
        other => panic!("{other:?} is no diffusion transformer"),
    }
}

#[test]
fn checkpoints_of_block_diffusion_give_the_logits_of_both_sets_of_weights() {
    for case in cases("blockckpt_") {
        let room = tempfile::tempdir().unwrap();
        let [ckpt, folder] = files(&case, room.path());
        let batch = case.tensor("vectors", "x_0").unwrap().0[0];
        let (x_0, x_t) = (case.ids("vectors", "x_0"), case.ids("vectors", "x_t"));
        let (raw, ema) = (Some(WeightSet::Raw), Some(WeightSet::Ema));
        let forms = [
            (&ckpt, raw, "logits_raw_weights"),
            (&ckpt, ema, "logits_ema_weights"),
            (&ckpt, None, "logits_ema_weights"),
            (&folder, None, "logits_ema_weights"),
        ];
        for (file, weights, name) in forms {
            let found = imported(file, &options(weights)).unwrap();
            assert!(found.report.unused.is_empty(), "{:?}", found.report.unused);
            let skipped = |key: &str| {
                let is_it = |path: &str| path == key || path == format!("state_dict.{key}");
                found.report.skipped.iter().any(|one| is_it(&one.path) && one.reason.contains("noise levels"))
            };
            assert!(skipped("sampling_eps_min") && skipped("sampling_eps_max"), "{:?}", found.report.skipped);
            let session = session(&found);
            let network = sizes(session.architecture());
            assert_eq!(
                (network.hidden, network.heads, network.blocks, network.cond_dim),
                (
                    case.integer("hidden"),
                    case.integer("heads"),
                    case.integer("blocks"),
                    case.integer("cond_dim")
                )
            );
            assert_eq!(
                (network.seq_len, network.block_len, network.time_conditioning),
                (case.integer("length"), case.integer("block_size"), false)
            );
            let config = session.architecture().config();
            assert_eq!(
                (config.vocab_size(), config.schedule),
                (case.integer("vocab_size"), Schedule::Linear)
            );
            let what = format!("{} {name} of {}", case.name, file.display());
            assert_close(&what, &logits(&session, &x_0, 0, &x_t, batch), &expected(&case, name), TOLERANCE);
        }
    }
}

#[test]
fn the_sampling_path_of_a_checkpoint_gives_the_reference_logits() {
    for case in cases("blockckpt_") {
        let name = "logits_sample_ema_weights";
        let (shape, input) = case.tensor("vectors", "sample_input").unwrap();
        let (batch, tokens) = (shape[0], shape[1]);
        let input: Vec<u32> = input.into_iter().map(|x| x as u32).collect();
        let block = case.tensor("vectors", name).unwrap().0[1];
        let first = tokens - block;
        let part = |range: std::ops::Range<usize>| -> Vec<u32> {
            input.chunks(tokens).flat_map(|row| row[range.clone()].to_vec()).collect()
        };
        let room = tempfile::tempdir().unwrap();
        for file in files(&case, room.path()) {
            let session = session(&imported(&file, &options(None)).unwrap());
            let ours = logits(&session, &part(0..first), first, &part(first..tokens), batch);
            assert_close(&format!("{} {name}", case.name), &ours, &expected(&case, name), TOLERANCE);
        }
    }
}

/// A tensor of a safetensors file: type, shape, bytes.
type Stored = (String, Vec<usize>, Vec<u8>);

/// The tensors of a safetensors file, and its mark.
fn stored(path: &Path) -> (BTreeMap<String, Stored>, Option<String>) {
    let bytes = fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let mark = header.metadata().as_ref().and_then(|metadata| metadata.get("format").cloned());
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let one = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (name, (format!("{:?}", view.dtype()), view.shape().to_vec(), view.data().to_vec()))
    };
    (tensors.tensors().into_iter().map(one).collect(), mark)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Import, export, import again: the same bits, under the published names, shapes and fields.
#[test]
fn exports_of_models_with_blocks_are_folders_as_they_are_published() {
    for case in cases("blockckpt_") {
        let copy = tempfile::tempdir().unwrap();
        let [ckpt, published] = files(&case, copy.path());
        let first = imported(&ckpt, &options(None)).unwrap();
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().join("reference");
        reloaded(&first).export(&folder, ExportFormat::Reference).unwrap();
        let (ours, mark) = stored(&folder.join("model.safetensors"));
        let (theirs, _) = stored(&published.join("model.safetensors"));
        assert_eq!(mark.as_deref(), Some("pt"));
        let shapes = |tensors: &BTreeMap<String, Stored>| -> BTreeMap<String, Vec<usize>> {
            tensors
                .iter()
                .map(|(name, (dtype, shape, _))| {
                    assert_eq!(dtype, "F32", "{name}");
                    (name.clone(), shape.clone())
                })
                .collect()
        };
        assert_eq!(serde_json::to_value(shapes(&ours)).unwrap(), case.json["hf_keys"], "{}", case.name);
        assert_eq!(shapes(&ours), shapes(&theirs));
        // The averaged weights of the checkpoint are those that are published.
        let is_weight = |name: &str| !name.contains("sampling_eps") && !name.contains("inv_freq");
        for (name, tensor) in theirs.iter().filter(|(name, _)| is_weight(name)) {
            assert!(ours[name] == *tensor, "{} {name}", case.name);
        }
        let (written, published) =
            (read_json(&folder.join("config.json")), read_json(&published.join("config.json")));
        // Newer classes write two more; where the file comes from is no size, and a checkpoint's own dropout is kept.
        let differ = ["_name_or_path", "adaln", "causal", "dropout"];
        for (key, value) in
            published.as_object().unwrap().iter().filter(|(key, _)| !differ.contains(&key.as_str()))
        {
            assert_eq!(&written[key], value, "{} {key}", case.name);
        }
        let keys = |json: &Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let more: Vec<String> = keys(&written).into_iter().filter(|key| published[key].is_null()).collect();
        assert_eq!(more, ["adaln", "causal"]);
        assert_eq!((&written["adaln"], &written["causal"]), (&json!(true), &json!(false)));
        assert_eq!(written["dropout"].as_f64(), Some(sizes(&first.architecture).dropout));

        let again = Foreign::open(&folder).unwrap();
        assert_eq!(again.format, Format::Bd3lm);
        let again = import(&again, &ImportOptions::default()).unwrap();
        assert_eq!(bits(&again.values), bits(&first.values), "{}", case.name);
        assert_eq!(again.architecture.config().network, first.architecture.config().network);
        // It is no folder of this program, and says so.
        let error = Model::open(&folder).err().unwrap().to_string();
        assert!(error.contains("has to be imported first"), "{error}");

        // Our own folder keeps the blocks, too.
        let plain = room.path().join("plain");
        reloaded(&first).export(&plain, ExportFormat::Safetensors).unwrap();
        let again = Model::open(&plain).unwrap();
        assert_eq!(bits(again.weights()), bits(&first.values));
        assert_eq!(again.config().network, first.architecture.config().network);
    }
}

fn bits(values: &[Vec<f32>]) -> Vec<Vec<u32>> {
    values.iter().map(|values| values.iter().map(|x| x.to_bits()).collect()).collect()
}

/// Folders with the weights of a case and its configuration after a change.
struct Variants<'a> {
    case: &'a Case,
    room: tempfile::TempDir,
}

impl<'a> Variants<'a> {
    fn new(case: &'a Case) -> Self {
        let room = tempfile::tempdir().unwrap();
        fs::copy(case.dir.join("model.safetensors"), room.path().join("model.safetensors")).unwrap();
        Self { case, room }
    }

    fn import(&self, change: &[(&str, Value)], options: &ImportOptions) -> Result<Imported> {
        let mut config = read_json(&self.case.dir.join("config.json"));
        for (key, value) in change {
            match value.is_null() {
                true => drop(config.as_object_mut().unwrap().remove(*key)),
                false => config[key] = value.clone(),
            }
        }
        fs::write(self.room.path().join("config.json"), config.to_string()).unwrap();
        imported(self.room.path(), options)
    }

    #[track_caller]
    fn refused(&self, change: &[(&str, Value)], words: &[&str]) {
        assert_says(&self.import(change, &ImportOptions::default()).unwrap_err(), words);
    }
}

#[track_caller]
fn assert_says(error: &Error, words: &[&str]) {
    let message = error.to_string();
    words.iter().for_each(|word| assert!(message.contains(word), "no {word} in: {message}"));
}

#[test]
fn configurations_are_read_with_and_without_what_newer_classes_write() {
    for case in cases("blockckpt_") {
        let variants = Variants::new(&case);
        let plain = variants.import(&[], &ImportOptions::default()).unwrap();
        let block_len = case.integer("block_size");
        assert_eq!(sizes(&plain.architecture).block_len, block_len);
        let same: [&[(&str, Value)]; 6] = [
            &[("adaln", json!(true))],
            &[("causal", json!(false))],
            &[("adaln", json!(true)), ("causal", json!(false))],
            &[("cross_attn", Value::Null)],
            &[("attn_backend", json!("flex")), ("sampling_eps_min", json!(0.45)), ("var_min", json!(false))],
            &[("cond_dim", Value::Null), ("tie_word_embeddings", json!(true))],
        ];
        for change in same {
            let found = variants.import(change, &ImportOptions::default()).unwrap();
            assert_eq!(found.architecture.config(), plain.architecture.config(), "{change:?}");
            assert_eq!(bits(&found.values), bits(&plain.values), "{change:?}");
        }
        // Without a clean half it is an ordinary model, also one that reads the time.
        for (time, block_size) in [(false, json!(4)), (true, Value::Null)] {
            let change = [
                ("cross_attn", json!(false)),
                ("time_conditioning", json!(time)),
                ("block_size", block_size),
            ];
            let found = variants.import(&change, &ImportOptions::default()).unwrap();
            let network = sizes(&found.architecture);
            assert_eq!((network.block_len, network.time_conditioning), (0, time));
            assert_eq!(network.seq_len, case.integer("length"));
            assert_eq!(bits(&found.values), bits(&plain.values));
        }
        let whole = [("block_size", json!(case.integer("length")))];
        let found = variants.import(&whole, &ImportOptions::default()).unwrap();
        assert_eq!(sizes(&found.architecture).block_len, case.integer("length"));
    }
}

#[test]
fn networks_of_these_programs_that_are_not_ours_are_refused_with_what_is_wrong() {
    for case in cases("blockckpt_") {
        let variants = Variants::new(&case);
        let file = "model.safetensors";
        variants.refused(&[("adaln", json!(false))], &[file, "adaln = false", "modulation"]);
        variants.refused(&[("causal", json!(true))], &[file, "causal = true", "autoregressive"]);
        variants.refused(
            &[("time_conditioning", json!(true))],
            &[file, "model.time_conditioning = true", "blocks"],
        );
        variants.refused(&[("block_size", json!(0))], &[file, "block_size = 0", "at least 1"]);
        variants.refused(&[("block_size", Value::Null)], &[file, "model.block_len has to be given"]);
        variants.refused(&[("model_length", Value::Null)], &[file, "model.seq_len has to be given"]);
        let beyond = case.integer("length") + 1;
        let by_length = format!("a divisor of model.seq_len = {}", beyond - 1);
        let block_len = format!("model.block_len = {beyond}");
        variants.refused(&[("block_size", json!(beyond))], &[file, &block_len, &by_length]);
        for (key, size) in
            [("hidden_dim", "hidden"), ("n_blocks", "blocks"), ("n_heads", "heads"), ("cond_dim", "cond_dim")]
        {
            let size = case.integer(size);
            let (said, by_shapes) = (format!("{key} = {}", size + 1), format!("say {size}"));
            variants.refused(&[(key, json!(size + 1))], &[file, &said, &by_shapes]);
        }
        let classes = case.integer("vocab_size") + 1;
        let (said, has) = (format!("vocab_size = {}", classes + 1), format!("{classes} classes"));
        variants.refused(&[("vocab_size", json!(classes + 1))], &[file, &said, &has]);
        // What the file does not say can be said.
        let said = ImportOptions { block_len: Some(1), ..ImportOptions::default() };
        let found = variants.import(&[("block_size", Value::Null)], &said).unwrap();
        assert_eq!(sizes(&found.architecture).block_len, 1);
        let error = variants.import(&[], &ImportOptions { block_len: Some(beyond), ..said }).unwrap_err();
        assert_says(&error, &[&block_len, "a divisor"]);
        let inspected = Foreign::open(variants.room.path()).unwrap();
        let inspected = inspect(&inspected, &ImportOptions::default()).unwrap();
        let block_len = inspected.settings.iter().find(|one| one.key == "model.block_len").unwrap();
        assert_eq!(block_len.value, case.integer("block_size").to_string());
    }
}

/// Weights by name, in the network's order, as lists for a file of `torch.save`.
fn weights(imported: &Imported) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let parameters = imported.architecture.parameters().iter();
    parameters
        .zip(&imported.values)
        .map(|(one, values)| (one.name.clone(), one.shape.clone(), values.clone()))
        .collect()
}

/// A checkpoint of Lightning: scalars first, names with a `prefix`, averages as a list.
fn lightning(
    case: &Case,
    raw: &[(String, Vec<usize>, Vec<f32>)],
    prefix: &str,
    hyper_parameters: Saved,
) -> Saved {
    let frequencies = case.integer("hidden") / case.integer("heads") / 2;
    let tensor = |shape: &[usize], values: &[f32]| Saved::Tensor(shape.to_vec(), values.to_vec());
    let scalars = [("sampling_eps_min", 0.45), ("sampling_eps_max", 0.95)];
    let mut state: Vec<(String, Saved)> =
        scalars.iter().map(|(name, value)| ((*name).to_owned(), tensor(&[], &[*value]))).collect();
    state.extend(raw.iter().map(|(name, shape, values)| (format!("{prefix}{name}"), tensor(shape, values))));
    state.push((format!("{prefix}rotary_emb.inv_freq"), tensor(&[frequencies], &vec![1.0; frequencies])));
    let doubled = |values: &[f32]| values.iter().map(|x| 2.0 * x).collect::<Vec<f32>>();
    let averages = raw.iter().map(|(_, shape, values)| tensor(shape, &doubled(values))).collect();
    dict([
        ("epoch", Saved::Int(1)),
        ("state_dict", Saved::Dict(state)),
        ("hyper_parameters", hyper_parameters),
        ("ema", dict([("num_updates", Saved::Int(3)), ("shadow_params", Saved::List(averages))])),
        ("sampling_eps_min", tensor(&[], &[0.45])),
        ("sampling_eps_max", tensor(&[], &[0.95])),
    ])
}

/// What a Lightning checkpoint says of a network, as far as it is read.
fn hyper_parameters(case: &Case, algorithm: &str, more: Vec<(&str, Saved)>) -> Saved {
    let int = |key: &str| Saved::Int(case.integer(key) as i64);
    let mut algo = vec![("name", Saved::Text(algorithm.to_owned()))];
    algo.extend(more);
    dict([(
        "config",
        dict([
            ("block_size", int("block_size")),
            ("noise", dict([("type", Saved::Text("loglinear".to_owned()))])),
            (
                "model",
                dict([
                    ("length", int("length")),
                    ("n_heads", int("heads")),
                    ("hidden_size", int("hidden")),
                    ("adaln", Saved::Flag(false)),
                ]),
            ),
            ("algo", Saved::Dict(algo.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]),
    )])
}

#[test]
fn lightning_checkpoints_are_read_compiled_or_not_with_their_scalars_first() {
    for case in cases("blockckpt_") {
        let raw =
            weights(&imported(&case.dir.join("checkpoint.ckpt"), &options(Some(WeightSet::Raw))).unwrap());
        let doubled: Vec<Vec<u32>> =
            raw.iter().map(|(_, _, values)| values.iter().map(|x| (2.0 * x).to_bits()).collect()).collect();
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("last.ckpt");
        for prefix in
            ["backbone.", "backbone._orig_mod.", "_orig_mod.backbone.", "module.backbone._orig_mod."]
        {
            let saved = lightning(&case, &raw, prefix, hyper_parameters(&case, "bd3lm", vec![]));
            fs::write(&file, save(&saved)).unwrap();
            let found = imported(&file, &options(Some(WeightSet::Raw))).unwrap();
            assert!(weights(&found) == raw, "{prefix}");
            assert!(found.report.unused.is_empty(), "{:?}", found.report.unused);
            let found = imported(&file, &options(None)).unwrap();
            assert!(bits(&found.values) == doubled, "{prefix}");
            assert_eq!(found.report.weights, WeightSet::Ema);
            assert_eq!(sizes(&found.architecture).block_len, case.integer("block_size"), "{prefix}");
            assert_eq!(found.architecture.config().schedule, Schedule::Linear);
        }
        // The same programs train ordinary models.
        let variant = |algorithm, more| {
            let saved = lightning(&case, &raw, "backbone.", hyper_parameters(&case, algorithm, more));
            fs::write(&file, save(&saved)).unwrap();
            imported(&file, &options(None))
        };
        let cross = |flag| vec![("cross_attn", Saved::Flag(flag))];
        for (algorithm, more, block_len) in [
            ("mdlm", vec![], 0),
            ("mdlm", cross(false), 0),
            ("bd3lm", cross(false), 0),
            ("bd3lm", cross(true), case.integer("block_size")),
        ] {
            let found = variant(algorithm, more).unwrap();
            assert_eq!(sizes(&found.architecture).block_len, block_len, "{algorithm}");
        }
        let error = variant("bd3lm", vec![("time_conditioning", Saved::Flag(true))]).unwrap_err();
        assert_says(&error, &["last.ckpt", "model.time_conditioning = true", "blocks"]);
        for other in ["sedd", "duo"] {
            let error = variant(other, vec![]).unwrap_err();
            assert_says(&error, &["last.ckpt", &format!("algo.name = {other:?}"), "bd3lm, mdlm, ar"]);
        }
        assert!(variant("bd3lm", vec![("parameterization", Saved::Text("subs".to_owned()))]).is_ok());
        let error = variant("mdlm", vec![("parameterization", Saved::Text("d3pm".to_owned()))]).unwrap_err();
        assert_says(&error, &["last.ckpt", "parameterization = \"d3pm\"", "subs"]);
        let error = variant("ar", vec![("causal_attention", Saved::Flag(true))]).unwrap_err();
        assert_says(&error, &["last.ckpt", "causal = true"]);
    }
}

/// Every setting stands in its checkpoint; without them blocks are asked for by a flag alone.
#[test]
fn bare_weights_have_the_blocks_that_are_said() {
    for case in cases("blockckpt_") {
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("weights.safetensors");
        fs::copy(case.dir.join("model.safetensors"), &file).unwrap();
        let options = ImportOptions { seq_len: Some(case.integer("length")), ..ImportOptions::default() };
        // Numbers of their training say that these are weights of block diffusion, but not of which blocks.
        let error = imported(&file, &options).unwrap_err();
        assert!(matches!(&error, Error::Needed { field, .. } if field == "model.block_len"), "{error}");
        let without = ImportOptions { block_len: Some(0), ..options.clone() };
        let without = imported(&file, &without).unwrap();
        assert_eq!(sizes(&without.architecture).block_len, 0);
        let with = ImportOptions { block_len: Some(case.integer("block_size")), ..options };
        let with = imported(&file, &with).unwrap();
        assert_eq!(sizes(&with.architecture).block_len, case.integer("block_size"));
        assert_eq!(bits(&with.values), bits(&without.values));
    }
}

/// A tokenizer of `count` words, of which one is the mask.
fn with_mask(folder: &Path, count: usize, mask: usize) -> Tokenizer {
    let word = |i: usize| if i == mask { "[MASK]".to_owned() } else { format!("w{i}") };
    let vocabulary: serde_json::Map<String, Value> = (0..count).map(|i| (word(i), json!(i))).collect();
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    });
    let path = folder.join("tokenizer.json");
    fs::write(&path, file.to_string()).unwrap();
    Tokenizer::from_file(&path, None).unwrap()
}

/// The tables have as many rows as the tokenizer has tokens, one of them being the mask: the predictions at a mask are those
/// of the same weights with the mask behind the tokens, but for the token that is the mask.
#[test]
fn a_mask_among_the_tokens_is_moved_behind_them() {
    for case in cases("blockckpt_") {
        let variants = Variants::new(&case);
        let (classes, mask) = (case.integer("vocab_size") + 1, 5u32);
        let tokenizer = with_mask(variants.room.path(), classes, mask as usize);
        assert_eq!((tokenizer.vocab_size(), tokenizer.mask_token()), (classes, Some(mask)));
        let given = ImportTokenizer::Given(Box::new(tokenizer));
        let options = ImportOptions { tokenizer: Some(given), ..ImportOptions::default() };
        let found = variants.import(&[], &options).unwrap();
        assert!(found.report.tokenizer.as_ref().unwrap().contains("token 5 is the mask"));
        let session_of_all = session(&found);
        assert_eq!(session_of_all.architecture().config().vocab_size(), classes);

        // A model whose mask stands last already, but has the row of token 5 there.
        let mut last = variants.import(&[], &ImportOptions::default()).unwrap();
        let width = case.integer("hidden");
        for (parameter, values) in last.architecture.parameters().iter().zip(&mut last.values) {
            if parameter.name == "vocab_embed.embedding" {
                values.copy_within(mask as usize * width..(mask as usize + 1) * width, (classes - 1) * width);
            }
        }
        let session_of_last = session(&last);
        let x_t = |mask: usize| -> Vec<u32> {
            (0..case.integer("block_size") as u32).map(|i| if i == 0 { 2 } else { mask as u32 }).collect()
        };
        let ours = logits(&session_of_all, &[], 0, &x_t(classes), 1);
        let theirs = logits(&session_of_last, &[], 0, &x_t(classes - 1), 1);
        for (ours, theirs) in ours.chunks(classes).zip(theirs.chunks(classes - 1)) {
            for token in 0..classes - 1 {
                let expected = if token == mask as usize { -1e6 } else { theirs[token] };
                assert_eq!(ours[token], expected, "{token}");
            }
        }
        // Exported, it has a class for the mask as the others, and comes back as it was.
        let folder = variants.room.path().join("reference");
        reloaded(&found).export(&folder, ExportFormat::Reference).unwrap();
        let options = ImportOptions {
            tokenizer: Some(ImportTokenizer::Given(Box::new(
                Tokenizer::from_file(folder.join("tokenizer.json"), None).unwrap(),
            ))),
            ..ImportOptions::default()
        };
        assert_eq!(bits(&imported(&folder, &options).unwrap().values), bits(&found.values));
    }
}

/// Without the tokenizer a file of such a program is refused: the last class would be taken for the mask.
#[test]
fn a_tokenizer_with_a_mask_of_its_own_has_to_be_given() {
    for case in cases("blockckpt_") {
        let raw = weights(&imported(&case.dir.join("checkpoint.ckpt"), &options(None)).unwrap());
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("last.ckpt");
        let Saved::Dict(mut entries) = hyper_parameters(&case, "bd3lm", vec![]) else { panic!("no dict") };
        let Some((_, Saved::Dict(config))) = entries.first_mut() else { panic!("no configuration") };
        let name = Saved::Text("bert-base-uncased".to_owned());
        config.push(("data".to_owned(), dict([("tokenizer_name_or_path", name)])));
        fs::write(&file, save(&lightning(&case, &raw, "backbone.", Saved::Dict(entries)))).unwrap();
        let error = imported(&file, &options(None)).unwrap_err();
        assert_says(
            &error,
            &["tokenizer has to be given", "last.ckpt", "bert-base-uncased", "one of its own tokens"],
        );
        let numbers = ImportOptions { tokenizer: Some(ImportTokenizer::Numbers), ..ImportOptions::default() };
        assert_eq!(
            imported(&file, &numbers).unwrap().architecture.config().vocab_size(),
            case.integer("vocab_size")
        );
    }
}

/// What the reference's class does not hold is refused by name, and nothing is written.
#[test]
fn models_with_blocks_that_the_class_does_not_hold_are_not_exported_to_it() {
    for case in cases("blockckpt_") {
        let found = imported(&case.dir.join("checkpoint.ckpt"), &options(None)).unwrap();
        let room = tempfile::tempdir().unwrap();
        let refused = |change: &dyn Fn(&mut ModelConfig), words: &[&str]| {
            let mut config = found.architecture.config().clone();
            change(&mut config);
            let tokenizer = Tokenizer::numbers(config.vocab_size()).unwrap();
            let architecture = Architecture::new(config, Some(tokenizer)).unwrap();
            let values: Vec<Vec<f32>> =
                architecture.parameters().iter().map(|one| vec![0.0; one.len()]).collect();
            let folder = room.path().join("model");
            fs::create_dir(&folder).unwrap();
            architecture.save(&values, &folder).unwrap();
            let model = Model::open(&folder).unwrap();
            let to = room.path().join("out");
            let error = model.export(&to, ExportFormat::Reference).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }));
            assert_says(&error, &[words, &["BD3LM"]].concat());
            assert!(!to.exists());
            model.export(&to, ExportFormat::Safetensors).unwrap();
            assert_eq!(bits(Model::open(&to).unwrap().weights()), bits(&values));
            [folder, to].into_iter().for_each(|folder| fs::remove_dir_all(folder).unwrap());
        };
        refused(&|config| config.codes.subtokens = 2, &["codes.subtokens = 2", "1, whole tokens"]);
        refused(&|config| config.codes.carry_over = false, &["codes.carry_over = false", "true"]);
        refused(
            &|config| config.codes.assignment = submask::model::Assignment::Shuffled { seed: 3 },
            &["codes.assignment", "plain"],
        );
        let per_digit = |config: &mut ModelConfig| match &mut config.network {
            NetworkConfig::Diffusion(sizes) => sizes.embedding = Embedding::PerDigitSummed,
            other => panic!("{other:?}"),
        };
        refused(&per_digit, &["model.embedding", "concatenated"]);
        let encoder = |config: &mut ModelConfig| {
            let seq_len = config.seq_len();
            config.network = NetworkConfig::named("encoder").unwrap();
            let NetworkConfig::Encoder(sizes) = &mut config.network else { panic!("no encoder") };
            (sizes.hidden, sizes.heads, sizes.blocks, sizes.seq_len) = (16, 2, 1, seq_len);
            sizes.block_len = case.integer("block_size");
        };
        refused(&encoder, &["model.network = encoder", "diffusion"]);
    }
}
