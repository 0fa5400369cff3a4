"""PyTorch's side of the comparison of text networks: the diffusion transformer and the encoder of docs/networks.md, with our
names of weights, and the objective `joint`, the sampler and the bound of docs/math.md with carry-over, in two forms.

    dit.py FORM train FOLDER COUNT
    dit.py FORM evaluate FOLDER
    dit.py FORM sample FOLDER [EVALUATIONS]
    dit.py FORM draw FOLDER COUNT
    dit.py FORM bound FOLDER COUNT
    dit.py FORM bound-by-number FOLDER COUNT

FORM is `reference`, the published algorithms, or `best`, what a good PyTorch user would write. `bound` draws a time for every
sequence, as published, `bound-by-number` the number of masked digits, as we do. Each verb prints one line of JSON, as
`dit_steps` does. FOLDER holds `case.safetensors` and `case.json`, which `dit_steps prepare` writes.
DEVICE and PRECISION in the environment are those of device.py: on a GPU the clock is read when the device is done, training
steps do not wait for each other, and the line says what the allocator has held at most. ROUNDS=1 has `train`, `sample` and
the bounds measure once for each line of standard input. COMPILE=1 has torch.compile compile the network, and in `best` the
output layer with the loss.
"""

import contextlib
import functools
import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from common import median, set_threads
from device import COMPILES, CUDA, DEVICE, PRECISION, ROUNDS, autocast, in_rounds, set_device, train_as_in_a_run, wait

FEATURES = 256
VERBS = ("train", "evaluate", "sample", "draw", "bound", "bound-by-number")


class Rotary(nn.Module):
    """Rotary positions; the two halves of a head form the pairs. The table may be `rounded` to bfloat16."""

    def __init__(self, length, width, rounded=False):
        super().__init__()
        angles = torch.outer(torch.arange(length), 10_000.0 ** (-torch.arange(0, width, 2) / width))
        for name, table in (("cos", angles.cos()), ("sin", angles.sin())):
            self.register_buffer(name, table.bfloat16().float() if rounded else table, persistent=False)

    def forward(self, x):
        cos, sin = self.cos[: x.shape[-2]].to(x.dtype), self.sin[: x.shape[-2]].to(x.dtype)
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def modulated(norm, x, shift, scale):
    return norm(x) * (1 + scale) + shift


class Block(nn.Module):
    """x + gate·attention(norm(x)), then x + gate·mlp(norm(x)), both norms modulated."""

    def __init__(self, config):
        super().__init__()
        hidden, self.heads = config["hidden"], config["heads"]
        self.norm1 = nn.LayerNorm(hidden, bias=False)
        self.attn_qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.attn_out = nn.Linear(hidden, hidden, bias=False)
        self.norm2 = nn.LayerNorm(hidden, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.GELU(approximate="tanh"), nn.Linear(4 * hidden, hidden)
        )
        self.adaLN_modulation = nn.Linear(config["cond_dim"], 6 * hidden)

    def forward(self, x, cond, attend):
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.adaLN_modulation(cond).chunk(6, dim=-1)
        batch, length, hidden = x.shape
        qkv = self.attn_qkv(modulated(self.norm1, x, shift_1, scale_1))
        q, k, v = qkv.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(q, k, v)
        x = x + gate_1 * self.attn_out(mixed.transpose(1, 2).reshape(batch, length, hidden))
        return x + gate_2 * self.mlp(modulated(self.norm2, x, shift_2, scale_2))


class Dit(nn.Module):
    """Digits [B, L, ℓ] to hidden states [B, L, d]; `output_layer.linear` makes logits [.., C] of them."""

    def __init__(self, case):
        super().__init__()
        config = case["config"]
        self.vocab_size = case["vocab_size"]
        hidden, cond_dim = config["hidden"], config["cond_dim"]
        table = torch.zeros(case["base"] + 1, hidden // case["subtokens"])
        self.vocab_embed = nn.ParameterDict({"embedding": nn.Parameter(table)})
        mlp = nn.Sequential(nn.Linear(FEATURES, cond_dim), nn.SiLU(), nn.Linear(cond_dim, cond_dim))
        self.sigma_map = nn.ModuleDict({"mlp": mlp})
        self.rotary = Rotary(config["seq_len"], hidden // config["heads"])
        # The network does not read the time: σ = 0, whose features are cos 0 and sin 0.
        features = torch.tensor([1.0, 0.0]).repeat_interleave(FEATURES // 2)
        self.register_buffer("features", features, persistent=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["blocks"]))
        self.output_layer = nn.ModuleDict(
            {
                "norm_final": nn.LayerNorm(hidden, bias=False),
                # With one digit per token the published network has an output for the mask, too, which is never asked.
                "linear": nn.Linear(hidden, case["vocab_size"] + (case["subtokens"] == 1)),
                "adaLN_modulation": nn.Linear(cond_dim, 2 * hidden),
            }
        )

    def forward(self, y_t):
        def attend(_, q, k, v):
            return F.scaled_dot_product_attention(self.rotary(q), self.rotary(k), v)

        return self.hidden_states(y_t, attend)

    def hidden_states(self, y_t, attend, asked=None):
        """With `attend(layer, q, k, v)` as attention, heads [B, h, L, w]; of the positions `asked` for, or of all."""
        x = F.embedding(y_t, self.vocab_embed["embedding"]).flatten(2)
        cond = F.silu(self.sigma_map["mlp"](self.features))
        for layer, block in enumerate(self.blocks):
            x = block(x, cond, functools.partial(attend, layer))
        x = x if asked is None else x[:, asked]
        shift, scale = self.output_layer["adaLN_modulation"](cond).chunk(2, dim=-1)
        return modulated(self.output_layer["norm_final"], x, shift, scale)

    def logits(self, hidden):
        return self.output_layer["linear"](hidden)[..., : self.vocab_size]


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + swiglu(norm(x)). Queries, keys and values stand together by heads."""

    def __init__(self, config):
        super().__init__()
        hidden, self.heads, inner = config["hidden"], config["heads"], config["intermediate"]
        self.norm_1, self.norm_2 = (nn.RMSNorm(hidden, eps=1e-5) for _ in range(2))
        qkv, out = nn.Linear(hidden, 3 * hidden, bias=False), nn.Linear(hidden, hidden, bias=False)
        self.attn = nn.ModuleDict({"attn": qkv, "proj": out})
        gate, up = (nn.Linear(hidden, inner, bias=False) for _ in range(2))
        swiglu = nn.ModuleDict({"w1": gate, "w2": up, "w3": nn.Linear(inner, hidden, bias=False)})
        self.mlp = nn.ModuleDict({"swiglu": swiglu})

    def forward(self, x, rotary):
        batch, length, hidden = x.shape
        qkv = self.attn["attn"](self.norm_1(x))
        q, k, v = qkv.view(batch, length, self.heads, 3, -1).permute(3, 0, 2, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(rotary(q), rotary(k), v)
        x = x + self.attn["proj"](mixed.transpose(1, 2).reshape(batch, length, hidden))
        swiglu, normed = self.mlp["swiglu"], self.norm_2(x)
        return x + swiglu["w3"](F.silu(swiglu["w1"](normed)) * swiglu["w2"](normed))


class Encoder(nn.Module):
    """Digits [B, L, ℓ] to hidden states [B, L, d]; every digit of a token has a table of its own."""

    def __init__(self, case):
        super().__init__()
        config, subtokens = case["config"], case["subtokens"]
        hidden, heads = config["hidden"], config["heads"]
        assert config["query_groups"] == heads, "every head has its own key"
        self.lm_head = nn.Linear(hidden, case["vocab_size"], bias=False)
        rows = case["base"] + 1
        blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config["blocks"]))
        embedding, norm = nn.Embedding(subtokens * rows, hidden // subtokens), nn.RMSNorm(hidden, eps=1e-5)
        self.transformer = nn.ModuleDict({"wte": embedding, "h": blocks, "ln_f": norm})
        self.rotary = Rotary(config["seq_len"], hidden // heads, rounded=True)
        self.register_buffer("offsets", torch.arange(subtokens) * rows, persistent=False)

    def forward(self, y_t):
        x = self.transformer["wte"](y_t + self.offsets).flatten(2)
        for block in self.transformer["h"]:
            x = block(x, self.rotary)
        return self.transformer["ln_f"](x)

    def logits(self, hidden):
        return self.lm_head(hidden)


def network_of(case):
    return {"dit": Dit, "encoder": Encoder}[case["network"]](case)


class Form:
    """What both forms know: a network and the digits of every token, [C, ℓ]."""

    of_network = staticmethod(network_of)

    def __init__(self, case, network):
        self.case, self.network, self.mask = case, network, case["base"]
        base, subtokens = case["base"], case["subtokens"]
        places = base ** torch.arange(subtokens - 1, -1, -1)
        self.digits = torch.arange(case["vocab_size"])[:, None] // places % base

    def digit_losses(self, probs, y_0, y):
        """−log of the marginals of the masked digits: probabilities [.., C], digits [.., ℓ] to [.., ℓ]."""
        tables = F.one_hot(self.digits.T, self.mask).float()
        marginals = torch.stack([probs @ table for table in tables], dim=-2)
        losses = -marginals.gather(-1, y_0[..., None]).squeeze(-1).log()
        return torch.where(y == self.mask, losses, 0.0)

    def states(self, y_t, _):
        """Hidden states of a batch, [B, L, d], given its tokens, too."""
        return self.network(y_t)

    def start(self, count):
        return torch.full((count, self.case["config"]["seq_len"], self.case["subtokens"]), self.mask)


class Reference(Form):
    """Logits, sets of tokens and draws at all positions."""

    def __init__(self, case, network):
        super().__init__(case, network)
        # [ℓ, C, b + 1]: whether a token agrees with a digit; with the mask all agree.
        agrees = self.digits.T[:, :, None] == torch.arange(self.mask + 1)
        self.agrees = (agrees | (torch.arange(self.mask + 1) == self.mask)).float()

    def log_probs(self, y_t):
        with autocast():
            logits = self.network.logits(self.network(y_t))
        agreeing = torch.zeros(logits.shape)
        for j, table in enumerate(self.agrees):
            table = table.expand(*y_t.shape[:2], -1, -1)
            index = y_t[:, :, j, None, None].expand(-1, -1, table.shape[2], 1)
            agreeing += table.gather(3, index).squeeze(3)
        return logits.float().masked_fill(agreeing != len(self.agrees), -torch.inf).log_softmax(2)

    def loss(self, x_0, y_t, loss_weights):
        own = self.log_probs(y_t).gather(2, x_0[:, :, None]).squeeze(2)
        return -(own * loss_weights[:, None]).sum()

    def bound(self, y_0, y_t):
        return self.digit_losses(self.log_probs(y_t).exp(), y_0, y_t).sum((1, 2))

    def draw(self, y_t, reveal):
        log_probs = self.log_probs(y_t).double()
        noise = -(-torch.rand_like(log_probs).log()).log()
        return torch.where(reveal, self.digits[(log_probs + noise).argmax(2)], y_t)


class Best(Form):
    """Logits, sets of tokens and draws only where they are needed."""

    def __init__(self, case, network):
        super().__init__(case, network)
        # [ℓ, b + 1, C]: whether a digit excludes a token; the mask excludes none.
        values = torch.arange(self.mask + 1)[:, None]
        self.excludes = (self.digits.T[:, None, :] != values) & (values != self.mask)

    def logits(self, hidden, y):
        """Of n tokens with digits y [n, ℓ]: [n, C]."""
        excluded = self.excludes[0][y[:, 0]]
        for j in range(1, len(self.excludes)):
            excluded |= self.excludes[j][y[:, j]]
        return self.network.logits(hidden).masked_fill_(excluded, -torch.inf)

    def row_losses(self, hidden, y, x_0):
        return F.cross_entropy(self.logits(hidden, y), x_0, reduction="none")

    def loss(self, x_0, y_t, loss_weights):
        # Once, since this waits for the device.
        rows = (y_t == self.mask).any(2).flatten().nonzero().squeeze(1)
        with autocast():
            hidden, y = self.states(y_t, x_0).flatten(0, 1)[rows], y_t.flatten(0, 1)[rows]
            losses = self.row_losses(hidden, y, x_0.flatten()[rows])
        return losses @ loss_weights[rows // (x_0.numel() // len(loss_weights))]

    def bound(self, y_0, y_t):
        rows = (y_t == self.mask).any(2)
        with autocast():
            logits = self.logits(self.network(y_t)[rows], y_t[rows])
        losses = torch.zeros(y_t.shape)
        losses[rows] = self.digit_losses(logits.float().softmax(1), y_0[rows], y_t[rows])
        return losses.sum((1, 2))

    def draw(self, y_t, reveal):
        rows, active = reveal.any(2), reveal.any(2).any(1)
        y = y_t[rows]
        with autocast():
            logits = self.logits(self.network(y_t[active])[rows[active]], y)
        sums = logits.float().softmax(1).cumsum(1)
        total = sums[:, -1:].contiguous()
        tokens = torch.searchsorted(sums, torch.rand_like(total) * total, right=True)
        # A rounded draw may lie at the very end: then the last token of positive probability.
        tokens = tokens.minimum(torch.searchsorted(sums, total)).squeeze(1)
        y_t[rows] = torch.where(reveal[rows], self.digits[tokens], y)
        return y_t


def generate(form, count, limit=None):
    """Digits [count, L, ℓ] after T even steps of the linear schedule, or after `limit` evaluations. The network is
    evaluated at the steps that reveal something."""
    y_t, steps, evaluations = form.start(count), form.case["steps"], 0
    for step in range(steps):
        reveal = (y_t == form.mask) & (torch.rand(y_t.shape) < 1 / (steps - step))
        if reveal.any():
            y_t = form.draw(y_t, reveal)
            evaluations += 1
            if evaluations == limit:
                break
    return y_t


def load(form, folder):
    """A form, the batch (x_0 [B, L], y_t [B, L, ℓ], loss weights [B]), and held out sequences [n, L]."""
    case = json.loads((folder / "case.json").read_text())
    tensors = {name: tensor.to(DEVICE) for name, tensor in load_file(folder / "case.safetensors").items()}
    batch = tensors.pop("x_0").long(), tensors.pop("y_t").long(), tensors.pop("loss_weights")
    held_out = tensors.pop("held_out").long()
    network = form.of_network(case)
    network.load_state_dict(tensors, strict=True)
    loaded = form(case, network)
    if COMPILES:
        network.forward = torch.compile(network.forward)
        if form is Best:
            loaded.row_losses = torch.compile(loaded.row_losses)
    return loaded, batch, held_out


def for_inference(form):
    """Weights of products in the precision of products, which autocast would convert every time."""
    if PRECISION == "bf16":
        for layer in form.network.modules():
            if isinstance(layer, nn.Linear):
                layer.to(torch.bfloat16)
    return form


def train(form, batch, count):
    optimizer = torch.optim.AdamW(form.network.parameters(), lr=3e-4, weight_decay=0.0, fused=True)
    losses = []

    def call():
        optimizer.zero_grad()
        loss = form.loss(*batch)
        loss.backward()
        optimizer.step()
        return loss

    if CUDA or ROUNDS:
        return train_as_in_a_run(call, count)
    return {"ms": median(count, lambda: losses.append(call().item())), "losses": losses}


def evaluate(form, batch):
    with autocast():
        hidden = form.states(batch[1], batch[0]).flatten(0, 1)
        asked = form.network.logits(hidden[:: form.case["asked"]])
    return {"squares": asked.double().square().sum().item()}


def sample(form, limit=None):
    case = form.case
    generate(form, case["samples"], case["warm_up"])
    wait()

    def measure():
        start = time.perf_counter()
        generate(form, case["samples"], limit)
        wait()
        return {"ms": (time.perf_counter() - start) * 1e3 / (limit or case["steps"])}

    return in_rounds({}, measure)


def draw(form, count):
    vocab_size, seq_len = form.case["vocab_size"], form.case["config"]["seq_len"]
    places = form.mask ** torch.arange(form.case["subtokens"] - 1, -1, -1)
    order = vocab_size ** torch.arange(seq_len - 1, -1, -1)
    counts = torch.zeros(vocab_size**seq_len, dtype=torch.long)
    for _ in range(count // form.case["samples"]):
        tokens = (generate(form, form.case["samples"]) * places).sum(2)
        counts += torch.bincount((tokens * order).sum(1), minlength=len(counts))
    return {"counts": counts.tolist()}


def masked_by_time(form, y_0):
    """y_t, and what a digit's loss is multiplied by: t is even over the sequences, the schedule log-linear."""
    count, epsilon = len(y_0), 1e-3
    t = (torch.rand(1) + torch.arange(count) / count) % 1 * (1 - epsilon) + epsilon
    return torch.where(torch.rand(y_0.shape) < (1 - epsilon) * t[:, None, None], form.mask, y_0), 1 / t


def masked_by_number(form, y_0):
    """The same, where the number of masked digits is drawn: every one is as likely."""
    count, digits = len(y_0), y_0[0].numel()
    masked = torch.randint(1, digits + 1, (count, 1))
    ranks = torch.rand(count, digits).argsort(1).argsort(1)
    return torch.where((ranks < masked).view(y_0.shape), form.mask, y_0), digits / masked.squeeze(1)


def bound(form, x_0, batch, count, masked):
    """COUNT estimates in nats per token, and the time of one after the first."""
    y_0 = form.digits[x_0]

    def estimate():
        y_t, weights = masked(form, y_0)
        parts = zip(y_0.split(batch), y_t.split(batch), strict=True)
        losses = torch.cat([form.bound(*part) for part in parts])
        return (losses * weights).mean().item() / x_0.shape[1]

    estimate()

    def measure():
        start = time.perf_counter()
        estimates = [estimate() for _ in range(count)]
        return {"ms": (time.perf_counter() - start) * 1e3 / count, "estimates": estimates}

    return in_rounds({}, measure)


def main():
    set_threads()
    torch.manual_seed(0)
    set_device()
    match sys.argv[1:]:
        case [("reference" | "best") as name, verb, folder, *rest] if verb in VERBS:
            form, batch, held_out = load({"reference": Reference, "best": Best}[name], Path(folder))
        case _:
            sys.exit(__doc__)
    with contextlib.nullcontext() if verb == "train" else torch.inference_mode():
        match verb, rest:
            case "train", [count]:
                result = train(form, batch, int(count))
            case "evaluate", []:
                result = evaluate(form, batch)
            case "sample", []:
                result = sample(for_inference(form))
            case "sample", [evaluations]:
                result = sample(for_inference(form), int(evaluations))
            case "draw", [count]:
                result = draw(form, int(count))
            case "bound", [count]:
                result = bound(for_inference(form), held_out, len(batch[0]), int(count), masked_by_time)
            case "bound-by-number", [count]:
                result = bound(for_inference(form), held_out, len(batch[0]), int(count), masked_by_number)
            case _:
                sys.exit(__doc__)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
