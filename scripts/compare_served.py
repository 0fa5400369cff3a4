#!/usr/bin/env python3
"""Compares what a running server answers with what the program prints, for many settings.

    scripts/compare_served.py http://127.0.0.1:8080 NAME target/release/submask runs/dictionary

NAME is what the server calls the model of text in the folder. Texts, tokens and evaluations of `/v1/infill`, `/v1/completions` and
their streams have to be those of `submask sample`, scores those of `submask score`, in every bit. Prints a line per setting, and ends
with an error at the first that differs.
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request

address, name, binary, folder = sys.argv[1:5]


def ask(path, body):
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
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
    print(f"same: {what}")


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
    served = json.loads(ask("/v1/infill", body))
    what = f"{template} {json.dumps(fields)}"
    same(what, [(one["text"], one["tokens"]) for one in served["choices"]],
         [(one["text"], one["tokens"]) for one in printed["samples"]])
    same(f"  its {printed['cost']['evaluations']} evaluations", served["usage"]["network_evaluations"],
         printed["cost"]["evaluations"])


def completed(tokens, **fields):
    printed = run("sample", "--prompt", f"the [[{tokens}]]", "--json", "--num", "4", "--seed", "9", *flags(fields))
    body = {"model": name, "prompt": "the ", "max_tokens": tokens, "n": 4, "seed": 9, "echo": True, **fields}
    expected = [one["text"] for one in printed["samples"]]
    served = json.loads(ask("/v1/completions", body))
    same(f"completions {json.dumps(fields)}", [one["text"] for one in served["choices"]], expected)
    lines = ask("/v1/completions", {**body, "stream": True}).split("\n\n")
    chunks = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    texts = [""] * 4
    for chunk in map(json.loads, chunks[:-1]):
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
    same("  their streams", (texts, chunks[-1]), (expected, "[DONE]"))


def scored(text, **fields):
    printed = run("score", "--text", text, *flags(fields))
    served = json.loads(ask("/v1/score", {"model": name, "texts": [text], **fields}))["scores"][0]
    same(f"score {json.dumps(fields)}", (served["nats"], served["standard_error"], served["kind"], served["tokens"]),
         (printed["nats"], printed.get("draw_error"), printed["kind"], printed["tokens"]))


with urllib.request.urlopen(f"{address}/v1/models/{name}") as answer:
    model = json.load(answer)["submask"]

infilled("the [[9]]")
infilled("the [[*]]", temperature=0.8, top_k=9)
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
