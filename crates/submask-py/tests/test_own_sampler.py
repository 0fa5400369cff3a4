"""Samples of a table network have the distribution that enumeration in NumPy says."""

from __future__ import annotations

import itertools
import math
import threading
from typing import Any

import numpy as np
import pytest

import submask
from own_tables import Table, chi_square_is_plausible
from submask import likelihood, sampler

TABLE = Table()
PREDICTIVE = submask.Predictive(TABLE.codes)
NETWORK = TABLE.network()
ALL = TABLE.sequences()


def counts_of(samples: submask.Samples) -> Any:
    """How often every sequence was drawn."""
    numbers = np.stack(samples.tokens) @ (5 ** np.arange(2)[::-1])
    return np.bincount(numbers, minlength=25)


def over_plans(x: Any, plans: Any) -> float:
    return float(np.mean([math.exp(-TABLE.along(TABLE.clean(x), plan)) for plan in plans]))


@pytest.mark.parametrize(
    ("settings", "p"),
    [
        ({}, lambda x: TABLE.random_order(x, "digits")),
        ({"unit": "tokens"}, lambda x: TABLE.random_order(x, "tokens")),
        ({"order": "left-to-right"}, lambda x: math.exp(-TABLE.exact(x, "left-to-right", "digits"))),
        ({"order": "confidence"}, lambda x: math.exp(-TABLE.exact(x, "confidence", "digits"))),
        (
            {"order": "entropy", "unit": "tokens", "per_step": 2},
            lambda x: math.exp(-TABLE.exact(x, "entropy", "tokens", 2)),
        ),
        ({"steps": 3}, lambda x: over_plans(x, TABLE.plans(3, "digits"))),
        ({"steps": [1, 0.5, 0], "unit": "tokens"}, lambda x: over_plans(x, TABLE.plans(2, "tokens"))),
    ],
)
def test_samples_have_the_exact_distribution(settings: dict[str, Any], p: Any) -> None:
    samples = sampler.sample(NETWORK, PREDICTIVE, 20000, seed=11, batch=2000, **settings)
    expected = np.array([p(x) for x in ALL])
    assert expected.sum() == pytest.approx(1, abs=1e-9)
    assert chi_square_is_plausible(counts_of(samples), expected)
    # Of another distribution they are not.
    assert not chi_square_is_plausible(counts_of(samples), np.roll(expected, 1))


def test_first_hitting_has_no_idle_steps_and_a_grid_only_those_that_reveal_nothing() -> None:
    plain = sampler.sample(NETWORK, PREDICTIVE, 100)
    assert plain.report.evaluations == 400 and plain.report.idle_steps == 0
    before = TABLE.calls
    grid = sampler.sample(NETWORK, PREDICTIVE, 1, steps=64)
    assert grid.report.steps == 64 and grid.report.evaluations + grid.report.idle_steps == 64
    assert TABLE.calls - before == grid.report.evaluations <= 4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps": 3, "draw": "marginal"},
        {"order": "margin"},
        {"steps": 5, "corrector": (2.0, 1.0, 0.0)},
        {"temperature": (0.5, 1.0, 0.5), "top_p": 0.9},
        {"steps": 4, "warp": (1.0, 2.0, 0.0), "top_k": 3, "nucleus": "exclusive", "top_p": 0.8},
    ],
)
def test_samples_do_not_depend_on_the_batch(settings: dict[str, Any]) -> None:
    drawn = [np.stack(sampler.sample(NETWORK, PREDICTIVE, 40, batch=b, seed=4, **settings).tokens) for b in (1, 7, 64)]
    assert np.array_equal(drawn[0], drawn[1]) and np.array_equal(drawn[0], drawn[2])
    later = sampler.sample(NETWORK, PREDICTIVE, 10, first_sequence=30, seed=4, **settings)
    assert np.array_equal(later.tokens, drawn[0][30:])
    other = sampler.sample(NETWORK, PREDICTIVE, 40, seed=5, **settings)
    assert not np.array_equal(other.tokens, drawn[0])


def test_the_batch_is_the_most_that_is_evaluated_at_once() -> None:
    table = Table()
    sampler.sample(table.network(), submask.Predictive(table.codes), 40, batch=7)
    assert table.largest == 7 and table.calls == 6 * 4


def test_holes_are_filled_given_what_stands_around_them() -> None:
    x = ALL[13]
    holes = [[False, True], [True, False]]
    prompt = TABLE.codes.encode(x, masked=holes)
    samples = sampler.sample(NETWORK, PREDICTIVE, 5000, prompt=prompt, seed=3, batch=1000)
    drawn = TABLE.codes.encode(np.stack(samples.tokens))
    assert (drawn[:, ~np.array(holes)] == prompt[~np.array(holes)]).all()
    likely = [y for y in ALL if (TABLE.codes.encode(y)[~np.array(holes)] == prompt[~np.array(holes)]).all()]
    expected = [
        np.mean([math.exp(-TABLE.along(TABLE.clean(y), order)) for order in ([[1], [2]], [[2], [1]])]) for y in likely
    ]
    counts = np.array([(np.stack(samples.tokens) == y).all(axis=1).sum() for y in likely])
    assert chi_square_is_plausible(counts, np.array(expected))


def test_every_sequence_has_a_prompt_of_its_own() -> None:
    prompts = TABLE.codes.encode(ALL, masked=np.tile([True, False], (25, 1)))
    samples = sampler.sample(NETWORK, PREDICTIVE, prompt=prompts)
    assert len(samples) == 25 and np.array_equal(np.stack(samples.tokens)[:, 1], ALL[:, 1])
    complete = sampler.sample(NETWORK, PREDICTIVE, prompt=TABLE.codes.encode(ALL))
    assert np.array_equal(complete.tokens, ALL) and complete.report.evaluations == 0


def test_labels_choose_the_table_of_their_class() -> None:
    table = Table(classes=2, seed=6)
    network, predictive = table.network(), submask.Predictive(table.codes)
    for label in (0, 1, 2):
        samples = sampler.sample(network, predictive, 5000, labels=label, order="left-to-right", batch=1000)
        log_p = likelihood.exact(network, predictive, ALL, labels=label).nats
        expected = np.exp(-log_p)
        assert chi_square_is_plausible(counts_of(samples), expected)


def test_trajectories_lead_from_masks_to_the_tokens() -> None:
    samples = sampler.sample(NETWORK, PREDICTIVE, 6, trace=True, seed=2)
    assert len(samples.trajectories) == 6
    for tokens, trajectory in zip(samples.tokens, samples.trajectories):
        states = [state for _, state in trajectory.states()]
        assert (states[0] == TABLE.codes.mask_id).all() and len(states) == 5
        assert np.array_equal(TABLE.codes.decode(states[-1]), tokens)
    assert sampler.sample(NETWORK, PREDICTIVE, 6, seed=2).trajectories == []


def test_a_stream_tells_of_the_same_samples() -> None:
    settings: dict[str, Any] = {"order": "confidence", "seed": 8, "batch": 3}
    samples = sampler.sample(NETWORK, PREDICTIVE, 7, **settings)
    states: dict[int, Any] = {}
    finished: dict[int, submask.Finished] = {}
    for event in sampler.stream(NETWORK, PREDICTIVE, 7, **settings):
        assert event.state.shape == (2, 2) and event.state.dtype == np.uint32
        match event:
            case submask.Started(sequence=sequence):
                assert sequence not in states
            case submask.Revealed(sequence=sequence, digits=digits):
                changed = np.argwhere((states[sequence] != event.state).reshape(-1)).reshape(-1)
                assert changed.tolist() == digits[:, 0].tolist()
            case submask.Finished(sequence=sequence):
                finished[sequence] = event
        states[event.sequence] = event.state
    assert sorted(finished) == list(range(7))
    for sequence, event in finished.items():
        assert np.array_equal(event.tokens, samples.tokens[sequence]) and event.text is None
        assert np.array_equal(TABLE.codes.decode(event.state), event.tokens)
    assert sum((event.report for event in finished.values()), submask.Report()) == samples.report


def test_probabilities_told_are_the_terms_of_the_exact_likelihood() -> None:
    nats = dict.fromkeys(range(5), 0.0)
    tokens = {}
    with sampler.stream(NETWORK, PREDICTIVE, 5, order="margin", unit="tokens", log_probs=2) as events:
        for event in events:
            if isinstance(event, submask.Revealed):
                nats[event.sequence] += sum(term.nats for term in event.log_probs)
                assert all(len(term.top) == 2 and term.top[0][1] >= term.top[1][1] for term in event.log_probs)
            if isinstance(event, submask.Finished):
                tokens[event.sequence] = event.tokens
    expected = [TABLE.exact(tokens[s], "margin", "tokens") for s in range(5)]
    assert np.allclose([nats[s] for s in range(5)], expected, rtol=0, atol=1e-9)


def test_a_closed_stream_asks_the_network_no_more() -> None:
    table = Table()
    stream = sampler.stream(table.network(), submask.Predictive(table.codes), 100, batch=4)
    assert table.calls == 0
    first = list(itertools.islice(stream, 9))
    assert len(first) == 9 and table.calls == 2
    stream.close()
    assert list(stream) == [] and table.calls == 2
    stream.close()


def test_an_end_ends_a_sequence_from_left_to_right() -> None:
    codes = submask.SubTokenizer(4, 1)
    network = submask.Network(lambda y_t, t, positions: np.zeros((len(positions), 4)), codes, 50)
    samples = sampler.sample(network, submask.Predictive(codes), 20, order="left-to-right", end_of_text=3, seed=1)
    lengths = [len(tokens) for tokens in samples.tokens]
    assert len(set(lengths)) > 1
    for tokens in samples.tokens:
        # Ends with which a sequence begins do not end it.
        written = np.trim_zeros(tokens.astype(int) - 3, "f") + 3
        assert 3 not in written[:-1] and (written[-1] == 3 or len(tokens) == 50)
    assert samples.report.evaluations < 20 * 50


def test_samples_may_end_with_the_last_number_there_is() -> None:
    both = sampler.sample(NETWORK, PREDICTIVE, 2, first_sequence=2**64 - 3, seed=3).tokens
    last = sampler.sample(NETWORK, PREDICTIVE, 1, first_sequence=2**64 - 2, seed=3).tokens
    assert np.array_equal(both[1], last[0])


def test_a_predictive_of_other_codes_is_refused() -> None:
    permuted = submask.Predictive(submask.SubTokenizer(5, 2, seed=1))
    for call in (sampler.sample, sampler.stream):
        with pytest.raises(submask.errors.InvalidError, match="predictive = .*permuted.*codes of the network"):
            call(NETWORK, permuted, 2)


def test_a_sequence_that_does_not_fit_into_memory_is_refused() -> None:
    network = submask.Network(TABLE, TABLE.codes, 2**62)
    with pytest.raises(submask.errors.InvalidError, match="length = 4611686018427387904.*fit into memory"):
        sampler.sample(network, PREDICTIVE)


def test_threads_sample_at_once_as_alone() -> None:
    def draw(seed: int) -> Any:
        return np.stack(sampler.sample(NETWORK, PREDICTIVE, 200, seed=seed, batch=5).tokens)

    alone = [draw(seed) for seed in range(4)]
    found: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda s=s: found.update({s: draw(s)})) for s in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[seed], alone[seed]) for seed in range(4))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num": 0}, ["num = 0"]),
        ({"num": 10**12}, ["num = 1000000000000", "1 to 1000000"]),
        ({"length": 3}, ["length = 3", "2 to 2 tokens"]),
        ({"length": 10**15}, ["length = 1000000000000000", "2 to 2 tokens"]),
        ({"steps": [[1, 0.5], [0.5, 0]]}, ["steps = float64 [2, 2]", "[T + 1]"]),
        ({"steps": [[1], [0.5, 0]]}, ["steps = list", "decreasing"]),
        ({"steps": 2**62}, ["steps = 4611686018427387904"]),
        ({"first_sequence": 2**64 - 1}, ["first_sequence = 18446744073709551615", "0 to 18446744073709551614"]),
        ({"end_of_text": 5, "order": "left-to-right"}, ["end_of_text = 5", "0 to 4"]),
        ({"end_of_text": 0}, ["end_of_text = 0", "none with the order random", "left-to-right"]),
        ({"end_of_text": 0, "order": "surest"}, ["order = 'surest'", "confidence"]),
        ({"nucleus": "exclusive"}, ["nucleus = 'exclusive'", "top_p = 1"]),
        ({"prompt": np.ma.masked_equal([[3, 3], [0, 1]], 3)}, ["prompt = a masked array int64 [2, 2]"]),
        ({"steps": -1}, ["steps = -1"]),
        ({"steps": "many"}, ["steps = 'many'", "first-hitting"]),
        ({"steps": [0.0, 1.0]}, ["0.0, 1.0", "decreasing"]),
        ({"order": "surest"}, ["order = 'surest'", "confidence"]),
        ({"order": "confidence", "steps": 4}, ["steps = grid of 4", "first-hitting"]),
        ({"per_step": 2}, ["per_step = 2"]),
        ({"draw": "both"}, ["draw = 'both'"]),
        ({"temperature": -1}, ["temperature = -1"]),
        ({"temperature": (1, 2)}, ["temperature = (1, 2)", "(a, n, c)"]),
        ({"top_p": 0}, ["top_p = 0"]),
        ({"top_k": 1.5}, ["top_k = 1.5", "whole number"]),
        ({"nucleus": "open"}, ["nucleus = 'open'"]),
        ({"corrector": (1, 1, 0)}, ["corrector = given", "grid"]),
        ({"batch": 0}, ["batch = 0"]),
        ({"seed": -1}, ["seed = -1"]),
        ({"labels": 1}, ["labels", "no labels"]),
        ({"prompt": [[0, 1, 2]]}, ["prompt = int64 [1, 3]", "[L, 2]"]),
        ({"prompt": [[2, 2], [3, 3]]}, ["prompt digits of token 0", "some token has"]),
        ({"prompt": [[4, 3], [3, 3]]}, ["prompt = 4", "0 to 3"]),
        ({"prompt": np.full((3, 2, 2), 3), "num": 2}, ["num = 2", "3, one for each"]),
        ({"prompt": np.full((2, 2), 3), "length": 1}, ["length = 1", "2, that of the prompt"]),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], words: list[str]) -> None:
    for call in (sampler.sample, sampler.stream):
        with pytest.raises(submask.SubmaskError) as raised:
            call(NETWORK, PREDICTIVE, **settings)
        assert all(word in str(raised.value) for word in words), raised.value
