"""Samples, scores and figures are the program's, bit for bit, of all kinds of model."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import submask
from as_program import lines, said, told, words
from numpy.typing import NDArray

TEXTS = ("mdm", "prime", "no-carry-over", "encoder", "autoregressive", "pairs", "blocks")
DIFFUSION = ("mdm", "prime", "no-carry-over", "encoder", "blocks")
PICTURES = ("images", "classes", "super-tokens")

SAMPLES: list[tuple[str, dict[str, Any]]] = [
    *((name, {"num": 3, "seed": 5}) for name in TEXTS),
    *((name, {"num": 2, "steps": 5, "temperature": 0.8, "top_p": 0.7, "first_sequence": 9}) for name in DIFFUSION),
    *((name, {"num": 2, "order": "confidence", "per_step": 2, "unit": "tokens"}) for name in DIFFUSION),
    *((name, {"steps": "first-hitting", "prompt": "the [[3]] ship [[2]]", "batch": 2}) for name in ("mdm", "prime", "encoder")),
    ("prime", {"num": 2, "length": 11, "draw": "marginal", "carry_over": True}),
    ("autoregressive", {"num": 3, "prompt": "a wind ", "top_k": 5, "length": 12}),
    ("pairs", {"num": 2, "prompt": "ship "}),
    ("blocks", {"num": 2, "length": 30, "window": "recomputed", "prompt": "a "}),
    ("blocks", {"length": 40, "min_entropy": 1.0, "entropy_window": 6}),
]


def cost(report: submask.Report) -> dict[str, int]:
    """As the program names it."""
    dropped = ("digits",) + tuple(name for name in ("clean_passes", "monotonous") if getattr(report, name) == 0)
    return {name: value for name, value in vars(report).items() if name not in dropped}


@pytest.mark.parametrize(("name", "arguments"), SAMPLES, ids=lambda value: value if isinstance(value, str) else "-".join(value))
def test_samples_of_text_are_the_programs(program: Path, models: Path, name: str, arguments: dict[str, Any]) -> None:
    expected = told(program, "sample", models / name, *words(arguments))
    samples = submask.Model.open(models / name).sample(**arguments)
    assert samples.texts == [sample["text"] for sample in expected["samples"]]
    assert [tokens.tolist() for tokens in samples.tokens] == [sample["tokens"] for sample in expected["samples"]]
    assert cost(samples.report) == expected["cost"]
    assert list(samples) == samples.texts and len(samples) == arguments.get("num", 1)


IMAGES: list[tuple[str, dict[str, Any]]] = [
    *((name, {"num": 2, "seed": 3}) for name in PICTURES),
    ("images", {"num": 2, "corrector": (4.0, 0.5, 1.0), "draw": "marginal", "warp": (1.0, 1.5, 0.0), "steps": 6}),
    ("images", {"num": 2, "temperature": (-0.2, 0.75, 1.0), "carry_over": True}),
    ("images", {"sampler": "cifar10-prime-l2-nfe512", "steps": 8}),
    ("classes", {"num": 2, "label": 1}),
    ("classes", {"label": "mixture"}),
]


def pixels_of_png(path: Path) -> NDArray[np.uint8]:
    """The pixels [h, w, 3] of a PNG with 8 bits per colour."""
    content, at, compressed = path.read_bytes(), 8, b""
    width, height, _, colours = struct.unpack(">IIBB", content[16:26])
    assert colours == 2
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        compressed += content[at + 8 : at + 8 + length] if content[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    raw = np.frombuffer(zlib.decompress(compressed), np.uint8).reshape(height, 3 * width + 1).astype(int)
    rows = np.zeros((height + 1, 3 * width + 3), int)
    for y in range(height):
        for x in range(3 * width):
            left, up, corner = rows[y + 1, x], rows[y, x + 3], rows[y, x]
            about = left + up - corner
            nearest = min((left, up, corner), key=lambda value: abs(about - value))
            before = (0, left, up, (left + up) // 2, nearest)[raw[y, 0]]
            rows[y + 1, x + 3] = (raw[y, x + 1] + before) % 256
    return rows[1:, 3:].reshape(height, width, 3).astype(np.uint8)


@pytest.mark.parametrize(("name", "arguments"), IMAGES, ids=lambda value: value if isinstance(value, str) else "-".join(value))
def test_images_are_the_programs(
    program: Path, models: Path, tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    picture = tmp_path / "samples.png"
    expected = told(program, "sample", models / name, *words(arguments), "--out", str(picture))
    model = submask.Model.open(models / name)
    samples = model.sample(**arguments)
    assert [tokens.tolist() for tokens in samples.tokens] == expected["samples"]
    assert cost(samples.report) == expected["cost"]
    assert model.image_shape is not None
    height, width, channels = model.image_shape
    assert samples.images.shape == (len(samples), height, width, channels) and samples.images.dtype == np.uint8
    # The program's picture: images side by side, enlarged, with white between.
    scale = max(64 // max(height, width), 1)
    drawn, columns = pixels_of_png(picture), int(np.ceil(np.sqrt(len(samples))))
    gap = (drawn.shape[1] - columns * width * scale) // (columns + 1)
    for n, image in enumerate(samples.images):
        top = gap + n // columns * (height * scale + gap)
        left = gap + n % columns * (width * scale + gap)
        shown = drawn[top : top + height * scale : scale, left : left + width * scale : scale]
        assert (shown == np.broadcast_to(image, (height, width, 3))).all()


def test_points_are_the_programs(program: Path, models: Path, tmp_path: Path) -> None:
    arguments = {"num": 300, "seed": 2}
    expected = told(program, "sample", models / "points", *words(arguments), folder=tmp_path)
    samples = submask.Model.open(models / "points").sample(**arguments)  # type: ignore[arg-type]
    assert samples.points.tolist() == expected["samples"] and samples.points.dtype == np.uint32


def test_a_part_of_an_image_is_kept_as_the_program_keeps_it(program: Path, models: Path, tmp_path: Path) -> None:
    given, white = models / "data" / "given.png", models / "data" / "mask.png"
    model = submask.Model.open(models / "images")
    image, mask = pixels_of_png(given), pixels_of_png(white)[..., 0] >= 128
    cases: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("--mask", str(white)), {"mask": mask}),
        (("--keep-digits", "1", "--corrector", "6,1,0"), {"keep_digits": 1, "corrector": (6, 1, 0)}),
        (("--keep-channels", "0,2", "--draw", "marginal"), {"keep_channels": [0, 2], "draw": "marginal"}),
    ]
    for flags, arguments in cases:
        words = ("--given", str(given), *flags, "--num", "2")
        expected = told(program, "sample", models / "images", *words, folder=tmp_path)
        samples = model.infill(given=image, num=2, **arguments)
        assert [tokens.tolist() for tokens in samples.tokens] == expected["samples"]
        if "mask" in arguments:
            assert (samples.images[:, ~mask] == image[~mask]).all()


EVALUATIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"sequences": 4}) for name in (*TEXTS, *PICTURES[:2], "points")),
    *((name, {"estimator": "nelbo-token", "draws": 2, "sequences": 3, "seed": 7}) for name in ("prime", "blocks", "images")),
    *((name, {"estimator": "path", "steps": 3, "draws": 2, "sequences": 3}) for name in ("mdm", "encoder", "points")),
    *((name, {"estimator": "exact", "sequences": 2, "order": "entropy", "unit": "digits", "per_step": 2}) for name in DIFFUSION),
    ("prime", {"estimator": "orders", "draws": 3, "sequences": 2}),
    ("prime", {"estimator": "joint-objective", "draws": 2, "sequences": 4, "batch": 1}),
    ("no-carry-over", {"carry_over": True, "sequences": 4}),
]


@pytest.mark.parametrize(("name", "arguments"), EVALUATIONS, ids=lambda value: value if isinstance(value, str) else "-".join(value))
def test_figures_are_the_programs(program: Path, models: Path, name: str, arguments: dict[str, Any]) -> None:
    expected = told(program, "eval", models / name, *words(arguments))
    check_evaluation(submask.Model.open(models / name).evaluate(**arguments), expected)


def check_evaluation(evaluation: submask.Evaluation, expected: dict[str, Any], by: str = "by_sequence") -> None:
    """Every number that the program printed."""
    values = expected.pop(by)
    assert [figure_fields(figure) for figure in evaluation] == expected["figures"]
    assert evaluation.report == expected
    assert evaluation.nats.tolist() == [value["nats"] for value in values]
    assert evaluation.tokens.tolist() == [value["tokens"] for value in values]
    assert evaluation.places.tolist() == [value["index"] for value in values]
    errors = [value.get("draw_error") for value in values]
    assert [None if np.isnan(error) else error for error in evaluation.draw_errors.tolist()] == errors
    characters = [value.get("characters") for value in values]
    assert (evaluation.characters is None and set(characters) == {None}) or evaluation.characters.tolist() == characters  # type: ignore[union-attr]


def figure_fields(figure: submask.Figure) -> dict[str, Any]:
    """As the program writes a figure."""
    fields = vars(figure) | {"kind": figure.kind}
    optional = ("sequence_error", "draw_error")
    return {name: value for name, value in fields.items() if value is not None or name not in optional}


def test_documents_are_evaluated_one_by_one_as_the_program_does_it(program: Path, models: Path) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [("prime", {"stride": 5}), ("autoregressive", {"end": True}), ("pairs", {})]
    for name, more in cases:
        flags = words({key: value for key, value in more.items() if value is not True})
        flags += [f"--{key}" for key, value in more.items() if value is True]
        expected = told(program, "eval", models / name, "--by-document", "--sequences", "3", *flags)
        evaluation = submask.Model.open(models / name).evaluate(sequences=3, by_document=True, **more)
        check_evaluation(evaluation, expected, "by_document")


def test_files_and_records_are_read_as_the_program_reads_them(program: Path, models: Path, tmp_path: Path) -> None:
    file = models / "data" / "other-text.txt"
    model = submask.Model.open(models / "prime")
    expected = told(program, "eval", models / "prime", "--data", str(file), "--split", "paragraph", "--sequences", "4")
    check_evaluation(model.evaluate(file, split="paragraph", sequences=4), expected)
    records = [{"id": n, "body": text} for n, text in enumerate(file.read_text(encoding="utf-8").split("\n\n"))]
    lines_file = tmp_path / "records.jsonl"
    lines_file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    cases: list[dict[str, Any]] = [{}, {"by_document": True}]
    for more in cases:
        by = "by_document" if more else "by_sequence"
        flags = ["--data", str(lines_file), "--field", "body", *(["--by-document"] if more else [])]
        expected = told(program, "eval", models / "prime", *flags) | {"data": "records"}
        check_evaluation(model.evaluate(iter(records), field="body", **more), expected, by)
    pairs = models / "data" / "other-pairs.jsonl"
    expected = told(program, "eval", models / "pairs", "--data", str(pairs)) | {"data": "records"}
    given = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    check_evaluation(submask.Model.open(models / "pairs").evaluate(given), expected)


def test_arrays_of_tokens_have_the_values_of_the_files_that_they_come_from(program: Path, models: Path) -> None:
    model = submask.Model.open(models / "mdm")
    assert model.tokenizer is not None
    text = (models / "data" / "other-text.txt").read_text(encoding="utf-8")
    # A text stands behind the end of another.
    tokens = np.concatenate([[model.tokenizer.end_of_text], model.tokenizer.encode(text)]).astype(np.uint32)
    whole = tokens[: len(tokens) // model.seq_len * model.seq_len].reshape(-1, model.seq_len)
    file = models / "data" / "other-text.txt"
    of_file = model.evaluate(file, split="file", estimator="exact", sequences=len(whole))
    for given in (whole, whole.astype(np.int64), whole.tolist()):
        evaluation = model.evaluate(given, estimator="exact")
        assert evaluation.nats.tolist() == of_file.nats.tolist()
        assert evaluation[0].unit == "nats per token of the tokenised text"
        assert evaluation[0].value == of_file["nats per token"].value
    assert model.evaluate(whole, estimator="exact", sequences=2).nats.tolist() == of_file.nats[[0, len(whole) // 2]].tolist()


def test_arrays_of_images_have_the_values_of_their_files(program: Path, models: Path) -> None:
    data = models / "data"
    images = np.frombuffer((data / "grey.idx").read_bytes()[16:], np.uint8).reshape(-1, 8, 8, 1)
    labels = np.frombuffer((data / "labels.idx").read_bytes()[8:], np.uint8)
    model = submask.Model.open(models / "classes")
    flags: tuple[str, ...] = ("--data", str(data / "grey.idx"), "--images", "idx", "--labels", str(data / "labels.idx"))
    expected = told(program, "eval", models / "classes", *flags) | {"data": "arrays"}
    check_evaluation(model.evaluate(images, labels=labels), dict(expected))
    records = ({"image": image[..., 0], "label": int(label)} for image, label in zip(images, labels, strict=True))
    check_evaluation(model.evaluate(records), dict(expected))
    colours = np.stack([pixels_of_png(path) for path in sorted((data / "pictures").glob("*/*.png"))])
    flags = ("--data", str(data / "pictures"), "--images", "pictures")
    expected = told(program, "eval", models / "images", *flags) | {"data": "arrays"}
    check_evaluation(submask.Model.open(models / "images").evaluate(colours), expected)


SCORES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in TEXTS),
    ("prime", {"estimator": "exact", "unit": "digits"}),
    ("prime", {"estimator": "exact", "order": "margin", "stride": 7}),
    ("encoder", {"estimator": "orders", "draws": 3, "seed": 4}),
    ("mdm", {"estimator": "path", "steps": 4, "draws": 3}),
    ("mdm", {"estimator": "joint-objective", "draws": 3}),
    ("blocks", {"estimator": "exact"}),
]


@pytest.mark.filterwarnings("ignore:the bound is of joint draws")
@pytest.mark.parametrize(("name", "arguments"), SCORES, ids=lambda value: value if isinstance(value, str) else "-".join(value))
def test_scores_are_the_programs(program: Path, models: Path, name: str, arguments: dict[str, Any]) -> None:
    model = submask.Model.open(models / name)
    texts = ["the sea", "a ship für"] + (["wind " * 9] if name != "pairs" else [])
    has_terms = arguments.get("estimator") == "exact" or name == "autoregressive"
    flags = [*words(arguments), *(["--by-token"] if has_terms else [])]
    given = [word for text in texts for word in ("--text", text)]
    expected = lines(program, "score", models / name, *given, *flags)
    scores = model.score(texts, **arguments)
    assert [score_fields(score) for score in scores] == expected
    assert score_fields(model.score(texts[1], **arguments)) == expected[1]
    (expected_pair,) = lines(program, "score", models / name, "--prompt", "the ", "--completion", "sea", *flags)
    for pair in (("the ", "sea"), {"prompt": "the ", "text": "sea"}, {"prompt": "the ", "completion": "sea", "id": 3}):
        assert score_fields(model.score([pair], **arguments)[0]) == expected_pair
    assert score_fields(model.score("sea", prompt="the ", **arguments)) == expected_pair


def test_what_a_score_is_not_of_is_a_warning(models: Path) -> None:
    model = submask.Model.open(models / "mdm")
    with pytest.warns(UserWarning, match="sample.temperature differs") as warned:
        model.score("the sea", estimator="path", draws=1)
    assert warned[0].filename == __file__
    assert "sample.temperature differs" in model.evaluate(estimator="path", sequences=1).notes[0]


def score_fields(score: submask.Score) -> dict[str, Any]:
    """As the program writes a score."""
    fields = {
        "nats": score.nats,
        "kind": score.kind,
        "estimator": score.estimator,
        "draw_error": score.standard_error,
        "tokens": score.tokens,
        "characters": score.characters,
        "windows": score.windows,
        "by_token": None if score.by_token is None else [vars(term) for term in score.by_token],
    }
    return {name: value for name, value in fields.items() if value is not None}


def test_logits_are_the_programs(program: Path, models: Path, tmp_path: Path) -> None:
    for name in ("mdm", "prime", "encoder", "blocks", "autoregressive", "classes"):
        model = submask.Model.open(models / name)
        rng = np.random.default_rng(1)
        states = rng.integers(0, model.base, (3, model.seq_len, model.subtoken_len), dtype=np.uint32)
        if name in ("autoregressive", "blocks"):
            states.reshape(3, -1)[:, model.subtoken_len * 6 - 1 :] = model.mask_id
        else:
            states[rng.random(states.shape) < 0.5] = model.mask_id
        told_times: dict[str, Any] = {"t": 0.3} if model.reads_time else {}
        labels: dict[str, Any] = {"labels": 1} if model.classes else {}
        file = tmp_path / f"{name}.jsonl"
        fields = {"time": 0.3} if model.reads_time else {}
        fields |= {"label": 1} if model.classes else {}
        rows = [
            {"digits": [None if digit == model.mask_id else int(digit) for digit in state.reshape(-1)]} | fields
            for state in states
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        out = tmp_path / f"{name}.safetensors"
        said(program, "logits", models / name, "--sequences", str(file), "--out", str(out))
        expected = tensors(out)
        logits = model.logits(states, **told_times, **labels)
        assert logits.dtype == np.float32
        for n in range(3):
            assert (logits[n] == expected[f"logits.{n}"]).all()
            assert (model.logits(states[n], **told_times, **labels) == expected[f"logits.{n}"]).all()
        if name != "autoregressive":
            width, known = model.seq_len, logits.shape[1]
            positions = np.array([2 * width + 1, 0, known - 1, 2 * width, 1])
            rows_of = [logits[position // width, position % width] for position in positions]
            assert (model.logits(states, positions=positions, batch=1, **told_times, **labels) == rows_of).all()


def tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The logits of a file in the format safetensors."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])

    def read(entry: dict[str, Any]) -> NDArray[np.float32]:
        start, end = entry["data_offsets"]
        return np.frombuffer(content[8 + length + start : 8 + length + end], np.float32).reshape(entry["shape"])

    return {name: read(entry) for name, entry in header.items() if entry["dtype"] == "F32"}


def test_info_is_the_programs(program: Path, models: Path) -> None:
    for path in (models / "prime", models / "images" / "checkpoints" / "step-4"):
        assert submask.Model.open(path).info == told(program, "info", path)
