"""PyTorch's side of the comparison of block diffusion: the network of dit.py, which reads its own block and the clean
tokens of earlier blocks, as a good PyTorch user would write it.

    block.py train FOLDER COUNT
    block.py evaluate FOLDER
    block.py evaluate-kept FOLDER
    block.py bound FOLDER COUNT
    block.py sample-long FOLDER

Training and bounds: one pass over [y_t ; y_0], 2L positions, fused attention with a mask that is computed once, logits at
masked positions only. Sampling: keys and values of clean blocks are kept, rotated, for the last L positions. Each verb
prints one line of JSON, as `dit_steps` does on a case with blocks. FOLDER is as for dit.py, and so is PRECISION.
"""

import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from common import median, set_threads
from device import autocast, set_device
from dit import Best, Dit, Rotary, evaluate, load, train

# As in dit_steps: a sampled text is so many times as long as the network, and times are of so many parts of its length.
TIMES_AS_LONG = 4
PARTS = 4


class BlockDit(Dit):
    """Digits [B, L, ℓ], masked and clean, to hidden states [B, L, d] of the masked ones."""

    def __init__(self, case):
        super().__init__(case)
        config = case["config"]
        length, block_len = config["seq_len"], config["block_len"]
        # Both halves stand at the positions 0 to L − 1.
        self.both = Rotary(length, config["hidden"] // config["heads"])
        self.both.cos, self.both.sin = self.both.cos.repeat(2, 1), self.both.sin.repeat(2, 1)
        block, noisy = torch.arange(2 * length) % length // block_len, torch.arange(2 * length) < length
        query, key = block[:, None], block[None, :]
        own, earlier, known = query == key, key < query, key <= query
        from_noisy = torch.where(noisy[None, :], own, earlier)
        from_clean = ~noisy[None, :] & known
        self.register_buffer("mask", torch.where(noisy[:, None], from_noisy, from_clean), persistent=False)

    def forward(self, y_t, y_0):
        def attend(_, q, k, v):
            return F.scaled_dot_product_attention(self.both(q), self.both(k), v, attn_mask=self.mask)

        return self.hidden_states(torch.cat([y_t, y_0], dim=1), attend, slice(y_t.shape[1]))


class Kept:
    """Keys, rotated, and values of one text's last positions. Attention sees the distance of positions alone, so that they
    are counted on from the beginning of the text."""

    def __init__(self, network, config, positions):
        width = config["hidden"] // config["heads"]
        self.network, self.block_len, self.window = network, config["block_len"], config["seq_len"]
        self.rotary = Rotary(positions, width)
        self.values = torch.zeros(config["blocks"], 2, 1, config["heads"], self.window, width)
        self.kept = self.first = 0

    def block(self, y):
        """Hidden states of the block after those that are kept, whose keys and values are written behind them."""
        kept, end = self.kept, self.kept + self.block_len
        cos, sin = (table[self.first : self.first + self.block_len] for table in (self.rotary.cos, self.rotary.sin))

        def rotated(x):
            a, b = x.chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

        def attend(layer, q, k, v):
            keys, values = self.values[layer]
            keys[:, :, kept:end], values[:, :, kept:end] = rotated(k), v
            return F.scaled_dot_product_attention(rotated(q), keys[:, :, :end], values[:, :, :end])

        return self.network.hidden_states(y, attend)

    def keep(self, y_0):
        """Keeps a block, and lets go of the first one if there is no room for another."""
        self.block(y_0)
        self.kept += self.block_len
        self.first += self.block_len
        if self.kept == self.window:
            self.values[..., : -self.block_len, :] = self.values[..., self.block_len :, :].clone()
            self.kept -= self.block_len


class Blocks(Best):
    """Logits, sets of tokens and draws only where they are needed."""

    of_network = BlockDit

    def states(self, y_t, x_0):
        return self.network(y_t, self.digits[x_0])

    def bound(self, x_0, y_t):
        """Of every block, [B, K]."""
        rows = (y_t == self.mask).any(2)
        with autocast():
            logits = self.logits(self.states(y_t, x_0)[rows], y_t[rows])
        losses = torch.zeros(y_t.shape)
        losses[rows] = self.digit_losses(logits.float().softmax(1), self.digits[x_0[rows]], y_t[rows])
        return losses.unflatten(1, (-1, self.case["config"]["block_len"])).sum((2, 3))

    def draw_digit(self, hidden, y, digit):
        """A digit of a token with digits y [ℓ], drawn with the others that are masked."""
        with autocast():
            logits = self.logits(hidden[None], y[None])
        sums = logits.float().softmax(1).cumsum(1)[0]
        token = torch.searchsorted(sums, torch.rand(()) * sums[-1], right=True)
        return self.digits[token.minimum(torch.searchsorted(sums, sums[-1])), digit]


def evaluate_kept(form, batch):
    x_0, y_t, _ = batch
    config = form.case["config"]
    kept = Kept(form.network, config, 2 * config["seq_len"])
    y_0 = form.digits[x_0]
    noisy, clean = (y[:2].flatten(0, 1)[None].split(config["block_len"], dim=1) for y in (y_t, y_0))
    squares = 0.0
    for y_t, y_0 in zip(noisy, clean, strict=True):
        squares += form.network.logits(kept.block(y_t)).double().square().sum().item()
        kept.keep(y_0)
    return {"squares": squares}


def bound(form, x_0, batch, count):
    """Estimates of the sub-token bound by blocks: in every draw t is even over all blocks, in random order."""
    y_0, epsilon, estimates = form.digits[x_0], 1e-3, []
    block_len = form.case["config"]["block_len"]
    blocks = x_0.numel() // block_len

    def draw():
        t = (torch.rand(1) + torch.randperm(blocks)) / blocks * (1 - epsilon) + epsilon
        t = t.view(len(x_0), -1)
        chance = (1 - epsilon) * t.repeat_interleave(block_len, 1)[..., None]
        y_t = torch.where(torch.rand(y_0.shape) < chance, form.mask, y_0)
        parts = zip(x_0.split(batch), y_t.split(batch), strict=True)
        return (torch.cat([form.bound(*part) for part in parts]) / t).sum() / x_0.numel()

    def call():
        estimates.append(statistics.mean(draw().item() for _ in range(form.case["draws"])))

    ms = median(count, call)
    return {"ms": ms, "estimates": estimates[1:]}


def sample_long(form):
    """Time per token of every part of a text, one digit per evaluation in random order."""
    config, subtokens = form.case["config"], form.case["subtokens"]
    block_len, part = config["block_len"], config["seq_len"] // PARTS

    def measure(tokens):
        kept, times, start = Kept(form.network, config, tokens), [], time.perf_counter()
        for end in range(block_len, tokens + 1, block_len):
            y = torch.full((1, block_len, subtokens), form.mask)
            for place in torch.randperm(block_len * subtokens).tolist():
                token, digit = divmod(place, subtokens)
                with autocast():
                    hidden = kept.block(y)
                y[0, token, digit] = form.draw_digit(hidden[0, token], y[0, token], digit)
            if end % part == 0:
                times.append((time.perf_counter() - start) * 1e3 / part)
                start = time.perf_counter()
            if end < tokens:
                with autocast():
                    kept.keep(y)
        return times

    measure(part)
    start = time.perf_counter()
    parts = measure(TIMES_AS_LONG * config["seq_len"])
    ms = (time.perf_counter() - start) * 1e3 / (TIMES_AS_LONG * config["seq_len"])
    return {"ms": ms, "ms_by_part": parts, "tokens_per_part": part}


def main():
    set_threads()
    torch.manual_seed(0)
    set_device()
    match sys.argv[1:]:
        case [verb, folder, *rest]:
            form, batch, held_out = load(Blocks, Path(folder))
        case _:
            sys.exit(__doc__)
    with contextlib.nullcontext() if verb == "train" else torch.inference_mode():
        match verb, rest:
            case "train", [count]:
                result = train(form, batch, int(count))
            case "evaluate", []:
                result = evaluate(form, batch)
            case "evaluate-kept", []:
                result = evaluate_kept(form, batch)
            case "bound", [count]:
                result = bound(form, held_out, len(batch[0]), int(count))
            case "sample-long", []:
                result = sample_long(form)
            case _:
                sys.exit(__doc__)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
