//! The built-in images: emoji as Twemoji draws them.
//!
//! The graphics are Copyright 2020 Twitter, Inc and other contributors, licensed under CC-BY 4.0
//! (<https://creativecommons.org/licenses/by/4.0/>); the crate `twemoji-assets` carries them. Here they are put on
//! white and reduced.

use super::source::Images;
use crate::error::{Error, Result};

/// The 3,724 emoji of Unicode that Twemoji draws, see [`super::ImageSource::Emoji`].
#[cfg(feature = "emoji")]
pub(super) fn open(size: usize) -> Result<Images> {
    use super::picture::{Reading, decode};
    use super::shape::{Image, ImageShape};
    use super::source::Background;

    if !(1..=DRAWN_SIZE).contains(&size) {
        return Err(Error::invalid(
            "size",
            size,
            format!("1 to {DRAWN_SIZE} pixels, the size that they are drawn in"),
        ));
    }
    let images = drawn().map(move |(group, png)| {
        let reading = Reading { background: Background::White, ..Reading::default() };
        let pixels = decode(png, size, size, reading)
            .map_err(|error| Error::format("emoji", format!("a built-in picture cannot be read: {error}")))?;
        Ok(Image { pixels, label: Some(group) })
    });
    let class_names = GROUPS.iter().map(|(_, name)| String::from(*name)).collect();
    Ok(Images::new(ImageShape { channels: 3, height: size, width: size }, class_names, images))
}

/// The built-in images: this build lacks them.
#[cfg(not(feature = "emoji"))]
pub(super) fn open(_: usize) -> Result<Images> {
    let allowed = "this build lacks the built-in images; build with the feature `emoji`, or give paths";
    Err(Error::invalid("set", "emoji", allowed))
}

/// Side of the pictures in the crate.
#[cfg(feature = "emoji")]
const DRAWN_SIZE: usize = 72;

/// The classes, by label.
#[cfg(feature = "emoji")]
const GROUPS: [(emojis::Group, &str); 9] = {
    use emojis::Group;
    [
        (Group::SmileysAndEmotion, "smileys and emotion"),
        (Group::PeopleAndBody, "people and body"),
        (Group::AnimalsAndNature, "animals and nature"),
        (Group::FoodAndDrink, "food and drink"),
        (Group::TravelAndPlaces, "travel and places"),
        (Group::Activities, "activities"),
        (Group::Objects, "objects"),
        (Group::Symbols, "symbols"),
        (Group::Flags, "flags"),
    ]
};

/// Label and picture of every emoji that is drawn, in Unicode's order, each skin tone after the plain one.
#[cfg(feature = "emoji")]
fn drawn() -> impl Iterator<Item = (u32, &'static [u8])> + Send {
    use twemoji_assets::png::PngTwemojiAsset;

    let with_tones = |plain: &'static emojis::Emoji| {
        let toned = plain.skin_tones().into_iter().flatten().filter(move |emoji| *emoji != plain);
        std::iter::once(plain).chain(toned)
    };
    emojis::iter().flat_map(with_tones).filter_map(|emoji| {
        let label = GROUPS.iter().position(|(group, _)| *group == emoji.group())?;
        let picture: &'static PngTwemojiAsset = PngTwemojiAsset::from_emoji(emoji.as_str())?;
        let png: &'static [u8] = picture;
        Some((label as u32, png))
    })
}

#[cfg(all(test, feature = "emoji"))]
mod tests {
    use super::*;

    #[test]
    fn the_emoji_are_small_pictures_of_nine_groups() {
        let images = open(8).unwrap();
        assert_eq!((images.shape().tokens(), images.class_names().len()), (192, 9));
        let images: Vec<_> = images.collect::<Result<_>>().unwrap();
        assert_eq!(images.len(), 3_724);
        for label in 0..9 {
            assert!(images.iter().any(|image| image.label == Some(label)));
        }
        // The first is a grinning face: yellow in the middle, white in the corner.
        let channel = |channel: usize, place: usize| images[0].pixels[64 * channel + place];
        assert!(channel(0, 27) > 180 && channel(2, 27) < 140, "{:?}", images[0].pixels);
        assert!((0..3).all(|c| channel(c, 0) > 230));
    }

    #[test]
    fn a_size_beyond_the_drawings_is_refused() {
        for size in [0, 73] {
            assert!(open(size).err().unwrap().to_string().contains("1 to 72 pixels"));
        }
    }
}
