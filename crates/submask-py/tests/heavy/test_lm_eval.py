"""The harness's own command line, on tasks of local files, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small_runs

HOOK = Path(__file__).parents[2] / "submask.data" / "purelib"

CHOICES = """
task: choices
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/choices.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{word}}: "
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
metric_list: [{metric: acc}, {metric: acc_norm}]
"""

ENDINGS = """
task: endings
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/choices.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{word}}:"
doc_to_target: " {{choices[0]}}"
target_delimiter: ""
metric_list: [{metric: perplexity}, {metric: acc}]
"""

PROSE = """
task: prose
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/prose.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""

WRITING = """
task: writing
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/choices.jsonl}}
test_split: test
output_type: generate_until
repeats: 2
doc_to_text: "{{word}}: [[not a hole] ["
doc_to_target: "{{choices[0]}}"
generation_kwargs: {until: ["\\n\\n", "."], max_gen_toks: 24, do_sample: true, temperature: 0.8}
metric_list: [{metric: exact_match}]
filter_list: [{name: all, filter: [{function: take_first_k, k: 2}]}]
"""

TASKS = {"choices": CHOICES, "endings": ENDINGS, "prose": PROSE, "writing": WRITING}

#: A start of Python at which every connection fails, and leaves a trace.
NO_NETWORK = """
import os, socket

def refuse(self, address):
    if self.family == socket.AF_UNIX:
        return connect(self, address)
    with open(os.environ["CONNECTIONS"], "a") as file:
        print(address, file=file)
    raise OSError(f"no network in this test: {address}")

connect = socket.socket.connect
socket.socket.connect = socket.socket.connect_ex = refuse
"""


@pytest.fixture(scope="module")
def place(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, tasks and their data."""
    folder = small_runs.write(program, tmp_path_factory.mktemp("harness"), "dictionary", "baseline")
    data = folder / "tasks"
    data.mkdir()
    for name, task in TASKS.items():
        (data / f"{name}.yaml").write_text(task.replace("DATA", str(data)))
    entries = [entry.split(": ", 1) for entry in small_runs.words().split("\n\n")[:6]]
    others = [["A light.", "Sea of stone."], ["From the wind over waves.", "Deep."]]
    docs = [{"word": w, "choices": [d.strip(), *others[i % 2]], "answer": 0} for i, (w, d) in enumerate(entries)]
    (data / "choices.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    # The last text takes several windows.
    texts = ["lantern: A light.", "sea: Deep and blue.\n\nship: Old.", small_runs.words()[:700]]
    (data / "prose.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "no_network").mkdir()
    (folder / "no_network" / "sitecustomize.py").write_text(NO_NETWORK)
    return folder


def harness() -> list[str]:
    """The harness's command line, which reads the hook: that of the installed wheel, or the one of this checkout."""
    import importlib.util

    if importlib.util.find_spec("submask_lm_eval") is not None:
        return [str(Path(sys.executable).with_name("lm_eval"))]
    start = f"import site; site.addsitedir({str(HOOK)!r}); from lm_eval.__main__ import cli_evaluate; cli_evaluate()"
    return [sys.executable, "-c", start]


def run(place: Path, name: str, model_args: str, *more: str, by: list[str] | None = None, tasks: str = "") -> Path:
    """Runs tasks, and gives the folder of what the harness writes."""
    out = place / "out" / name
    arguments = ["--model", "submask", "--model_args", model_args, "--tasks", tasks or ",".join(TASKS)]
    arguments += ["--include_path", str(place / "tasks"), "--output_path", str(out), "--log_samples", *more]
    connections = place / "connections"
    environment = os.environ | {
        "CONNECTIONS": str(connections),
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(place / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(place / "no_network"), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [*(by or harness()), *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not connections.exists(), connections.read_text()
    (out / "log.txt").write_text(done.stderr)
    return out


def samples(out: Path, task: str) -> list[dict[str, Any]]:
    """The requests of a task with the model's answers, in order."""
    (file,) = out.rglob(f"samples_{task}_*.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted(lines, key=lambda line: int(line["doc_id"]))


def results(out: Path) -> dict[str, Any]:
    (file,) = out.rglob("results_*.json")
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return told


def asked(out: Path, task: str) -> Iterator[tuple[list[str], Any]]:
    """The arguments of every request of a task, and its answer."""
    for line in samples(out, task):
        for arguments, answer in zip(line["arguments"].values(), line["resps"], strict=True):
            yield list(arguments.values()), answer[0]


def scores(program: Path, place: Path, texts: list[dict[str, str]], *more: str, run: str = "dictionary") -> list[float]:
    """What `submask score` says of texts."""
    file = place / "texts.jsonl"
    file.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    command = [str(program), "score", f"runs/{run}", "--data", str(file), *more]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    return [json.loads(line)["nats"] for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def outcome(place: Path) -> Path:
    """All tasks with the model's own estimator, one request at a time."""
    return run(place, "one", "path=runs/dictionary", "--batch_size", "1")


def moved(arguments: list[str]) -> dict[str, str]:
    """A pair, the spaces at the end of the context moved to the continuation."""
    context, continuation = arguments
    kept = context.rstrip()
    return {"prompt": kept, "completion": context[len(kept) :] + continuation}


@pytest.mark.parametrize("task", ["choices", "endings"])
def test_a_log_likelihood_is_minus_the_score_of_the_program(outcome: Path, place: Path, program: Path, task: str) -> None:
    requests = list(asked(outcome, task))
    pairs = [moved(arguments) for arguments, _ in requests]
    assert any(pair["completion"].startswith(" ") for pair in pairs)
    expected = scores(program, place, pairs)
    assert [float(answer[0]) for _, answer in requests] == [-nats for nats in expected]
    assert not any(answer[1] in (True, "True") for _, answer in requests)


def test_a_text_is_scored_in_the_windows_of_the_program(outcome: Path, place: Path, program: Path) -> None:
    requests = list(asked(outcome, "prose"))
    expected = scores(program, place, [{"text": arguments[0]} for arguments, _ in requests])
    assert [float(answer) for _, answer in requests] == [-nats for nats in expected]
    strided = run(place, "strided", "path=runs/dictionary,stride=20,draws=3,seed=5", tasks="prose")
    flags = ["--stride", "20", "--draws", "3", "--seed", "5"]
    expected = scores(program, place, [{"text": arguments[0]} for arguments, _ in requests], *flags)
    assert [float(answer) for _, answer in asked(strided, "prose")] == [-nats for nats in expected]


def test_nothing_depends_on_the_batch(outcome: Path, place: Path) -> None:
    eight = run(place, "eight", "path=runs/dictionary", "--batch_size", "8")
    assert results(eight)["results"] == results(outcome)["results"]
    for task in TASKS:
        assert list(asked(eight, task)) == list(asked(outcome, task))


def test_the_harness_without_the_hook_knows_the_model_by_this_module(outcome: Path, place: Path) -> None:
    module = [sys.executable, "-m", "submask.lm_eval"]
    again = run(place, "module", "path=runs/dictionary", "--batch_size", "auto", by=module, tasks="choices")
    assert results(again)["results"]["choices"] == results(outcome)["results"]["choices"]


def test_the_results_say_what_their_log_likelihoods_are(outcome: Path, place: Path) -> None:
    told = {"seed": 0, "kinds": ["upper_bound"], "estimators": ["nelbo_subtoken"]}
    assert results(outcome)["config"]["submask"] == told
    assert "lower bounds" in (outcome / "log.txt").read_text()
    exact = run(place, "exact", "path=runs/dictionary,estimator=exact,order=confidence", tasks="endings")
    told = {"estimator": "exact", "order": "confidence", "seed": 0}
    told |= {"kinds": ["exact"], "estimators": ["exact_confidence"]}
    assert results(exact)["config"]["submask"] == told


def test_exact_values_are_those_of_the_program(place: Path, program: Path) -> None:
    for name, model_args, flags in [
        ("dictionary", "estimator=exact,unit=digits,per_step=2", ["--estimator", "exact", "--unit", "subtoken", "--per-step", "2"]),
        ("baseline", "greedy=false", []),
    ]:
        out = run(place, f"exact-{name}", f"path=runs/{name},{model_args}", tasks="choices")
        requests = list(asked(out, "choices"))
        expected = scores(program, place, [moved(arguments) for arguments, _ in requests], *flags, run=name)
        assert [float(answer[0]) for _, answer in requests] == [-nats for nats in expected]


def test_texts_end_before_what_ends_them(outcome: Path) -> None:
    answers = [line["resps"][0] for line in samples(outcome, "writing")]
    assert all(len(texts) == 2 for texts in answers)
    assert not any("." in text or "\n\n" in text for texts in answers for text in texts)
    assert any(first != second for first, second in answers), "repeats are texts of their own"


def test_what_is_wrong_is_named(place: Path) -> None:
    for model_args, named in [
        ("path=runs/dictionary,estimater=exact", "did you mean estimator?"),
        ("path=runs/dictionary,estimator=joint-objective", "joint-objective"),
        ("path=runs/nowhere", "runs/nowhere"),
    ]:
        with pytest.raises(AssertionError, match=named.replace("?", r"\?")):
            run(place, "wrong", model_args, tasks="choices")
