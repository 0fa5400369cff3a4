#!/usr/bin/env bash
# Counts by which the upper half of the library and the program are judged. Every count is printed below the command
# that makes it; without the last part of that command one sees the places that are counted.
#
#     scripts/count_house.sh [TREE]    TREE: a checkout [default: this one]
set -euo pipefail
export LC_ALL=C.UTF-8
cd "${1:-"$(dirname "$0")/.."}"
library=crates/submask/src program=crates/submask-cli/src

# All Rust files below some folders but those of tests, in order. Folders that are not there count nothing.
rust() { find "$@" -name '*.rs' ! -name tests.rs ! -path '*/tests/*' 2>/dev/null | sort || true; }

# FILE:LINE: TEXT of files without what stands below #[cfg(test)] or #[cfg(all(test, …))]: an item up to the brace in
# the column in which it began (the code is formatted by rustfmt), or up to its semicolon.
without_tests() {
    xargs -r awk '
        FNR == 1 { part = "code" }
        part == "code" && /^ *#\[cfg\((all\()?test[,)]/ {
            match($0, /^ */); margin = substr($0, 1, RLENGTH); part = "head"; next
        }
        part == "head" { if (/\{$/) part = "body"; else if (/[;}]$/) part = "code"; next }
        part == "body" { if ($0 == margin "}") part = "code"; next }
        { print FILENAME ":" FNR ": " $0 }'
}

# The same without comments, empty lines and imports.
code() { without_tests | grep -vE '^[^:]+:[0-9]+: *(//|(pub )?use |$)'; }

# Lines, and the files in which they stand.
lines() { awk -F: '{ files[$1] } END { for (file in files) count++; print NR " lines in " count + 0 " files" }'; }

# Runs a command that is shown. To find nothing, which grep calls 1, is no failure.
show() { printf '$ %s\n' "$1" && { eval "$1" || [ $? -eq 1 ]; } && echo; }

heading() { printf '## %s\n\n' "$1"; }

heading 'Lines without tests'
for folder in "$library/model" "$library/train" "$program"; do show "rust $folder | without_tests | lines"; done
show "rust $library/model $library/train $program | without_tests | lines"
show "rust $library/model $library/train $program | code | lines"

# Rooms in which a kind of subject may be asked for: those of subjects, of data and of other programs' files, what the
# program shows, and its table of flags. `model/visual/config.rs` is where the subject was defined before it had a room.
rooms="$library/(model/subject|train/subject|data|import)/|$library/model/(subject|visual/config)\.rs"
rooms+="|$program/(subject/|present/|args/fits\.rs)"
# A variant of an enum over kinds of subjects, by whatever name the enum goes. `Part::Text` is the text between holes of
# a prompt, `Purpose::Point` a purpose of random draws. A table of presets says of which subject each is: no question.
variant='\b[A-Z][A-Za-z]*::(Text|Visual|Images?|Points?|Density)\b'
no_question='\b(Part::Text|Purpose::Point)\b|Preset::new\('
# A file or table is looked into to see of which kind it is.
sniffed='\b(Visual|Model)Config::is_in\b|"(unet|toy)"( \||\)? =>|\))'
# A subject is asked whether it is an image, or by a method of that name.
asked='\bimage_shape\(\)|\.(is|as|into)_(text|image|visual|point)s?\('
# A flag is refused because of the subject.
refused='\b(has|have) a meaning for\b'

heading 'Places outside the rooms of subjects that ask for the kind of subject'
printf 'rooms="%s"\nno_question="%s"\n\n' "$rooms" "$no_question"
outside() { rust "$library" "$program" | grep -vE "$rooms" | code | grep -vE "$no_question"; }
for pattern in "$variant" "$sniffed" "$asked" "$refused"; do show "outside | grep -E '$pattern' | lines"; done
echo 'any of them:'
show "outside | grep -E '$variant|$sniffed|$asked|$refused' | lines"
show "outside | grep -E '$variant|$sniffed|$asked|$refused' | cut -d: -f1 | uniq -c"

heading 'Networks that samplers and estimators take'
show "rust $library $program | code | grep -E '\bimpl(<.*>)? .*\bDenoiser for '"
show "rust $library $program | code | grep -cE '\bimpl(<.*>)? .*\bDenoiser for '"

# A loop of sampling is known by its call of a network; mixture.rs, a network made of others, passes such a call on.
heading 'Loops of sampling'
calls='\.(evaluate|evaluate_on_device|next_logits)\('
show "rust $library/sampler $library/model | grep -v /mixture.rs | code | grep -E '$calls'"
functions='\bfn (sample|generate|diffuse|continue|[a-z_]*round|[a-z_]*_step\b)'
show "rust $library/sampler $library/model | code | grep -E '$functions'"

# A training step is known by what it does to the norm of the gradients before it changes the weights.
heading 'Training steps'
clipping='clip_factor\(|\.clamp_max\(1\.0\)'
show "rust $library $program | code | grep -E '$clipping' | grep -v 'fn clip_factor'"

heading 'Pairs of like places'
if command -v duplicates >/dev/null; then
    pairs='duplicates --repo crates --most 200 --seconds 60'
    show "$pairs | sed -n 1p"
    show "$pairs | grep '^D' | grep -v boilerplate | grep -cvE '/(tests|benches|examples)/|tests\.rs'"
else
    echo 'skipped: the optional command duplicates is not installed'
fi
