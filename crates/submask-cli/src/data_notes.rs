//! What there is to say of data, in lines: which is used, which is left out, and what to be warned of.

use submask::data::image::{self, ImageCounts};
use submask::data::{CorpusInfo, LeftOut, Skipped, Spelt};
use submask::train::event::{DataNote, HeldOutBy, ImagesRead};

/// More classes are not named one by one.
const NAMED_CLASSES: usize = 20;

/// Said where a tokenizer has no end of text.
pub const NO_END_OF_TEXT: &str = "warning: the tokenizer has no end of text: documents run into each other, and samples \
                                  never end (tokenizer.end_of_text names a token of a tokenizer.json)";

/// A note of a run, a line each.
pub fn data_notes(note: &DataNote) -> Vec<String> {
    match note {
        DataNote::Images(read) => images_read(read),
        DataNote::Corpus(corpus) => corpus_notes(corpus),
        DataNote::NoEndOfText => vec![NO_END_OF_TEXT.to_owned()],
    }
}

/// Which images a run uses and which it leaves out, a line each.
fn images_read(read: &ImagesRead) -> Vec<String> {
    let by = match read.held_out {
        HeldOutBy::Share => "a share of the images",
        HeldOutBy::Paths => "data.valid_paths",
        HeldOutBy::Files => "as the files themselves say",
    };
    let used = [
        format!("{} to train on", image_counts(&read.train)),
        format!("{} held out ({by})", image_counts(&read.valid)),
    ];
    used.into_iter().chain(read.left_out.iter().flat_map(left_out)).collect()
}

/// How many images of which classes.
pub fn image_counts(counts: &ImageCounts) -> String {
    let ImageCounts { images, classes } = counts;
    let plural = if *images == 1 { "image" } else { "images" };
    let sizes = || classes.iter().map(|(_, count)| *count);
    match (classes.len(), sizes().min(), sizes().max()) {
        (0, ..) | (_, None, _) | (.., None) => format!("{images} {plural} without classes"),
        (1..=NAMED_CLASSES, ..) => {
            let named: Vec<String> = classes.iter().map(|(name, count)| format!("{name} {count}")).collect();
            format!("{images} {plural} ({})", named.join(", "))
        }
        (count, Some(least), Some(most)) => {
            format!("{images} {plural} of {count} classes ({least} to {most} of each)")
        }
    }
}

/// What of the files is not read, a line each.
pub fn left_out(left_out: &image::LeftOut) -> Vec<String> {
    let files = left_out.first.as_ref().map(|first| match left_out.files {
        1 => format!("left out: {}, which is of no kind that is read", first.display()),
        more => format!("left out: {more} files of kinds that are not read, the first {}", first.display()),
    });
    files.into_iter().chain(left_out.notes.iter().cloned()).collect()
}

/// What was left out of a corpus, and what stands out in it.
pub fn corpus_notes(corpus: &CorpusInfo) -> Vec<String> {
    let left_out = corpus.left_out.as_ref().map(left_out_note);
    let skipped = corpus.skipped.as_ref().map(skipped_note);
    let spelt = corpus.spelt.as_ref().map(|Spelt { name, documents }| {
        let spell = if *documents == 1 { "1 document spells" } else { &format!("{documents} documents spell") };
        format!(
            "warning: {spell} {name}, the tokenizer's end of text, in ordinary characters; data.separator = {name:?} \
             divides the text there"
        )
    });
    left_out.into_iter().chain(skipped).chain(spelt).collect()
}

/// Files of folders that are not read.
pub fn left_out_note(LeftOut { files, first }: &LeftOut) -> String {
    match files {
        1 => format!("1 file is not read: {first}"),
        files => format!("{files} files are not read, the first is {first}"),
    }
}

/// Records that were skipped.
pub fn skipped_note(Skipped { records, first }: &Skipped) -> String {
    match records {
        1 => format!("1 record was skipped: {first}"),
        records => format!("{records} records were skipped, the first is {first}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_classes_are_named_and_many_are_counted() {
        let counts = |sizes: &[u64]| {
            let classes = sizes.iter().enumerate().map(|(i, size)| (i.to_string(), *size)).collect();
            image_counts(&ImageCounts { images: sizes.iter().sum(), classes })
        };
        assert_eq!(counts(&[1, 0]), "1 image (0 1, 1 0)");
        let many: Vec<u64> = (3..24).collect();
        assert_eq!(counts(&many), "273 images of 21 classes (3 to 23 of each)");
        let none = ImageCounts { images: 2, classes: Vec::new() };
        assert_eq!(image_counts(&none), "2 images without classes");
    }

    #[test]
    fn files_that_are_not_read_are_counted() {
        let of = |files: u64| image::LeftOut {
            files,
            first: (files > 0).then(|| "a/b.txt".into()),
            notes: vec!["c is empty".to_owned()],
        };
        assert_eq!(left_out(&of(0)), ["c is empty"]);
        assert_eq!(left_out(&of(1)), ["left out: a/b.txt, which is of no kind that is read", "c is empty"]);
        assert!(left_out(&of(2))[0].contains("2 files of kinds that are not read, the first a/b.txt"));
    }
}
