"""Tiny models of every kind for compare_versions.py: their data, how they are trained, and what is asked of them.

All data are written here, from a generator of their own, so they are the same on every machine.
"""

import dataclasses
import json
import pathlib
import struct
import zlib

STEPS = 8
"""Steps of a whole run."""
HALF = 4
"""Steps after which a run is stopped, to be resumed."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A question to a model: `submask VERB MODEL ARGUMENTS`."""

    name: str
    verb: str
    arguments: tuple[str, ...]
    printed: str = "json"
    """What stands on standard output: `json`; `lines`, which are compared as they are; or `nothing` of interest."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of model."""

    name: str
    train: tuple[str, ...]
    """Arguments of `submask train`; the placeholder `{data}` stands for the folder of data, here and in calls."""
    settings: dict[str, str]
    calls: tuple[Call, ...]
    """Asked of a run, in every combination of threads and batch."""
    folder_calls: tuple[Call, ...]
    """Asked of a copy of the model folder, which is in no run."""


# Data


class Numbers:
    """A small generator of whole numbers (Knuth's MMIX constants, the upper bits)."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, bound: int) -> int:
        """A number in 0 .. bound - 1."""
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % bound


WORDS = (
    "the sea is wide and a ship small old wind from north over waves light of harbour rope sail deep blue night "
    "morning captain looks at stars water carries salt home far stone bird"
).split()


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of 4 to 11 words."""
    numbers = Numbers(seed)
    return [
        " ".join(WORDS[numbers.below(len(WORDS))] for _ in range(4 + numbers.below(8))) for _ in range(count)
    ]


def paragraphs(count: int, seed: int) -> str:
    """Text of paragraphs of three sentences, with punctuation and one character beyond ASCII."""
    lines = sentences(3 * count, seed)
    text = [". ".join(lines[i : i + 3]) + ".\n" for i in range(0, len(lines), 3)]
    return "\n".join(text).replace("morning", "morgen für")


def write_png(path: pathlib.Path, width: int, channels: int, pixels: bytes) -> None:
    """Writes an 8-bit picture, grey (1 channel) or in colour (3)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    row = width * channels
    height = len(pixels) // row
    rows = b"".join(b"\0" + pixels[i * row : (i + 1) * row] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def write_codes(path: pathlib.Path, count: int) -> None:
    """Writes a table of codes: a permutation of 0 .. count - 1 in safetensors."""
    numbers, table = Numbers(5), list(range(count))
    for i in range(count - 1, 0, -1):
        j = numbers.below(i + 1)
        table[i], table[j] = table[j], table[i]
    content = struct.pack(f"<{count}q", *table)
    header = {"permutation": {"dtype": "I64", "shape": [count], "data_offsets": [0, len(content)]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def picture(size: int, channels: int, seed: int, tint: int) -> bytes:
    """A gradient with noise; `tint` is the channel that is brightest."""
    numbers = Numbers(seed)
    return bytes(
        min(255, 12 * row + 10 * column + 90 * (channel == tint) + numbers.below(40))
        for row in range(size)
        for column in range(size)
        for channel in range(channels)
    )


def write_data(folder: pathlib.Path) -> None:
    """Writes all corpora and pictures into `folder`."""
    folder.mkdir(parents=True)
    (folder / "text.txt").write_text(paragraphs(120, 1), encoding="utf-8")
    (folder / "short.txt").write_text(paragraphs(7, 2), encoding="utf-8")
    (folder / "other-text.txt").write_text(paragraphs(5, 3), encoding="utf-8")
    (folder / "letters.txt").write_text(" ".join(sentences(300, 4)), encoding="utf-8")
    (folder / "other-short.txt").write_text(". ".join(sentences(9, 9)).replace("morning", "für"), encoding="utf-8")
    (folder / "other-letters.txt").write_text(" ".join(sentences(9, 8)), encoding="utf-8")
    for name, count, seed in [("numbers.txt", 4000, 6), ("other-numbers.txt", 120, 7)]:
        numbers = Numbers(seed)
        # Small numbers, and some of the whole range.
        tokens = (numbers.below(5000 if numbers.below(4) == 0 else 40) for _ in range(count))
        (folder / name).write_text(" ".join(map(str, tokens)), encoding="utf-8")
    for name, count, seed in [("pairs.jsonl", 120, 10), ("other-pairs.jsonl", 9, 11)]:
        words = " ".join(sentences(count, seed)).split()
        pairs = ({"prompt": f"{words[2 * i]} ", "completion": words[2 * i + 1]} for i in range(count))
        (folder / name).write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    write_codes(folder / "codes.safetensors", 17**2)
    for tint, colour in enumerate(["red", "green", "blue"]):
        for i in range(10):
            write_png(folder / "pictures" / colour / f"{i:02}.png", 8, 3, picture(8, 3, 10 * tint + i + 1, tint))
    write_png(folder / "given.png", 8, 3, picture(8, 3, 99, 1))
    mask = bytes(255 if column >= 4 else 0 for _ in range(8) for column in range(8) for _ in range(3))
    write_png(folder / "mask.png", 8, 3, mask)
    grey = [picture(8, 1, 200 + i, -1) for i in range(24)]
    (folder / "grey.idx").write_bytes(struct.pack(">IIII", 0x803, len(grey), 8, 8) + b"".join(grey))
    labels = bytes(i % 10 for i in range(len(grey)))
    (folder / "labels.idx").write_bytes(struct.pack(">II", 0x801, len(labels)) + labels)
    dark = bytes(0 if (row * column) % 5 == 0 else 255 - 10 * row for row in range(16) for column in range(16))
    write_png(folder / "density.png", 16, 1, dark)


# Questions


def evaluate(name: str, *arguments: str) -> Call:
    """Figures."""
    return Call(f"eval, {name}", "eval", (*arguments, "--json"))


def sample(name: str, *arguments: str) -> Call:
    """Samples as JSON, and of images pictures too."""
    return Call(f"sample, {name}", "sample", (*arguments, "--json"))


ESTIMATORS = (
    evaluate("nelbo-subtoken", "--estimator", "nelbo-subtoken", "--draws", "3", "--sequences", "5"),
    evaluate("nelbo-token", "--estimator", "nelbo-token", "--draws", "2", "--sequences", "5"),
    evaluate("path, 8 steps", "--estimator", "path", "--steps", "8", "--draws", "2", "--sequences", "5"),
    evaluate("path, the model's steps", "--estimator", "path", "--sequences", "3"),
    evaluate("exact", "--estimator", "exact", "--sequences", "3"),
    evaluate("joint-objective", "--estimator", "joint-objective", "--draws", "2", "--sequences", "5"),
    evaluate("another seed", "--seed", "3", "--sequences", "10"),
)

PLAIN = ("--temperature", "1", "--top-p", "1", "--num", "9", "--seed", "5")


def text_samples(prompt: str, beginning: str) -> tuple[Call, ...]:
    """What is sampled of text: `prompt` has holes, `beginning` is continued."""
    return (
        sample("grid", "--steps", "8", *PLAIN),
        sample("first-hitting", "--steps", "exact", *PLAIN),
        sample("whole tokens, grid", "--unit", "token", "--steps", "6", *PLAIN),
        sample("whole tokens, first-hitting", "--unit", "token", "--steps", "exact", *PLAIN),
        sample("the model's settings", "--num", "9", "--length", "11"),
        sample("temperature and nucleus", "--temperature", "0.8", "--top-p", "0.7", "--num", "9"),
        sample("top-k", "--top-k", "5", "--steps", "exact", "--num", "9", "--seed", "2"),
        sample("prompt with holes", "--prompt", prompt, *PLAIN),
        sample("beginning", "--prompt", beginning, "--num", "9", "--steps", "exact"),
        Call("sample, trace", "sample", ("--trace", "--prompt", prompt, "--num", "2"), "lines"),
    )


def folder_calls(other: str, *more: str) -> tuple[Call, ...]:
    """Asked of a model that is in no run, which is evaluated on other data."""
    given = ("--data", f"{{data}}/{other}", *more, "--sequences", "4")
    return evaluate("other data", *given), sample("the model's settings", "--num", "3")


# Kinds

TEXT = {
    "tokenizer.kind": "bytes",
    "data.valid_fraction": "0.1",
    "model.hidden": "24",
    "model.heads": "2",
    "model.blocks": "2",
    "model.cond_dim": "16",
    "model.seq_len": "16",
    "sample.steps": "8",
}

TRAIN = {
    "train.batch_size": "4",
    "train.warmup_steps": "2",
    "train.learning_rate": "1e-2",
    "train.ema_decay": "0.7",
    "train.log_every": "1",
    "train.validate_every": "3",
    "train.validate_sequences": "4",
    "train.validate_samples": "1",
    "train.final_sequences": "4",
    "train.final_draws": "2",
    "train.final_samples": "2",
    "train.checkpoint_every": "4",
    "train.keep_checkpoints": "9",
}


def text(name: str, subtokens: int, objective: str, more: dict[str, str], corpus: str = "text") -> Kind:
    """A diffusion model of text."""
    numbers = corpus == "numbers"
    prompts = ("3 [[4]] 7 [[*]]", "3 1") if numbers else ("the [[3]] ship [[2]]", "a wind ")
    return Kind(
        name,
        ("--data", f"{{data}}/{corpus}.txt", "--subtokens", str(subtokens), "--objective", objective),
        TRAIN | TEXT | more,
        (*ESTIMATORS, *text_samples(*prompts)),
        folder_calls(f"other-{corpus}.txt"),
    )


def autoregressive(name: str, subtokens: int, more: dict[str, str]) -> Kind:
    """The baseline, which has one estimator and continues beginnings."""
    calls = (
        evaluate("exact", "--sequences", "5"),
        sample("plain", *PLAIN),
        sample("the model's settings", "--num", "9", "--length", "11"),
        sample("temperature and nucleus", "--temperature", "0.8", "--top-p", "0.7", "--num", "9"),
        sample("top-k", "--top-k", "5", "--num", "9", "--seed", "2"),
        sample("beginning", "--prompt", "a wind [[*]]", "--num", "9"),
    )
    train = ("--data", "{data}/text.txt", "--subtokens", str(subtokens))
    settings = TRAIN | TEXT | {"model.network": "autoregressive"} | more
    return Kind(name, train, settings, calls, folder_calls("other-text.txt"))


def pairs(name: str, more: dict[str, str]) -> Kind:
    """A model of prompts and completions."""
    fields = {"data.prompt_field": "prompt", "data.completion_field": "completion"}
    calls = (
        evaluate("the model's estimator", "--sequences", "5"),
        evaluate("another seed", "--seed", "3", "--sequences", "10"),
        sample("beginning", "--prompt", "ship ", "--num", "9"),
    )
    train = ("--data", "{data}/pairs.jsonl", "--subtokens", "2")
    return Kind(name, train, TRAIN | TEXT | fields | more, calls, folder_calls("other-pairs.jsonl"))


IMAGES = TRAIN | {
    "data.height": "8",
    "data.width": "8",
    "data.valid_fraction": "0.2",
    "model.model_channels": "32",
    "model.channel_mult": "[3]",
    "model.attention_resolutions": "[1]",
    "model.head_channels": "32",
    "train.batch_size": "2",
    "train.learning_rate": "1e-3",
    "train.validate_sequences": "2",
    "train.final_sequences": "3",
    "sample.steps": "4",
}

IMAGE_ESTIMATORS = (
    evaluate("nelbo-subtoken", "--draws", "2", "--sequences", "3"),
    evaluate("nelbo-token", "--estimator", "nelbo-token", "--draws", "2", "--sequences", "3"),
    evaluate("path, 6 steps", "--estimator", "path", "--steps", "6", "--draws", "2", "--sequences", "3"),
    evaluate("path, the model's steps", "--estimator", "path", "--sequences", "2"),
    evaluate("joint-objective", "--estimator", "joint-objective", "--draws", "2", "--sequences", "3"),
    evaluate("another seed", "--seed", "3"),
)
"""All but the exact likelihood, which takes an evaluation per token."""

EXACT_IMAGE = evaluate("exact", "--estimator", "exact", "--sequences", "1")

IMAGE_SAMPLES = (
    sample("the model's settings", "--num", "3"),
    sample("marginal draws", "--draw", "marginal", "--steps", "6", "--num", "3", "--seed", "5"),
    sample("corrector", "--corrector", "4,1,0", "--num", "3"),
    sample(
        "corrector, marginal draws, warp",
        *("--corrector", "4,0.5,1", "--draw", "marginal", "--warp", "1,1.5,0", "--num", "3", "--steps", "6"),
    ),
    sample("preset", "--preset", "cifar10-prime-l2-nfe512", "--steps", "8", "--num", "2"),
    sample("temperature in time", "--temperature", "-0.2,0.75,1", "--num", "3", "--carry-over", "true"),
    Call("sample, trace", "sample", ("--trace", "--num", "2"), "nothing"),
)

GIVEN = ("--given", "{data}/given.png")

FILLING = (
    sample("the first digit given", *GIVEN, "--keep-digits", "1", "--corrector", "6,1,0", "--num", "2"),
    sample("half of a picture given", *GIVEN, "--mask", "{data}/mask.png", "--num", "2"),
    sample("two channels given", *GIVEN, "--keep-channels", "0,2", "--draw", "marginal"),
)

CLASSES = (
    sample("a class", "--label", "1", "--num", "2"),
    sample("a mixture of classes", "--label", "mixture", "--num", "2", "--temperature", "-0.2,0.75,1"),
)

METRICS = Call("metrics", "metrics", ("--num", "4", "--sequences", "8", "--steps", "4", "--json"))

PICTURES = ("--preset", "emoji", "--data", "{data}/pictures")
PICTURE_SET = {"data.set": "pictures", "data.labelled": "true", "data.flips": "false"}
AS_PICTURES = folder_calls("pictures", "--images", "pictures")


def kinds() -> list[Kind]:
    """All kinds."""
    return [*text_kinds(), *image_kinds(), *point_kinds()]


def text_kinds() -> list[Kind]:
    """Diffusion models of text, and the baseline."""
    shuffled = {"model.codes": "shuffled", "model.codes_seed": "3"}
    table = {"model.codes": "table", "model.codes_path": "{data}/codes.safetensors"}
    # Batches so large that the short text is read more than once.
    characters = {"tokenizer.kind": "characters", "train.batch_size": "12"}
    bpe = {"tokenizer.kind": "bpe", "tokenizer.vocab_size": "300"}
    encoder = {"model.network": "encoder", "model.query_groups": "1", "model.intermediate": "32"}
    linear, cosine = {"schedule.kind": "linear"}, {"schedule.kind": "cosine"}
    log_linear = {"schedule.kind": "log-linear", "schedule.epsilon": "2e-3"}
    polynomial = {"schedule.kind": "polynomial", "schedule.exponent": "2.0"}
    concatenated = {"model.embedding": "per-digit-concatenated"}
    summed = {"model.embedding": "per-digit-summed"}
    time = {"model.time_conditioning": "true"}
    return [
        text("mdm", 1, "joint", linear | time),
        text("mdm-characters", 1, "marginal", log_linear | characters, "short"),
        text("prime-2-joint", 2, "joint", log_linear | {"train.accumulate": "2"}),
        text("prime-2-marginal", 2, "marginal", bpe | polynomial | {"model.dropout": "0.1"}),
        text("prime-3-joint", 3, "joint", cosine | {"tokenizer.kind": "text8"}, "letters"),
        text("prime-3-marginal", 3, "marginal", time | concatenated | {"data.block_ends": "true"}),
        text("prime-4-joint", 4, "joint", polynomial | {"model.dropout": "0.2", "train.accumulate": "3"}),
        text("prime-4-marginal", 4, "marginal", summed | {"train.decay": "constant", "train.clip": "0.1"}),
        text("shuffled-codes", 2, "marginal", shuffled | {"train.adamw.weight_decay": "0.1"}),
        text("table-of-codes", 2, "joint", table),
        text("no-carry-over", 3, "cross-entropy", {"model.carry_over": "false"}),
        text(
            "thirteen-bits",
            13,
            "marginal",
            {"tokenizer.kind": "numbers", "tokenizer.vocab_size": "5000", "model.hidden": "26", "model.heads": "1"},
            "numbers",
        ),
        text("gpt2", 4, "joint", log_linear | {"tokenizer.kind": "gpt2", "train.batch_size": "2"}),
        text("encoder", 3, "joint", encoder | concatenated | shuffled | {"model.dropout": "0.1"}),
        text("encoder-summed", 2, "marginal", encoder | summed | cosine | bpe | {"model.query_groups": "0"}),
        autoregressive("autoregressive", 1, {"model.dropout": "0.1", "train.accumulate": "2"}),
        autoregressive("autoregressive-2", 2, bpe | shuffled),
        pairs("pairs", log_linear),
        pairs("pairs-autoregressive", {"model.network": "autoregressive"}),
    ]


def image_kinds() -> list[Kind]:
    """U-Nets."""
    wide = {"model.channel_mult": "[1, 2]", "model.attention_resolutions": "[2]"}
    classes = {"model.class_conditional": "true"}
    grey = ("--preset", "fashion", "--data", "{data}/grey.idx")
    idx = {"data.set": "idx", "data.labels": "{data}/labels.idx", "data.valid_fraction": "0.3"}
    grey_calls = (*IMAGE_ESTIMATORS, EXACT_IMAGE, *IMAGE_SAMPLES, *CLASSES, *FILLING[:2])
    return [
        Kind(
            "emoji",
            ("--preset", "emoji"),
            IMAGES | {"train.accumulate": "2"},
            (*IMAGE_ESTIMATORS, *IMAGE_SAMPLES, *FILLING, METRICS),
            AS_PICTURES,
        ),
        Kind(
            "pictures-with-classes",
            (*PICTURES, "--subtokens", "4", "--objective", "joint"),
            IMAGES | PICTURE_SET | classes | {"model.dropout": "0.1", "model.carry_over": "false"},
            (*IMAGE_ESTIMATORS, *IMAGE_SAMPLES, *CLASSES, evaluate("carry-over", "--carry-over", "true")),
            AS_PICTURES,
        ),
        Kind(
            "pictures-mdm",
            (*PICTURES, "--subtokens", "1"),
            IMAGES | PICTURE_SET | {"schedule.kind": "cosine", "sample.corrector": "[4.0, 1.0, 0.0]"},
            (*IMAGE_ESTIMATORS, *IMAGE_SAMPLES, *FILLING),
            AS_PICTURES,
        ),
        Kind(
            "super-tokens",
            PICTURES,
            IMAGES | PICTURE_SET | wide | {"model.super_tokens": "true", "sample.draw": "marginal"},
            (*IMAGE_ESTIMATORS, *IMAGE_SAMPLES, *FILLING[:2]),
            AS_PICTURES,
        ),
        Kind(
            "grey-with-classes",
            (*grey, "--objective", "marginal"),
            IMAGES | wide | classes | idx,
            grey_calls,
            folder_calls("grey.idx", "--images", "idx", "--labels", "{data}/labels.idx"),
        ),
    ]


def point_kinds() -> list[Kind]:
    """Points of a picture."""
    train = ("--preset", "toy", "--image", "{data}/density.png")
    points = {"data.cells": "16", "model.hidden": "16", "train.batch_size": "32", "train.final_samples": "20"}
    estimators = (
        evaluate("nelbo-subtoken", "--draws", "2", "--sequences", "40"),
        evaluate("nelbo-token", "--estimator", "nelbo-token", "--sequences", "40"),
        evaluate("path, 6 steps", "--estimator", "path", "--steps", "6", "--sequences", "40"),
        evaluate("exact", "--estimator", "exact", "--sequences", "40"),
        evaluate("joint-objective", "--estimator", "joint-objective", "--sequences", "40"),
    )
    samples = (
        # More than are sampled in one part.
        sample("the model's settings", "--num", "300"),
        sample("marginal draws", "--draw", "marginal", "--num", "30", "--temperature", "0.7"),
        sample("corrector", "--corrector", "4,1,0", "--num", "30", "--steps", "8", "--warp", "1,1.5,0"),
    )
    of_folder = (sample("the model's settings", "--num", "30"),)
    return [
        Kind("points", train, TRAIN | points, (*estimators, *samples), of_folder),
        Kind(
            "points-mdm",
            (*train, "--subtokens", "1", "--objective", "joint"),
            TRAIN | points | {"train.accumulate": "2", "model.dropout": "0.1", "model.carry_over": "false"},
            (*estimators, *samples),
            of_folder,
        ),
    ]
