//! Numbers, times and figures as people read them.

use std::time::Duration;

use submask::data::Fidelity;
use submask::likelihood::{Figure, Kind};
use submask::model::BestValidation;
use submask::train::event::ClipRecord;

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

/// A count of things: 1 token, 2 tokens.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
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

/// Why a run ends before its last step.
pub fn ends_early(best: BestValidation) -> String {
    let BestValidation { step, value, since } = best;
    let last = match since {
        1 => "the last validation was".to_owned(),
        _ => format!("the last {since} validations were"),
    };
    format!("{last} not better than that after step {step} ({})", number(value))
}

/// Which times a run draws from here on, after a search.
pub fn clipped(record: &ClipRecord) -> String {
    format!("times from {} from here on, variance {}", record.interval, number(record.variance))
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
    fn text_stays_on_its_line() {
        assert_eq!(one_line("a\nb\tc\u{1b}[0m"), "a⏎b c·[0m");
    }
}
