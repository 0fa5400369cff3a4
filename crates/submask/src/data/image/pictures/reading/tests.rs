use std::path::PathBuf;

use image::{Rgb, RgbImage};

use super::super::super::source::{Background, Columns, PictureFormat, SixteenBits};
use super::*;

fn source(paths: &[PathBuf], labelled: bool) -> ImageSource {
    ImageSource::Pictures {
        paths: paths.to_vec(),
        height: 2,
        width: 2,
        labelled,
        background: Background::None,
        sixteen_bits: SixteenBits::Refuse,
        formats: PictureFormat::ALL.to_vec(),
        official_split: true,
        columns: Columns::default(),
    }
}

fn write(path: PathBuf, value: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(4, 4, Rgb([value; 3])).save(path).unwrap();
}

fn read_all(paths: &[PathBuf], labelled: bool) -> Result<(Vec<String>, Vec<Image>)> {
    let images = source(paths, labelled).open()?;
    let names = images.class_names().to_vec();
    Ok((names, images.collect::<Result<_>>()?))
}

/// The first byte of every image, and its label.
fn bytes(images: Images) -> Vec<(u8, Option<u32>)> {
    images.map(|image| image.map(|image| (image.pixels[0], image.label)).unwrap()).collect()
}

#[test]
fn folders_give_pictures_and_classes() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("dog/deep/b.bmp"), 20);
    write(folder.path().join("cat/c.webp"), 10);
    write(folder.path().join("cat/.hidden.png"), 99);
    std::fs::write(folder.path().join("cat/notes.txt"), "x").unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let root = [folder.path().to_path_buf()];
    let (names, images) = read_all(&root, true).unwrap();
    assert_eq!(names, ["cat", "dog"]);
    assert_eq!(images[0], Image { pixels: vec![10; 12], label: Some(0) });
    assert_eq!(images[1], Image { pixels: vec![20; 12], label: Some(1) });
    let (names, images) = read_all(&root, false).unwrap();
    assert!(names.is_empty() && images.iter().all(|image| image.label.is_none()));
    let left_out = source(&root, true).open().unwrap().left_out().clone();
    assert_eq!((left_out.files, left_out.first), (1, Some(folder.path().join("cat/notes.txt"))));
    assert!(left_out.notes[0].contains("empty holds no picture: it is no class"), "{:?}", left_out.notes);

    write(folder.path().join("a.PNG"), 5);
    let error = read_all(&root, true).unwrap_err().to_string();
    assert!(error.contains("a.PNG") && error.contains("no class"), "{error}");
    assert_eq!(read_all(&root, false).unwrap().1.len(), 3);
}

#[test]
fn gif_and_tiff_are_read_like_the_others_unless_they_are_not_wanted() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in
        [("a.png", 1), ("b.gif", 2), ("c.tif", 3), ("d.TIFF", 4), ("e.jpeg", 5), ("f.jpg", 6)]
    {
        write(folder.path().join(name), value);
    }
    let root = [folder.path().to_path_buf()];
    let found: Vec<u8> = bytes(source(&root, false).open().unwrap()).iter().map(|(byte, _)| *byte).collect();
    assert_eq!(found, [1, 2, 3, 4, 5, 6]);
    let mut some = source(&root, false);
    let ImageSource::Pictures { formats, .. } = &mut some else { panic!("{some:?}") };
    *formats = super::super::super::source::earlier_formats();
    let images = some.open().unwrap();
    assert_eq!(
        (images.left_out().files, images.left_out().first.clone()),
        (3, Some(folder.path().join("b.gif")))
    );
    assert_eq!(bytes(images).len(), 3);
}

#[cfg(unix)]
#[test]
fn classes_and_parts_may_be_links_to_folders() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, value) in
        [("cats/a.png", 1), ("held/cat/c.png", 3), ("held/dog/d.png", 4), ("set/train/dog/b.png", 2)]
    {
        write(at(name), value);
    }
    symlink(at("cats"), at("set/train/cat")).unwrap();
    symlink(at("held"), at("set/val")).unwrap();
    symlink(at("set"), at("set/train/dog/circle")).unwrap();
    let root = [at("set")];
    let open = |part| source(&root, true).open_part(part).unwrap().unwrap();
    let images = open(Part::Train);
    assert_eq!(images.class_names(), ["cat", "dog"]);
    assert!(images.left_out().notes[0].contains("circle is a link"), "{:?}", images.left_out());
    assert_eq!(bytes(images), [(1, Some(0)), (2, Some(1))]);
    assert_eq!(bytes(open(Part::Valid)), [(3, Some(0)), (4, Some(1))]);
}

#[test]
fn folders_of_parts_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let root = [folder.path().to_path_buf()];
    for (name, value) in [
        ("Train/cat/a.png", 1),
        ("Train/dog/b.png", 2),
        ("val/cat/c.png", 3),
        ("val/dog/d.png", 4),
        ("test/e.png", 5),
    ] {
        write(folder.path().join(name), value);
    }
    let open = |labelled, part| source(&root, labelled).open_part(part).unwrap().map(bytes);
    assert_eq!(open(true, Part::Train).unwrap(), [(1, Some(0)), (2, Some(1))]);
    assert_eq!(open(true, Part::Valid).unwrap(), [(3, Some(0)), (4, Some(1))]);
    assert_eq!(open(false, Part::Test).unwrap(), [(5, None)]);
    assert!(source(&root, true).open_part(Part::Test).is_err(), "test pictures without classes");
    let images = source(&root, true).open().unwrap();
    assert_eq!(images.class_names(), ["cat", "dog"]);
    assert!(images.left_out().notes[0].contains("1 file of test pictures"), "{:?}", images.left_out());

    // Without validation pictures those of the test part are held out, if they have what is needed.
    std::fs::remove_dir_all(folder.path().join("val")).unwrap();
    assert!(open(true, Part::Valid).is_none());
    assert_eq!(open(false, Part::Valid).unwrap(), [(5, None)]);

    // A picture beside them is of no part.
    write(folder.path().join("lost.png"), 9);
    let error = source(&root, true).open().err().unwrap().to_string();
    assert!(error.contains("lost.png") && error.contains("stands beside the folders Train, test"), "{error}");
    std::fs::remove_file(folder.path().join("lost.png")).unwrap();

    // Asked not to look, or with another folder beside them, they are classes.
    let mut plain = source(&root, false);
    let ImageSource::Pictures { official_split, .. } = &mut plain else { panic!("{plain:?}") };
    *official_split = false;
    assert_eq!(plain.open().unwrap().count(), 3);
    assert!(plain.open_part(Part::Valid).unwrap().is_none());
    // A folder without pictures beside them changes nothing, one with pictures is of no part.
    std::fs::create_dir(folder.path().join("notes")).unwrap();
    std::fs::write(folder.path().join("notes/read.me"), "x").unwrap();
    let images = source(&root, true).open().unwrap();
    assert_eq!(
        (images.class_names(), images.left_out().files),
        (&["cat".to_owned(), "dog".to_owned()][..], 1)
    );
    write(folder.path().join("ship/f.png"), 7);
    let error = source(&root, true).open().err().unwrap().to_string();
    assert!(error.contains("ship/f.png") && error.contains("data.official_split"), "{error}");
}

#[test]
fn a_class_may_be_called_train() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [("bus/a.png", 1), ("train/b.png", 2)] {
        write(folder.path().join(name), value);
    }
    let images = source(&[folder.path().to_path_buf()], true).open().unwrap();
    assert_eq!(images.class_names(), ["bus", "train"]);
    assert_eq!(bytes(images), [(1, Some(0)), (2, Some(1))]);
}

#[test]
fn a_folder_with_nothing_to_train_on_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("validation/cat/a.png"), 1);
    let error = source(&[folder.path().to_path_buf()], true).open().err().unwrap().to_string();
    assert!(error.contains("there are no images to train on"), "{error}");
}

#[test]
fn bad_inputs_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |path: &Path, labelled: bool| {
        let error = read_all(&[path.to_path_buf()], labelled).unwrap_err().to_string();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
        error
    };
    let nothing = problem(folder.path(), false);
    assert!(nothing.contains("no pictures in this folder; looked for .png, .jpg"), "{nothing}");
    let bad = folder.path().join("bad.png");
    std::fs::write(&bad, b"\x89PNG\r\n\x1a\nand then nothing").unwrap();
    assert!(problem(&bad, false).contains("not a whole png picture"));
    assert!(problem(&bad, true).contains("no class"));
    std::fs::write(&bad, b"<html>").unwrap();
    assert!(problem(&bad, false).contains("not a picture that can be read"));
    problem(Path::new("no/such.png"), false);
    let mut flat = source(&[bad], false);
    let ImageSource::Pictures { height, .. } = &mut flat else { panic!("{flat:?}") };
    *height = 0;
    let error = flat.open().err().unwrap().to_string();
    assert!(error.contains("height = 0"), "{error}");
}
