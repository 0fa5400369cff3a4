//! Numbers, times and figures as people read them.

use std::time::Duration;

use submask::data::{Fidelity, HeldOutBy, HeldOutReport, PairCounts};
use submask::likelihood::{Figure, Kind};

/// A number with about four digits after the point, or in powers of ten.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.3e}"),
        size if size >= 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}

/// A count in short: 950, 41.1k, 2.9M, 1.2G.
pub fn count(value: u64) -> String {
    let scaled = |divisor: f64, suffix: &str| format!("{:.1}{suffix}", value as f64 / divisor);
    match value {
        0..1_000 => value.to_string(),
        1_000..999_950 => scaled(1e3, "k"),
        999_950..999_950_000 => scaled(1e6, "M"),
        _ => scaled(1e9, "G"),
    }
}

/// The tokens there are to train on and to validate with.
pub fn data_sizes(train: Option<u64>, valid: Option<u64>) -> String {
    match (train, valid) {
        (Some(train), Some(valid)) => {
            format!("{} training tokens, {} validation tokens", count(train), count(valid))
        }
        _ => "as many training tokens as are drawn".to_owned(),
    }
}

/// A time in its two largest units: 12s, 3m20s, 2h05m, 4d02h.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h{:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

/// What a figure may be used as.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Exact => "exact",
        Kind::UpperBound => "upper bound",
        Kind::Surrogate => "surrogate, no likelihood",
    }
}

/// Value, standard error and unit.
pub fn value(figure: &Figure) -> String {
    let error = figure.standard_error.map(|error| format!(" ± {}", number(error))).unwrap_or_default();
    format!("{}{error} {}", number(figure.value), figure.unit).trim_end().to_owned()
}

/// A figure on one line: `name value ± error unit (kind)`.
pub fn figure(figure: &Figure) -> String {
    format!("{} {} ({})", figure.name, value(figure), kind(figure.kind))
}

/// Text on one line: line ends and tabs become visible, other control characters dots.
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => '⏎',
            '\t' => ' ',
            c if c.is_control() => '·',
            c => c,
        })
        .collect()
}

/// What a tokenizer that is not lossless by construction did to documents.
pub fn tokenizer_note(fidelity: Fidelity) -> String {
    let Fidelity { documents, changed, .. } = fidelity;
    let unknown = format!("{:.2} % of the tokens are unknown text", 100.0 * fidelity.unknown_share());
    match fidelity.is_lossless() {
        true => format!("tokenizer: all {documents} documents decode to themselves; {unknown}"),
        false => {
            format!("tokenizer: {changed} of {documents} documents do not decode to themselves, {unknown}")
        }
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
        HeldOutBy::Position | HeldOutBy::Share if (*of_documents, *parts) == (1, 1) => {
            String::from("the end of the only document")
        }
        HeldOutBy::Documents => format!("{documents} of {of_documents} documents, chosen by hash"),
        HeldOutBy::Position => format!("the end{plural} of {documents} of {of_documents} documents"),
        HeldOutBy::OneDocument => format!("one of {of_documents} documents"),
        HeldOutBy::Files => format!("{documents} document{plural} in files of their own"),
        HeldOutBy::Share if *parts == 0 => format!("{whole} of {of_documents} documents, chosen by hash"),
        HeldOutBy::Share if whole == 0 => format!("the end{plural} of {parts} of {of_documents} documents"),
        HeldOutBy::Share => {
            format!("{whole} documents, chosen by hash, and the ends of {parts}, of {of_documents}")
        }
    };
    let how = if report.pairs { how.replace("document", "pair") } else { how };
    let size = format!("{} tokens, {:.1} % of all", count(report.tokens), 100.0 * report.share());
    let mut notes = vec![format!("held out: {how}; {size}, {} sequences of {seq_len}", count(*sequences))];
    if *by == HeldOutBy::OneDocument {
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
pub mod tests {
    use super::*;

    /// A figure to render.
    pub fn bound() -> Figure {
        Figure {
            name: "nelbo_subtoken".into(),
            value: 3.21234,
            unit: "bits per character".into(),
            kind: Kind::UpperBound,
            standard_error: Some(0.0123),
            sequence_error: None,
            draw_error: None,
            evaluations: 512,
        }
    }

    /// The same for a surrogate without standard error.
    pub fn joint() -> Figure {
        let (name, unit) = ("joint_objective".into(), "nats per token".into());
        Figure {
            name,
            unit,
            value: 2.5,
            kind: Kind::Surrogate,
            standard_error: None,
            sequence_error: None,
            draw_error: None,
            evaluations: 64,
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let texts = [0.0, 3.21234, 12345.67, 1e-5, 2.5e7, -0.5].map(number);
        assert_eq!(texts, ["0", "3.2123", "12345.7", "1.000e-5", "2.500e7", "-0.5000"]);
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(
            [950, 41_120, 999_960, 2_900_000, 1_234_567_890].map(count),
            ["950", "41.1k", "1.0M", "2.9M", "1.2G"]
        );
        let times = [12, 200, 7500, 360_000].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(times, ["12s", "3m20s", "2h05m", "4d04h"]);
    }

    #[test]
    fn figures_say_what_they_are() {
        assert_eq!(figure(&bound()), "nelbo_subtoken 3.2123 ± 0.0123 bits per character (upper bound)");
        assert_eq!(figure(&joint()), "joint_objective 2.5000 nats per token (surrogate, no likelihood)");
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

    #[test]
    fn text_stays_on_its_line() {
        assert_eq!(one_line("a\nb\tc\u{1b}[0m"), "a⏎b c·[0m");
    }
}
