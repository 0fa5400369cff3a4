//! Images and points: train, resume, evaluate, sample, fill in, measure, and what is refused.

use std::path::Path;

use serde_json::Value;

use super::Room;
use super::rounds::{json, stdout};

/// Settings of a run on 8×8 emoji that takes a moment.
const TINY: &[&str] = &[
    "data.height=8",
    "data.width=8",
    "train.batch_size=2",
    "train.log_every=1",
    "train.validate_every=2",
    "train.validate_sequences=2",
    "train.validate_samples=0",
    "train.checkpoint_every=1",
    "train.final_sequences=3",
    "train.final_draws=1",
    "train.final_samples=2",
    "sample.steps=4",
];

fn train(room: &Room, more: &[&str]) -> String {
    room.call(&[&["train", "--preset", "emoji"], more, &["--set"], TINY].concat())
}

/// A run of two steps in `run`.
fn trained() -> Room {
    let room = Room::new();
    let said = train(&room, &["--out", "run", "--steps", "2"]);
    assert!(stdout(&said).contains("bits per dimension  (upper bound"), "{said}");
    assert!(room.path().join("run/samples/step-2.png").is_file());
    room
}

/// Weights and optimiser of the newest checkpoint.
fn state(run: &Path, step: u64) -> Vec<Vec<u8>> {
    let folder = run.join(format!("checkpoints/step-{step}"));
    ["raw", "model", "optimizer_first", "optimizer_second"]
        .map(|name| std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap())
        .to_vec()
}

#[test]
fn vectors_of_any_length_give_the_same_weights_and_pixels() {
    compare_vectors(TINY);
    // Planes and batches that are large enough for Winograd's convolutions.
    let larger: Vec<&str> = TINY
        .iter()
        .map(|setting| match *setting {
            "data.height=8" => "data.height=16",
            "data.width=8" => "data.width=16",
            "train.batch_size=2" => "train.batch_size=4",
            other => other,
        })
        .collect();
    compare_vectors(&larger);
}

fn compare_vectors(settings: &[&str]) {
    let results = [None, Some("256"), Some("128")].map(|bits| {
        let room = Room::new();
        let variables = bits.map(|bits| ("SUBMASK_VECTOR_BITS", bits));
        let call = |arguments: &[&str]| room.call_in(arguments, b"", variables.as_slice());
        let preset = ["train", "--preset", "emoji", "--out", "run", "--steps", "4", "--set"];
        stdout(&call(&[&preset[..], settings].concat()));
        let evaluated = stdout(&call(&["eval", "run", "--draws", "2", "--json"])).to_owned();
        let picture = std::fs::read(room.path().join("run/samples/step-4.png")).unwrap();
        (state(&room.path().join("run"), 4), picture, evaluated)
    });
    assert!(results.iter().all(|(weights, picture, _)| (weights, picture) == (&results[0].0, &results[0].1)));
    assert!(results.iter().all(|(_, _, evaluated)| *evaluated == results[0].2), "{}", results[0].2);
}

#[test]
fn a_resumed_run_on_images_has_the_same_weights() {
    let room = trained();
    stdout(&train(&room, &["--out", "straight", "--steps", "4", "--threads", "1"]));
    stdout(&room.call(&["train", "--out", "run", "--resume", "--steps", "4"]));
    assert!(state(&room.path().join("run"), 4) == state(&room.path().join("straight"), 4));
    // A run that is done is evaluated again, and recorded once.
    stdout(&room.call(&["train", "--out", "run", "--resume"]));
    let metrics = std::fs::read_to_string(room.path().join("run/metrics.jsonl")).unwrap();
    let last = metrics.lines().filter(|line| line.starts_with("{\"kind\":\"validation\",\"step\":4"));
    assert_eq!(last.count(), 1, "{metrics}");
    let refused =
        room.call(&["train", "--out", "run", "--resume", "--steps", "5", "--set", "data.flips=false"]);
    assert!(
        refused.starts_with("exit code: 2\n")
            && refused.contains("data cannot be changed when a run is resumed"),
        "{refused}"
    );
}

#[test]
fn samples_and_figures_of_images_depend_neither_on_the_batch_nor_on_the_threads() {
    let room = trained();
    let calls: [&[&str]; 3] = [
        &["eval", "run", "--json"],
        &["sample", "run", "--num", "5", "--json"],
        &[
            "sample",
            "run",
            "--num",
            "3",
            "--json",
            "--draw",
            "marginal",
            "--corrector",
            "4,1,0",
            "--warp",
            "1,1.5,0",
        ],
    ];
    for call in calls {
        // Progress on standard error depends on the time it takes.
        let with = |batch, threads| {
            stdout(&room.call(&[call, &["--batch", batch, "--threads", threads]].concat())).to_owned()
        };
        assert_eq!(with("4", "2"), with("1", "1"), "{call:?}");
    }
}

#[test]
fn what_is_given_stays_and_what_is_white_in_the_mask_is_drawn() {
    let room = trained();
    let tokens = |arguments: &[&str]| -> Vec<u64> {
        let said = json(&room.call(&[&["sample", "run", "--json"], arguments].concat()));
        said["samples"][0].as_array().unwrap().iter().map(|token| token.as_u64().unwrap()).collect()
    };
    // A picture of 8×8 pixels, its left half dark.
    let left = |at: usize| at % 8 < 4;
    let picture = |name: &str, bytes: Vec<u8>| {
        image::save_buffer(room.path().join(name), &bytes, 8, 8, image::ExtendedColorType::Rgb8).unwrap();
    };
    picture("given.png", (0..64).flat_map(|at| [at as u8, 2 * at as u8, 200]).collect());
    picture("mask.png", (0..64).flat_map(|at| [if left(at) { 0 } else { 255 }; 3]).collect());
    let original = |token: usize| [token % 64, 2 * (token % 64), 200][token / 64] as u64;

    let filled = tokens(&["--given", "given.png", "--mask", "mask.png"]);
    assert!((0..192).filter(|token| left(token % 64)).all(|token| filled[token] == original(token)));
    assert!((0..192).any(|token| filled[token] != original(token)));
    let coarse = tokens(&["--given", "given.png", "--keep-digits", "1", "--corrector", "6,1,0"]);
    assert!((0..192).all(|token| coarse[token] / 16 == original(token) / 16));
    let blue = tokens(&["--given", "given.png", "--keep-channels", "2"]);
    assert!(blue[128..].iter().all(|token| *token == 200));

    picture("small.png", vec![0; 192]);
    let mask = image::RgbImage::new(9, 8);
    mask.save(room.path().join("wrong.png")).unwrap();
    let refused = room.call(&["sample", "run", "--given", "given.png", "--mask", "wrong.png"]);
    assert!(refused.contains("--mask wrong.png: 8×9 pixels") && refused.contains("8×8"), "{refused}");
    for (flags, message) in [
        (&["--given", "given.png"][..], "--given keeps nothing yet"),
        (&["--given", "given.png", "--keep-digits", "3"], "a token of this model has 2 digits"),
        (&["--given", "given.png", "--keep-channels", "3"], "--keep-channels 3"),
        (&["--label", "dog"], "does not read classes"),
        (&["--sampler", "cifar10"], "--sampler cifar10: there is no such published sampler"),
        (&["--top-p", "2"], "--top-p = 2 is not allowed"),
        (&["--prompt", "a"], "--prompt has a meaning for text only"),
        (&["--temperature", "-1,1,0"], "temperature"),
    ] {
        let said = room.call(&[&["sample", "run"], flags].concat());
        assert!(said.starts_with("exit code: 2\n") && said.contains(message), "{flags:?}: {said}");
    }
}

#[test]
fn samples_are_measured_under_the_name_of_their_features() {
    let room = trained();
    let call =
        ["metrics", "run", "--num", "4", "--sequences", "8", "--save-statistics", "real.npz", "--json"];
    let said = json(&room.call(&call));
    assert_eq!((said["generated"].as_u64(), said["real"].as_u64()), (Some(4), Some(8)));
    let distance = said["metrics"]["frechet_pixels"].as_f64().unwrap();
    assert!(distance > 0.0 && said["metrics"].get("fid").is_none());
    let again = json(&room.call(&["metrics", "run", "--num", "4", "--statistics", "real.npz", "--json"]));
    let same = again["metrics"]["frechet_pixels"].as_f64().unwrap();
    assert!((same / distance - 1.0).abs() < 1e-6, "{same} {distance}");
}

#[test]
fn classes_are_learnt_and_drawn_by_name_or_number() {
    let room = Room::new();
    let more = ["--out", "run", "--steps", "1", "--set", "model.class_conditional=true"];
    stdout(&train(&room, &more));
    let sample = |label| json(&room.call(&["sample", "run", "--label", label, "--json"]))["samples"].clone();
    assert_eq!(sample("food and drink"), sample("3"));
    sample("mixture");
    for order in ["random", "confidence"] {
        let greedy = ["--label", "mixture", "--temperature", "0", "--order", order, "--json"];
        let picture = json(&room.call(&[&["sample", "run"][..], &greedy].concat()));
        assert_eq!(picture["samples"].as_array().map(Vec::len), sample("mixture").as_array().map(Vec::len));
    }
    let said = room.call(&["sample", "run", "--label", "dogs"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("food and drink"), "{said}");
    let figures = json(&room.call(&["eval", "run", "--sequences", "12", "--json"]));
    assert_eq!(
        (figures["sequences"].as_u64(), figures["conditional_on_class"].as_bool()),
        (Some(12), Some(true))
    );
    // Without a class: equally many of every one, so the first of ten is of class 0.
    let all = json(&room.call(&["sample", "run", "--num", "10", "--json"]))["samples"].clone();
    assert_eq!((all.as_array().unwrap().len(), &all[0]), (10, &sample("0")[0]));
    // Pictures of other classes are none of the model's.
    std::fs::create_dir_all(room.path().join("other/dogs")).unwrap();
    image::RgbImage::new(8, 8).save(room.path().join("other/dogs/a.png")).unwrap();
    let said = room.call(&["eval", "run", "--data", "other", "--images", "pictures"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("labels = dogs is not allowed"), "{said}");
    // Scores are of texts.
    let said = room.call(&["score", "run", "--text", "dogs"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("run is a model of images"), "{said}");
    let said = room.call(&["eval", "run", "--by-document"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("has a meaning for text only"), "{said}");
}

/// Another picture in the folder would hold out others, of which the run was trained on some.
#[test]
fn a_run_whose_images_were_changed_is_refused() {
    let room = Room::new();
    std::fs::create_dir_all(room.path().join("photos")).unwrap();
    let picture = |name: &str, grey: u8| {
        let path = room.path().join("photos").join(name);
        image::RgbImage::from_pixel(8, 8, image::Rgb([grey; 3])).save(path).unwrap();
    };
    (0..20).for_each(|i| picture(&format!("{i:02}.png"), i));
    let more = ["--data", "photos", "--out", "run", "--steps", "1", "--set", "data.set=pictures"];
    stdout(&train(&room, &more));
    stdout(&room.call(&["eval", "run"]));
    picture("20.png", 20);
    for call in [&["train", "--out", "run", "--resume", "--steps", "2"][..], &["eval", "run"]] {
        let said = room.call(call);
        assert!(said.starts_with("exit code: 1\n") && said.contains("run/images.json"), "{said}");
        assert!(said.contains("begun on other images: 18 to train on"), "{said}");
    }
    std::fs::remove_file(room.path().join("photos/20.png")).unwrap();
    stdout(&room.call(&["train", "--out", "run", "--resume", "--steps", "2"]));
}

/// A picture of 8×8 grey pixels, with the folders above it.
fn grey(room: &Room, name: &str, value: u8) {
    let path = room.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(8, 8, image::Rgb([value; 3])).save(path).unwrap();
}

#[test]
fn folders_of_parts_are_held_out_and_told() {
    let room = Room::new();
    for (i, part) in ["train", "train", "train", "val"].into_iter().enumerate() {
        grey(&room, &format!("photos/{part}/cat/{i}.png"), 10 + i as u8);
        grey(&room, &format!("photos/{part}/dog/{i}.gif"), 100 + i as u8);
    }
    room.write("photos/train/cat/notes.txt", "x");
    room.write("photos/train/dog/more.txt", "x");
    let more = ["--data", "photos", "--steps", "1", "--set", "data.set=pictures", "data.labelled=true"];
    let said = train(&room, &[&["--out", "run"], &more[..]].concat());
    stdout(&said);
    for line in [
        "data  6 images (cat 3, dog 3) to train on\n",
        "data  2 images (cat 1, dog 1) held out (as the files themselves say)\n",
        "data  left out: 2 files of kinds that are not read, the first photos/train/cat/notes.txt\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let count =
        |call: &[&str]| json(&room.call(&[&["eval", "run", "--json"], call].concat()))["sequences"].clone();
    assert_eq!((count(&[]), count(&["--data", "photos"])), (2.into(), 2.into()));
    assert_eq!(
        (count(&["--data", "photos", "--part", "train"]), count(&["--data", "photos/train"])),
        (6.into(), 6.into())
    );
    let said = room.call(&["eval", "run", "--data", "photos", "--part", "test"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("photos has no such part"), "{said}");
    // A folder called val is a class where it is asked for.
    let plain =
        [&["--out", "plain"], &more[..], &["data.official_split=false", "data.valid_fraction=0.25"]].concat();
    let said = train(&room, &plain);
    assert!(said.contains("held out (a share of the images)") && said.contains("val "), "{said}");
    // A class that only held-out pictures have cannot be learnt.
    grey(&room, "photos/val/cow/1.png", 5);
    let said = train(&room, &[&["--out", "cow"], &more[..]].concat());
    assert!(said.starts_with("exit code: 1\n") && said.contains("the class cow"), "{said}");
    assert!(!room.path().join("cow").exists());
}

/// A run of an earlier version, whose settings do not name the keys that came later, goes on with its own images.
#[test]
fn an_earlier_run_keeps_its_images() {
    let room = Room::new();
    (0..8).for_each(|i| grey(&room, &format!("photos/{}/{i}.png", ["train", "val"][i % 2]), i as u8));
    grey(&room, "photos/train/8.gif", 8);
    let earlier = "data.formats=['png','jpeg','webp','bmp']";
    let more = ["--data", "photos", "--out", "run", "--steps", "1", "--set", "data.set=pictures"];
    let said = train(
        &room,
        &[&more[..], &["data.official_split=false", "data.valid_fraction=0.25", earlier]].concat(),
    );
    assert!(said.contains("6 images without classes to train on"), "{said}");
    let path = room.path().join("run/settings.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    let later = ["official_split", "formats", "sixteen_bits", "image_field", "label_field", "coarse_labels"];
    let is_earlier = |line: &&str| !later.iter().any(|key| line.starts_with(&format!("{key} = ")));
    let without: String = settings.lines().filter(is_earlier).map(|line| format!("{line}\n")).collect();
    assert_eq!(settings.lines().count() - without.lines().count(), later.len(), "{settings}");
    std::fs::write(path, without).unwrap();
    stdout(&room.call(&["train", "--out", "run", "--resume", "--steps", "2"]));
    assert_eq!(json(&room.call(&["eval", "run", "--json"]))["sequences"], 2);
}

#[test]
fn pictures_that_are_not_whole_or_would_be_rounded_are_refused_by_name() {
    let room = Room::new();
    (0..4).for_each(|i| grey(&room, &format!("photos/{i}.png"), i));
    let more = [
        "--data",
        "photos",
        "--out",
        "run",
        "--steps",
        "1",
        "--set",
        "data.set=pictures",
        "data.valid_fraction=0.5",
    ];
    for name in ["photos/q.jpg", "photos/q.gif", "photos/q.tif", "photos/q.webp", "photos/q.bmp"] {
        grey(&room, name, 9);
        let whole = std::fs::read(room.path().join(name)).unwrap();
        std::fs::write(room.path().join(name), &whole[..whole.len() - whole.len() / 3]).unwrap();
        let said = train(&room, &more);
        assert!(
            said.starts_with("exit code: 1\n") && said.contains(&format!("{name}: not a whole ")),
            "{said}"
        );
        assert!(!room.path().join("run").exists());
        std::fs::remove_file(room.path().join(name)).unwrap();
    }
    let deep = image::ImageBuffer::from_pixel(8, 8, image::Rgb([256u16, 0, 65535]));
    deep.save(room.path().join("photos/q.png")).unwrap();
    let said = train(&room, &more);
    assert!(
        said.starts_with("exit code: 1\n") && said.contains("photos/q.png: it has 16 bits per channel"),
        "{said}"
    );
    assert!(said.contains("data.sixteen_bits") && !room.path().join("run").exists(), "{said}");
    stdout(&train(&room, &[&more[..], &["data.sixteen_bits=round"]].concat()));
    let said = room.call(&["train", "--preset", "emoji", "--set", "data.sixteen_bits=round"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("it is read by pictures only"), "{said}");
}

/// A pickled batch of grey images of CIFAR-10 with these labels.
fn pickled_batch(labels: &[u8]) -> Vec<u8> {
    let pixels: Vec<u8> = labels.iter().flat_map(|label| [20 * label; 3072]).collect();
    let list: Vec<u8> = labels.iter().flat_map(|label| [b'K', *label]).collect();
    let kind =
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb";
    [
        &b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"[..],
        &[b'K', labels.len() as u8],
        b"M\x00\x0c\x86",
        kind,
        b"\x89T",
        &(pixels.len() as u32).to_le_bytes(),
        &pixels,
        b"tbU\x06labels](",
        &list,
        b"eu.",
    ]
    .concat()
}

#[test]
fn cifar_is_read_as_python_has_it() {
    let room = Room::new();
    std::fs::create_dir(room.path().join("cifar")).unwrap();
    std::fs::write(room.path().join("cifar/data_batch_1"), pickled_batch(&[3, 5, 3, 9])).unwrap();
    std::fs::write(room.path().join("cifar/test_batch"), pickled_batch(&[1])).unwrap();
    let more = [
        "--data",
        "cifar",
        "--out",
        "run",
        "--steps",
        "1",
        "--set",
        "data.set=cifar10",
        "data.valid_fraction=0.25",
        "model.channel_mult=[2]",
        "model.attention_resolutions=[1]",
        "train.final_samples=0",
    ];
    let settings: Vec<&str> = TINY
        .iter()
        .copied()
        .filter(|set| !set.starts_with("data.") && !set.contains("final_samples"))
        .collect();
    let said = room.call(&[&["train", "--preset", "emoji"], &more[..], &settings].concat());
    stdout(&said);
    assert!(said.contains("data  cifar/test_batch holds test images, which are not trained on\n"), "{said}");
    assert!(said.contains("data  3 images (airplane 0, ") && said.contains("data  1 image ("), "{said}");
    let count = |part| {
        json(&room.call(&["eval", "run", "--data", "cifar", "--part", part, "--draws", "1", "--json"]))["sequences"].clone()
    };
    assert_eq!((count("train"), count("test")), (4.into(), 1.into()));
}

#[test]
fn what_a_set_of_images_does_not_read_is_refused() {
    let room = Room::new();
    room.write("photos/a.png", "");
    for (arguments, message) in [
        (&["--data", "photos"][..], "data.paths = photos is not allowed"),
        (&["--set", "data.labels=photos/a.png"], "data.labels = photos/a.png"),
        (&["--set", "data.labelled=true"], "data.labelled = true"),
        (&["--set", "data.background=white"], "data.background = white is not allowed: none"),
        (&["--set", "data.height=30", "data.width=30"], "data.height = 30"),
        (&["--set", "model.head_channels=7"], "model.head_channels = 7"),
        (&["--set", "model.dropout=1.5"], "model.dropout = 1.5"),
        (&["--set", "model.super_tokens=true", "model.subtokens=0"], "codes.subtokens = 0"),
    ] {
        let said = room.call(&[&["train", "--preset", "emoji", "--out", "run"], arguments].concat());
        assert!(said.starts_with("exit code: 2\n") && said.contains(message), "{arguments:?}: {said}");
        assert!(!room.path().join("run").exists());
    }
    let cells = ["train", "--preset", "toy", "--image", "photos/a.png", "--set", "data.cells=100000"];
    let said = room.call(&cells);
    assert!(said.starts_with("exit code: 2\n") && said.contains("data.cells = 100000"), "{said}");
}

#[test]
fn points_of_a_picture_are_learnt_and_never_below_its_entropy() {
    let room = Room::new();
    // Two dark cells of sixteen: the entropy is log 2.
    let grey = |at: usize| if at == 5 || at == 10 { 0 } else { 255 };
    let bytes: Vec<u8> = (0..16).map(grey).collect();
    image::save_buffer(room.path().join("two.png"), &bytes, 4, 4, image::ExtendedColorType::L8).unwrap();
    let settings = [
        "data.cells=4",
        "model.hidden=32",
        "train.batch_size=64",
        "train.warmup_steps=10",
        "train.final_samples=100",
    ];
    let call = ["train", "--preset", "toy", "--image", "two.png", "--out", "run", "--steps", "300", "--set"];
    stdout(&room.call(&[&call[..], &settings].concat()));
    assert!(room.path().join("run/samples/step-300.png").is_file());
    let value = |estimator| -> (f64, f64) {
        let call = ["eval", "run", "--estimator", estimator, "--draws", "16", "--json"];
        let figures = json(&room.call(&call))["figures"].clone();
        let last = figures.as_array().unwrap().last().unwrap().clone();
        (last["value"].as_f64().unwrap(), last["standard_error"].as_f64().unwrap())
    };
    let (bound, error) = value("nelbo-subtoken");
    let entropy = 2f64.ln();
    println!("bound {bound:.4} ± {error:.4}, entropy {entropy:.4} nats");
    assert!(bound > entropy - 3.0 * error && bound < entropy + 0.1);
    let sample = json(&room.call(&["sample", "run", "--num", "40", "--json"]));
    let points: Vec<&Value> = sample["samples"].as_array().unwrap().iter().collect();
    let dark = points.iter().filter(|point| point[0] == point[1] && (point[0] == 1 || point[0] == 2)).count();
    assert!(dark >= 36, "{dark} of 40 points are dark");
    let refused = room.call(&["train", "--preset", "toy"]);
    assert!(refused.starts_with("exit code: 2\n") && refused.contains("--image FILE"), "{refused}");
}

#[test]
fn published_sampler_settings_are_listed_everywhere_help_is() {
    let listed = super::submask(&["samplers"]);
    assert_eq!(super::submask(&["presets"]), listed, "as earlier versions called it");
    assert!(listed.contains("cifar10-prime-l2-nfe512") && listed.contains("3.26"), "{listed}");
    assert_eq!(super::submask(&["sample", "--help", "samplers"]), listed);
    assert_eq!(super::submask(&["help", "samplers"]), listed);
}
