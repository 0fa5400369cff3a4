"""A network of one's own without any framework: python table_network.py

Its distribution is known, so everything can be compared with what it should be: a first-order Markov chain of four tokens, written as
two binary digits each.
"""

from __future__ import annotations

import numpy as np
import submask
from numpy.typing import NDArray

START = np.array([0.4, 0.3, 0.2, 0.1])
NEXT = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.2, 0.2, 0.5, 0.1], [0.25, 0.25, 0.25, 0.25]])
LENGTH = 6

codes = submask.SubTokenizer(vocab_size=4, subtoken_len=2)


def chain(y_t: NDArray[np.int64], t: NDArray[np.float64], positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """log p(token | the token before it), where that is known; what is known of the token itself is left to `Predictive`."""
    known = (y_t != codes.mask_id).all(axis=-1)
    tokens = codes.decode(np.where(known[..., None], y_t, 0))
    logits = np.empty((len(positions), 4), dtype=np.float32)
    for row, place in enumerate(positions):
        sequence, position = divmod(int(place), y_t.shape[1])
        before = position > 0 and known[sequence, position - 1]
        logits[row] = np.log(NEXT[tokens[sequence, position - 1]] if before else START)
    return logits


def main() -> None:
    network = submask.Network(chain, codes, seq_len=LENGTH)
    predictive = submask.Predictive(codes)
    samples = submask.sampler.sample(network, predictive, num=2000, order="left-to-right", unit="tokens", seed=1)
    tokens = np.stack(samples.tokens)

    # From left to right the chain is known exactly.
    expected = -np.log(START[tokens[:, 0]]) - np.log(NEXT[tokens[:, :-1], tokens[:, 1:]]).sum(axis=1)
    exact = submask.likelihood.exact(network, predictive, tokens[:100], order="left-to-right", unit="tokens")
    np.testing.assert_allclose(exact.nats, expected[:100], rtol=1e-5)
    print(exact.per_token)
    print("first token:", np.bincount(tokens[:, 0], minlength=4) / len(tokens), "should be near", START)

    # In random order it is another generator, with bounds and exact values of its own.
    print(submask.likelihood.nelbo_subtoken(network, predictive, tokens[:100], draws=4).per_token)


if __name__ == "__main__":
    main()
