"""PyTorch's side of the comparison of U-Nets: the network of docs/networks.md with our names of weights.

    unet.py conv B IN OUT SIZE COUNT
    unet.py train FOLDER COUNT
    unet.py evaluate FOLDER COUNT
    unet.py sample FOLDER

prints one line of JSON: the median time in milliseconds of COUNT repetitions after a first one that is not counted,
and what must agree with the other side; `sample` the time of a step of the grid, and how often every colour was drawn.
FOLDER holds `case.safetensors` and `case.json`, which
`unet_steps prepare CASE FOLDER` writes. DEVICE, PRECISION, ROUNDS and COMPILE in the environment are those of dit.py, for
`train`, which on a GPU has channels stand last in memory.
"""

import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from common import median, set_threads
from device import COMPILES, CUDA, DEVICE, ROUNDS, autocast, set_device, train_as_in_a_run


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-5)


class Residual(nn.Module):
    """skip(x) + conv(SiLU(norm(conv(SiLU(norm(x))))·(1 + scale) + shift))."""

    def __init__(self, inner, outer):
        super().__init__()
        self.in_layers = nn.Sequential(norm(inner), nn.SiLU(), nn.Conv2d(inner, outer, 3, padding=1))
        self.emb_layers = nn.ParameterDict({"embedding_table": torch.zeros(1, 2 * outer)})
        self.out_layers = nn.Sequential(norm(outer), nn.SiLU(), nn.Identity(), nn.Conv2d(outer, outer, 3, padding=1))
        self.skip_connection = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)

    def forward(self, x):
        h = self.in_layers(x)
        scale, shift = self.emb_layers["embedding_table"][:, :, None, None].chunk(2, dim=1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class Attention(nn.Module):
    """x + proj(softmax(qᵀk/√w)v) over all pixels."""

    def __init__(self, channels, head_channels):
        super().__init__()
        self.heads = channels // head_channels
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x).flatten(2))
        q, k, v = qkv.reshape(batch, 3, self.heads, -1, height * width).transpose(3, 4).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(batch, channels, -1)
        return x + self.proj_out(mixed).reshape(x.shape)


class Paths(nn.Module):
    """Everything between the embedding and the logits' planes."""

    def __init__(self, config, classes):
        super().__init__()
        widths = [mult * config["model_channels"] for mult in config["channel_mult"]]
        last = len(widths) - 1

        def stage(inner, outer, level):
            blocks = [Residual(inner, outer)]
            if 1 << level in config["attention_resolutions"]:
                blocks.append(Attention(outer, config["head_channels"]))
            return nn.Sequential(*blocks)

        channels, skips = widths[0], [widths[0]]
        down, up, self.doubles = [nn.Identity()], [], []
        for level, width in enumerate(widths):
            for _ in range(config["res_blocks"]):
                down.append(stage(channels, width, level))
                channels = width
                skips.append(channels)
            if level < last:
                down.append(nn.AvgPool2d(2))
                skips.append(channels)
        self.input_blocks = nn.ModuleList(down)
        self.middle_block = nn.Sequential(
            Residual(channels, channels), Attention(channels, config["head_channels"]), Residual(channels, channels)
        )
        for level in range(last, -1, -1):
            for i in range(config["res_blocks"] + 1):
                up.append(stage(channels + skips.pop(), widths[level], level))
                channels = widths[level]
                self.doubles.append(i == config["res_blocks"] and level > 0)
        self.output_blocks = nn.ModuleList(up)
        self.out = nn.Sequential(
            norm(channels), nn.SiLU(), nn.Conv2d(channels, config["channels"] * classes, 3, padding=1)
        )

    def forward(self, x):
        skips = []
        for block in self.input_blocks:
            x = block(x)
            skips.append(x)
        x = self.middle_block(x)
        for block, doubles in zip(self.output_blocks, self.doubles):
            x = block(torch.cat([x, skips.pop()], dim=1))
            if doubles:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.out(x)


class Unet(nn.Module):
    """Digits [B, k·H·W, ℓ] to logits [B, k·H·W, C]."""

    def __init__(self, case):
        super().__init__()
        config = self.config = case["config"]
        self.classes = case["vocab_size"]
        share = config["model_channels"] * config["channel_mult"][0] // config["channels"] // case["subtokens"]
        self.pixel_embedding = nn.ModuleDict({"embedding_table": nn.Embedding(case["base"] + 1, share)})
        self.unet = Paths(config, self.classes)

    def planes(self, y_t):
        """Logits [B, k·C, H, W]."""
        batch, _, _ = y_t.shape
        channels, height, width = (self.config[name] for name in ("channels", "height", "width"))
        x = self.pixel_embedding["embedding_table"](y_t).reshape(batch, channels, height * width, -1)
        x = x.transpose(2, 3).reshape(batch, -1, height, width)
        return self.unet(x.contiguous(memory_format=torch.channels_last) if CUDA else x)

    def forward(self, y_t):
        batch, tokens, _ = y_t.shape
        planes = self.planes(y_t).reshape(batch, self.config["channels"], self.classes, -1)
        return planes.transpose(2, 3).reshape(batch, tokens, self.classes)

    def loss(self, y_t, x_0):
        """The mean cross-entropy. Classes that stand last in memory are not moved."""
        planes = self.planes(y_t).permute(0, 2, 3, 1)
        colours = x_0.view(len(x_0), -1, *planes.shape[1:3]).permute(0, 2, 3, 1)
        return F.cross_entropy(planes.reshape(-1, self.classes), colours.flatten())


def load(folder):
    case = json.loads((folder / "case.json").read_text())
    tensors = {name: tensor.to(DEVICE) for name, tensor in load_file(folder / "case.safetensors").items()}
    x_0, y_t = tensors.pop("x_0").long(), tensors.pop("y_t").long()
    network = Unet(case)
    network.load_state_dict(tensors, strict=True)
    if CUDA:
        network.unet.to(memory_format=torch.channels_last)
    return case, network, x_0, y_t


def convolution(batch, inner, outer, size, count):
    x = torch.randn(batch, inner, size, size, requires_grad=True)
    layer = nn.Conv2d(inner, outer, 3, padding=1)

    def call():
        x.grad = None
        layer.zero_grad()
        layer(x).sum().backward()

    return {"ms": median(count, call)}


def train(folder, count):
    _, network, x_0, y_t = load(folder)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    compute_loss = torch.compile(network.loss) if COMPILES else network.loss
    losses = []

    def call():
        optimizer.zero_grad()
        with autocast():
            loss = compute_loss(y_t, x_0)
        loss.backward()
        optimizer.step()
        return loss

    if CUDA or ROUNDS:
        return train_as_in_a_run(call, count)
    return {"ms": median(count, lambda: losses.append(call().item())), "losses": losses}


@torch.no_grad()
def evaluate(folder, count):
    case, network, _, y_t = load(folder)
    squares = 0.0

    def call():
        nonlocal squares
        asked = network(y_t).flatten(0, 1)[:: case["asked"]]
        squares = asked.double().square().sum().item()

    return {"ms": median(count, call), "squares": squares}


@torch.inference_mode()
def generate(case, network, steps):
    """Tokens [samples, k·H·W] after an even grid in the image time u, with α = u³; draws only where digits appear."""
    mask, subtokens = case["base"], case["subtokens"]
    places = mask ** torch.arange(subtokens - 1, -1, -1)
    digits = torch.arange(case["vocab_size"])[:, None] // places % mask
    tokens = case["config"]["channels"] * case["config"]["height"] * case["config"]["width"]
    y_t = torch.full((case["samples"], tokens, subtokens), mask)
    for step in range(steps):
        before, after = (step / steps) ** 3, ((step + 1) / steps) ** 3
        reveal = (y_t == mask) & (torch.rand(y_t.shape) < (after - before) / (1 - before))
        rows = reveal.any(2)
        if rows.any():
            sums = network(y_t)[rows].softmax(1).cumsum(1)
            draws = torch.rand(len(sums), 1) * sums[:, -1:]
            drawn = torch.searchsorted(sums, draws).squeeze(1).clamp_(max=case["vocab_size"] - 1)
            y_t[rows] = torch.where(reveal[rows], digits[drawn], y_t[rows])
    return (y_t * places).sum(2)


def sample(folder):
    case, network, _, _ = load(folder)
    generate(case, network, 2)
    start = time.perf_counter()
    tokens = generate(case, network, case["steps"])
    ms = (time.perf_counter() - start) * 1e3 / case["steps"]
    return {"ms": ms, "counts": torch.bincount(tokens.flatten(), minlength=case["vocab_size"]).tolist()}


def main():
    set_threads()
    torch.manual_seed(0)
    set_device()
    match sys.argv[1:]:
        case ["conv", batch, inner, outer, size, count]:
            result = convolution(int(batch), int(inner), int(outer), int(size), int(count))
        case ["train", folder, count]:
            result = train(Path(folder), int(count))
        case ["evaluate", folder, count]:
            result = evaluate(Path(folder), int(count))
        case ["sample", folder]:
            result = sample(Path(folder))
        case _:
            sys.exit(__doc__)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
