#!/usr/bin/env python3
"""Compares what a running server answers with what the program prints, for many settings.

    scripts/compare_served.py http://127.0.0.1:8080 NAME target/release/submask runs/dictionary [--short]

NAME is what the server calls the model of text in the folder. Texts, tokens and evaluations of `/v1/infill`, `/v1/completions` and
their streams have to be those of `submask sample`, scores those of `submask score`, in every bit: each asked for alone, and again
while fifty other requests of every kind are under way; with --short those that take many evaluations only alone. Prints a line per
setting, and ends with an error at the first that differs.
"""

import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

# Requests that are under way beside those that are compared.
OTHERS = 50
# Evaluations above which a setting takes too long among them for --short.
MANY = 200

address, name, binary, folder = sys.argv[1:5]
is_short = sys.argv[5:] == ["--short"]
if sys.argv[5:] and not is_short:
    sys.exit(f"{sys.argv[5:]} is not allowed: --short or nothing")


def ask(path, body):
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        sys.exit(f"FAILED: {body}: {error.read().decode()}")


def run(verb, *arguments):
    done = subprocess.run([binary, verb, folder, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"FAILED: {verb} {arguments}: {done.stderr}")
    return json.loads(done.stdout)


def same(what, found, expected):
    if found != expected:
        sys.exit(f"FAILED: {what}\n  served:  {found}\n  printed: {expected}")
    print(f"same: {what}", flush=True)


class Setting:
    """A request, what counts of its answer, and what the program printed."""

    def __init__(self, what, path, body, read, expected):
        self.what, self.path, self.body, self.read, self.expected = what, path, body, read, expected

    def compare(self, where):
        same(self.what + where, self.read(ask(self.path, self.body)), self.expected)


settings = []


def compare(*setting, evaluations=0):
    compared = Setting(*setting)
    compared.compare("")
    if evaluations <= MANY or not is_short:
        settings.append(compared)


def flags(fields):
    """The flags of `submask sample` for fields of a request."""
    told = []
    for field, value in fields.items():
        value = {"digits": "subtoken", "tokens": "token"}.get(value, value) if field == "unit" else value
        value = "first-hitting" if field == "steps" and value == 0 else value
        value = ",".join(map(str, value)) if isinstance(value, list) else value
        value = str(value).lower() if isinstance(value, bool) else value
        told += [f"--{field.replace('_', '-')}", str(value)]
    return told


def infilled(template, **fields):
    numbers = {"num": 3, "seed": 5, "first_sequence": 2}
    printed = run("sample", "--prompt", template, "--json", *flags(numbers), *flags(fields))
    body = {"model": name, "template": template, "n": 3, "seed": 5, "first_sequence": 2, **fields}
    evaluations = printed["cost"]["evaluations"]

    def read(answer):
        served = json.loads(answer)
        return texts(served["choices"]), served["usage"]["network_evaluations"]

    def texts(samples):
        return [(one["text"], one["tokens"]) for one in samples]

    what = f"{template} {json.dumps(fields)}, its {evaluations} evaluations"
    compare(what, "/v1/infill", body, read, (texts(printed["samples"]), evaluations), evaluations=evaluations)


def completed(tokens, **fields):
    printed = run("sample", "--prompt", f"the [[{tokens}]]", "--json", "--num", "4", "--seed", "9", *flags(fields))
    body = {"model": name, "prompt": "the ", "max_tokens": tokens, "n": 4, "seed": 9, "echo": True, **fields}
    expected = [one["text"] for one in printed["samples"]]

    def read(answer):
        return [one["text"] for one in json.loads(answer)["choices"]]

    def read_stream(answer):
        chunks = [line.removeprefix("data: ") for line in answer.split("\n\n") if line.startswith("data: ")]
        texts = [""] * 4
        for chunk in map(json.loads, chunks[:-1]):
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["text"]
        return texts, chunks[-1]

    what = f"completions {json.dumps(fields)}"
    compare(what, "/v1/completions", body, read, expected)
    compare(f"{what}, streams", "/v1/completions", {**body, "stream": True}, read_stream, (expected, "[DONE]"))


def scored(text, **fields):
    printed = run("score", "--text", text, *flags(fields))

    def read(answer):
        served = json.loads(answer)["scores"][0]
        return served["nats"], served["standard_error"], served["kind"], served["tokens"]

    expected = printed["nats"], printed.get("draw_error"), printed["kind"], printed["tokens"]
    compare(f"score {json.dumps(fields)}", "/v1/score", {"model": name, "texts": [text], **fields}, read, expected)


class Others:
    """Fifty clients, each of which asks for the same again and again, and has to have the same answer."""

    def __init__(self):
        self.changed = threading.Condition()
        self.under_way = self.answers = 0
        self.is_over = False
        self.failures = []
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(OTHERS)]

    @staticmethod
    def request(number):
        """Each of another kind, length, seed, number of steps or order."""
        few = number // 5
        plain = {"model": name, "seed": 1000 + number}
        more = {}
        if model["network"] != "autoregressive":
            order = model["orders"][few % len(model["orders"])]
            more = {"order": order} if order != "random" else {"steps": 2 + few}
        return [
            ("/v1/infill", {**plain, "template": f"a [[{2 + few}]]", "n": 1 + few % 2, **more}),
            ("/v1/completions", {**plain, "prompt": "a light", "max_tokens": 1 + few, "n": 1 + few % 3, **more}),
            ("/v1/completions", {**plain, "prompt": "sea", "max_tokens": 2 + few, "stream": True, **more}),
            ("/v1/infill", {**plain, "template": f"the [[{1 + few}]]", "stream": True, **more}),
            ("/v1/score", {**plain, "texts": ["a ship", "the light of a lamp"][: 1 + few % 2]}),
        ][number % 5]

    def run(self, number):
        first = None
        while not self.is_over:
            self.count(1)
            try:
                path, body = self.request(number)
                # The name of an answer and its time are others each time.
                answer = re.sub(r'"(id|created)":("cmpl-[^"]*"|"infill-[^"]*"|\d+)', "", ask(path, body))
                if answer != (first := first or answer):
                    self.failures.append(f"{body} is answered {answer}, after {first}")
            except (SystemExit, OSError) as error:
                self.failures.append(str(error))
            self.count(-1)

    def count(self, more):
        with self.changed:
            self.under_way += more
            self.answers += more < 0
            self.changed.notify_all()

    def compare(self, setting):
        """Compares a setting that is asked for while all others are under way."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.under_way == OTHERS, timeout=60):
                sys.exit(f"FAILED: only {self.under_way} requests are under way at once")
        setting.compare(f", among {OTHERS} others")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        for thread in self.threads:
            thread.join()


with urllib.request.urlopen(f"{address}/v1/models/{name}") as answer:
    model = json.load(answer)["submask"]

infilled("the [[9]]")
infilled("the [[*]]", temperature=0.8, top_k=9)
infilled("the [[*]]", length=32, temperature=0.8, top_k=9)
infilled("the [[6]]", top_p=0.6, nucleus="exclusive")
completed(12)
completed(5, temperature=0)
scored("the sea is wide")
if model["network"] != "autoregressive":
    infilled("the [[5]]", steps=4, draw="marginal", unit="tokens")
    infilled("the [[5]]", steps=6, warp=[1, 1.5, 0], corrector=[4, 0.5, 0], temperature=[-0.2, 0.75, 1.0], carry_over=False)
    for order in model["orders"][1:]:
        infilled("the [[8]]", order=order, per_step=3)
    completed(7, order="left-to-right", unit="tokens")
    scored("the sea is wide", estimator="exact", order="margin", unit="digits", per_step=2)
    scored("the sea is wide", estimator="path", steps=5, draws=7)
    scored("the sea is wide", estimator="orders", draws=3, seed=4)
    if model["block_len"] == 0:
        infilled("the [[4]] of [[3]] light")
    else:
        infilled("the [[*]]", length=model["seq_len"] + 40, window="recomputed", steps=4)
        infilled("the [[*]]", length=300, min_entropy=1.5, entropy_window=32, temperature=0.1)

with Others() as others, ThreadPoolExecutor(len(settings)) as pool:
    # What one of them exits with is raised here.
    list(pool.map(others.compare, settings))
if others.failures:
    sys.exit(f"FAILED: of {OTHERS} requests at once: {others.failures[0]}")
print(f"same: {others.answers} answers to the others, each every time")
