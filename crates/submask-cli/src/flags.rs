//! The flags of settings: the library names settings and fields, people who typed flags are told of flags.

/// Settings and fields that flags of a verb give, and those flags.
pub struct Flags(&'static [(&'static str, &'static str)]);

/// Those of `submask import`.
pub const IMPORT: Flags = Flags(&[
    ("weights", "--weights"),
    ("vocab_size", "--vocab-size"),
    ("codes.subtokens", "--subtokens"),
    ("model.heads", "--heads"),
    ("model.seq_len", "--seq-len"),
    ("model.block_len", "--block-len"),
    ("height", "--height"),
    ("width", "--width"),
    ("model.head_channels", "--head-channels"),
    ("codes.carry_over", "--carry-over"),
    ("model.time_conditioning", "--time-conditioning"),
    ("codes.assignment.path", "--permutation"),
    ("tokenizer", "--tokenizer"),
    ("tokenizer.end_of_text", "--end-of-text"),
    ("to", "--to"),
    ("the network", "the network by flags"),
]);

/// Those of `submask export`.
pub const EXPORT: Flags = Flags(&[("to", "--to")]);

/// Those of `submask sample`.
pub const SAMPLE: Flags = Flags(&[
    ("num", "--num"),
    ("first_sequence", "--first-sequence"),
    ("prompt", "--prompt"),
    ("length", "--length"),
    ("window", "--window"),
    ("steps", "--steps"),
    ("order", "--order"),
    ("per_step", "--per-step"),
    ("temperature", "--temperature"),
    ("top_p", "--top-p"),
    ("nucleus", "--nucleus"),
    ("top_k", "--top-k"),
    ("min_entropy", "--min-entropy"),
    ("entropy_window", "--entropy-window"),
    ("draw", "--draw"),
    ("warp", "--warp"),
    ("corrector", "--corrector"),
    ("batch", "--batch"),
    ("label", "--label"),
    ("trace", "--trace"),
]);

/// Those of `submask eval`.
pub const EVAL: Flags = Flags(&[
    ("estimator", "--estimator"),
    ("draws", "--draws"),
    ("steps", "--steps"),
    ("order", "--order"),
    ("per_step", "--per-step"),
    ("batch", "--batch"),
    ("end", "--end"),
    ("stride", "--stride"),
    ("images", "--data"),
    ("labels", "--labels"),
]);

/// Those of `submask score`.
pub const SCORE: Flags = Flags(&[
    ("estimator", "--estimator"),
    ("draws", "--draws"),
    ("steps", "--steps"),
    ("order", "--order"),
    ("per_step", "--per-step"),
    ("batch", "--batch"),
    ("end", "--end"),
    ("stride", "--stride"),
]);

/// Those of `submask serve`.
#[cfg(feature = "serve")]
pub const SERVE: Flags = Flags(&[
    ("model", "MODEL"),
    ("addr", "--addr"),
    ("token", "--token-file"),
    ("insecure", "--insecure"),
    ("cors", "--cors"),
    ("max_batch", "--max-batch"),
    ("max_queue", "--max-queue"),
    ("max_tokens", "--max-tokens"),
    ("max_choices", "--max-choices"),
    ("max_body", "--max-body"),
    ("max_large_body", "--max-large-body"),
    ("max_connections", "--max-connections"),
    ("timeout", "--timeout"),
    ("header_timeout", "--header-timeout"),
    ("body_timeout", "--body-timeout"),
    ("slow_reader", "--slow-reader"),
    ("stream_buffer", "--stream-buffer"),
]);

impl Flags {
    /// The flag that gives a setting, or the setting where there is none. What samples are drawn by stands in the section
    /// `sample` of settings.
    pub fn of<'a>(&self, key: &'a str) -> &'a str {
        let field = key.strip_prefix("sample.").unwrap_or(key);
        self.0.iter().find_map(|(setting, flag)| (*setting == field).then_some(*flag)).unwrap_or(key)
    }

    /// The error of the library with flags in the place of the settings that they give.
    pub fn name_in(&self, error: submask::Error) -> submask::Error {
        error.rename_field(|field| field.split(", ").map(|key| self.of(key)).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn every_flag_is_one_of_its_verb() {
        let verbs = [
            ("import", IMPORT),
            ("export", EXPORT),
            ("sample", SAMPLE),
            ("eval", EVAL),
            ("score", SCORE),
            #[cfg(feature = "serve")]
            ("serve", SERVE),
        ];
        for (verb, Flags(flags)) in verbs {
            let cli = Cli::command();
            let verb = cli.find_subcommand(verb).unwrap();
            let known: Vec<String> = verb
                .get_arguments()
                .filter_map(|arg| arg.get_long())
                .map(|long| format!("--{long}"))
                .collect();
            for (_, flag) in flags.iter().filter(|(_, flag)| flag.starts_with("--")) {
                assert!(known.iter().any(|known| known == flag), "{flag} of {}", verb.get_name());
            }
        }
    }

    #[test]
    fn fields_and_keys_become_flags() {
        let name = |field: &str| {
            let error = submask::Error::invalid(field, 2.0, "a number in (0, 1]");
            SAMPLE.name_in(error).to_string()
        };
        assert_eq!(name("top_p"), "--top-p = 2 is not allowed: a number in (0, 1]");
        assert_eq!(name("sample.top_p"), "--top-p = 2 is not allowed: a number in (0, 1]");
        assert!(name("codes.subtokens").starts_with("codes.subtokens = 2"));
    }
}
