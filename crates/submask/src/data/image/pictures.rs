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
    source: &super::ImageSource,
    _: super::source::Part,
) -> crate::error::Result<Option<super::source::Images>> {
    Err(crate::error::Error::format(&source.paths()[0], LACKING))
}

#[cfg(feature = "pictures")]
mod reading {
    use std::fs::File;
    use std::io::BufReader;
    use std::path::Path;

    use super::super::listing::{Found, Listing, Search};
    use super::super::parquet_pictures;
    use super::super::picture::{Reading, Unread, decode, size};
    use super::super::shape::{Image, ImageShape};
    use super::super::source::{ImageSource, Images, Part};
    use crate::error::{Error, Result};

    type Stream = Box<dyn Iterator<Item = Result<Image>> + Send>;

    /// The pictures of a part of `source`, see [`ImageSource::Pictures`].
    pub fn open(source: &ImageSource, part: Part) -> Result<Option<Images>> {
        let ImageSource::Pictures {
            paths,
            height,
            width,
            labelled,
            background,
            sixteen_bits,
            formats,
            official_split,
            columns,
        } = source
        else {
            return Err(Error::internal("a source of pictures")(source));
        };
        check_size(*height, *width)?;
        let search = Search { formats, labelled: *labelled, official_split: *official_split };
        let (files, left_out) = Listing::of(paths, &search)?.part(part, &search);
        if files.is_empty() {
            return Ok(None);
        }
        if let Some(file) = files.iter().find(|file| *labelled && !file.parquet && file.class.is_none()) {
            return Err(Error::format(&file.path, "it is in no folder that names its class"));
        }
        let shape = ImageShape { channels: 3, height: *height, width: *width };
        let reading = Reading { background: *background, sixteen_bits: *sixteen_bits };
        let columns = parquet_pictures::Wanted { columns: columns.clone(), labelled: *labelled };
        let (class_names, images) = match files.iter().position(|file| !file.parquet) {
            None => parquet_pictures::open(&files, &columns, shape, reading)?,
            Some(picture) => match files.iter().find(|file| file.parquet) {
                None => single_files(files, shape, reading),
                Some(file) => {
                    let problem =
                        format!("a parquet file beside pictures such as {}", files[picture].path.display());
                    return Err(Error::format(&file.path, problem));
                }
            },
        };
        Ok(Some(Images::new(shape, class_names, images).leaving_out(left_out)))
    }

    /// Pictures of which each is a file; names of their classes first.
    fn single_files(files: Vec<Found>, shape: ImageShape, reading: Reading) -> (Vec<String>, Stream) {
        let mut class_names: Vec<String> = files.iter().filter_map(|picture| picture.class.clone()).collect();
        class_names.sort();
        class_names.dedup();
        let names = class_names.clone();
        let images = files.into_iter().map(move |picture| {
            let label = picture.class.and_then(|class| names.binary_search(&class).ok());
            let pixels = read(&picture.path, shape, reading)?;
            Ok(Image { pixels, label: label.map(|label| label as u32) })
        });
        (class_names, Box::new(images))
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
        read(path, ImageShape { channels: 3, height, width }, Reading::default())
    }

    fn read(path: &Path, shape: ImageShape, reading: Reading) -> Result<Vec<u8>> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        decode(&bytes, shape.height, shape.width, reading)
            .map_err(|problem| Error::format(path, problem.to_string()))
    }

    #[cfg(test)]
    mod tests;
}
