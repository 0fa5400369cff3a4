"""PyTorch's side of `dit_steps operations`: single operations of a training step on the tensors that it has.

    operations.py FOLDER COUNT

prints one line of JSON: milliseconds of every operation's forward pass, and of both passes. FOLDER and the environment are
as for dit.py; COMPILE=1 has torch.compile compile every operation by itself.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from common import set_threads
from device import COMPILES, autocast, in_rounds, set_device, wait
from dit import Best, Rotary, load, modulated

# Calls before those that are timed.
WARM_UP = 2


def drawn(*shape):
    return (0.1 * torch.randn(shape)).requires_grad_()


def milliseconds(count, call):
    for _ in range(WARM_UP):
        call()
    wait()
    start = time.perf_counter()
    for _ in range(count):
        call()
    wait()
    return (time.perf_counter() - start) * 1e3 / count


def operations(form, batch):
    """Functions and their inputs by name, as experiments/src/bin/dit_steps/operations.rs."""
    x_0, y_t, _ = batch
    config, subtokens = form.case["config"], form.case["subtokens"]
    hidden, heads, length = config["hidden"], config["heads"], config["seq_len"]
    tokens, inner = x_0.numel(), -(-8 * hidden // 3 // 64) * 64
    x, sequences = drawn(tokens, hidden), drawn(len(x_0), length, hidden)
    weight, row, middle = drawn(hidden), drawn(1, 1, hidden), drawn(tokens, 4 * hidden)
    rotary = Rotary(length, hidden // heads)

    def norm(x, weight, shift, scale):
        return modulated(lambda x: F.layer_norm(x, (hidden,), weight), x, shift, scale)

    def attention(qkv):
        q, k, v = qkv.view(len(x_0), length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(rotary(q), rotary(k), v)
        return mixed.transpose(1, 2).reshape(len(x_0), length, hidden)

    charged = (y_t == form.mask).any(2)

    def head(hidden, weight, bias):
        excluded = form.excludes[0][y_t[charged][:, 0]]
        for j in range(1, subtokens):
            excluded |= form.excludes[j][y_t[charged][:, j]]
        logits = F.linear(hidden, weight, bias).masked_fill_(excluded, -torch.inf)
        return F.cross_entropy(logits, x_0[charged], reduction="sum") / tokens

    head_inputs = drawn(int(charged.sum()), hidden), drawn(form.case["vocab_size"], hidden), drawn(form.case["vocab_size"])
    return {
        "modulated norm": (norm, sequences, weight, row, row),
        "RMSNorm": (lambda x, weight: F.rms_norm(x, (hidden,), weight, 1e-5), x, weight),
        "linear d to 3d": (F.linear, x, drawn(3 * hidden, hidden)),
        "attention": (attention, drawn(len(x_0), length, 3 * hidden)),
        "linear d to d": (F.linear, x, drawn(hidden, hidden)),
        "gated residual": (lambda x, h, gate: x + gate * h, sequences, sequences, row),
        "linear d to 4d, GELU": (
            lambda *inputs: F.gelu(F.linear(*inputs), approximate="tanh"),
            x,
            drawn(4 * hidden, hidden),
            drawn(4 * hidden),
        ),
        "linear 4d to d": (F.linear, middle, drawn(hidden, 4 * hidden), weight),
        "SwiGLU's middle": (lambda gate, x: F.silu(gate) * x, drawn(tokens, inner), drawn(tokens, inner)),
        "embedding": (lambda table: F.embedding(y_t, table).flatten(2), drawn(form.mask + 1, hidden // subtokens)),
        "output layer and loss": (head, *head_inputs),
    }


def times(count, function, *inputs):
    function = torch.compile(function) if COMPILES else function

    def forward():
        with autocast():
            return function(*inputs)

    def both():
        out = forward()
        torch.autograd.grad(out, set(inputs), torch.ones_like(out))

    return [milliseconds(count, forward), milliseconds(count, both)]


def main():
    set_threads()
    torch.manual_seed(0)
    set_device()
    match sys.argv[1:]:
        case [folder, count]:
            form, batch, _ = load(Best, Path(folder))
        case _:
            sys.exit(__doc__)
    of_case = operations(form, batch)

    def measure():
        return {"operations": {name: times(int(count), *call) for name, call in of_case.items()}}

    print(json.dumps(in_rounds({}, measure)), flush=True)


if __name__ == "__main__":
    main()
