#!/usr/bin/env python3
"""Asks a running server as the Python package `openai` does, and compares with `submask sample`.

    scripts/openai_client.py http://127.0.0.1:8080 NAME target/release/submask runs/dictionary

NAME is what the server calls the model of the folder. Needs the packages `openai` and `openapi-spec-validator`. Every line that it
prints is something that held; it ends with an error at the first that does not.
"""

import json
import subprocess
import sys
import urllib.request

import openai
from openapi_spec_validator import validate

address, name, binary, folder = sys.argv[1:5]
client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def sample(prompt, *flags, num=1):
    """What `submask sample` writes."""
    command = [binary, "sample", folder, "--prompt", prompt, "--num", str(num), "--json", *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [one["text"] for one in json.loads(done.stdout)["samples"]]


def holds(what, condition):
    if not condition:
        sys.exit(f"FAILED: {what}")
    print(f"holds: {what}")


def refused(what, error, call, *mentions):
    try:
        call()
    except error as refusal:
        told = str(refusal)
        holds(f"{what}: {error.__name__}, {told[:110]}", all(mention in told for mention in mentions))
    else:
        sys.exit(f"FAILED: {what} was not refused")


with urllib.request.urlopen(f"{address}/openapi.json") as answer:
    document = json.load(answer)
validate(document)
holds(f"the OpenAPI {document['openapi']} document is valid, {len(document['paths'])} paths", len(document["paths"]) >= 8)

models = client.models.list()
holds("models.list names the model", name in [model.id for model in models])
holds("models.retrieve gives it", client.models.retrieve(name).id == name)
refused("another model", openai.NotFoundError, lambda: client.models.retrieve("none"), "none")

complete = client.completions.create
plain = complete(model=name, prompt="lantern: ", max_tokens=24, seed=7)
expected = sample("lantern: [[24]]", "--seed", "7")[0]
holds("a completion is the text of `submask sample`", "lantern: " + plain.choices[0].text == expected)
holds("its usage counts tokens", 0 < plain.usage.completion_tokens <= 24)
usage = plain.usage.model_dump()
holds("and network evaluations and idle steps", usage["network_evaluations"] > 0 and usage["idle_steps"] >= 0)
holds("its reason is stop or length", plain.choices[0].finish_reason in ("stop", "length"))

several = complete(model=name, prompt="lantern: ", max_tokens=24, seed=7, n=5)
texts = ["lantern: " + choice.text for choice in several.choices]
holds("five choices are samples 0 to 4", texts == sample("lantern: [[24]]", "--seed", "7", num=5))

drawn = complete(model=name, prompt="sea: ", max_tokens=6)
again = complete(model=name, prompt="sea: ", max_tokens=6, seed=drawn.model_dump()["seed"])
holds("without a seed the answer tells the one that was drawn", drawn.choices[0].text == again.choices[0].text)

def long_text(**fields):
    """A seed with a text of some length, and that: of a model that has hardly learnt anything some texts end at once."""
    for seed in range(100):
        text = complete(model=name, prompt="sea: ", max_tokens=24, seed=seed, **fields).choices[0].text
        if len(text.strip()) > 12:
            return seed, text
    sys.exit("FAILED: no text is long enough to look at")


for order in ("random", "left-to-right"):
    extra = {"order": order}
    seed, whole = long_text(extra_body=extra)
    chunks = list(complete(model=name, prompt="sea: ", max_tokens=24, seed=seed, stream=True, extra_body=extra))
    streamed = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    pieces = sum(bool(choice.text) for chunk in chunks for choice in chunk.choices)
    holds(f"a stream, {order}, is the whole text in {pieces} pieces", streamed == whole and pieces > (order != "random"))
told = list(
    complete(model=name, prompt="sea: ", max_tokens=4, stream=True, stream_options={"include_usage": True})
)
holds("the last chunk tells the usage", told[-1].usage is not None and told[-1].usage.completion_tokens > 0)

# A text that ends in the hole is told up to its end.
middles = (complete(model=name, prompt="lantern: A case", suffix=" light.", max_tokens=8, seed=seed) for seed in range(50))
seed, middle = next((seed, one.choices[0]) for seed, one in enumerate(middles) if one.choices[0].finish_reason == "length")
holds(
    "a suffix is filled in before",
    "lantern: A case" + middle.text + " light." == sample("lantern: A case[[8]] light.", "--seed", str(seed))[0],
)
seed, full = long_text()
stop = full.strip()[4:7]
cut = complete(model=name, prompt="sea: ", max_tokens=24, seed=seed, stop=stop).choices[0]
holds(f"a text ends before its stop {stop!r}", cut.text == full[: full.index(stop)] and cut.finish_reason == "stop")
echoed = complete(model=name, prompt="sea: ", max_tokens=6, seed=1, echo=True).choices[0].text
holds("echo repeats the prompt", echoed.startswith("sea: "))
both = complete(model=name, prompt=["sea: ", "ship: "], max_tokens=6, seed=1, n=2)
holds("several prompts have n choices each, in order", [choice.index for choice in both.choices] == [0, 1, 2, 3])

# The network's own distribution, whatever the model's sampling is by default.
own = {"temperature": 1, "top_p": 1}
ordered = complete(
    model=name, prompt="sea: ", max_tokens=6, seed=seed, logprobs=0, **own, extra_body={"order": "left-to-right"}
).choices[0]
holds(
    "logprobs in an order: a term per token",
    len(ordered.logprobs.tokens) == len(ordered.logprobs.token_logprobs) > 0
    and all(term <= 0 for term in ordered.logprobs.token_logprobs),
)
whole = {"order": "left-to-right", "unit": "tokens"}
tokens = complete(model=name, prompt="sea: ", max_tokens=6, seed=seed, logprobs=3, **own, extra_body=whole).choices[0]
holds("and the likeliest tokens where whole tokens are revealed", all(len(top) >= 3 for top in tokens.logprobs.top_logprobs))
prompt = complete(model=name, prompt="sea: a large body", max_tokens=0, echo=True, logprobs=2).choices[0].logprobs
holds("echo with max_tokens 0 gives those of the prompt", len(prompt.token_logprobs) > 2)
holds(
    "and the likeliest tokens beside each",
    len(prompt.top_logprobs) == len(prompt.tokens)
    and all(
        top[token] == own <= max(top.values()) <= 0
        for token, own, top in zip(prompt.tokens, prompt.token_logprobs, prompt.top_logprobs)
    ),
)

bad = openai.BadRequestError
refused("logprobs in random order", bad, lambda: complete(model=name, prompt="a", logprobs=1), "/v1/score")
refused("a temperature", bad, lambda: complete(model=name, prompt="a", temperature=-1), "temperature", "-1")
refused("best_of 2", bad, lambda: complete(model=name, prompt="a", best_of=2), "best_of")
refused("an unknown field", bad, lambda: complete(model=name, prompt="a", extra_body={"colour": 1}), "colour")
refused("more than the model's length", bad, lambda: complete(model=name, prompt="a", max_tokens=4000), "4000")
neutral = {"best_of": 1, "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {}}
holds("neutral values are taken", complete(model=name, prompt="a", max_tokens=1, **neutral).choices)
messages = [{"role": "user", "content": "a"}]
chat = client.chat.completions.create
refused("a chat", openai.NotFoundError, lambda: chat(model=name, messages=messages), "/v1/completions")
