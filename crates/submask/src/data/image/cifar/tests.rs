use std::fs;

use super::*;

fn record(label: u8) -> Vec<u8> {
    let pixels = (0..3072).map(|i| (i % 251) as u8 ^ label);
    std::iter::once(label).chain(pixels).collect()
}

fn opened(paths: &[&Path], cifar: Cifar, part: Part) -> Result<Option<Images>> {
    open(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>(), cifar, part)
}

fn read(paths: &[&Path]) -> Result<Vec<Image>> {
    opened(paths, Cifar::Ten, Part::Train)?.unwrap().collect()
}

fn labels(images: Images) -> Vec<u32> {
    images.map(|image| image.unwrap().label.unwrap()).collect()
}

/// A text of Python 2, a byte string of protocol 2 of Python 3, or a byte string of later protocols.
#[derive(Clone, Copy)]
enum Python {
    Two,
    Encoded,
    Bytes,
}

impl Python {
    fn text(self, text: &str) -> Vec<u8> {
        let short = |code: u8| [&[code, text.len() as u8], text.as_bytes()].concat();
        match self {
            Self::Two => short(b'U'),
            Self::Bytes => short(b'C'),
            Self::Encoded => self.encoded(text),
        }
    }

    fn encoded(self, text: &str) -> Vec<u8> {
        let long = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
        [&b"c_codecs\nencode\n"[..], &long(text), &long("latin1"), b"\x86R"].concat()
    }

    fn bytes(self, bytes: &[u8]) -> Vec<u8> {
        let long = |code: u8| [&[code], &(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
        match self {
            Self::Two => long(b'T'),
            Self::Bytes => long(b'B'),
            Self::Encoded => self.encoded(&bytes.iter().map(|byte| *byte as char).collect::<String>()),
        }
    }

    /// A number of NumPy's type.
    fn data_type(self, kind: &str) -> Vec<u8> {
        let order = if kind.ends_with('1') { "|" } else { "<" };
        let state =
            [&b"(K\x03"[..], &self.text(order), b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"].concat();
        [&b"cnumpy\ndtype\n"[..], &self.text(kind), b"K\x00K\x01\x87R", &state].concat()
    }

    /// An array, made empty and then given its state.
    fn array(self, kind: &str, shape: &[u16], elements: &[u8]) -> Vec<u8> {
        let mut sizes = b"(".to_vec();
        shape.iter().for_each(|size| sizes.extend([&b"M"[..], &size.to_le_bytes()].concat()));
        sizes.push(b't');
        let empty = [
            &b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"[..],
            &self.text("b"),
            b"\x87R",
        ];
        [&empty.concat()[..], b"(K\x01", &sizes, &self.data_type(kind), b"\x89", &self.bytes(elements), b"tb"]
            .concat()
    }

    /// The same by `_frombuffer`, as protocol 5 has it.
    fn buffer(self, kind: &str, shape: &[u16], elements: &[u8]) -> Vec<u8> {
        let mut sizes = b"(".to_vec();
        shape.iter().for_each(|size| sizes.extend([&b"M"[..], &size.to_le_bytes()].concat()));
        let content = [b"\x96", &(elements.len() as u64).to_le_bytes()[..], elements].concat();
        let function = &b"cnumpy._core.numeric\n_frombuffer\n("[..];
        [function, &content, &self.data_type(kind), &sizes, b"tX\x01\0\0\0CtR"].concat()
    }

    fn dict(self, entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut pickle = b"\x80\x02}(".to_vec();
        entries.iter().for_each(|(key, value)| pickle.extend([self.text(key), value.clone()].concat()));
        [&pickle[..], b"u."].concat()
    }
}

fn list(labels: &[u8]) -> Vec<u8> {
    let numbers: Vec<u8> = labels.iter().flat_map(|label| [b'K', *label]).collect();
    [&b"](".to_vec()[..], &numbers, b"e"].concat()
}

fn pixels(labels: &[u8]) -> Vec<u8> {
    labels.iter().flat_map(|label| record(*label)[1..].to_vec()).collect()
}

/// A batch of images with these labels.
fn batch(python: Python, labels: &[u8]) -> Vec<u8> {
    let data = python.array("u1", &[labels.len() as u16, 3072], &pixels(labels));
    python.dict(&[("batch_label", python.text("one of five")), ("labels", list(labels)), ("data", data)])
}

/// A tar archive of these files, in a folder.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("batches/{name}"), *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_folder_gives_its_training_files_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, labels: &[u8]| {
        let bytes: Vec<u8> = labels.iter().flat_map(|label| record(*label)).collect();
        fs::write(folder.path().join(name), bytes).unwrap();
    };
    write("data_batch_2.bin", &[9]);
    write("data_batch_1.bin", &[3, 0]);
    write("test_batch.bin", &[7]);
    fs::write(folder.path().join("readme.html"), "x").unwrap();
    fs::write(folder.path().join("other.txt"), "x").unwrap();
    let images = read(&[folder.path(), &folder.path().join("test_batch.bin")]).unwrap();
    let found: Vec<_> = images.iter().map(|image| image.label.unwrap()).collect();
    assert_eq!(found, [3, 0, 9, 7]);
    assert!(images.iter().all(|image| image.pixels == record(image.label.unwrap() as u8)[1..]));
    let images = opened(&[folder.path()], Cifar::Ten, Part::Train).unwrap().unwrap();
    assert_eq!(
        (images.left_out().files, images.left_out().first.clone()),
        (1, Some(folder.path().join("other.txt")))
    );
    assert!(images.left_out().notes[0].contains("test_batch.bin holds test images"));
    assert_eq!(labels(opened(&[folder.path()], Cifar::Ten, Part::Test).unwrap().unwrap()), [7]);
    assert!(opened(&[folder.path()], Cifar::Ten, Part::Valid).unwrap().is_none());
}

#[test]
fn bad_files_are_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    let problem = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = read(&[&path]).unwrap_err().to_string();
        assert!(error.contains("a.bin"), "{error}");
        error
    };
    assert!(problem(&record(1)[1..]).contains("3072 bytes are no whole number"));
    assert!(problem(&[]).contains("0 bytes"));
    assert!(problem(&[record(1), record(10)].concat()).contains("record 1 (counted from 0) has label 10"));
    assert!(read(&[folder.path()]).unwrap_err().to_string().contains("no file data_batch_*.bin"));
    assert!(matches!(read(&[Path::new("no/such.bin")]), Err(Error::Io { .. })));
}

#[test]
fn the_python_version_holds_the_same_in_every_version_of_python() {
    let folder = tempfile::tempdir().unwrap();
    let expected: Vec<Image> = [4u8, 9]
        .iter()
        .map(|label| Image { pixels: record(*label)[1..].to_vec(), label: Some(u32::from(*label)) })
        .collect();
    for python in [Python::Two, Python::Encoded, Python::Bytes] {
        fs::write(folder.path().join("data_batch_1"), batch(python, &[4, 9])).unwrap();
        fs::write(folder.path().join("test_batch"), batch(python, &[1])).unwrap();
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|name| python.text(name)).concat();
        let meta = python.dict(&[("label_names", [&b"("[..], &names, b"l"].concat())]);
        fs::write(folder.path().join("batches.meta"), meta).unwrap();
        let images = opened(&[folder.path()], Cifar::Ten, Part::Train).unwrap().unwrap();
        assert_eq!((images.class_names()[9].as_str(), images.left_out().files), ("j", 0));
        assert_eq!(images.collect::<Result<Vec<_>>>().unwrap(), expected);
        assert_eq!(labels(opened(&[folder.path()], Cifar::Ten, Part::Test).unwrap().unwrap()), [1]);
    }
    // As many names as there are labels, or none of them.
    let few = Python::Bytes.dict(&[("label_names", [&b"("[..], &Python::Bytes.text("a"), b"l"].concat())]);
    fs::write(folder.path().join("batches.meta"), few).unwrap();
    let images = opened(&[folder.path()], Cifar::Ten, Part::Train).unwrap().unwrap();
    assert_eq!(images.class_names(), TEN);
    assert!(
        images.left_out().notes[0].contains("batches.meta has 1 label_names, not 10"),
        "{:?}",
        images.left_out()
    );
    // The folder that holds it is as good.
    let above = tempfile::tempdir().unwrap();
    fs::create_dir(above.path().join("cifar-10-batches-py")).unwrap();
    fs::write(above.path().join("cifar-10-batches-py/data_batch_1"), batch(Python::Two, &[5])).unwrap();
    assert_eq!(read(&[above.path()]).unwrap()[0].label, Some(5));
    // So is one that holds the archive, and nothing is read twice.
    let published = gzip(&tar(&[("data_batch_1", &batch(Python::Two, &[6]))]));
    fs::write(above.path().join("cifar-10-python.tar.gz"), published).unwrap();
    fs::write(above.path().join("notes.txt"), "x").unwrap();
    let images = opened(&[above.path()], Cifar::Ten, Part::Train).unwrap().unwrap();
    let left_out = images.left_out().clone();
    assert_eq!((labels(images), left_out.files), (vec![5], 1));
    assert!(left_out.notes[0].contains("cifar-10-python.tar.gz is not read"), "{left_out:?}");
    fs::remove_dir_all(above.path().join("cifar-10-batches-py")).unwrap();
    assert_eq!(read(&[above.path()]).unwrap()[0].label, Some(6));
}

#[test]
fn labels_may_be_arrays_and_arrays_may_be_buffers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch");
    let python = Python::Bytes;
    let wide: Vec<u8> = [3i64, 8].iter().flat_map(|label| label.to_le_bytes()).collect();
    let scalars = [3u8, 8].map(|label| {
        let number = python.bytes(&i64::from(label).to_le_bytes());
        [&b"cnumpy.core.multiarray\nscalar\n"[..], &python.data_type("i8"), &number, b"\x86R"].concat()
    });
    let scalars = [&b"("[..], &scalars.concat(), b"l"].concat();
    let data =
        [python.array("u1", &[2, 3072], &pixels(&[3, 8])), python.buffer("u1", &[2, 3072], &pixels(&[3, 8]))];
    for data in data {
        for labels in [
            python.array("i8", &[2], &wide),
            python.buffer("i8", &[2], &wide),
            scalars.clone(),
            list(&[3, 8]),
        ] {
            fs::write(&path, python.dict(&[("data", data.clone()), ("labels", labels)])).unwrap();
            let images = read(&[&path]).unwrap();
            assert_eq!(images[1], Image { pixels: record(8)[1..].to_vec(), label: Some(8) });
        }
    }
}

#[test]
fn bad_batches_are_refused_with_file_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch");
    let python = Python::Two;
    let problem = |entries: &[(&str, Vec<u8>)], expected: &str| {
        fs::write(&path, python.dict(entries)).unwrap();
        let error = read(&[&path]).unwrap_err().to_string();
        assert!(error.contains("batch: ") && error.contains(expected), "{error}");
    };
    let data = python.array("u1", &[1, 3072], &pixels(&[1]));
    problem(&[("data", data.clone())], "no \"labels\" in it; it has data");
    problem(&[("labels", list(&[1]))], "no \"data\" in it; it has labels");
    problem(
        &[("data", data.clone()), ("labels", list(&[1, 2]))],
        "\"labels\" has 2 values, not one for each of 1",
    );
    problem(
        &[("data", data.clone()), ("labels", list(&[10]))],
        "\"labels\" has 10 at 0 (counted from 0), not 0 to 9",
    );
    problem(
        &[("data", data.clone()), ("labels", python.text("1"))],
        "its \"labels\" are not a list of integers",
    );
    let floats = python.array("f4", &[1, 3072], &vec![0; 4 * 3072]);
    problem(&[("data", floats), ("labels", list(&[1]))], "\"data\" has elements f4, not |u1");
    let short = python.array("u1", &[1, 3072], &pixels(&[1])[1..]);
    problem(&[("data", short), ("labels", list(&[1]))], "\"data\" has shape [1, 3072], but 3071 bytes");
    let narrow = python.array("u1", &[3, 1024], &pixels(&[1]));
    problem(&[("data", narrow), ("labels", list(&[1]))], "\"data\" has shape [3, 1024], not [N, 3072]");
    let whole = batch(python, &[1, 2]);
    for length in (1..whole.len()).step_by(97) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(read(&[&path]).unwrap_err().to_string().contains("batch: "));
    }
}

#[test]
fn archives_are_read_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let binary: Vec<u8> = [record(2), record(3)].concat();
    let versions: [Vec<(&str, Vec<u8>)>; 2] = [
        vec![
            ("test_batch", batch(Python::Two, &[1])),
            ("data_batch_2", batch(Python::Encoded, &[7])),
            ("notes.txt", b"x".to_vec()),
            ("data_batch_1", batch(Python::Two, &[2, 3])),
        ],
        vec![
            ("data_batch_2.bin", record(7)),
            ("test_batch.bin", record(1)),
            ("data_batch_1.bin", binary),
            ("notes.txt", b"x".to_vec()),
        ],
    ];
    for files in versions {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let plain = tar(&files);
        let packed = gzip(&plain);
        for bytes in [&plain, &packed] {
            let path = folder.path().join("cifar.tar");
            fs::write(&path, bytes).unwrap();
            let images = opened(&[&path], Cifar::Ten, Part::Train).unwrap().unwrap();
            let left_out = images.left_out().clone();
            assert_eq!((left_out.files, left_out.first), (1, Some(path.join("batches/notes.txt"))));
            assert_eq!(labels(images), [2, 3, 7]);
            assert_eq!(labels(opened(&[&path], Cifar::Ten, Part::Test).unwrap().unwrap()), [1]);
        }
        let path = folder.path().join("cut.tar.gz");
        for length in (2..packed.len()).step_by(packed.len() / 40 + 1).chain([packed.len() - 1]) {
            fs::write(&path, &packed[..length]).unwrap();
            let error = opened(&[&path], Cifar::Ten, Part::Train).err().unwrap().to_string();
            assert!(error.contains("cut.tar.gz"), "{error}");
        }
    }
    let path = folder.path().join("other.tar");
    fs::write(&path, tar(&[("a.txt", b"x")])).unwrap();
    let error = opened(&[&path], Cifar::Ten, Part::Train).err().unwrap().to_string();
    assert!(error.contains("no file data_batch_*.bin") && error.contains("in this archive"), "{error}");
}

#[test]
fn the_hundred_classes_are_fine_or_coarse() {
    let folder = tempfile::tempdir().unwrap();
    let two = |coarse: u8, fine: u8| [&[coarse, fine], &record(fine)[1..]].concat();
    fs::write(folder.path().join("train.bin"), [two(19, 99), two(0, 1)].concat()).unwrap();
    fs::write(folder.path().join("test.bin"), two(4, 0)).unwrap();
    let open = |coarse, part| opened(&[folder.path()], Cifar::Hundred { coarse }, part).unwrap().unwrap();
    let fine = open(false, Part::Train);
    assert_eq!((fine.class_names().len(), fine.class_names()[99].as_str()), (100, "worm"));
    assert_eq!(labels(fine), [99, 1]);
    let coarse = open(true, Part::Train);
    assert_eq!((coarse.class_names().len(), coarse.class_names()[19].as_str()), (20, "vehicles_2"));
    assert_eq!(labels(coarse), [19, 0]);
    assert_eq!(labels(open(false, Part::Test)), [0]);
    let python = Python::Two;
    let data = python.array("u1", &[1, 3072], &pixels(&[9]));
    let batch = python.dict(&[("data", data), ("fine_labels", list(&[98])), ("coarse_labels", list(&[14]))]);
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("train"), batch).unwrap();
    for (coarse, label) in [(false, 98), (true, 14)] {
        let images = opened(&[other.path()], Cifar::Hundred { coarse }, Part::Train).unwrap().unwrap();
        assert_eq!(labels(images), [label]);
    }
    fs::write(folder.path().join("train.bin"), two(20, 5)).unwrap();
    let error = open(true, Part::Train).find_map(Result::err).unwrap().to_string();
    assert!(error.contains("train.bin: record 0 (counted from 0) has label 20, not 0 to 19"), "{error}");
}

/// No byte of a batch, whatever it is, makes reading panic.
#[test]
fn altered_batches_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch");
    let whole = batch(Python::Two, &[4]);
    let pixels_at = whole.len() - 3072 - 4;
    for at in (0..pixels_at).chain(whole.len() - 4..whole.len()) {
        for byte in [0, 0x28, 0x7f, 0xff, whole[at] ^ 1, whole[at] ^ 0x80] {
            let mut altered = whole.clone();
            altered[at] = byte;
            fs::write(&path, &altered).unwrap();
            if let Err(error) =
                opened(&[&path], Cifar::Ten, Part::Train).map(|images| images.map(|i| i.count()))
            {
                assert!(error.to_string().contains("batch"), "{error}");
            }
        }
    }
}
