//! The flags of settings: the library names settings, people who typed flags are told of flags.

/// Settings that a flag of `submask import` gives, and the flag.
const IMPORT: [(&str, &str); 14] = [
    ("weights", "--weights"),
    ("vocab_size", "--vocab-size"),
    ("codes.subtokens", "--subtokens"),
    ("model.heads", "--heads"),
    ("model.seq_len", "--seq-len"),
    ("height", "--height"),
    ("width", "--width"),
    ("model.head_channels", "--head-channels"),
    ("codes.carry_over", "--carry-over"),
    ("model.time_conditioning", "--time-conditioning"),
    ("codes.assignment.path", "--permutation"),
    ("tokenizer", "--tokenizer"),
    ("to", "--to"),
    ("the network", "the network by flags"),
];

/// The flag that gives a setting, or the setting where there is none.
pub fn of(key: &str) -> &str {
    IMPORT.iter().find_map(|(setting, flag)| (*setting == key).then_some(*flag)).unwrap_or(key)
}

/// The error of the library with flags in the place of the settings that they give.
pub fn name_them(error: submask::Error) -> submask::Error {
    match error {
        submask::Error::Invalid { field, given, allowed } => {
            let field = field.split(", ").map(of).collect::<Vec<_>>().join(", ");
            submask::Error::Invalid { field, given, allowed }
        }
        error => error,
    }
}
