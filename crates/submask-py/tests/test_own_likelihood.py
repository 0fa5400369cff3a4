"""Likelihoods of a table network equal what enumeration in NumPy says."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import submask
from own_tables import Table
from submask import likelihood

TABLE = Table()
PREDICTIVE = submask.Predictive(TABLE.codes)
NETWORK = TABLE.network()
ALL = TABLE.sequences()

#: Where arguments are wrong on purpose.
ANY: Any = likelihood


@pytest.mark.parametrize("order", ["left-to-right", "confidence", "margin", "entropy"])
@pytest.mark.parametrize("unit", ["digits", "tokens"])
@pytest.mark.parametrize("per_step", [1, 2, 3])
def test_exact_values_are_those_of_the_chain_rule(order: Any, unit: Any, per_step: int) -> None:
    estimate = likelihood.exact(NETWORK, PREDICTIVE, ALL, order=order, unit=unit, per_step=per_step)
    expected = [TABLE.exact(x, order, unit, per_step) for x in ALL]
    assert np.allclose(estimate.nats, expected, rtol=0, atol=1e-9)
    # It is a distribution over all sequences.
    assert np.exp(-estimate.nats).sum() == pytest.approx(1, abs=1e-9)
    assert np.allclose([own.sum() for own in estimate.token_nats], estimate.nats, atol=1e-12)
    assert not estimate.draw_errors.any() and estimate.tokens.tolist() == [2] * len(ALL)
    figure = estimate.perplexity
    assert isinstance(figure, submask.figures.Exact) and estimate.kind == "exact"
    assert figure.value == pytest.approx(math.exp(estimate.nats.sum() / (2 * len(ALL))))
    assert figure.name == f"exact_{order.replace('-', '_')}" and figure.unit == "perplexity per token"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (likelihood.nelbo_subtoken, lambda x: TABLE.nelbo(x, "digits")),
        (likelihood.nelbo_token, lambda x: TABLE.nelbo(x, "tokens")),
        (likelihood.joint_objective, TABLE.joint),
    ],
)
def test_enumerated_and_drawn_values_are_the_enumerated_ones(function: Any, expected: Any) -> None:
    some = ALL[::4]
    values = np.array([expected(x) for x in some])
    enumerated = function(NETWORK, PREDICTIVE, some, draws="all")
    assert np.allclose(enumerated.nats, values, rtol=0, atol=1e-9) and not enumerated.draw_errors.any()
    drawn = function(NETWORK, PREDICTIVE, some, draws=2000, seed=5, batch=512)
    within(drawn.nats, values, drawn.draw_errors)
    assert drawn.evaluations == 2000 * len(some)


def within(found: Any, expected: Any, errors: Any) -> None:
    """All within 4 standard errors, and together within 3."""
    assert np.all(errors > 0) and np.all(np.abs(found - expected) < 4 * errors), (found, expected, errors)
    assert abs(np.sum(found - expected)) < 3 * math.sqrt(np.sum(np.square(errors)))


@pytest.mark.parametrize("unit", ["digits", "tokens"])
@pytest.mark.parametrize("steps", [1, 3])
def test_path_bounds_are_the_mean_over_plans(unit: Any, steps: int) -> None:
    some = ALL[::4]
    values = np.array([TABLE.path(x, steps, unit) for x in some])
    enumerated = likelihood.path_bound(NETWORK, PREDICTIVE, some, steps=steps, unit=unit, draws="all")
    assert np.allclose(enumerated.nats, values, rtol=0, atol=1e-9)
    times = np.linspace(1, 0, steps + 1)
    grids: list[Any] = [steps, times]
    for function, grid in itertools.product([likelihood.path_bound, likelihood.path_bound_full], grids):
        drawn = function(NETWORK, PREDICTIVE, some, steps=grid, unit=unit, draws=2000, seed=3, batch=512)
        if steps == 1:
            assert np.allclose(drawn.nats, values, rtol=0, atol=1e-9)
        else:
            within(drawn.nats, values, drawn.draw_errors)
        assert drawn.kind == "upper_bound"


@pytest.mark.parametrize("draws", [1, 2])
def test_bounds_over_orders_are_those_of_all_orders(draws: int) -> None:
    x, copies = ALL[7], 4000
    along = np.array([TABLE.along(TABLE.clean(x), order) for order in TABLE.orders("digits")])
    p = np.exp(-np.array(list(itertools.product(along, repeat=draws))))
    expected = float(np.mean(-np.log(p.mean(axis=1))))
    found = likelihood.bound_k(NETWORK, PREDICTIVE, [x] * copies, draws=draws, seed=2, batch=512)
    error = found.nats.std(ddof=1) / math.sqrt(copies)
    assert abs(found.nats.mean() - expected) < 3 * error
    figure = found.per_sequence
    assert figure.standard_error == pytest.approx(error) and figure.draw_error is None
    assert np.isnan(found.draw_errors).all()


def test_bounds_over_orders_fall_from_the_nelbo_to_the_value() -> None:
    x = ALL[11]
    exact, nelbo = -math.log(TABLE.random_order(x, "tokens")), TABLE.nelbo(x, "tokens")
    means = []
    for draws in (1, 4, 64):
        found = likelihood.bound_k(NETWORK, PREDICTIVE, [x] * 500, unit="tokens", draws=draws, batch=512)
        means.append(found.nats.mean())
    assert nelbo > exact and means[0] > means[1] > means[2]
    assert means[0] == pytest.approx(nelbo, abs=0.05) and means[2] == pytest.approx(exact, abs=0.01)


def test_a_surrogate_has_no_perplexity() -> None:
    surrogate = likelihood.joint_objective(NETWORK, PREDICTIVE, ALL, draws=2)
    assert surrogate.kind == "surrogate" and isinstance(surrogate.per_token, submask.figures.Surrogate)
    for name in ("perplexity", "bits_per_token", "bits_per_dimension", "bits_per_character", "token_nats"):
        assert not hasattr(surrogate, name)
    bound = likelihood.nelbo_subtoken(NETWORK, PREDICTIVE, ALL, draws=2)
    assert isinstance(bound.perplexity, submask.figures.UpperBound)


def test_figures_are_ratios_of_sums() -> None:
    estimate = likelihood.exact(NETWORK, PREDICTIVE, ALL)
    total, n = float(estimate.nats.sum()), len(ALL)
    assert estimate.per_token.value == pytest.approx(total / (2 * n)) and estimate.per_token.unit == "nats per token"
    assert estimate.per_sequence.value == pytest.approx(total / n)
    assert estimate.bits_per_token.value == pytest.approx(total / (2 * n) / math.log(2))
    assert estimate.bits_per_dimension(6).value == pytest.approx(total / (6 * n) / math.log(2))
    characters = np.arange(1, n + 1)
    assert estimate.bits_per_character(characters).value == pytest.approx(total / characters.sum() / math.log(2))
    error = estimate.nats.std(ddof=1) / math.sqrt(n)
    assert estimate.per_sequence.standard_error == pytest.approx(error)


def test_given_digits_are_not_charged() -> None:
    x = ALL[13]
    y_0 = TABLE.clean(x)
    given = np.zeros((1, 2, 2), dtype=bool)
    given[0, 0, 0] = given[0, 1, 1] = True
    found = likelihood.exact(NETWORK, PREDICTIVE, [x], given=given)
    assert found.nats[0] == pytest.approx(TABLE.along(y_0, [[1], [2]]), abs=1e-9)
    whole = likelihood.exact(NETWORK, PREDICTIVE, [x], given=[[True, False]], unit="tokens")
    assert whole.nats[0] == pytest.approx(TABLE.along(y_0, [[2, 3]]), abs=1e-9) and whole.tokens.tolist() == [1]
    assert whole.token_nats[0][0] == 0


def test_without_carry_over_what_contradicts_is_charged_too() -> None:
    found = likelihood.exact(NETWORK, submask.Predictive(TABLE.codes, carry_over=False), ALL)
    steps = [[0], [1], [2], [3]]
    expected = [TABLE.along(TABLE.clean(x), steps, carry_over=False) for x in ALL]
    assert np.allclose(found.nats, expected, rtol=0, atol=1e-9)
    # Some of the mass is lost on digits that no token has.
    assert np.exp(-found.nats).sum() < 0.99


def test_labels_choose_the_table_of_their_class() -> None:
    table = Table(classes=3, seed=4)
    network, x = table.network(), table.sequences()[9]
    labels = [2, 0, 1, 3]
    found = likelihood.exact(network, submask.Predictive(table.codes), [x] * 4, labels=labels)
    steps = [[0], [1], [2], [3]]
    expected = [table.along(table.clean(x), steps, label) for label in labels]
    assert np.allclose(found.nats, expected, rtol=0, atol=1e-9)
    # Without labels the class is the one that stands for none.
    none = likelihood.exact(network, submask.Predictive(table.codes), [x])
    assert none.nats[0] == pytest.approx(expected[3], abs=1e-9)


def test_sequences_of_several_lengths_are_each_as_alone() -> None:
    tables = {length: Table(seq_len=length, seed=length) for length in (1, 2)}

    def both(y_t: Any, t: Any, positions: Any) -> Any:
        return tables[y_t.shape[1]](y_t, t, positions)

    network = submask.Network(both, TABLE.codes, 2)
    rows = [[3, 1], [4], [0, 0]]
    given = [np.zeros((len(row), 2), dtype=bool) for row in rows]
    given[2][0, 0] = True
    found = likelihood.exact(network, PREDICTIVE, rows, given=given)
    expected = [
        tables[2].exact(rows[0], "left-to-right", "digits"),
        tables[1].exact(rows[1], "left-to-right", "digits"),
        tables[2].along(tables[2].clean(rows[2]), [[1], [2], [3]]),
    ]
    assert np.allclose(found.nats, expected, rtol=0, atol=1e-9) and found.tokens.tolist() == [2, 1, 2]


def test_the_network_reads_the_time_where_it_says_so() -> None:
    times: list[float] = []

    def timed(y_t: Any, t: Any, positions: Any) -> Any:
        times.extend(t)
        return TABLE(y_t, t, positions)

    network = submask.Network(timed, TABLE.codes, 2, reads_time=True)
    schedule = submask.Schedule("polynomial", exponent=2)
    likelihood.exact(network, PREDICTIVE, ALL[:1], schedule=schedule)
    assert np.allclose(schedule.alpha(sorted(times)[::-1]), [0, 0.25, 0.5, 0.75])
    with pytest.raises(ValueError, match="reads the time"):
        likelihood.nelbo_subtoken(network, PREDICTIVE, ALL[:1], draws="all")


@pytest.mark.parametrize(
    "estimate",
    [
        lambda **how: likelihood.exact(NETWORK, PREDICTIVE, ALL, order="confidence", **how),
        lambda **how: likelihood.nelbo_subtoken(NETWORK, PREDICTIVE, ALL, draws=3, seed=9, **how),
        lambda **how: likelihood.bound_k(NETWORK, PREDICTIVE, ALL, draws=3, seed=9, **how),
        lambda **how: likelihood.path_bound_full(NETWORK, PREDICTIVE, ALL, steps=3, draws=3, seed=9, **how),
    ],
)
def test_values_do_not_depend_on_the_batch(estimate: Any) -> None:
    values = [estimate(batch=batch).nats for batch in (1, 7, 64)]
    assert np.array_equal(values[0], values[1]) and np.array_equal(values[0], values[2])


def test_a_corpus_in_pieces_draws_the_same_numbers() -> None:
    def nelbo(tokens: Any, first: int) -> Any:
        return likelihood.nelbo_subtoken(NETWORK, PREDICTIVE, tokens, draws=2, first_sequence=first).nats

    assert np.array_equal(nelbo(ALL, 0), np.concatenate([nelbo(ALL[:10], 0), nelbo(ALL[10:], 10)]))


def test_a_corpus_may_end_with_the_last_number_there_is() -> None:
    last = likelihood.nelbo_subtoken(NETWORK, PREDICTIVE, ALL, draws=2, first_sequence=2**64 - 26)
    other = likelihood.nelbo_subtoken(NETWORK, PREDICTIVE, ALL[1:], draws=2, first_sequence=2**64 - 25)
    assert np.array_equal(last.nats[1:], other.nats)


def test_what_cannot_be_has_infinite_figures() -> None:
    network = submask.Network(lambda y_t, t, positions: np.tile([0, 0, 0, 0, -np.inf], (len(positions), 1)), TABLE.codes, 2)
    found = likelihood.exact(network, PREDICTIVE, ALL)
    assert np.isinf(found.nats).sum() == 9 and np.isfinite(found.nats).sum() == 16
    for figure in (found.per_token, found.per_sequence, found.perplexity, found.bits_per_token):
        assert figure.value == math.inf and figure.standard_error is None, figure
    finite = likelihood.exact(network, PREDICTIVE, ALL[:2])
    assert finite.per_sequence.value == finite.nats.mean() and finite.per_sequence.draw_error == 0
    assert finite.per_sequence.evaluations == finite.evaluations > 0


def test_codes_are_compared_as_they_are() -> None:
    same = submask.SubTokenizer(5, 2, permutation=np.arange(9))
    # No token has the last codes.
    assert submask.SubTokenizer(5, 2, permutation=[0, 1, 2, 3, 4, 8, 7, 6, 5]) == same == TABLE.codes
    assert submask.SubTokenizer(5, 2, permutation=[1, 0, 2, 3, 4, 5, 6, 7, 8]) != TABLE.codes
    expected = likelihood.exact(NETWORK, PREDICTIVE, ALL).nats
    assert np.array_equal(likelihood.exact(NETWORK, submask.Predictive(same), ALL).nats, expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ANY.exact(NETWORK, PREDICTIVE, ALL, order="random"), ["order = random", "left-to-right"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, ALL, order="backwards"), ["order = 'backwards'", "one of"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, ALL, per_step=0), ["per_step = 0"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, ALL, unit="words"), ["unit = 'words'", "digits"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, [5, 1]), ["tokens = int64 [2]", "[n, L]"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, [[5, 1]]), ["token 5", "0 to 4"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, [[1, 1, 1]]), ["3", "2 tokens"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, ALL, given=[True]), ["given = bool [1]", "[25, 2, 2]"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, ALL, labels=[0]), ["labels", "no labels"]),
        (lambda: ANY.nelbo_token(NETWORK, PREDICTIVE, ALL, draws=0), ["draws = 0"]),
        (lambda: ANY.nelbo_token(NETWORK, PREDICTIVE, ALL, draws="some"), ["draws = 'some'", "all"]),
        (lambda: ANY.bound_k(NETWORK, PREDICTIVE, ALL, draws="all"), ["draws = 'all'", "whole number"]),
        (lambda: ANY.nelbo_token(NETWORK, PREDICTIVE, ALL, batch=-1), ["batch = -1"]),
        (lambda: ANY.nelbo_token(NETWORK, PREDICTIVE, ALL, schedule="slow"), ["kind = 'slow'", "linear"]),
        (lambda: ANY.path_bound(NETWORK, PREDICTIVE, ALL, steps=0), ["steps = 0"]),
        (lambda: ANY.path_bound(NETWORK, PREDICTIVE, ALL, steps=[0.2, 0.5]), ["0.2, 0.5", "decreasing"]),
        (lambda: ANY.exact(TABLE, PREDICTIVE, ALL), ["network = Table", "submask.Network"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, [[0, 1], [[1], [1, 2]]]), ["tokens[1] = list", "[L]"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, [[0, 1], [1, [1, 2]]]), ["tokens[1] = list", "[L]"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, np.ma.masked_less(ALL, 2)), ["tokens = a masked array", "[25, 2]"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, ALL, given=[[True], [True, False]]), ["given = list", "[25, 2, 2]"]),
        (lambda: ANY.path_bound(NETWORK, PREDICTIVE, ALL, steps=[[1, 0.5, 0]]), ["steps = float64 [1, 3]", "[T + 1]"]),
        (lambda: ANY.path_bound(NETWORK, PREDICTIVE, ALL, steps=[[1, 0.5], [0]]), ["steps = list", "decreasing"]),
        (lambda: ANY.path_bound(NETWORK, PREDICTIVE, ALL, steps=2**62), ["steps = 4611686018427387904"]),
        (lambda: ANY.exact(NETWORK, PREDICTIVE, ALL, first_sequence=2**64 - 25), ["first_sequence", f"{2**64 - 26}"]),
        (
            lambda: ANY.exact(NETWORK, submask.Predictive(submask.SubTokenizer(5, 2, seed=1)), ALL),
            ["predictive = ", "permuted", "codes of the network"],
        ),
        (
            lambda: ANY.exact(NETWORK, submask.Predictive(submask.SubTokenizer(9, 2)), ALL),
            ["network = 5 tokens of 2 sub-tokens", "9 tokens of 2 sub-tokens"],
        ),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, words: list[str]) -> None:
    with pytest.raises(submask.SubmaskError) as raised:
        call()
    assert all(word in str(raised.value) for word in words), raised.value
