//! Pictures in files and folders.

#[cfg(feature = "pictures")]
pub(super) use reading::open;
#[cfg(feature = "pictures")]
pub use reading::{picture_size, read_grey, read_picture};

/// What a build without pictures says.
#[cfg(not(feature = "pictures"))]
const LACKING: &str = "this build cannot read pictures; build with the feature `pictures`";

/// This build cannot read pictures.
///
/// # Errors
/// Always.
#[cfg(not(feature = "pictures"))]
pub fn read_picture(path: &std::path::Path, _: usize, _: usize) -> crate::error::Result<Vec<u8>> {
    Err(crate::error::Error::format(path, LACKING))
}

/// This build cannot read pictures.
///
/// # Errors
/// Always.
#[cfg(not(feature = "pictures"))]
pub fn read_grey(path: &std::path::Path, _: usize, _: usize) -> crate::error::Result<Vec<f64>> {
    Err(crate::error::Error::format(path, LACKING))
}

/// This build cannot read pictures.
///
/// # Errors
/// Always.
#[cfg(not(feature = "pictures"))]
pub fn picture_size(path: &std::path::Path) -> crate::error::Result<(usize, usize)> {
    Err(crate::error::Error::format(path, LACKING))
}

/// This build cannot read pictures.
#[cfg(not(feature = "pictures"))]
pub(super) fn open(
    paths: &[std::path::PathBuf],
    _: super::shape::ImageShape,
    _: bool,
    _: super::source::Background,
) -> crate::error::Result<super::source::Images> {
    Err(crate::error::Error::format(&paths[0], LACKING))
}

#[cfg(feature = "pictures")]
mod reading {
    use std::fs::File;
    use std::io::BufReader;
    use std::path::{Path, PathBuf};

    use super::super::picture::{Unread, decode, size};
    use super::super::shape::{Image, ImageShape};
    use super::super::source::{Background, Images};
    use crate::data::folder;
    use crate::error::{Error, Result};

    /// The extensions that are picked out of folders.
    const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];

    /// A picture, and the folder that names its class.
    struct Found {
        path: PathBuf,
        class: Option<String>,
    }

    /// The pictures of `paths`, see [`super::super::ImageSource::Pictures`].
    pub fn open(
        paths: &[PathBuf],
        shape: ImageShape,
        labelled: bool,
        background: Background,
    ) -> Result<Images> {
        check_size(shape.height, shape.width)?;
        let mut found = Vec::new();
        for path in paths {
            find(path, labelled, &mut found)?;
        }
        let mut class_names: Vec<String> = found.iter().filter_map(|picture| picture.class.clone()).collect();
        class_names.sort();
        class_names.dedup();
        let names = class_names.clone();
        let images = found.into_iter().map(move |picture| {
            let label = picture.class.and_then(|class| names.binary_search(&class).ok());
            Ok(Image {
                pixels: read(&picture.path, shape, background)?,
                label: label.map(|label| label as u32),
            })
        });
        Ok(Images::new(shape, class_names, images))
    }

    /// Larger sides are refused.
    const MAX_SIDE: usize = 4096;

    fn check_size(height: usize, width: usize) -> Result<()> {
        for (field, size) in [("height", height), ("width", width)] {
            if !(1..=MAX_SIDE).contains(&size) {
                return Err(Error::invalid(field, size, format!("1 to {MAX_SIDE} pixels")));
            }
        }
        Ok(())
    }

    fn find(path: &Path, labelled: bool, found: &mut Vec<Found>) -> Result<()> {
        if !std::fs::metadata(path).map_err(Error::io(path))?.is_dir() {
            if labelled {
                return Err(Error::format(
                    path,
                    "a picture that is named by itself has no folder, hence no class",
                ));
            }
            found.push(Found { path: path.to_path_buf(), class: None });
            return Ok(());
        }
        let known = |file: &Path| {
            let extension = file.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
        };
        let mut files = Vec::new();
        folder::collect(path, &known, &mut files)?;
        if files.is_empty() {
            let known = EXTENSIONS.map(|extension| format!(".{extension}")).join(", ");
            return Err(Error::format(path, format!("no pictures in this folder; looked for {known}")));
        }
        for file in files {
            let class = if labelled { Some(class(path, &file)?) } else { None };
            found.push(Found { path: file, class });
        }
        Ok(())
    }

    /// The name of the folder directly inside `root` that `file` is in.
    fn class(root: &Path, file: &Path) -> Result<String> {
        let mut parts = file.strip_prefix(root).unwrap_or(file).iter();
        match (parts.next(), parts.next()) {
            (Some(folder), Some(_)) => Ok(folder.to_string_lossy().into_owned()),
            _ => {
                let problem = format!("it is in no folder inside {}, hence has no class", root.display());
                Err(Error::format(file, problem))
            }
        }
    }

    /// Height and width of a picture as it is shown (turned as its file says), without reading its pixels.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file.
    pub fn picture_size(path: &Path) -> Result<(usize, usize)> {
        let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
        size(file).map_err(|error| Error::format(path, Unread::from(error).to_string()))
    }

    /// Reads one picture as [`read_picture`] does, in grey: the luminance (299R + 587G + 114B)/1000 of every pixel,
    /// \[`height`·`width`\].
    ///
    /// # Errors
    /// As [`read_picture`].
    pub fn read_grey(path: &Path, height: usize, width: usize) -> Result<Vec<f64>> {
        let planes = read_picture(path, height, width)?;
        let area = height * width;
        let colour = |channel: usize, at: usize| f64::from(planes[channel * area + at]);
        let luminance = |at| (299.0 * colour(0, at) + 587.0 * colour(1, at) + 114.0 * colour(2, at)) / 1000.0;
        Ok((0..area).map(luminance).collect())
    }

    /// Reads one picture without transparent pixels as in [`super::super::ImageSource::Pictures`]: planes
    /// \[3·`height`·`width`\].
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file.
    pub fn read_picture(path: &Path, height: usize, width: usize) -> Result<Vec<u8>> {
        check_size(height, width)?;
        read(path, ImageShape { channels: 3, height, width }, Background::None)
    }

    fn read(path: &Path, shape: ImageShape, background: Background) -> Result<Vec<u8>> {
        let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
        decode(file, shape.height, shape.width, background)
            .map_err(|problem| Error::format(path, problem.to_string()))
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use image::{Rgb, RgbImage};

        const SHAPE: ImageShape = ImageShape { channels: 3, height: 2, width: 2 };

        fn write(path: PathBuf, value: u8) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::from_pixel(4, 4, Rgb([value; 3])).save(path).unwrap();
        }

        fn read_all(paths: &[PathBuf], labelled: bool) -> Result<(Vec<String>, Vec<Image>)> {
            let images = open(paths, SHAPE, labelled, Background::None)?;
            let names = images.class_names().to_vec();
            Ok((names, images.collect::<Result<_>>()?))
        }

        #[test]
        fn folders_give_pictures_and_classes() {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path().join("dog/deep/b.bmp"), 20);
            write(folder.path().join("cat/c.webp"), 10);
            write(folder.path().join("cat/.hidden.png"), 99);
            std::fs::write(folder.path().join("cat/notes.txt"), "x").unwrap();
            let root = [folder.path().to_path_buf()];
            let (names, images) = read_all(&root, true).unwrap();
            assert_eq!(names, ["cat", "dog"]);
            assert_eq!(images[0], Image { pixels: vec![10; 12], label: Some(0) });
            assert_eq!(images[1], Image { pixels: vec![20; 12], label: Some(1) });
            let (names, images) = read_all(&root, false).unwrap();
            assert!(names.is_empty() && images.iter().all(|image| image.label.is_none()));

            write(folder.path().join("a.PNG"), 5);
            let error = read_all(&root, true).unwrap_err().to_string();
            assert!(error.contains("a.PNG") && error.contains("no class"), "{error}");
            assert_eq!(read_all(&root, false).unwrap().1.len(), 3);
        }

        #[test]
        fn bad_inputs_are_refused_by_name() {
            let folder = tempfile::tempdir().unwrap();
            let problem = |path: &Path, labelled: bool| {
                let error = read_all(&[path.to_path_buf()], labelled).unwrap_err().to_string();
                assert!(error.contains(&*path.to_string_lossy()), "{error}");
                error
            };
            assert!(problem(folder.path(), false).contains("no pictures in this folder"));
            let bad = folder.path().join("bad.png");
            std::fs::write(&bad, b"\x89PNG\r\n\x1a\nand then nothing").unwrap();
            assert!(problem(&bad, false).contains("not a picture that can be read"));
            assert!(problem(&bad, true).contains("no class"));
            problem(Path::new("no/such.png"), false);
            let shape = ImageShape { height: 0, ..SHAPE };
            let error = open(&[bad], shape, false, Background::None).err().unwrap().to_string();
            assert!(error.contains("height = 0"), "{error}");
        }
    }
}
