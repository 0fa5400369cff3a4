"""Small runs by the names that the documents use, trained by the program in seconds."""

from __future__ import annotations

import subprocess
from pathlib import Path

WORDS = (
    "the sea is wide and a ship small old wind from north over waves light of harbour rope sail deep blue night lantern case "
    "for star water carries salt home far stone bird"
).split()

TRAIN = {
    "train.batch_size": "8",
    "train.warmup_steps": "4",
    "train.learning_rate": "1e-2",
    "train.ema_decay": "0.9",
    "train.validate_every": "1000",
    "train.validate_sequences": "4",
    "train.validate_samples": "1",
    "train.final_sequences": "4",
    "train.final_draws": "2",
    "train.final_samples": "2",
}

TEXT = TRAIN | {
    "data.split": "paragraph",
    "data.valid_fraction": "0.1",
    "tokenizer.kind": "bpe",
    "tokenizer.vocab_size": "320",
    "model.hidden": "24",
    "model.heads": "2",
    "model.blocks": "1",
    "model.seq_len": "64",
    "sample.steps": "32",
}

#: Name, flags, settings.
RUNS = (
    ("dictionary", ("--data", "words.txt", "--subtokens", "2", "--steps", "60"), TEXT | {"model.cond_dim": "16"}),
    ("baseline", ("--data", "words.txt", "--steps", "60"), TEXT | {"model.network": "autoregressive"}),
    (
        "dictionary-block",
        ("--data", "words.txt", "--subtokens", "2", "--steps", "20"),
        TEXT | {"model.cond_dim": "16", "model.block_len": "8", "sample.steps": "8"},
    ),
    (
        "emoji",
        ("--preset", "emoji", "--steps", "2"),
        TRAIN
        | {
            "data.height": "8",
            "data.width": "8",
            "model.model_channels": "32",
            "model.channel_mult": "[3]",
            "model.attention_resolutions": "[1]",
            "model.head_channels": "32",
            "train.batch_size": "2",
            "train.validate_samples": "0",
            "train.final_samples": "1",
            "sample.steps": "8",
        },
    ),
)


def words() -> str:
    """Entries of a word, a colon, and words."""
    state, entries = 1, []
    for _ in range(400):
        chosen = []
        for _ in range(9):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            chosen.append(WORDS[(state >> 33) % len(WORDS)])
        entries.append(f"{chosen[0]}: {chosen[1].capitalize()} {' '.join(chosen[2 : 3 + state % 7])}.")
    return "\n\n".join(entries) + "\n"


def write(program: str | Path, folder: Path, *names: str) -> Path:
    """Trains runs, all unless named, in `folder`/runs, and gives the folder."""
    (folder / "words.txt").write_text(words(), encoding="utf-8")
    for name, flags, settings in RUNS:
        if names and name not in names:
            continue
        pairs = [f"{key}={value}" for key, value in settings.items()]
        command = [str(program), "train", "--out", f"runs/{name}", *flags, "--set", *pairs]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder
