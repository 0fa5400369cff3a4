//! Checkpoints as training loops save them: wrapped, renamed, averaged, in several files, padded, or not there at all.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use submask::backbone::Embedding;
use submask::backbone::dit::DitConfig;
use submask::data::Tokenizer;
use submask::import::{
    Foreign, Format, ImportOptions, ImportTokenizer, Imported, Origin, WeightSet, contents, import, inspect,
    is_checkpoint,
};
use submask::model::{
    Architecture, CodeSettings, FORMAT_VERSION, ModelConfig, NetworkConfig, Sampling, Subject, TextSubject,
};
use submask::random::{Draws, Purpose};
use submask::schedule::Schedule;
use submask::{Error, Result};

use crate::pickled::{Saved, dict, save};

/// Tokens of the network; with the mask its tables have one row more.
const TOKENS: usize = 5;
const HIDDEN: usize = 8;

/// Names and shapes in the network's order.
fn parameters() -> Vec<(String, Vec<usize>)> {
    let network = NetworkConfig::Diffusion(DitConfig {
        block_len: 0,
        hidden: HIDDEN,
        heads: 2,
        blocks: 2,
        cond_dim: 4,
        seq_len: 6,
        dropout: 0.0,
        embedding: Embedding::Concatenated,
        time_conditioning: false,
    });
    let tokenizer = Tokenizer::numbers(TOKENS).unwrap();
    let config = ModelConfig {
        format_version: FORMAT_VERSION,
        subject: Subject::Text(TextSubject::of(&tokenizer)),
        network,
        codes: CodeSettings::plain(1, true),
        schedule: Schedule::Linear,
        sample: Sampling::default(),
    };
    let architecture = Architecture::new(config, Some(tokenizer)).unwrap();
    architecture.parameters().iter().map(|one| (one.name.clone(), one.shape.clone())).collect()
}

/// Weights by name, in the network's order; other numbers for every `seed`.
#[derive(Clone)]
struct Weights(Vec<(String, Vec<usize>, Vec<f32>)>);

impl Weights {
    fn new(seed: u64) -> Self {
        let draws = Draws::new(seed, Purpose::Init);
        let one = |(p, (name, shape)): (usize, (String, Vec<usize>))| {
            let len: usize = shape.iter().product();
            (name, shape, (0..len).map(|i| draws.normal(p as u64, i as u32, 0) as f32).collect())
        };
        Self(parameters().into_iter().enumerate().map(one).collect())
    }

    fn renamed(&self, name: impl Fn(&str) -> String) -> Self {
        Self(self.0.iter().map(|(old, shape, values)| (name(old), shape.clone(), values.clone())).collect())
    }

    fn prefixed(&self, prefix: &str) -> Self {
        self.renamed(|name| format!("{prefix}{name}"))
    }

    fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    fn sorted(mut self) -> Self {
        self.0.sort_by(|a, b| a.0.cmp(&b.0));
        self
    }

    /// With a buffer that networks compute.
    fn with_buffer(mut self) -> Self {
        self.0.push(("rotary_emb.inv_freq".to_owned(), vec![2], vec![1.0, 0.01]));
        self
    }

    /// Tables of `rows` rows: what is behind the tokens and the mask is no weight.
    fn padded(&self, rows: usize) -> Self {
        let pad = |(name, shape, values): &(String, Vec<usize>, Vec<f32>)| {
            let (mut shape, mut values) = (shape.clone(), values.clone());
            if shape[0] == TOKENS + 1
                && (name.contains("vocab_embed") || name.contains("output_layer.linear"))
            {
                shape[0] = rows;
                values.resize(shape.iter().product(), 77.0);
            }
            (name.clone(), shape, values)
        };
        Self(self.0.iter().map(pad).collect())
    }

    fn dict(&self) -> Saved {
        let tensor = |(name, shape, values): &(String, Vec<usize>, Vec<f32>)| {
            (name.clone(), Saved::Tensor(shape.clone(), values.clone()))
        };
        Saved::Dict(self.0.iter().map(tensor).collect())
    }

    fn list(&self) -> Saved {
        Saved::List(
            self.0.iter().map(|(_, shape, values)| Saved::Tensor(shape.clone(), values.clone())).collect(),
        )
    }

    fn values(&self) -> Vec<Vec<f32>> {
        self.0.iter().map(|(_, _, values)| values.clone()).collect()
    }

    fn safetensors(&self) -> Vec<u8> {
        let (mut header, mut bytes) = (serde_json::Map::new(), Vec::<u8>::new());
        for (name, shape, values) in &self.0 {
            let start = bytes.len();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, bytes.len()]});
            header.insert(name.clone(), entry);
        }
        let header = Value::Object(header).to_string();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes].concat()
    }
}

/// A folder for files.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn save(&self, value: &Saved) -> PathBuf {
        self.write("file.pt", save(value))
    }
}

/// What the files of this test do not say.
fn options() -> ImportOptions {
    ImportOptions { heads: Some(2), seq_len: Some(6), ..ImportOptions::default() }
}

fn imported(path: &Path, options: &ImportOptions) -> Result<Imported> {
    import(&Foreign::open(path)?, options)
}

fn with(weights: WeightSet) -> ImportOptions {
    ImportOptions { weights: Some(weights), ..options() }
}

#[track_caller]
fn assert_says(error: &Error, words: &[&str]) {
    let message = error.to_string();
    words.iter().for_each(|word| assert!(message.contains(word), "no {word} in: {message}"));
}

#[test]
fn what_wrappers_add_to_names_is_taken_off_and_reported() {
    let (room, weights) = (Room::new(), Weights::new(1));
    for (prefix, stripped) in [
        ("module.", &["module."][..]),
        ("_orig_mod.", &["_orig_mod."]),
        ("backbone._orig_mod.", &["_orig_mod.", "backbone."]),
        ("_orig_mod.backbone.", &["_orig_mod.", "backbone."]),
        ("module._orig_mod.module.", &["module.", "_orig_mod."]),
        ("_forward_module.model.backbone.", &["_forward_module.", "model.backbone."]),
        ("my.own.net.", &["my.own.net."]),
    ] {
        let file = room.save(&weights.prefixed(prefix).dict());
        let found = imported(&file, &options()).unwrap();
        assert_eq!(found.values, weights.values(), "{prefix}");
        assert_eq!(found.report.stripped, stripped, "{prefix}");
        assert!(found.report.unused.is_empty() && found.report.skipped.is_empty(), "{prefix}");
        assert!(found.report.applied[0].path.starts_with(prefix));
        let file = room.write("file.safetensors", weights.prefixed(prefix).safetensors());
        assert_eq!(imported(&file, &options()).unwrap().values, weights.values(), "{prefix}");
    }
    // Blocks that were compiled one by one, with what is not the network's beside it.
    let inside = weights.renamed(|name| format!("net.{}", name.replace("blocks.0.", "blocks.0._orig_mod.")));
    let mut other = inside.clone();
    other.0.push(("loss.scale".to_owned(), vec![1], vec![2.0]));
    let found = imported(&room.save(&other.dict()), &options()).unwrap();
    assert_eq!((found.values, found.report.stripped.len()), (weights.values(), 2));
    assert_eq!(found.report.skipped[0].path, "loss.scale");
    assert!(found.report.skipped[0].reason.contains("outside `net.`"));
}

#[test]
fn weights_are_found_under_the_usual_keys_and_some_levels_down() {
    let (room, weights) = (Room::new(), Weights::new(1));
    for way in [
        &["state_dict"][..],
        &["model_state_dict"],
        &["model"],
        &["module"],
        &["network"],
        &["model", "state_dict"],
        &["checkpoint", "model", "module"],
    ] {
        let inner = way.iter().rev().fold(weights.dict(), |value, key| {
            dict([("step", Saved::Tensor(vec![], vec![3.0])), (key, value), ("optimizer", dict([]))])
        });
        let found = imported(&room.save(&inner), &options()).unwrap();
        assert_eq!((found.values, found.report.weights), (weights.values(), WeightSet::Raw), "{way:?}");
        assert!(found.report.applied[0].path.starts_with(&way.join(".")), "{way:?}");
        let skipped: Vec<&str> = found.report.skipped.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(skipped.len(), 2 * way.len(), "{skipped:?}");
        assert!(skipped.contains(&"optimizer"), "{skipped:?}");
    }
    let found = Foreign::open(&room.save(&dict([("network", weights.dict())]))).unwrap();
    assert_eq!(found.format, Format::Wrapped);
}

#[test]
fn averages_under_their_usual_names_come_first() {
    let (room, raw, ema) = (Room::new(), Weights::new(1), Weights::new(2));
    let shadow = |weights: Saved| dict([("decay", Saved::Int(1)), ("shadow_params", weights)]);
    let sorted = raw.clone().with_buffer().sorted();
    let beside = |key, average| dict([("model", raw.dict()), (key, average), ("step", Saved::Int(3))]);
    let files = [
        beside("ema", shadow(ema.list())),
        beside("ema", ema.dict()),
        beside("model_ema", ema.prefixed("module.").dict()),
        beside("ema_model", dict([("n_averaged", Saved::Tensor(vec![], vec![1.0])), ("module", ema.dict())])),
        beside("ema_state_dict", ema.prefixed("_orig_mod.backbone.").dict()),
        beside("averaged_model", dict([("state_dict", ema.dict())])),
        beside("ema_0.9999", dict([("shadow", ema.dict())])),
        beside("swa", ema.list()),
        // In the order of the weights in the file, not of the network's, with and without the buffer.
        dict([("model", sorted.dict()), ("ema", shadow(ema.clone().with_buffer().sorted().list()))]),
        dict([("model", sorted.dict()), ("ema", shadow(ema.clone().sorted().list()))]),
        // In one dict under a prefix of their own.
        raw.prefixed("model.").and(ema.prefixed("ema_model.module.")).dict(),
        raw.clone().and(ema.prefixed("ema.")).dict(),
        raw.clone().and(ema.renamed(|name| format!("model_ema.{}", name.replace('.', "")))).dict(),
        raw.prefixed("model.").and(ema.renamed(|name| format!("model_ema.{}", name.replace('.', "")))).dict(),
        raw.prefixed("model.net.")
            .and(ema.renamed(|name| format!("model_ema.net{}", name.replace('.', ""))))
            .dict(),
        dict([(
            "model",
            raw.prefixed("model.")
                .and(Weights(
                    ema.0
                        .iter()
                        .enumerate()
                        .map(|(i, (_, shape, values))| {
                            (format!("shadow_params.{i}"), shape.clone(), values.clone())
                        })
                        .collect(),
                ))
                .dict(),
        )]),
    ];
    for (number, file) in files.iter().enumerate() {
        let file = room.save(file);
        assert_eq!(Foreign::open(&file).unwrap().sets(), [WeightSet::Raw, WeightSet::Ema], "{number}");
        let found = imported(&file, &options()).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_eq!((found.report.weights, found.values), (WeightSet::Ema, ema.values()), "{number}");
        let found = imported(&file, &with(WeightSet::Raw)).unwrap();
        assert_eq!((found.report.weights, found.values), (WeightSet::Raw, raw.values()), "{number}");
    }
    // Of several averages the first is taken, and the other reported.
    let two = dict([("model", raw.dict()), ("ema", ema.dict()), ("ema_2", raw.dict())]);
    let found = imported(&room.save(&two), &options()).unwrap();
    assert_eq!(found.values, ema.values());
    assert!(
        found.report.skipped.iter().any(|one| one.path == "ema_2" && one.reason.contains("another average"))
    );
}

#[test]
fn what_an_optimiser_averages_is_no_average_of_the_weights() {
    let (room, raw, other, ema) = (Room::new(), Weights::new(1), Weights::new(2), Weights::new(3));
    for key in
        ["exp_avg", "exp_avg_sq", "ema_grad", "loss_avg", "optim.ema", "avg-gradient", "optimizer_average"]
    {
        for network in ["", "model.", "my.own."] {
            let beside = raw.prefixed(network).and(other.prefixed(&format!("{key}.")));
            let file = room.write("file.safetensors", beside.safetensors());
            assert_eq!(Foreign::open(&file).unwrap().sets(), [WeightSet::Raw], "{key} beside {network}");
            let found = imported(&file, &options()).unwrap();
            assert_eq!(found.values, raw.values(), "{key} beside {network}");
            assert_eq!(found.report.skipped.len(), raw.0.len());
            assert!(found.report.skipped[0].path.starts_with(key) && found.report.unused.is_empty());
        }
        let all = raw.clone().and(other.prefixed(&format!("{key}."))).and(ema.prefixed("ema."));
        let found = imported(&room.save(&all.dict()), &options()).unwrap();
        assert_eq!((found.report.weights, found.values), (WeightSet::Ema, ema.values()), "{key}");
        let file = room.save(&dict([("model", raw.dict()), (key, other.dict())]));
        let found = imported(&file, &options()).unwrap();
        assert_eq!((found.report.weights, found.values), (WeightSet::Raw, raw.values()), "{key}");
    }
}

#[test]
fn two_weights_of_one_name_without_what_wrappers_add_are_refused() {
    let room = Room::new();
    for (one, two) in [("", "module."), ("model.", "module.model."), ("_orig_mod.net.", "net.module.")] {
        let both = Weights::new(1).prefixed(one).and(Weights::new(2).prefixed(two));
        for file in [room.save(&both.dict()), room.write("file.safetensors", both.safetensors())] {
            let error = Foreign::open(&file).unwrap_err();
            assert_says(&error, &["without what wrappers add: save one network alone"]);
            let said = |name: &str| {
                error.to_string().contains(&format!("{one}{name} and {two}{name} are both {name} "))
            };
            assert!(parameters().iter().any(|(name, _)| said(name)), "{error}");
        }
    }
}

#[test]
fn a_file_of_averages_alone_has_no_others() {
    let (room, ema) = (Room::new(), Weights::new(2));
    for file in [dict([("ema", ema.dict())]), ema.prefixed("ema_model.").dict()] {
        let file = room.save(&file);
        let found = imported(&file, &options()).unwrap();
        assert_eq!((found.report.weights, found.values), (WeightSet::Ema, ema.values()));
        let error = imported(&file, &with(WeightSet::Raw)).unwrap_err();
        assert_says(&error, &["weights = raw", "holds one set of weights", "ema, or nothing"]);
    }
}

#[test]
fn files_without_weights_list_what_they_hold() {
    let (room, weights) = (Room::new(), Weights::new(1));
    let file = dict([
        ("epoch", Saved::Int(3)),
        ("note", Saved::Text("mine".to_owned())),
        ("inner", dict([("lr", Saved::Int(1))])),
    ]);
    let file = room.save(&file);
    let error = Foreign::open(&file).unwrap_err();
    assert_says(
        &error,
        &["file.pt: it holds no weights", "epoch (3)", "note (text \"mine\")", "inner (dict of 1, 0"],
    );
    let entries = contents(&file).unwrap().entries;
    assert_eq!(entries[0], ("epoch".to_owned(), "3".to_owned()));
    assert_eq!(entries[3], ("inner.lr".to_owned(), "1".to_owned()));
    // Weights of a network that is not known: their names and shapes.
    let unknown = room.save(&dict([("conv.weight", Saved::Tensor(vec![1, 2], vec![0.0; 2]))]));
    let foreign = Foreign::open(&unknown).unwrap();
    assert_says(&inspect(&foreign, &options()).unwrap_err(), &["no known network", "conv.weight [1, 2]"]);
    assert_eq!(contents(&unknown).unwrap().entries[0].1, "tensor [1, 2] F32");
    // Two networks under names of which none is the usual one.
    let two = weights.prefixed("student.").and(weights.prefixed("teacher.")).dict();
    assert_says(&Foreign::open(&room.save(&two)).unwrap_err(), &["2 networks", "`student.`", "`teacher.`"]);
    let usual = weights.prefixed("model.").and(Weights::new(5).prefixed("teacher.")).dict();
    assert_eq!(imported(&room.save(&usual), &options()).unwrap().values, weights.values());
}

/// Two files and their index; the second has the weights from number `at` on.
fn sharded(room: &Room, weights: &Weights, at: usize, ending: &str) -> PathBuf {
    let parts = [Weights(weights.0[..at].to_vec()), Weights(weights.0[at..].to_vec())];
    let mut map = serde_json::Map::new();
    for (number, part) in parts.iter().enumerate() {
        let name = format!("weights-0000{}-of-00002.{ending}", number + 1);
        part.0.iter().for_each(|(weight, _, _)| drop(map.insert(weight.clone(), json!(name))));
        let bytes = if ending == "bin" { save(&part.dict()) } else { part.safetensors() };
        room.write(&format!("shards/{name}"), bytes);
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    let stem = if ending == "bin" { "pytorch_model.bin" } else { "model.safetensors" };
    room.write(&format!("shards/{stem}.index.json"), index.to_string())
}

const CONFIG: &str = r#"{"model_type": "mdlm", "n_heads": 2, "model_length": 6, "vocab_size": 6}"#;

#[test]
fn checkpoints_in_several_files_are_read_by_their_index() {
    for ending in ["safetensors", "bin"] {
        let (room, weights) = (Room::new(), Weights::new(1));
        let index = sharded(&room, &weights.prefixed("backbone."), 7, ending);
        room.write("shards/config.json", CONFIG);
        let folder = index.parent().unwrap();
        for path in [folder, &index] {
            let found = imported(path, &ImportOptions::default()).unwrap();
            assert_eq!((found.values, found.report.format), (weights.values(), Format::Mdlm), "{ending}");
            assert!(is_checkpoint(path));
        }
        // One of them alone, one that is gone, a weight that is elsewhere.
        let first = folder.join(format!("weights-00001-of-00002.{ending}"));
        assert_says(&Foreign::open(&first).unwrap_err(), &["one of 2 files", "give the folder", "index"]);
        let text = fs::read_to_string(&index).unwrap();
        let moved = text.replace("00001-of", "00009-of");
        fs::write(&index, moved).unwrap();
        let error = Foreign::open(folder).unwrap_err();
        assert_says(&error, &["index.json", "weights-00009-of-00002", "is not beside it, with 7 weights"]);
        let listed = contents(&index).unwrap().entries;
        assert_eq!(listed[1], (format!("weights-00009-of-00002.{ending}"), "7 weights, missing".to_owned()));
        let elsewhere = folder.join(format!("mine.{ending}.index.json"));
        fs::write(&elsewhere, &text).unwrap();
        fs::remove_file(&index).unwrap();
        assert_eq!(imported(folder, &ImportOptions::default()).unwrap().values, weights.values());
        fs::remove_file(elsewhere).unwrap();
        assert_says(
            &Foreign::open(folder).unwrap_err(),
            &["several files of a checkpoint", "without the index"],
        );
        fs::write(&index, text.replace("backbone.blocks.0.norm1", "backbone.blocks.0.norm9")).unwrap();
        assert_says(
            &Foreign::open(folder).unwrap_err(),
            &["1 of its weights", "norm9.weight in weights-0000"],
        );
        for wrong in ["../weights", "/etc/weights", "a/b", ".."] {
            let name = format!("weights-00001-of-00002.{ending}");
            fs::write(&index, text.replace(&name, wrong)).unwrap();
            assert_says(&Foreign::open(folder).unwrap_err(), &["index.json", "no name of a file beside it"]);
        }
        for (wrong, said) in
            [("{}", "weight_map"), ("[1]", "not an index"), (r#"{"weight_map": {}}"#, "no weight")]
        {
            fs::write(&index, wrong).unwrap();
            assert_says(&Foreign::open(folder).unwrap_err(), &["index.json", said]);
        }
    }
}

#[test]
fn a_configuration_beside_a_file_counts_as_in_a_folder() {
    let (room, weights) = (Room::new(), Weights::new(1));
    let file = room.write("model/pytorch_model.bin", save(&weights.prefixed("backbone.").dict()));
    let missing = imported(&file, &ImportOptions::default()).unwrap_err();
    assert_says(
        &missing,
        &["model.heads, model.seq_len have to be given", "pytorch_model.bin does not say them"],
    );
    room.write("model/config.json", CONFIG);
    for path in [file.parent().unwrap(), &file] {
        let found = imported(path, &ImportOptions::default()).unwrap();
        assert_eq!(found.values, weights.values());
        assert!(
            found.report.settings.iter().any(|one| one.key == "model.heads" && one.origin == Origin::Config)
        );
    }
    // Of weights with a name of their own it is not known whether the configuration is theirs.
    let other = room.write("model/step-10.pt", save(&weights.dict()));
    assert!(imported(&other, &ImportOptions::default()).is_err());
    fs::remove_file(&file).unwrap();
    assert_says(
        &Foreign::open(&room.0.path().join("model")).unwrap_err(),
        &["give one of its files, step-10.pt"],
    );
}

#[test]
fn padded_vocabularies_are_cut_and_the_mask_stands_behind_the_tokens() {
    let (room, weights) = (Room::new(), Weights::new(1));
    let said = |vocab_size| ImportOptions { vocab_size: Some(vocab_size), ..options() };
    let file = room.save(&weights.padded(8).dict());
    let found = imported(&file, &said(TOKENS)).unwrap();
    assert_eq!((found.values, found.architecture.config().vocab_size()), (weights.values(), TOKENS));
    let skipped: Vec<String> =
        found.report.skipped.iter().map(|one| format!("{} {}", one.path, one.reason)).collect();
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    assert!(
        skipped.contains(&"vocab_embed.embedding, rows 6 to 7 padding of the vocabulary".to_owned()),
        "{skipped:?}"
    );
    // The averaged weights are cut likewise, and the tokenizer fits.
    let both = dict([("model", weights.padded(8).dict()), ("ema", Weights::new(2).padded(8).list())]);
    let tokenizer = ImportTokenizer::Given(Box::new(Tokenizer::numbers(TOKENS).unwrap()));
    let options = ImportOptions { tokenizer: Some(tokenizer), ..said(TOKENS) };
    assert_eq!(imported(&room.save(&both), &options).unwrap().values, Weights::new(2).values());
    // Without its size the tokenizer is one of another model.
    let unsaid = ImportOptions { vocab_size: None, ..options };
    assert_says(
        &imported(&file, &unsaid).unwrap_err(),
        &["one of 5 tokens", "one of 7 tokens", "say how many"],
    );
}

#[test]
fn a_smaller_vocabulary_needs_a_reason() {
    let (room, weights) = (Room::new(), Weights::new(1));
    let file = room.save(&weights.padded(11).dict());
    let said = ImportOptions { vocab_size: Some(TOKENS), ..options() };
    assert_says(&imported(&file, &said).unwrap_err(), &["vocab_size = 5", "10, as the shapes"]);
    // A configuration is one, and tables of a multiple of 8 rows; without the flag they ask for it.
    for rows in [11, 16] {
        let file = room.write("model/pytorch_model.bin", save(&weights.padded(rows).dict()));
        room.write("model/config.json", CONFIG);
        assert_eq!(imported(&file, &said).unwrap().values, weights.values(), "{rows}");
    }
    let file = room.0.path().join("model");
    let error = imported(&file, &options()).unwrap_err();
    assert_says(&error, &["vocab_size has to be given", "16 rows", "names 6 tokens: 5 without the mask"]);
    let inspection = inspect(&Foreign::open(&file).unwrap(), &options()).unwrap();
    assert_eq!(inspection.needed, ["vocab_size"]);
    let other = ImportOptions { vocab_size: Some(4), ..options() };
    assert_says(
        &imported(&file, &other).unwrap_err(),
        &["vocab_size = 4", "5 or 6", "15, all of the 16 rows"],
    );
    // One row more than the configuration names is the mask's, not padding.
    let plain = room.write("plain/pytorch_model.bin", save(&weights.dict()));
    room.write("plain/config.json", CONFIG.replace("\"vocab_size\": 6", "\"vocab_size\": 5"));
    assert_says(&imported(&plain, &other).unwrap_err(), &["vocab_size = 4", "5, as the shapes"]);
    for (wrong, said) in [(16, "vocab_size = 16"), (0, "vocab_size = 0"), (usize::MAX, "vocab_size = ")] {
        let options = ImportOptions { vocab_size: Some(wrong), ..options() };
        assert_says(&imported(&file, &options).unwrap_err(), &[said]);
    }
}

#[test]
fn pointers_of_git_lfs_are_named_as_such() {
    let room = Room::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n";
    for name in ["a.safetensors", "a.ckpt", "a.bin", "model.safetensors.index.json"] {
        let path = room.write(name, pointer);
        assert_says(
            &Foreign::open(&path).unwrap_err(),
            &[name, "pointer of Git LFS", "123456 bytes", "git lfs pull"],
        );
        assert!(contents(&path).unwrap().what.contains("pointer of Git LFS"));
    }
    room.write("b/model.safetensors", Weights::new(1).safetensors());
    room.write("b/config.json", pointer);
    assert_says(&Foreign::open(&room.0.path().join("b")).unwrap_err(), &["config.json", "git lfs pull"]);
}
