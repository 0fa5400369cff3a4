//! `train.clip_interval`: which times a run trains on.

use serde::{Deserialize, Serialize};

use crate::forward::ClipInterval;
use crate::model::{ModelConfig, NetworkConfig};
use crate::schedule::Schedule;
use crate::{Error, Result};

/// The key in settings.
const KEY: &str = "train.clip_interval";

/// Which interval of times a run draws from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ClipChoice {
    /// Times from `train.time_epsilon` to 1; in settings `""`.
    #[default]
    Off,
    /// One interval, which takes the place of `train.time_epsilon`; in settings `"a..b"`.
    Interval(ClipInterval),
    /// At first [`ClipInterval::WHOLE`], and after every validation the interval in which losses of blocks vary least; in
    /// settings `"search"`.
    Search,
}

impl ClipChoice {
    /// The interval with which a run begins; none where times are from `train.time_epsilon` to 1.
    pub(super) fn first(self) -> Option<ClipInterval> {
        match self {
            Self::Off => None,
            Self::Interval(interval) => Some(interval),
            Self::Search => Some(ClipInterval::WHOLE),
        }
    }

    /// Checks that the schedule is the linear one, where times are expected shares of masked digits, and that blocks of these
    /// numbers of digits can be masked.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    pub(super) fn check(self, schedule: &Schedule, digits: &[usize]) -> Result<()> {
        let Some(interval) = self.first() else { return Ok(()) };
        if *schedule != Schedule::Linear {
            let allowed = "\"\" unless schedule.kind is \"linear\", where a time is the expected share of masked digits";
            return Err(Error::invalid(KEY, String::from(self), allowed));
        }
        digits.iter().try_for_each(|digits| interval.check(*digits)).map_err(named)
    }

    /// The same for a model, whose sequences are as long as they can be.
    ///
    /// # Errors
    /// As [`Self::check`], and for the autoregressive network, which draws no times.
    pub(super) fn check_model(self, config: &ModelConfig) -> Result<()> {
        if self != Self::Off && matches!(config.network, NetworkConfig::Autoregressive(_)) {
            let allowed = "\"\" for the autoregressive network, which draws no times";
            return Err(Error::invalid(KEY, String::from(self), allowed));
        }
        let block_len = config.network.block_len();
        self.check(&config.schedule, &block_digits(config.seq_len(), block_len, config.codes.subtokens))
    }
}

/// The error of an interval under the name of the key.
fn named(error: Error) -> Error {
    error.rename_field(|_| KEY.to_owned())
}

/// Numbers of digits of the blocks of a sequence of `seq_len` tokens: of a whole block, and of a last one that is shorter.
/// Without blocks (`block_len` = 0) the sequence is one.
pub(super) fn block_digits(seq_len: usize, block_len: usize, subtoken_len: usize) -> Vec<usize> {
    let whole = if block_len == 0 { seq_len } else { block_len.min(seq_len) };
    let sizes = [whole, if whole == 0 { 0 } else { seq_len % whole }];
    sizes.into_iter().filter(|tokens| *tokens > 0).map(|tokens| tokens * subtoken_len).collect()
}

impl TryFrom<String> for ClipChoice {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        match text.as_str() {
            "" => Ok(Self::Off),
            "search" => Ok(Self::Search),
            interval => interval.parse().map(Self::Interval).map_err(|_| {
                let allowed = "\"\", \"search\", or an interval of times \"a..b\" with 0 < a ≤ b ≤ 1, such as \"0.3..0.8\"";
                Error::invalid(KEY, format!("{text:?}"), allowed)
            }),
        }
    }
}

impl From<ClipChoice> for String {
    fn from(choice: ClipChoice) -> Self {
        match choice {
            ClipChoice::Off => Self::new(),
            ClipChoice::Interval(interval) => interval.to_string(),
            ClipChoice::Search => "search".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::settings::RunSettings;

    fn refused(change: impl FnOnce(&mut RunSettings), text: &str, expected: &str) {
        let preset = include_str!("../../../submask-cli/presets/dictionary.toml");
        let mut settings: RunSettings = toml::from_str(preset).unwrap();
        settings.train.clip_interval = ClipChoice::try_from(text.to_owned()).unwrap();
        settings.validate().unwrap();
        change(&mut settings);
        let error = settings.validate().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("train.clip_interval = {text} is not allowed: {expected}")),
            "{error}"
        );
    }

    fn set_block_len(settings: &mut RunSettings, block_len: usize) {
        let NetworkConfig::Diffusion(sizes) = &mut settings.network else {
            panic!("a diffusion transformer")
        };
        sizes.block_len = block_len;
    }

    #[test]
    fn choices_are_read_as_they_are_written() {
        for text in ["", "search", "0.001..1", "0.45..0.95"] {
            assert_eq!(String::from(ClipChoice::try_from(text.to_owned()).unwrap()), text);
        }
        let error = ClipChoice::try_from("0.5..0.2".to_owned()).unwrap_err().to_string();
        assert!(
            error.starts_with("train.clip_interval = \"0.5..0.2\" is not allowed: \"\", \"search\""),
            "{error}"
        );
    }

    #[test]
    fn what_an_interval_does_not_go_with_is_refused_by_key() {
        refused(|settings| settings.schedule = Schedule::Cosine, "search", "\"\" unless schedule.kind is");
        let baseline = NetworkConfig::named("autoregressive").unwrap();
        refused(|settings| settings.network = baseline, "0.001..1", "\"\" for the autoregressive network");
        // Blocks of one token have the two digits of ℓ = 2.
        refused(|settings| set_block_len(settings, 1), "0.6..0.7", "an interval that holds a share k/N");
        refused(|settings| set_block_len(settings, 1), "0.001..0.4", "an interval that holds a share k/N");
    }

    #[test]
    fn the_last_block_may_be_shorter() {
        assert_eq!(block_digits(10, 4, 2), [8, 4]);
        assert_eq!(block_digits(8, 4, 1), [4]);
        assert_eq!(block_digits(3, 4, 1), [3]);
        assert_eq!(block_digits(8, 0, 3), [24]);
    }
}
