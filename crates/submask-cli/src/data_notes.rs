//! What there is to say of data, in lines: which is used, held out or left out, and what to be warned of.

use submask::data::image::{self, ImageCounts};
use submask::data::{self, CorpusInfo, HeldOutReport, LeftOut, PairCounts, Skipped, Spelt};
use submask::train::event::{DataNote, HeldOutBy, ImagesRead};

use crate::format::count;

/// More classes are not named one by one.
const NAMED_CLASSES: usize = 20;

/// Said where a tokenizer has no end of text.
pub const NO_END_OF_TEXT: &str = "warning: the tokenizer has no end of text: documents run into each other, and samples \
                                  never end (tokenizer.end_of_text names a token of a tokenizer.json)";

/// A note of a run, a line each.
pub fn data_notes(note: &DataNote) -> Vec<String> {
    match note {
        DataNote::Images(read) => images_read(read),
        DataNote::Corpus { info, pairs } => corpus_notes(info, *pairs),
        DataNote::NoEndOfText => vec![NO_END_OF_TEXT.to_owned()],
        DataNote::HeldOut(report) => held_out_notes(report),
        &DataNote::Pairs { counts, seq_len } => vec![pair_note(counts, seq_len)],
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

/// What was left out of a corpus, of pairs or of text, and what stands out in it.
pub fn corpus_notes(corpus: &CorpusInfo, pairs: bool) -> Vec<String> {
    let left_out = corpus.left_out.as_ref().map(left_out_note);
    let skipped = corpus.skipped.as_ref().map(skipped_note);
    let spelt = corpus.spelt.as_ref().map(|Spelt { name, documents }| {
        let spell =
            if *documents == 1 { "1 document spells" } else { &format!("{documents} documents spell") };
        // A record of pairs is not divided.
        let remedy = match pairs {
            true => String::new(),
            false => format!("; data.separator = {name:?} divides the text there"),
        };
        format!("warning: {spell} {name}, the tokenizer's end of text, in ordinary characters{remedy}")
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

/// How many pairs there are, and what became of the others.
pub fn pair_note(counts: PairCounts, seq_len: usize) -> String {
    let PairCounts { pairs, too_long, cut, empty } = counts;
    let mut note = format!("pairs: {}, one per sequence of {seq_len} tokens", count(pairs));
    if too_long > 0 {
        note += &format!("; left out: {too_long} that are too long");
    }
    if empty > 0 {
        note += &format!("; left out: {empty} without a completion");
    }
    if cut > 0 {
        note += &format!("; completions that are cut: {cut}");
    }
    note
}

/// What is held out for validation, and what is wrong with it.
pub fn held_out_notes(report: &HeldOutReport) -> Vec<String> {
    let HeldOutReport { by, documents, parts, of_documents, sequences, seq_len, .. } = report;
    let (whole, plural) = (documents - parts, if *documents == 1 { "" } else { "s" });
    let how = match by {
        data::HeldOutBy::Position | data::HeldOutBy::Share if (*of_documents, *parts) == (1, 1) => {
            String::from("the end of the only document")
        }
        data::HeldOutBy::Documents => format!("{documents} of {of_documents} documents, chosen by hash"),
        data::HeldOutBy::Position => format!("the end{plural} of {documents} of {of_documents} documents"),
        data::HeldOutBy::OneDocument => format!("one of {of_documents} documents"),
        data::HeldOutBy::Files => format!("{documents} document{plural} in files of their own"),
        data::HeldOutBy::Share if *parts == 0 => {
            format!("{whole} of {of_documents} documents, chosen by hash")
        }
        data::HeldOutBy::Share if whole == 0 => {
            format!("the end{plural} of {parts} of {of_documents} documents")
        }
        data::HeldOutBy::Share => {
            format!("{whole} documents, chosen by hash, and the ends of {parts}, of {of_documents}")
        }
    };
    let how = if report.pairs { how.replace("document", "pair") } else { how };
    let size = format!("{} tokens, {:.1} % of all", count(report.tokens), 100.0 * report.share());
    let mut notes = vec![format!("held out: {how}; {size}, {} sequences of {seq_len}", count(*sequences))];
    if *by == data::HeldOutBy::OneDocument {
        notes.push(String::from(
            "warning: no choice of whole documents is near data.valid_fraction of the text, and no end of one is long \
             enough: figures are of one document alone",
        ));
    }
    if report.is_cut_to_pieces() {
        notes.push(format!(
            "warning: what is held out is cut to pieces, {} tokens each: figures of whole documents will differ",
            report.tokens / (*documents).max(1)
        ));
    }
    if report.is_small() {
        notes.push(String::from(
            "warning: what is held out is small: figures of fewer than 16 sequences are rough; give more text, a larger \
             data.valid_fraction, or files of its own by --valid",
        ));
    }
    if report.leaves_little() {
        notes.push(format!(
            "warning: what is trained on is small: {} sequences of {seq_len}",
            report.train_sequences
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use submask::data::HeldOutBy;

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

    #[test]
    fn what_is_held_out_is_told_and_warned_of() {
        let report = |by, documents, parts, tokens| HeldOutReport {
            by,
            pairs: false,
            documents,
            parts,
            of_documents: 40,
            tokens,
            train_tokens: 100 * 32,
            sequences: tokens / 32,
            train_sequences: 100,
            seq_len: 32,
        };
        let notes = held_out_notes(&report(HeldOutBy::Documents, 2, 0, 3200));
        assert_eq!(
            notes,
            ["held out: 2 of 40 documents, chosen by hash; 3.2k tokens, 50.0 % of all, 100 sequences of 32"]
        );
        let notes = held_out_notes(&report(HeldOutBy::Share, 40, 40, 200));
        assert!(
            notes[0].starts_with("held out: the ends of 40 of 40 documents; 200 tokens, 5.9 %"),
            "{notes:?}"
        );
        assert!(
            notes[1].starts_with("warning: what is held out is cut to pieces, 5 tokens each"),
            "{notes:?}"
        );
        assert!(notes[2].starts_with("warning: what is held out is small"), "{notes:?}");
        let only = HeldOutReport { of_documents: 1, ..report(HeldOutBy::Position, 1, 1, 512) };
        let notes = held_out_notes(&only);
        assert!(
            notes.len() == 1 && notes[0].starts_with("held out: the end of the only document; "),
            "{notes:?}"
        );
        assert_eq!(held_out_notes(&report(HeldOutBy::Files, 1, 0, 511)).len(), 2);
        let notes = held_out_notes(&report(HeldOutBy::OneDocument, 1, 0, 3200));
        assert!(notes[1].starts_with("warning: no choice of whole documents is near"), "{notes:?}");
        let few = HeldOutReport { train_sequences: 15, ..report(HeldOutBy::Documents, 1, 0, 3200) };
        assert_eq!(held_out_notes(&few)[1], "warning: what is trained on is small: 15 sequences of 32");
    }

    #[test]
    fn what_became_of_pairs_is_told() {
        let counts = PairCounts { pairs: 30, ..PairCounts::default() };
        assert_eq!(pair_note(counts, 16), "pairs: 30, one per sequence of 16 tokens");
        let counts = PairCounts { pairs: 30, too_long: 2, cut: 3, empty: 4 };
        let note = pair_note(counts, 16);
        assert!(note.ends_with(
            "; left out: 2 that are too long; left out: 4 without a completion; completions that are cut: 3"
        ));
    }
}
