"""Tokens as digits, schedules, and what logits say of tokens and digits."""

from __future__ import annotations

import pickle
from typing import Any, cast

import numpy as np
import pytest

import submask
from own_tables import Table


def test_tokens_become_digits_and_come_back() -> None:
    codes = submask.SubTokenizer(4096, 2)
    assert (codes.base, codes.mask_id, codes.vocab_size, codes.subtoken_len) == (64, 64, 4096, 2)
    tokens = np.random.default_rng(0).integers(4096, size=(3, 4, 5))
    digits = codes.encode(tokens)
    assert digits.dtype == np.uint32 and digits.shape == (3, 4, 5, 2)
    assert np.array_equal(digits[..., 0] * 64 + digits[..., 1], tokens)
    assert np.array_equal(codes.decode(digits), tokens)
    assert codes.encode(130).tolist() == [2, 2]


def test_permuted_codes_are_those_of_the_table() -> None:
    table = np.random.default_rng(1).permutation(9)
    codes = submask.SubTokenizer(7, 2, table)
    plain = submask.SubTokenizer(9, 2)
    assert np.array_equal(codes.encode(np.arange(7)), plain.encode(table[:7]))
    assert np.array_equal(codes.decode(codes.encode(np.arange(7))), np.arange(7))
    seeded = submask.SubTokenizer(7, 2, seed=3)
    assert seeded == submask.SubTokenizer(7, 2, seed=3) and seeded != submask.SubTokenizer(7, 2, seed=4)
    assert pickle.loads(pickle.dumps(codes)) == codes


def test_masked_digits_are_holes() -> None:
    codes = submask.SubTokenizer(5, 2)
    assert codes.encode([4, 2], masked=[True, False]).tolist() == [[3, 3], [0, 2]]
    assert codes.encode([4, 2], masked=[[False, True], [True, False]]).tolist() == [[1, 3], [3, 2]]


@pytest.mark.parametrize(
    ("call", "field", "given"),
    [
        (lambda codes: codes.encode([5]), "token", "5"),
        (lambda codes: codes.encode([-1]), "tokens", "-1 in int64 [1]"),
        (lambda codes: codes.encode([0.5]), "tokens", "float64 [1]"),
        (lambda codes: codes.encode([1, 2], masked=[True]), "masked", "bool [1]"),
        (lambda codes: codes.decode([[3, 0]]), "digit", "3"),
        (lambda codes: codes.decode([2, 2]), "token", "8"),
        (lambda codes: codes.decode([[0, 0, 0]]), "digits", "int64 [1, 3]"),
        (lambda codes: submask.SubTokenizer(1, 1), "vocab_size", "1"),
        (lambda codes: submask.SubTokenizer(5, 0), "subtoken_len", "0"),
        (lambda codes: submask.SubTokenizer(5, 2, [0, 1]), "permutation", "2 entries"),
        (lambda codes: submask.Schedule(cast(Any, "sigmoid")), "kind", "'sigmoid'"),
        (lambda codes: submask.Schedule("linear", epsilon=0.1), "epsilon", "0.1"),
        (lambda codes: submask.Schedule("log-linear", epsilon=1.0), "epsilon", "1"),
        (lambda codes: submask.Schedule("polynomial", exponent=0), "exponent", "0"),
        (lambda codes: submask.Schedule().alpha([0.5, 1.5]), "t", "1.5 in float64 [2]"),
        (lambda codes: submask.Schedule().weight(0.0), "t", "0.0 in float64 []"),
        (lambda codes: submask.Schedule().alpha(np.ma.masked_less([0.5, 0.2], 0.3)), "t", "a masked array float64 [2]"),
        (lambda codes: codes.encode(np.ma.masked_less([1, 2], 2)), "tokens", "a masked array int64 [2]"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call: Any, field: str, given: str) -> None:
    with pytest.raises(submask.SubmaskError) as raised:
        call(submask.SubTokenizer(5, 2))
    assert (getattr(raised.value, "field"), getattr(raised.value, "given")) == (field, given)


@pytest.mark.parametrize(
    ("schedule", "alpha"),
    [
        (submask.Schedule("linear"), lambda t: 1 - t),
        (submask.Schedule("log-linear"), lambda t: 1 - (1 - 1e-3) * t),
        (submask.Schedule("log-linear", epsilon=0.2), lambda t: 1 - 0.8 * t),
        (submask.Schedule("polynomial"), lambda t: (1 - t) ** 3),
        (submask.Schedule("polynomial", exponent=0.5), lambda t: (1 - t) ** 0.5),
        (submask.Schedule("cosine"), lambda t: 1 - np.cos(np.pi / 2 * (1 - t))),
    ],
)
def test_schedules_are_their_formulas(schedule: submask.Schedule, alpha: Any) -> None:
    t = np.linspace(0.05, 0.95, 10).reshape(2, 5)
    h = 1e-6
    slope = (alpha(t + h) - alpha(t - h)) / (2 * h)
    assert np.allclose(schedule.alpha(t), alpha(t), rtol=1e-12)
    assert np.allclose(schedule.alpha_prime(t), slope, rtol=1e-6)
    assert np.allclose(schedule.weight(t), -slope / (1 - alpha(t)), rtol=1e-6)
    assert np.allclose(schedule.inverse_alpha(schedule.alpha(t)), t, rtol=1e-9)
    grid = np.array([1.0, 0.7, 0.2, 0.0])
    revealed = schedule.reveal_probabilities(grid)
    assert np.allclose(revealed[:-1], (np.diff(alpha(grid)) / (1 - alpha(1.0)))[:-1]) and revealed.sum() == pytest.approx(1)
    assert pickle.loads(pickle.dumps(schedule)) == schedule


@pytest.mark.parametrize("carry_over", [True, False])
def test_log_probabilities_are_those_of_the_softmax(carry_over: bool) -> None:
    table = Table()
    predictive = submask.Predictive(table.codes, carry_over)
    states = [table.clean(x) for x in table.sequences()]
    states = [table.masked(y, masked) for y in states for masked in ([], [0], [1, 2], [0, 1, 2, 3])]
    y_t = np.array(states).reshape(-1, 2, 2)
    positions = np.arange(2 * len(y_t))
    logits = table(y_t, np.ones(len(y_t)), positions).reshape(len(y_t), 2, 5)
    expected = np.array([[table.probabilities(y, i, carry_over=carry_over) for i in range(2)] for y in states])
    log_probs = predictive.log_probs(logits, y_t)
    assert log_probs.shape == (len(y_t), 2, 5)
    assert np.allclose(np.exp(log_probs), expected, atol=1e-12)
    marginals = predictive.marginals(logits, y_t)
    assert marginals.shape == (len(y_t), 2, 2, 3)
    for j in range(2):
        of_digit = np.array([expected[..., table.digits[:, j] == v].sum(-1) for v in range(3)])
        assert np.allclose(marginals[..., j, :], np.moveaxis(of_digit, 0, -1), atol=1e-12)
    asked = np.broadcast_to([1, 3], y_t.shape)
    assert np.allclose(np.exp(predictive.log_joint(logits, y_t, asked)), marginals[..., 0, 1], atol=1e-12)
    assert np.allclose(predictive.log_joint(logits, y_t, np.full(y_t.shape, 3)), 0.0, atol=1e-12)


def test_sharpening_is_the_samplers() -> None:
    predictive = submask.Predictive(submask.SubTokenizer(4, 1))
    logits = np.log(np.array([0.1, 0.4, 0.3, 0.2], dtype=np.float32))
    hole = [4]
    assert np.allclose(np.exp(predictive.log_probs(logits, hole, top_k=2)), [0, 4 / 7, 3 / 7, 0], atol=1e-7)
    assert np.allclose(np.exp(predictive.log_probs(logits, hole, top_p=0.6)), [0, 4 / 7, 3 / 7, 0], atol=1e-7)
    exclusive = predictive.log_probs(logits, hole, top_p=0.6, nucleus="exclusive")
    assert np.exp(exclusive).tolist() == [0, 1, 0, 0]
    with pytest.raises(ValueError, match="nucleus = 'exclusive'.*top_p = 1"):
        predictive.log_probs(logits, hole, nucleus="exclusive")
    squares = np.array([0.01, 0.16, 0.09, 0.04]) / 0.3
    assert np.allclose(np.exp(predictive.log_probs(logits, hole, temperature=0.5)), squares, atol=1e-7)
    assert np.exp(predictive.log_probs(logits, hole, temperature=0)).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("logits", "digits", "words"),
    [
        (np.zeros(4), [3, 3], ["logits", "float64 [4]", "[..., 5]"]),
        (np.zeros((2, 5)), [3, 3], ["digits", "int64 [2]", "[2, 2]", "[2, 5]"]),
        (np.zeros(5, dtype=np.int64), [3, 3], ["logits", "int64 [5]", "float32"]),
        (np.zeros(5), [2, 2], ["digits of position 0", "[2, 2]", "some token has"]),
        (np.zeros(5), [4, 3], ["digits of position 0 = 4", "0 to 3"]),
        (np.full(5, np.nan), [3, 3], ["logits of position 0", "NaN", "finite"]),
        (np.full(5, -np.inf), [3, 3], ["logits of position 0", "-inf"]),
        (np.ma.masked_equal([0.0, 0.0, 0.0, 0.0, 9.0], 9), [3, 3], ["logits = a masked array float64 [5]", "-inf"]),
        ([[0.0] * 5, [0.0]], [[3, 3]] * 2, ["logits = list", "float32"]),
    ],
)
def test_positions_that_do_not_fit_are_refused(logits: Any, digits: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as raised:
        submask.Predictive(submask.SubTokenizer(5, 2)).log_probs(logits, digits)
    assert all(word in str(raised.value) for word in words), raised.value
