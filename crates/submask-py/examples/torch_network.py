"""A module of PyTorch under our samplers and likelihoods, in three lines.

The module is a small masked diffusion language model over eight letters, ℓ = 3 sub-tokens each, trained for a moment on
words of the form abcabc….
"""

# Types of PyTorch are not there where it is not installed.
# mypy: disable-error-code="misc,untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import submask
from submask import likelihood, sampler

VOCAB_SIZE, SEQ_LEN, WIDTH = 8, 6, 64


class Denoiser(nn.Module):
    """Sub-tokens [B, L, ℓ] to logits [B, L, C]."""

    def __init__(self, codes: submask.SubTokenizer) -> None:
        super().__init__()
        self.digits = nn.Embedding(codes.subtoken_len * (codes.base + 1), WIDTH)
        self.places = nn.Embedding(SEQ_LEN, WIDTH)
        self.register_buffer("first", torch.arange(codes.subtoken_len) * (codes.base + 1))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, codes.vocab_size)

    def forward(self, y_t: torch.Tensor) -> torch.Tensor:
        """Logits of all positions."""
        hidden = self.digits(y_t + self.first).sum(2) + self.places.weight[: y_t.shape[1]]
        logits: torch.Tensor = self.head(self.layers(hidden))
        return logits


def train(module: Denoiser, codes: submask.SubTokenizer, steps: int) -> None:
    """A few steps on sequences that repeat their first three tokens."""
    encoded = torch.from_numpy(codes.encode(range(VOCAB_SIZE)).astype("int64"))
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    for _ in range(steps):
        x_0 = torch.randint(VOCAB_SIZE, (64, 3)).repeat(1, 2)
        t = torch.rand(64, 1, 1).clamp_min(1e-3)
        masked = torch.rand(64, SEQ_LEN, codes.subtoken_len) < t
        y_t = torch.where(masked, codes.mask_id, encoded[x_0])
        nats = nn.functional.cross_entropy(module(y_t).transpose(1, 2), x_0, reduction="none")
        loss = (nats * masked.any(2) / t[..., 0]).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def network_of(module: Denoiser, codes: submask.SubTokenizer) -> submask.Network:
    """The module as a network of ours: the three lines."""

    @torch.inference_mode()
    def logits(y_t: Any, t: Any, positions: Any) -> Any:
        return module(torch.from_numpy(y_t)).flatten(0, 1)[positions]

    return submask.Network(logits, codes, SEQ_LEN)


def main() -> None:
    """Trains the module, draws from it, and says how probable a sequence is."""
    torch.manual_seed(0)
    codes = submask.SubTokenizer(VOCAB_SIZE, 3)
    module = Denoiser(codes)
    train(module, codes, 600)
    network, predictive = network_of(module.eval(), codes), submask.Predictive(codes)
    for tokens in sampler.sample(network, predictive, 4, seed=1):
        print("".join("abcdefgh"[token] for token in tokens))
    repeated = [[0, 1, 2, 0, 1, 2]]
    print(likelihood.exact(network, predictive, repeated).per_sequence)
    print(likelihood.nelbo_subtoken(network, predictive, repeated).per_sequence)


if __name__ == "__main__":
    main()
