//! What the network is: from the shapes of its weights where they say it, else from the flags, else from the file's
//! configuration, else by a default, else unknown.

use std::fmt::Display;

use serde::Serialize;

use crate::{Error, Result};

/// Where a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The shapes of the weights.
    Shapes,
    /// The caller.
    Flag,
    /// The configuration in the file.
    Config,
    /// Nothing says otherwise.
    Default,
}

/// A setting of the network, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its key, as in `settings.toml`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Everything that was decided, and what could not be.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// Settings in the order in which they were decided.
    pub settings: Vec<Setting>,
    /// The settings that are not known.
    pub unknown: Vec<&'static str>,
    /// What helps to find them.
    pub hints: Vec<String>,
}

/// What the sources say of one setting.
pub(super) struct Sources<T> {
    /// The shapes; no other source may contradict them.
    pub shapes: Option<T>,
    /// The caller.
    pub flag: Option<T>,
    /// The configuration in the file.
    pub config: Option<T>,
    /// What holds if nothing is said; `None`: it has to be.
    pub default: Option<T>,
}

impl<T> Default for Sources<T> {
    fn default() -> Self {
        Self { shapes: None, flag: None, config: None, default: None }
    }
}

impl Decisions {
    /// Decides a setting. What is unknown is noted, and `placeholder` returned in its place.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a flag that contradicts the shapes.
    pub(super) fn decide<T: Clone + PartialEq + Display>(
        &mut self,
        key: &'static str,
        sources: Sources<T>,
        placeholder: T,
    ) -> Result<T> {
        if let (Some(shapes), Some(given)) = (&sources.shapes, &sources.flag)
            && shapes != given
        {
            let allowed = format!("{shapes}, as the shapes of the weights say: leave it out");
            return Err(Error::invalid(key, given, allowed));
        }
        let all = [
            (sources.shapes, Origin::Shapes),
            (sources.flag, Origin::Flag),
            (sources.config, Origin::Config),
            (sources.default, Origin::Default),
        ];
        match all.into_iter().find_map(|(value, origin)| Some((value?, origin))) {
            Some((value, origin)) => {
                self.settings.push(Setting { key, value: value.to_string(), origin });
                Ok(value)
            }
            None => {
                self.unknown.push(key);
                Ok(placeholder)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_come_first_and_may_not_be_contradicted() {
        let mut decisions = Decisions::default();
        let mut heads = |shapes, flag, config, default| {
            decisions.decide("model.heads", Sources { shapes, flag, config, default }, 1usize)
        };
        assert_eq!(heads(Some(4), None, Some(8), None).unwrap(), 4);
        assert_eq!(heads(None, Some(2), Some(8), None).unwrap(), 2);
        assert_eq!(heads(None, None, Some(8), Some(3)).unwrap(), 8);
        assert_eq!(heads(None, None, None, Some(3)).unwrap(), 3);
        assert_eq!(heads(None, None, None, None).unwrap(), 1);
        let error = heads(Some(4), Some(2), None, None).unwrap_err().to_string();
        assert!(error.contains("model.heads = 2") && error.contains("4, as the shapes"), "{error}");
        let origins: Vec<_> = decisions.settings.iter().map(|setting| setting.origin).collect();
        assert_eq!(origins, [Origin::Shapes, Origin::Flag, Origin::Config, Origin::Default]);
        assert_eq!(decisions.unknown, ["model.heads"]);
    }
}
