"""A small masked diffusion model of PyTorch under our likelihoods and samplers: they equal what PyTorch alone computes."""

# Types of PyTorch are not there where it is not installed.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import importlib.util
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import submask
from submask import likelihood, sampler

torch = pytest.importorskip("torch")

EXAMPLE = Path(__file__).parents[2] / "examples" / "torch_network.py"


@pytest.fixture(scope="module")
def example() -> Any:
    """The example, as a module."""
    spec = importlib.util.spec_from_file_location("torch_network", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(example: Any) -> Any:
    """Its codes, and its network after a few steps."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    codes = submask.SubTokenizer(example.VOCAB_SIZE, 3)
    module = example.Denoiser(codes)
    example.train(module, codes, 60)
    return codes, module.eval()


@torch.inference_mode()
def log_p(module: Any, codes: submask.SubTokenizer, y_t: Any) -> Any:
    """log p(x | y_t) by PyTorch alone, float64 [B, L, C]: logits of tokens that contradict a visible digit are −inf."""
    encoded = torch.from_numpy(codes.encode(np.arange(codes.vocab_size)).astype(np.int64))
    agrees = ((y_t[:, :, None] == encoded) | (y_t[:, :, None] == codes.mask_id)).all(-1)
    return module(y_t).double().masked_fill(~agrees, -math.inf).log_softmax(-1)


def marginal(codes: submask.SubTokenizer, log_probs: Any, j: int, digit: int) -> float:
    """log p of digit j of a position."""
    has = torch.from_numpy(codes.encode(np.arange(codes.vocab_size))[:, j] == digit)
    return float(log_probs[has].logsumexp(0))


def test_the_exact_value_from_left_to_right_is_that_of_pytorch(example: Any, trained: Any) -> None:
    codes, module = trained
    x_0 = np.array([[0, 1, 2, 0, 1, 2], [7, 7, 3, 7, 7, 3], [1, 2, 3, 4, 5, 6]])
    found = likelihood.exact(example.network_of(module, codes), submask.Predictive(codes), x_0)
    for tokens, nats in zip(x_0, found.nats):
        y_0 = codes.encode(tokens).reshape(-1).astype(np.int64)
        expected = 0.0
        for digit in range(len(y_0)):
            y = y_0.copy()
            y[digit:] = codes.mask_id
            log_probs = log_p(module, codes, torch.from_numpy(y.reshape(1, 6, 3)))
            expected -= marginal(codes, log_probs[0, digit // 3], digit % 3, int(y_0[digit]))
        # Batches of another size round float32 otherwise.
        assert nats == pytest.approx(expected, abs=1e-4)


def test_the_nelbo_is_that_of_pytorch(example: Any, trained: Any) -> None:
    codes, module = trained
    network = example.network_of(module, codes)
    x_0 = np.array([[4, 2], [0, 0], [6, 1]])
    predictive = submask.Predictive(codes)
    enumerated = likelihood.nelbo_subtoken(network, predictive, x_0, draws="all")
    for tokens, nats in zip(x_0, enumerated.nats):
        y_0 = codes.encode(tokens).reshape(-1).astype(np.int64)
        expected = 0.0
        for count in range(1, 7):
            for masked in itertools.combinations(range(6), count):
                y = y_0.copy()
                y[list(masked)] = codes.mask_id
                log_probs = log_p(module, codes, torch.from_numpy(y.reshape(1, 2, 3)))[0]
                charges = [marginal(codes, log_probs[digit // 3], digit % 3, int(y_0[digit])) for digit in masked]
                expected -= sum(charges) / (count * math.comb(6, count))
        assert nats == pytest.approx(expected, abs=1e-4)
    drawn = likelihood.nelbo_subtoken(network, predictive, x_0, draws=3000, seed=1, batch=256)
    assert (np.abs(drawn.nats - enumerated.nats) < 4 * drawn.draw_errors).all()


def _logits(module: Any) -> Any:
    @torch.inference_mode()
    def logits(y_t: Any, t: Any, positions: Any) -> Any:
        return module(torch.from_numpy(y_t)).flatten(0, 1)[positions]

    return logits


def test_samples_are_those_of_what_was_learnt(example: Any, trained: Any) -> None:
    codes, module = trained
    network, predictive = example.network_of(module, codes), submask.Predictive(codes)
    samples = sampler.sample(network, predictive, 200, seed=2, batch=50, order="confidence", unit="tokens")
    repeats = np.mean([np.array_equal(tokens[:3], tokens[3:]) for tokens in samples.tokens])
    random = 1 / 8**3
    assert repeats > 20 * random


def test_what_pytorch_raises_is_what_the_user_sees(trained: Any) -> None:
    codes, module = trained
    network = submask.Network(lambda y_t, t, positions: module(torch.from_numpy(y_t)).flatten(0, 1)[positions], codes, 6)
    with pytest.raises(RuntimeError, match="requires grad"):
        sampler.sample(network, submask.Predictive(codes))
    # Whether gradients are kept is a matter of the thread, which is the caller's.
    with torch.no_grad():
        sampler.sample(network, submask.Predictive(codes))


def test_half_precision_is_converted(trained: Any) -> None:
    codes, module = trained

    @torch.inference_mode()
    def logits(y_t: Any, t: Any, positions: Any) -> Any:
        return module(torch.from_numpy(y_t)).flatten(0, 1)[positions].half()

    plain = likelihood.exact(submask.Network(_logits(module), codes, 6), submask.Predictive(codes), [[0, 1, 2]])
    halves = likelihood.exact(submask.Network(logits, codes, 6), submask.Predictive(codes), [[0, 1, 2]])
    assert halves.nats[0] == pytest.approx(plain.nats[0], abs=0.05) and halves.nats[0] != plain.nats[0]


def test_the_example_runs(example: Any, capsys: Any) -> None:
    example.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and "exact" in lines[4] and "upper bound" in lines[5]
